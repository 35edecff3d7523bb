"""The health of a proxy: values of one moment, and adding the counts of several runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Self

from eventbus.exports import public
from eventbus.wire.history import Kept


@dataclass(frozen=True, slots=True)
class Traffic:
    """Traffic in one direction: frames, of which each message of this bus has two, and the bytes in them."""

    frames: int = 0
    bytes: int = 0

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(self.frames + other.frames, self.bytes + other.bytes)


@dataclass(frozen=True, slots=True)
class Connections:
    """Open connections, by the port that they came to. Those that have not finished their handshake count too."""

    publishers: int = 0
    subscribers: int = 0


@dataclass(frozen=True, slots=True)
class HandshakeFailures:
    """Connections whose handshake has failed, by libzmq's reason.

    Attributes:
        no_detail: the peer has disconnected, as a port check does, or has taken longer than five seconds.
        protocol: the peer does not speak ZeroMQ, or its socket type does not fit this port. libzmq does not report all of
            these: the others are counted when no handshake can be under way any more, at the latest after six seconds
            without a new connection that stays.
        auth: the peer's key is not on the allow-list.
    """

    no_detail: int = 0
    protocol: int = 0
    auth: int = 0

    def __add__(self, other: "HandshakeFailures") -> "HandshakeFailures":
        return HandshakeFailures(self.no_detail + other.no_detail, self.protocol + other.protocol, self.auth + other.auth)


@public
@dataclass(frozen=True, slots=True)
class ProxyHealth:
    """The health of a proxy at one moment; of a stopped proxy, when it stopped.

    The counts begin at `start`. An outgoing message counts once, however many subscribers get it. Messages without a
    subscriber, and those that were dropped because a subscriber's queue was full, count as well.

    Attributes:
        running: whether the proxy passes messages on: it was started and it answers.
        uptime: seconds since the start; of a stopped proxy, how long it ran.
        from_publishers: traffic that publishers have sent.
        to_subscribers: traffic that was passed on to subscribers.
        from_subscribers: subscriptions, and their ends, that subscribers have sent and that change anything for publishers.
        to_publishers: traffic that was passed on to publishers.
        refused: connections of clients whose keys are not on the allow-list.
        denied: how often each client, by its name in the allow-list, was denied to publish or to subscribe.
        connections: open connections.
        handshake_failures: connections whose handshake has failed.
        subscriptions: different topics, or prefixes of topics, that at least one client is subscribed to now. A
            subscription to all topics is one of them; the tokens of clients' echoes do not count. Under rules a topic
            counts from the moment when one client is granted it until all clients that asked for it have left, up to
            100,000 topics.
        disconnected: connections that the proxy has ended to stay within its limits, by reason: a `slow` subscriber,
            a publisher's `unfinished` messages, a message that was `too_large`, a long `handshake`, many `subscriptions`,
            `misuse` of the port for subscribers (under rules that is a denial), too few `descriptors`. `too_large` is
            counted on Linux, and for as many publishers at once as a quarter of the process's descriptors allows.
        dropped: how many messages were dropped because the queues of slow subscribers were full, those of each subscriber
            added up. An estimate on Linux only: too low by up to half a queue until the subscriber has read what waits, then
            right to some per cent; too high for a subscriber of a part of the traffic that has never kept up.
        history: what the proxy keeps for those who come late; None: it keeps nothing.
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
    disconnected: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    dropped: int = 0
    history: Kept | None = None

    def after(self, previous: "ProxyHealth") -> Self:
        """Return this health with the counts of the run before added, except `denied`, which already has them."""
        return replace(
            self,
            uptime=previous.uptime + self.uptime,
            from_publishers=previous.from_publishers + self.from_publishers,
            to_subscribers=previous.to_subscribers + self.to_subscribers,
            from_subscribers=previous.from_subscribers + self.from_subscribers,
            to_publishers=previous.to_publishers + self.to_publishers,
            refused=previous.refused + self.refused,
            handshake_failures=previous.handshake_failures + self.handshake_failures,
            dropped=previous.dropped + self.dropped,
            disconnected={
                reason: previous.disconnected.get(reason, 0) + count for reason, count in self.disconnected.items()
            },
        )
