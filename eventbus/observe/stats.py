"""What becomes of events: counted by reason."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from threading import RLock
from types import MappingProxyType

from eventbus._base.log_throttle import LogThrottle
from eventbus.wire.codec import RejectReason

logger = logging.getLogger("eventbus")

MAX_UNKNOWN_TYPES = 100  # that are counted one by one


class DropReason(StrEnum):
    """Why an event did not get to where it was going."""

    RECEIVE_BUFFER = "receive_buffer"
    """The receive buffer was full, and somebody reads it. The event's callbacks were called all the same."""
    UNREAD = "unread"
    """Nobody had ever read the receive buffer, which keeps the newest 1,000 then. Its callbacks were called."""
    STOPPED = "stopped"
    """The consumer was stopped before the event's callbacks could be called."""
    SEND_BUFFER = "send_buffer"
    """The send buffer was full, and the send policy is to drop."""
    UNPROVEN = "unproven"
    """It was given to a connection that had to be given up, after the last echo had come back. It may have arrived."""
    DENIED = "denied"
    """The proxy's allow-list does not permit this client to publish there. Messages: one may have carried several events."""
    CLOSED = "closed"
    """It was kept while the proxy was away, which did not come back before the client was closed."""


# What is said, and the setting to turn. Nothing of UNREAD: a service that has nothing but callbacks does nothing wrong. Of
# DENIED more is said where it is noticed.
_SAID = {
    DropReason.RECEIVE_BUFFER: "received events: receive buffer full (EVENTBUS_RECEIVE_BUFFER, EVENTBUS_RECEIVE_POLICY)",
    DropReason.STOPPED: "received events: consumer stopped before their callbacks were called (EVENTBUS_CLOSE_TIMEOUT)",
    DropReason.SEND_BUFFER: "emitted events: send buffer full (EVENTBUS_SEND_HWM, EVENTBUS_SEND_POLICY)",
    DropReason.UNPROVEN: "emitted events, at most: connection given up (EVENTBUS_NUMBERED sends them again)",
    DropReason.CLOSED: "emitted events: client closed before the proxy came back (EVENTBUS_LINGER)",
}


@dataclass(frozen=True, slots=True)
class EventBusStats:
    """What a client has done with events since it was created; `stats()` takes it at one moment.

    Attributes:
        emitted: events handed to the transport.
        received: events that arrived on a subscribed topic and were decoded.
        handled: calls of callbacks that returned, or whose coroutine finished.
        handler_errors: calls of callbacks that raised or were cancelled.
        rejected: messages, or elements of packed messages, that were no event of this client.
        dropped: events that did not get to where they were going; one that was dropped in two places counts twice.
        lost: events that a numbering publisher sent and that never arrived here.
        repeated: messages that arrived again, because their publisher had lost its connection, and were skipped.
        rejects: how many were rejected for each reason that has occurred.
        unknown_types: how many had each type that this client does not know, for the first 100 such types; printable, and
            at most 64 characters of each.
        drops: how many were dropped for each reason that has occurred.
    """

    emitted: int = 0
    received: int = 0
    handled: int = 0
    handler_errors: int = 0
    rejected: int = 0
    dropped: int = 0
    lost: int = 0
    repeated: int = 0
    rejects: Mapping[RejectReason, int] = field(default_factory=lambda: MappingProxyType({}))
    unknown_types: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    drops: Mapping[DropReason, int] = field(default_factory=lambda: MappingProxyType({}))


class DropLog:
    """Counts dropped events by reason, and warns of each reason once a minute, with how many they were since the last time.

    Any thread may use it. Whoever drops events has one, or shares one.

    Args:
        throttle: what holds lines back.
        endpoints: where the client's proxy is, for the log.

    Attributes:
        listener: is told each time, in the thread that drops them; None: nobody is.
    """

    def __init__(self, throttle: LogThrottle | None = None, *, endpoints: str | None = None) -> None:
        self._throttle = throttle or LogThrottle()
        self._endpoints = endpoints
        self.listener: Callable[[DropReason, int], object] | None = None

    @property
    def counts(self) -> Mapping[DropReason, int]:
        """How many were dropped for each reason that has occurred."""
        return MappingProxyType({DropReason(key): count for key, count in self._throttle.counts().items()})

    def add(self, reason: DropReason, count: int = 1) -> None:
        """Count so many more events that were dropped for one reason."""
        held_back = self._throttle.admit(reason, count)
        if held_back is not None:
            self._say(reason, held_back + count)
        if self.listener is not None:
            self.listener(reason, count)

    def flush(self) -> None:
        """Say what was held back, for no more may come."""
        for key, count in self._throttle.rest().items():
            self._say(DropReason(key), count)

    def _say(self, reason: DropReason, count: int) -> None:
        if said := _SAID.get(reason):
            logger.warning(
                "dropped %d %s",
                count,
                said,
                extra={
                    "eventbus_reason": str(reason),
                    "eventbus_count": count,
                    "eventbus_endpoints": self._endpoints,
                },
            )


class Counters:
    """What happens to events after they are received. Any thread may add; once per batch, to spare each event the lock.

    Attributes:
        drops: the client's dropped events, but for those that its transport counts.
    """

    def __init__(self) -> None:
        self.drops = DropLog()
        self._lock = RLock()  # a signal handler may ask while its thread does
        self._handled = self._handler_errors = self._lost = self._repeated = 0
        self._rejects: dict[RejectReason, int] = {}
        self._unknown_types: dict[str, int] = {}

    def add(self, *, handled: int = 0, handler_errors: int = 0, lost: int = 0, repeated: int = 0) -> None:
        """Add to the counts, all at once."""
        with self._lock:
            self._handled += handled
            self._handler_errors += handler_errors
            self._lost += lost
            self._repeated += repeated

    def reject(self, reason: RejectReason, count: int = 1, *, unknown_type: str | None = None) -> bool:
        """Count so many messages, or elements of packed messages, that were no event for one reason.

        Args:
            reason: why.
            count: how many.
            unknown_type: the type that they all had, if that is why.

        Returns whether they were the first of this type, and it is one of those that are counted one by one.
        """
        with self._lock:
            self._rejects[reason] = self._rejects.get(reason, 0) + count
            if unknown_type is None:
                return False
            known = self._unknown_types.get(unknown_type)
            if known is None and len(self._unknown_types) >= MAX_UNKNOWN_TYPES:
                return False
            self._unknown_types[unknown_type] = (known or 0) + count
            return known is None

    def snapshot(
        self, *, emitted: int, received: int, unread: int, malformed: int, drops: Mapping[DropReason, int]
    ) -> EventBusStats:
        """Return the counts of one moment, with those of others.

        Args:
            emitted: events that the transport has sent.
            received: events that came into the receive buffer.
            unread: those of them that had to make room there before somebody read it.
            malformed: messages that the transport has skipped.
            drops: what the transport has dropped.
        """
        with self._lock:
            handled, handler_errors, rejects = self._handled, self._handler_errors, self._rejects.copy()
            lost, repeated, unknown_types = self._lost, self._repeated, self._unknown_types.copy()
        all_rejects = _sum(RejectReason, rejects, {RejectReason.FRAMES: malformed})
        all_drops = _sum(DropReason, self.drops.counts, {DropReason.UNREAD: unread}, drops)
        return EventBusStats(
            emitted=emitted,
            received=received,
            handled=handled,
            handler_errors=handler_errors,
            rejected=sum(all_rejects.values()),
            dropped=sum(all_drops.values()),
            lost=lost,
            repeated=repeated,
            rejects=all_rejects,
            unknown_types=MappingProxyType(unknown_types),
            drops=all_drops,
        )


def _sum[Reason: StrEnum](reasons: type[Reason], *counts: Mapping[Reason, int]) -> Mapping[Reason, int]:
    """The sums for each reason that has occurred, in the order in which they are defined."""
    sums = {reason: sum(count.get(reason, 0) for count in counts) for reason in reasons}
    return MappingProxyType({reason: count for reason, count in sums.items() if count})
