"""One deadline for all steps of an operation."""

from time import monotonic

LONGEST_S = 2_000_000.0
"""Some 23 days: no wait is longer, an endless one (`math.inf`) neither. More milliseconds are no C integer."""


class Deadline:
    """A point in time, `timeout` seconds from now, that all steps of an operation share; at most `LONGEST_S` from now."""

    __slots__ = ("_end", "timeout")

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._end = monotonic() + min(timeout, LONGEST_S)

    def left(self) -> float:
        """Seconds until the deadline, never negative."""
        return max(0.0, self._end - monotonic())

    def passed(self) -> bool:
        """Whether the deadline has passed."""
        return monotonic() >= self._end
