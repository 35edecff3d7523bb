"""Counting what happens to events: received, handled, rejected and dropped, by reason."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from threading import RLock
from types import MappingProxyType

from eventbus._base.log import Log
from eventbus._base.log_throttle import LogThrottle
from eventbus._base.printable import counted
from eventbus.exports import public
from eventbus.wire.rejects import RejectReason

MAX_UNKNOWN_TYPES = 100  # types of events that are counted one by one


@public
class DropReason(StrEnum):
    """The reason why an event was dropped."""

    RECEIVE_BUFFER = "receive_buffer"
    """The receive buffer was full, and the service reads it. The event's callbacks were called all the same."""
    UNREAD = "unread"
    """The service has never read the receive buffer, which then keeps the newest 1,000. Its callbacks were called."""
    STOPPED = "stopped"
    """The consumer was stopped before the event's callbacks could be called."""
    SEND_BUFFER = "send_buffer"
    """The send buffer was full, and the send policy says to drop."""
    UNPROVEN = "unproven"
    """It was sent on a connection that broke before the next echo came back. It may have arrived."""
    DENIED = "denied"
    """The proxy's allow-list does not permit this client to publish there. Counts messages; one may pack many events."""
    TOO_LARGE = "too_large"
    """It waited for the proxy, or was sent to it, and the proxy accepts no payload as large as its own."""
    RECEIVE_QUEUE = "receive_queue"
    """It had arrived, and the queue before the consumer was full. With NATS; a proxy drops for a slow subscriber itself."""
    CLOSED = "closed"
    """It was kept while no proxy was connected, and the client was closed before one was."""
    UNWANTED_ANSWER = "unwanted_answer"
    """An answer for which nobody waits: another answerer was faster, the request's time was up, or the asker has gone."""


# What the log calls one of them, and why it was dropped, with the settings to change. UNREAD has none, because a service
# with callbacks only does nothing wrong. DENIED has none, because the transport logs each denial with its topic.
# UNWANTED_ANSWER has none, because several services may answer the same request.
_RECEIVED, _EMITTED = "received event", "emitted event"
_TEXTS = {
    DropReason.RECEIVE_BUFFER: (
        _RECEIVED,
        ": receive buffer full (EVENTBUS_RECEIVE_BUFFER, EVENTBUS_RECEIVE_POLICY)",
    ),
    DropReason.STOPPED: (_RECEIVED, ": consumer stopped before their callbacks were called (EVENTBUS_CLOSE_TIMEOUT)"),
    DropReason.SEND_BUFFER: (_EMITTED, ": send buffer full (EVENTBUS_SEND_HWM, EVENTBUS_SEND_POLICY)"),
    DropReason.UNPROVEN: (_EMITTED, ", at most: connection given up (EVENTBUS_NUMBERED sends them again)"),
    DropReason.TOO_LARGE: (
        _EMITTED,
        ": larger than a proxy (EVENTBUS_MAX_EVENT_BYTES) or NATS (max_payload) accepts",
    ),
    DropReason.RECEIVE_QUEUE: (_RECEIVED, ": the consumer is too slow (EVENTBUS_RECEIVE_HWM)"),
    DropReason.CLOSED: (_EMITTED, ": client closed before the connection was back (EVENTBUS_LINGER)"),
}


@public
@dataclass(frozen=True, slots=True)
class EventBusStats:
    """The counts of a client at one moment, since it was created.

    Attributes:
        emitted: events handed to the transport; so are requests, and answers to requests.
        received: events that arrived on a subscribed topic and were decoded.
        handled: calls of callbacks that returned, or whose coroutine finished.
        handler_errors: calls of callbacks that raised or were cancelled.
        rejected: messages, or elements of packed messages, that were no event of this client's class.
        dropped: events that were dropped; an event that was dropped in two places counts twice.
        lost: events that a numbering publisher sent and that never arrived here.
        repeated: messages that their publisher sent again after it had lost its connection, and that were skipped.
        repaired: events that a numbering publisher sent, that did not arrive here, and that a historian had.
        rejects: `rejected` by reason, without the reasons that have not occurred.
        unknown_types: the events that had a type that this client does not know, by type: the first 100 such types,
            printable and cut to 64 characters.
        drops: `dropped` by reason, without the reasons that have not occurred.
    """

    emitted: int = 0
    received: int = 0
    handled: int = 0
    handler_errors: int = 0
    rejected: int = 0
    dropped: int = 0
    lost: int = 0
    repeated: int = 0
    repaired: int = 0
    rejects: Mapping[RejectReason, int] = field(default_factory=lambda: MappingProxyType({}))
    unknown_types: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    drops: Mapping[DropReason, int] = field(default_factory=lambda: MappingProxyType({}))


class DropLog:
    """Counts dropped events by reason, and logs a warning for each reason once a minute with the count since the last one.

    Any thread may use it.

    Args:
        throttle: the rate limit of the warnings; None: one a minute.
        endpoints: where the client's proxy is, for the log.

    Attributes:
        listener: called with the reason and the count each time, in the thread that drops the events; None: no call.
        is_quiet: whether nothing is logged, because what is sent is nobody's events.
    """

    def __init__(self, throttle: LogThrottle | None = None, *, endpoints: str | None = None) -> None:
        self._throttle = throttle or LogThrottle()
        self._endpoints = endpoints
        self._log = Log(endpoints=endpoints)
        self.listener: Callable[[DropReason, int], object] | None = None
        self.is_quiet = False

    def name_client(self, name: str) -> None:
        """Write the client's name into the lines of the log from now on."""
        self._log = Log(endpoints=self._endpoints, client_name=name)

    @property
    def counts(self) -> Mapping[DropReason, int]:
        """The number of dropped events for each reason that has occurred."""
        return MappingProxyType({DropReason(key): count for key, count in self._throttle.counts().items()})

    def add(self, reason: DropReason, count: int = 1) -> None:
        """Count `count` more events that were dropped for one reason."""
        held_back = self._throttle.admit(reason, count)
        if held_back is not None:
            self._warn(reason, held_back + count)
        if self.listener is not None:
            self.listener(reason, count)

    def flush(self) -> None:
        """Log the counts that were held back, because the client closes and no later line may report them."""
        for key, count in self._throttle.take_held_back().items():
            self._warn(DropReason(key), count)

    def _warn(self, reason: DropReason, count: int) -> None:
        if (text := _TEXTS.get(reason)) and not self.is_quiet:
            what, why = text
            self._log.warning("dropped %s%s", counted(count, what), why, reason=str(reason), count=count)


class Counters:
    """Counts what happens to received events. Any thread may add: once per batch, because each call takes the lock.

    Attributes:
        drops: the client's dropped events, without those that its transport counts.
    """

    def __init__(self) -> None:
        self.drops = DropLog()
        self._lock = RLock()  # a signal handler may interrupt a call in the same thread
        self._handled = self._handler_errors = self._lost = self._repeated = self._repaired = 0
        self._rejects: dict[RejectReason, int] = {}
        self._unknown_types: dict[str, int] = {}

    def add(self, *, handled: int = 0, handler_errors: int = 0, lost: int = 0, repeated: int = 0, repaired: int = 0) -> None:
        """Add to the counts, all at once."""
        with self._lock:
            self._handled += handled
            self._handler_errors += handler_errors
            self._lost += lost
            self._repeated += repeated
            self._repaired += repaired

    def reject(self, reason: RejectReason, count: int = 1, *, unknown_type: str | None = None) -> bool:
        """Count messages, or elements of packed messages, that were rejected for one reason.

        Args:
            reason: why.
            count: how many.
            unknown_type: the type that all of them had, if that is the reason.

        Returns whether this type is new and among those that are counted one by one.
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
        self,
        *,
        emitted: int,
        received: int,
        unread: int,
        malformed: int,
        drops: Mapping[DropReason, int],
        lost: int = 0,
        repeated: int = 0,
    ) -> EventBusStats:
        """Return all counts of one moment, including those that other parts of the client keep.

        Args:
            emitted: events that the transport has sent.
            received: events that were put into the receive buffer.
            unread: events that the buffer has dropped before its first reader came.
            malformed: messages that the transport has skipped.
            drops: events that the transport has dropped, by reason.
            lost: messages that the transport knows to be missing.
            repeated: messages that the transport has skipped, because they had come before.
        """
        with self._lock:
            handled, handler_errors, rejects = self._handled, self._handler_errors, self._rejects.copy()
            unknown_types = self._unknown_types.copy()
            lost, repeated, repaired = lost + self._lost, repeated + self._repeated, self._repaired
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
            repaired=repaired,
            rejects=all_rejects,
            unknown_types=MappingProxyType(unknown_types),
            drops=all_drops,
        )


def _sum[Reason: StrEnum](reasons: type[Reason], *counts: Mapping[Reason, int]) -> Mapping[Reason, int]:
    """The sum for each reason that has occurred, in the order of their definition."""
    sums = {reason: sum(count.get(reason, 0) for count in counts) for reason in reasons}
    return MappingProxyType({reason: count for reason, count in sums.items() if count})
