"""How a proxy is: values of one moment, and adding up what several of them have counted one after the other."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Self


@dataclass(frozen=True, slots=True)
class Traffic:
    """What went one way: frames, of which each message of this bus has two, and the bytes in them."""

    frames: int = 0
    bytes: int = 0

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(self.frames + other.frames, self.bytes + other.bytes)


@dataclass(frozen=True, slots=True)
class Connections:
    """How many are open, by the port that they came to; also those that have not finished their handshake."""

    publishers: int = 0
    subscribers: int = 0


@dataclass(frozen=True, slots=True)
class HandshakeFailures:
    """Connections that have ended before their handshake was through, by what libzmq calls the reason.

    Attributes:
        no_detail: the other side has left, as what only looks whether a port is open does, or has taken longer than five
            seconds.
        protocol: it spoke something else than ZeroMQ, or has no business at this port. A part of those libzmq does not
            report: they are counted once nobody can still be in the midst of a handshake, after six seconds at most
            without a new connection that stays.
        auth: its key is not on the allow-list.
    """

    no_detail: int = 0
    protocol: int = 0
    auth: int = 0

    def __add__(self, other: "HandshakeFailures") -> "HandshakeFailures":
        return HandshakeFailures(self.no_detail + other.no_detail, self.protocol + other.protocol, self.auth + other.auth)


@dataclass(frozen=True, slots=True)
class ProxyHealth:
    """How a proxy is at one moment, or was when it ended.

    The counts begin with `start`. What goes out is counted when it is handed on, once, however many get
    it: also what nobody has subscribed to, and what was dropped because a subscriber's queue was full.

    Attributes:
        running: whether it passes messages on: it has been started and it answers.
        uptime: seconds since it was started; of one that has ended, how long it ran.
        from_publishers: what publishers have sent.
        to_subscribers: what was handed on to subscribers.
        from_subscribers: subscriptions, and their ends, that subscribers have sent and that change anything for publishers.
        to_publishers: what was handed on to publishers.
        refused: connections of clients whose keys are not on the allow-list.
        denied: how often each client, by its name in the allow-list, was denied to publish or to subscribe.
        connections: that are open now.
        handshake_failures: connections that have come to nothing.
        subscriptions: different topics, or beginnings of topics, that somebody is subscribed to now; all topics are one of
            them, and the tokens of clients' echoes none. Under rules a topic counts from being granted to one client until
            all have left who have asked for it, and 100,000 of them at most; who asks twice for the same, as only a
            hand-made client does, may leave it behind.
    """

    running: bool = False
    uptime: float = 0.0
    from_publishers: Traffic = Traffic()
    to_subscribers: Traffic = Traffic()
    from_subscribers: Traffic = Traffic()
    to_publishers: Traffic = Traffic()
    refused: int = 0
    denied: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    connections: Connections = Connections()
    handshake_failures: HandshakeFailures = HandshakeFailures()
    subscriptions: int = 0

    def after(self, earlier: "ProxyHealth") -> Self:
        """The same of a proxy that goes on where the earlier one has stopped, and has its `denied` already."""
        return replace(
            self,
            uptime=earlier.uptime + self.uptime,
            from_publishers=earlier.from_publishers + self.from_publishers,
            to_subscribers=earlier.to_subscribers + self.to_subscribers,
            from_subscribers=earlier.from_subscribers + self.from_subscribers,
            to_publishers=earlier.to_publishers + self.to_publishers,
            refused=earlier.refused + self.refused,
            handshake_failures=earlier.handshake_failures + self.handshake_failures,
        )
