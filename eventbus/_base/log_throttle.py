"""A rate limit for log lines: it lets one line of a kind through per interval, and counts the others."""

from collections.abc import Callable
from math import inf
from threading import RLock
from time import monotonic

from eventbus._base.forks import register_fork


def more(held_back: int, what: str = "more") -> str:
    """Return the end of a line, as in "; 3 more since the last such line"; empty if nothing was held back.

    Args:
        held_back: what `LogThrottle.admit` has returned.
        what: the words behind the number.
    """
    return f"; {held_back} {what} since the last such line" if held_back else ""


class LogThrottle:
    """Counts things by kind, and admits one log line of each kind per interval. Any thread may use it.

    Args:
        interval: seconds between two lines of one kind.
        clock: returns the time in seconds.
    """

    def __init__(self, interval: float = 60.0, clock: Callable[[], float] = monotonic) -> None:
        self._interval = interval
        self._clock = clock
        self._lock = RLock()  # a signal handler may log
        self._admitted_at: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._reported: dict[str, int] = {}  # how many of `_counts` the admitted lines have reported
        register_fork(self)

    def admit(self, key: str, count: int = 1, *, at_once: bool = False) -> int | None:
        """Count `count` more of a kind, and admit a line about them if the interval has passed.

        Args:
            key: the kind.
            count: how many.
            at_once: admit the line in any case.

        Returns the number of others that were held back since the last admitted line, or None if this line is held back.
        """
        with self._lock:
            total = self._counts[key] = self._counts.get(key, 0) + count
            now = self._clock()
            if not at_once and now - self._admitted_at.get(key, -inf) < self._interval:
                return None
            self._admitted_at[key] = now
            held_back = total - count - self._reported.get(key, 0)
            self._reported[key] = total
            return held_back

    def counts(self) -> dict[str, int]:
        """Return the count of each kind, whether its lines were admitted or held back."""
        with self._lock:
            return self._counts.copy()

    def take_held_back(self) -> dict[str, int]:
        """Return how many of each kind are held back, and count them as reported."""
        with self._lock:
            reported, self._reported = self._reported, self._counts.copy()
            return {key: count - reported.get(key, 0) for key, count in self._counts.items() if count != reported.get(key)}

    def _after_fork(self) -> None:
        self._lock = RLock()
