"""Telling a consumer that is stuck from one that is idle or slow, by looking at it now and then."""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from time import monotonic


@dataclass(frozen=True, slots=True)
class Progress:
    """How a consumer is getting on.

    Attributes:
        wanted: whether it was started and not stopped.
        running: whether its thread runs.
        busy_for: seconds since its last sign of progress, as far as that is known: since the last look if it has moved, or
            since its batch came if it has not moved at all. 0.0 while it waits for messages.
    """

    wanted: bool
    running: bool
    busy_for: float


class StallDetector:
    """Remembers where something was at the last look, and when that was. Any thread may use it."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._seen: object = None
        self._since = 0.0

    def busy_for(self, place: object, since: float | None = None) -> float:
        """Return for how many seconds it has been in this place: since the first look that found it there.

        Args:
            place: whatever is different when it has moved.
            since: the clock's time at which it came there, if that is known.
        """
        with self._lock:
            now = self._clock()
            if place != self._seen:
                self._seen, self._since = place, now if since is None else since
            return max(0.0, now - self._since)
