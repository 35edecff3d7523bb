"""One deadline across all the steps of an operation."""

from time import monotonic


class Deadline:
    """A point in time, `timeout` seconds from now, that every step of an operation shares."""

    __slots__ = ("_end", "timeout")

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._end = monotonic() + timeout

    def left(self) -> float:
        """Seconds until the deadline, never negative."""
        return max(0.0, self._end - monotonic())

    def passed(self) -> bool:
        """Whether no time is left."""
        return monotonic() >= self._end
