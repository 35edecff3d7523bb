"""How a client's connection and a proxy behave: the only lists of these options, with their defaults."""

import os
from dataclasses import dataclass, field
from typing import TypedDict

from eventbus.keys import ClientKeys
from eventbus.policies import SendPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroMQOptions:
    """How a `ZeroMQTransport` behaves. Times are seconds.

    Attributes:
        connect_timeout: how long `subscribe` waits until its subscription is in force.
        connect_required: False: `open` does not need a proxy; the path becomes ready when one appears.
        send_timeout: how long `send` waits while the send buffer is full.
        send_policy: what `send` does when the send buffer is full.
        send_hwm: high-water mark of the send buffer, in messages; what is sent while the proxy is away waits there.
        receive_hwm: high-water mark of the receive queue, in messages; when it is full the proxy's queue fills up.
        echo_interval: from one echo through the proxy to the next; 0 for none.
        echo_timeout: how long an echo may stay away before the state is DEGRADED.
        reconnect_interval: how long to wait before the second attempt to connect; it doubles with each that fails.
        reconnect_max_interval: the longest such wait. If it exceeds the time that a proxy leaves subscribers to come back,
            0.25 s, a restarted proxy passes on what publishers have kept before all subscribers are there.
        reconnect_attempts: how many of them may fail before the transport gives up and closes; -1: for ever.
        numbered: number the messages, so that receivers with this library see what is missing, and send again what was
            under way when a connection was lost, which they recognise. Other receivers may get that twice.
        keys: for a proxy that uses CURVE; None: no encryption.
    """

    connect_timeout: float = 5.0
    connect_required: bool = True
    send_timeout: float = 5.0
    send_policy: SendPolicy = SendPolicy.BLOCK
    send_hwm: int = 100_000
    receive_hwm: int = 100_000
    echo_interval: float = 5.0
    echo_timeout: float = 1.0
    reconnect_interval: float = 0.05
    reconnect_max_interval: float = 0.2
    reconnect_attempts: int = -1
    numbered: bool = False
    keys: ClientKeys | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "send_policy", SendPolicy(self.send_policy))  # its value will do, too


class ZeroMQArguments(TypedDict, total=False):
    """The attributes of `ZeroMQOptions` as keyword arguments."""

    connect_timeout: float
    connect_required: bool
    send_timeout: float
    send_policy: SendPolicy
    send_hwm: int
    receive_hwm: int
    echo_interval: float
    echo_timeout: float
    reconnect_interval: float
    reconnect_max_interval: float
    reconnect_attempts: int
    numbered: bool
    keys: ClientKeys | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyOptions:
    """How a proxy behaves; see `EventBusProxy`. Times are seconds.

    Attributes:
        max_event_bytes: the largest payload of a message. A publisher that sends a larger one is disconnected.
        settle: how long subscribers get to come back before publishers may, on ports that are not picked. As soon as they
            can, publishers send what they kept while no proxy ran: subscribers miss none of it if this is longer than they
            take between two attempts to reconnect.
        secret_key: the proxy's own CURVE key, as `eventbus keygen` writes it; None: no encryption.
        allow_list: the path of the file that says who may connect; see `eventbus.proxy.allow_list`. A secret key needs it.
    """

    max_event_bytes: int = 16_777_216
    settle: float = 0.25
    secret_key: str | None = field(default=None, repr=False)
    allow_list: str | os.PathLike[str] | None = None


class ProxyArguments(TypedDict, total=False):
    """The attributes of `ProxyOptions` as keyword arguments."""

    max_event_bytes: int
    settle: float
    secret_key: str | None
    allow_list: str | os.PathLike[str] | None
