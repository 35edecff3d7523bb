"""Tells a consumer that is stuck from one that is idle or slow, by looking at its position now and then."""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from time import monotonic


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a consumer, and whether it is stuck.

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
    """Remembers the position at the last look, and since when it has been the same. Any thread may use it."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._position: object = None
        self._since = 0.0

    def busy_for(self, position: object, since: float | None = None) -> float:
        """Return for how many seconds the position has been this one: since the first look that found it.

        Args:
            position: anything that differs after each step.
            since: the clock's time at which this position was reached, if that is known.
        """
        with self._lock:
            now = self._clock()
            if position != self._position:
                self._position, self._since = position, now if since is None else since
            return max(0.0, now - self._since)
