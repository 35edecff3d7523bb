"""Saying something no more often than a person can read it."""

from collections.abc import Callable
from math import inf
from threading import RLock
from time import monotonic


class LogThrottle:
    """Counts things of a kind, and lets one message about them through per interval. Any thread may use it."""

    def __init__(self, interval: float = 60.0, clock: Callable[[], float] = monotonic) -> None:
        self._interval = interval
        self._clock = clock
        self._lock = RLock()
        self._last: dict[str, float] = {}  # when a message passed
        self._counts: dict[str, int] = {}
        self._said: dict[str, int] = {}  # how many of them the messages have told of

    def admit(self, key: str, count: int = 1, *, at_once: bool = False) -> int | None:
        """Count so many more of a kind, and say whether a message about them may pass; `at_once`: it may.

        Returns how many others were held back since the last one that passed, or None when these are to be held back too.
        """
        with self._lock:
            total = self._counts[key] = self._counts.get(key, 0) + count
            now = self._clock()
            if not at_once and now - self._last.get(key, -inf) < self._interval:
                return None
            self._last[key] = now
            held_back = total - count - self._said.get(key, 0)
            self._said[key] = total
            return held_back

    def counts(self) -> dict[str, int]:
        """Return how many there were of each kind, held back or not."""
        with self._lock:
            return self._counts.copy()

    def rest(self) -> dict[str, int]:
        """Return how many of each kind are held back; they then count as passed."""
        with self._lock:
            said, self._said = self._said, self._counts.copy()
            return {key: count - said.get(key, 0) for key, count in self._counts.items() if count != said.get(key)}
