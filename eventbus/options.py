"""The options of clients, of their connections and of proxies: the only lists of them, with their defaults.

Each of these objects is handed down as a whole. The ``…Arguments`` are the same lists for type checkers, where a constructor
takes single options as keyword arguments as well. `eventbus.settings` reads options from the environment.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from types import UnionType
from typing import TYPE_CHECKING, TypedDict

from eventbus.errors import InvalidSettings
from eventbus.exports import public
from eventbus.keys import ClientKeys, Secret
from eventbus.policies import Compression, Packing, ReceivePolicy, SendPolicy, Start

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

HOST = "localhost"
PUB_PORT = 5559
SUB_PORT = 5560
PROCESS_MAX_MEMORY = 512 * 1_048_576
"""The default of `ProxyOptions.max_memory` where the proxy has a process of its own, as with `eventbus proxy`; in bytes."""

MIN_HISTORY_BYTES = 65_536
"""The least `ProxyOptions.history_bytes`: a topic takes four kilobytes before its first message, so less keeps nothing."""

_MAX_EVENT_BYTES = 8_388_608
"""A client's and a proxy's are the same, because a proxy disconnects clients that send more. Decoding so many bytes takes
tens of milliseconds, whatever they hold."""

_TOO_MANY_MESSAGES = 2**31
"""libzmq takes no larger high-water mark, and Python no much larger buffer."""

_KEYS, _SECRET = ClientKeys | None, str | Secret | None  # whose values are not shown
_KINDS: Mapping[object, tuple[type | UnionType, str]] = {
    bool: (bool, "True or False"),
    int: (int, "a whole number"),
    int | None: (int | None, "a whole number or None"),
    float: (int | float, "a number"),
    str: (str, "a text"),
    str | None: (str | None, "a text or None"),
    str | os.PathLike[str] | None: (str | os.PathLike | None, "a path or None"),
    _KEYS: (_KEYS, "ClientKeys or None"),
    _SECRET: (_SECRET, "a text or None"),
}
"""What the options of each type may be, and what an error says of it."""

_AT_LEAST_ONE = frozenset(
    {"hwm", "max_event_bytes", "max_event_values", "max_subscriptions", "receive_buffer", "receive_hwm", "send_hwm"}
)
"""With 0 of these nothing passes, or there is no limit: it depends on other options which of both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroMQOptions:
    """The options of the connections of a `ZeroMQTransport`. Times are in seconds.

    Attributes:
        connect_timeout: how long `connect` waits for the proxy, and `subscribe` until its subscription is in force.
        connect_required: False: `connect` needs no proxy; the client is connected when one appears.
        send_timeout: how long `emit_event` waits while the send buffer is full.
        send_policy: what `emit_event` does when the send buffer is full.
        send_hwm: high-water mark of the send buffer, in messages; what is sent while the proxy is away waits there.
        receive_hwm: high-water mark of the receive queue, in messages; when it is full, the proxy's queue fills up.
        echo_interval: from one echo through the proxy to the next; 0 for none.
        echo_timeout: how long an echo may take before the state is DEGRADED.
        reconnect_interval: how long to wait before the second attempt to connect; it doubles with each that fails.
        reconnect_max_interval: the longest such wait. If it exceeds 0.25 s, the time that a proxy leaves subscribers to
            reconnect, a restarted proxy passes on what publishers have kept before all subscribers are there.
        reconnect_attempts: the attempts that may fail before the client gives up and closes; -1: no limit.
        resend_bytes: the bytes of sent messages that a numbering client keeps for some seconds, to send them again if a
            connection is lost. If there are more, it forgets the oldest: those may be lost with the connection then.
        numbered: number the messages, so that receivers with this library see what is missing. What was under way when a
            connection was lost is sent again; receivers with this library recognise it, others may get it twice.
        keys: for a proxy that uses CURVE; None: no encryption.
        packing: which events share messages; True and False stand for BATCHES and NONE.
        packing_max_wait: with ALL, how long an event may wait for others to share a message with; 0: only while a message is
            being sent.
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
    resend_bytes: int = 67_108_864
    numbered: bool = False
    keys: ClientKeys | None = None
    packing: Packing = Packing.BATCHES
    packing_max_wait: float = 0.001

    def __post_init__(self) -> None:
        _check(self)
        _choose(self, send_policy=SendPolicy, packing=Packing)


@public
@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions(ZeroMQOptions):
    """The options of an `EventBusClient` and of its connections. Times are in seconds.

    Attributes:
        enabled: False: a client whose calls do nothing: it opens no socket, sends nothing and receives nothing.
        topics: values of topics to subscribe to from the start.
        close_timeout: how long `close` may take.
        linger: how much of that is kept for flushing what was emitted.
        receive_buffer: the most events that wait for `recv_event` and `listen_forever`; until the first call of either,
            1,000, and of large ones no more than 64 MiB of JSON.
        receive_policy: what happens when the buffer is full; see `ReceivePolicy`.
        max_event_bytes: the largest event that is sent and accepted, as JSON.
        max_event_values: the rough limit of values, at any depth, in an event that is sent or accepted. Decoding takes
            0.1 to 1 µs for each; a whole number of hundreds of digits counts as several.
        compression: what large payloads are compressed with; receivers with the original client cannot read them. Compressed
            payloads of others are read in any case.
        compression_threshold: payloads with more bytes of JSON are compressed, if that makes them smaller.
        name: what people call the client, in its health, log, spans and metrics; empty: the name of the program.
        start: where subscriptions begin: a `Start`, a time in ISO format, or how long ago, such as ``10m``. What was emitted
            before is had from a historian (see `eventbus.history`); without one they begin with what is new.
        repair_timeout: how many seconds a historian may send nothing while handlers wait for events that are missing by
            their numbers; 0: these are lost. Handlers wait ten times as long at most, also while the client reconnects.
    """

    enabled: bool = True
    topics: Iterable[str] = ()
    close_timeout: float = 5.0
    linger: float = 1.0
    receive_buffer: int = 10_000
    receive_policy: ReceivePolicy = ReceivePolicy.DROP_OLDEST
    max_event_bytes: int = _MAX_EVENT_BYTES
    max_event_values: int = 100_000
    compression: Compression = Compression.NONE
    compression_threshold: int = 1024
    name: str = ""
    start: str = Start.NEW
    repair_timeout: float = 2.0

    def __post_init__(self) -> None:
        ZeroMQOptions.__post_init__(self)  # super() does not work in a dataclass with slots before Python 3.14
        if isinstance(self.topics, str):  # which is an iterable of its letters
            raise InvalidSettings(f"topics={self.topics!r} is one text, not a list of topics such as [{self.topics!r}]")
        try:
            topics = tuple(self.topics)
        except TypeError:
            raise InvalidSettings(f"topics={self.topics!r}: it must be a list of topics") from None
        for topic in topics:
            if not isinstance(topic, str):
                raise InvalidSettings(f"topics: {topic!r} is no topic, which is a text")
        object.__setattr__(self, "topics", topics)
        _choose(self, receive_policy=ReceivePolicy, compression=Compression)
        if not (isinstance(self.start, str) and self.start in set(Start)):
            from eventbus._base.moments import moment_of  # here, because the process of a proxy has no use for it

            moment_of(self.start, 0.0)


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
    resend_bytes: int
    numbered: bool
    keys: ClientKeys | None
    packing: Packing
    packing_max_wait: float


class ClientArguments(ZeroMQArguments, total=False):
    """The attributes of `ClientOptions` as keyword arguments."""

    enabled: bool
    topics: Iterable[str]
    close_timeout: float
    linger: float
    receive_buffer: int
    receive_policy: ReceivePolicy
    max_event_bytes: int
    max_event_values: int
    compression: Compression
    compression_threshold: int
    name: str
    start: str
    repair_timeout: float


@public
@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyOptions:
    """The options of an `EventBusProxy`. Times are in seconds.

    Attributes:
        max_event_bytes: the largest payload of a message. A publisher that sends a larger one is disconnected.
        settle: how long only subscribers may connect after a start, on ports that are not picked. Publishers send what they
            have kept as soon as they can: subscribers miss none of it if this is longer than their wait between two attempts
            to reconnect.
        secret_key: the proxy's own CURVE key, as `eventbus keygen` writes it, given as text and kept as a `Secret`; None: no
            encryption.
        allow_list: the path of the file that says who may connect; see `eventbus.proxy.allow_list`. A secret key needs it.
        hwm: high-water mark of the queue of each subscriber, in messages; what a slow one does not get beyond that is
            dropped. Publishers wait when the queue of what they have sent is full.
        max_backlog: the bytes that may wait for one subscriber; 0: no limit. One that reads more slowly is disconnected: it
            reconnects, and has missed what waited. Linux only.
        max_subscriptions: the most different subscriptions of one client. A client that has more is disconnected; under
            rules it is not let in again until the allow-list changes.
        max_memory: the limit of the process's memory, in bytes; 0: no limit. Before it is reached, the connections that
            hold most are ended: those of subscribers that read too slowly, and of publishers whose messages never end. If
            that does not help, the proxy restarts. Linux only. It means the whole process, so give an embedded proxy none.
            What `history_bytes` allows comes on top.
        history: how many messages of each topic the proxy keeps and gives to clients that ask; 0: none, and it is no
            historian.
        history_bytes: how much memory they may take, all topics together; 64 KiB at least.
        history_age: how long each is kept, in seconds; 0: no limit.
        history_file: the path of a file that has them after a restart, too; None: none.
    """

    max_event_bytes: int = _MAX_EVENT_BYTES
    settle: float = 0.25
    secret_key: str | Secret | None = None
    allow_list: str | os.PathLike[str] | None = None
    hwm: int = 100_000
    max_backlog: int = 128 * 1_048_576
    max_subscriptions: int = 10_000
    max_memory: int = 0
    history: int = 0
    history_bytes: int = 268_435_456
    history_age: float = 0.0
    history_file: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        _check(self)
        if self.history and self.history_bytes < MIN_HISTORY_BYTES:
            raise InvalidSettings(f"history_bytes={self.history_bytes} is too little: {MIN_HISTORY_BYTES} at least")
        if self.secret_key is not None:
            object.__setattr__(self, "secret_key", Secret(self.secret_key))


class ProxyArguments(TypedDict, total=False):
    """The attributes of `ProxyOptions` as keyword arguments."""

    max_event_bytes: int
    settle: float
    secret_key: str | Secret | None
    allow_list: str | os.PathLike[str] | None
    hwm: int
    max_backlog: int
    max_subscriptions: int
    max_memory: int
    history: int
    history_bytes: int
    history_age: float
    history_file: str | os.PathLike[str] | None


def _choose(options: ZeroMQOptions, **choices: type[StrEnum]) -> None:
    """Put members in the place of their values.

    Raises:
        InvalidSettings: a value is none of a member.
    """
    for name, choice in choices.items():
        value = getattr(options, name)
        try:
            object.__setattr__(options, name, choice(value))
        except ValueError:
            raise InvalidSettings(f"{name}={value!r}: it must be one of {', '.join(choice)}") from None


def check_types(options: "DataclassInstance") -> None:
    """Refuse values of another type than their option has: what uses them would fail later, with a reason of its own.

    Raises:
        InvalidSettings: there is one; the text names its option.
    """
    for field in fields(options):
        name, value = field.name, getattr(options, field.name)
        wanted = None if name == "start" else _KINDS.get(field.type)  # which may be a time, too
        if wanted is not None and (not isinstance(value, wanted[0]) or (isinstance(value, bool) and field.type is not bool)):
            shown = "" if field.type in (_KEYS, _SECRET) else f"={value!r}"
            raise InvalidSettings(f"{name}{shown}: it must be {wanted[1]}")


def _check(options: ZeroMQOptions | ProxyOptions) -> None:
    """Refuse values of a wrong type, and sizes and times that make no sense: with them, the bus would fail in silence."""
    check_types(options)
    for field in fields(options):
        name, value = field.name, getattr(options, field.name)
        if not isinstance(value, int | float) or name == "reconnect_attempts":  # -1: no end
            continue
        least = 1 if name in _AT_LEAST_ONE else 0
        if not value >= least:
            raise InvalidSettings(f"{name}={value!r}: it must be {least} or more")
        if name.endswith(("hwm", "receive_buffer")) and value >= _TOO_MANY_MESSAGES:
            raise InvalidSettings(f"{name}={value!r}: it must be less than {_TOO_MANY_MESSAGES}")
