"""Counting what happens to events, and saying it no more often than a person can read."""

from collections.abc import Callable
from dataclasses import dataclass
from threading import RLock
from time import monotonic


@dataclass(frozen=True, slots=True)
class EventBusStats:
    """What a client has done with events since it was created; `stats()` takes it at one moment.

    Attributes:
        emitted: events handed to the transport.
        received: events that arrived on a subscribed topic and were decoded.
        handled: calls of callbacks that returned, or whose coroutine finished.
        handler_errors: calls of callbacks that raised or were cancelled.
        rejected: messages, or elements of packed messages, that were no event of this client.
        dropped: received events that left the receive buffer unread because it was full (their callbacks were called all the
            same), and those whose callbacks could not be called in time when the consumer was stopped.
    """

    emitted: int = 0
    received: int = 0
    handled: int = 0
    handler_errors: int = 0
    rejected: int = 0
    dropped: int = 0


class Counters:
    """What happens to events after they are received. Any thread may add; once per batch, to spare each event the lock."""

    def __init__(self) -> None:
        self._lock = RLock()  # a signal handler may ask while its thread does
        self._handled = self._handler_errors = self._rejected = self._dropped = 0

    def add(self, *, handled: int = 0, handler_errors: int = 0, rejected: int = 0, dropped: int = 0) -> None:
        """Add to the counts, all at once."""
        with self._lock:
            self._handled += handled
            self._handler_errors += handler_errors
            self._rejected += rejected
            self._dropped += dropped

    def snapshot(self, *, emitted: int, received: int, malformed: int, pushed_out: int) -> EventBusStats:
        """Return the counts of one moment, with those of others.

        Args:
            emitted: events that the transport has sent.
            received: events that came into the receive buffer.
            malformed: messages that the transport has skipped.
            pushed_out: events that had to leave the receive buffer.
        """
        with self._lock:
            handled, handler_errors = self._handled, self._handler_errors
            rejected, dropped = self._rejected, self._dropped
        return EventBusStats(
            emitted=emitted,
            received=received,
            handled=handled,
            handler_errors=handler_errors,
            rejected=rejected + malformed,
            dropped=dropped + pushed_out,
        )


class Throttle:
    """Lets one message per key and interval through, and remembers how many it held back. One thread at a time."""

    def __init__(self, interval: float = 60.0, clock: Callable[[], float] = monotonic) -> None:
        self._interval = interval
        self._clock = clock
        self._last: dict[str, float] = {}
        self._held_back: dict[str, int] = {}

    def admit(self, key: str) -> int | None:
        """Return how many were held back since the last one that passed, or None when this one is to be held back too."""
        now = self._clock()
        last = self._last.get(key)
        if last is not None and now - last < self._interval:
            self._held_back[key] = self._held_back.get(key, 0) + 1
            return None
        self._last[key] = now
        return self._held_back.pop(key, 0)
