"""Adding up counts, bytes and durations, at the price of a list's `append` for each; no library of metrics."""

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

from eventbus._base.forks import register_fork

# Values are added up when this many wait: sorting and summing many at once runs in C. It also bounds the memory.
_VALUES_PER_FOLD = 256


class _Folding(ABC):
    """Values wait in lists, and are added up when enough of them wait, or when the sums are read.

    Any thread may add, and so may a signal handler, because adding waits for no lock. Only the thread that holds the lock
    takes values out of the lists.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        register_fork(self)

    def _after_fork(self) -> None:
        self._lock = Lock()

    def _try_to_fold(self) -> None:
        """Add up what waits, unless another thread, or the code that a signal handler has interrupted, is doing it."""
        if self._lock.acquire(blocking=False):
            try:
                self._fold()
            finally:
                self._lock.release()

    @abstractmethod
    def _fold(self) -> None:
        """Add up what waits. The caller holds the lock."""


class Volume(_Folding):
    """The number of events and of their bytes."""

    def __init__(self) -> None:
        super().__init__()
        self._sizes: list[int] = []  # one of each call of `add`
        self._more: list[int] = []  # how many events beyond one, of calls with more
        self._events = self._bytes = 0

    def add(self, size: int, count: int) -> None:
        """Add `count` events of `size` bytes altogether."""
        sizes = self._sizes
        sizes.append(size)
        if count != 1:
            self._more.append(count - 1)
        if len(sizes) >= _VALUES_PER_FOLD:
            self._try_to_fold()

    def read(self) -> tuple[int, int]:
        """Return the events and the bytes that were added until now."""
        with self._lock:
            self._fold()
            return self._events, self._bytes

    def _fold(self) -> None:
        sizes = _take(self._sizes)
        self._events += len(sizes) + sum(_take(self._more))
        self._bytes += sum(sizes)


@dataclass(frozen=True, slots=True)
class Distribution:
    """A histogram of durations.

    Attributes:
        cumulative: for each bound, the number of durations not longer than it.
        count: the number of durations.
        total: their sum, in seconds.
    """

    cumulative: tuple[int, ...]
    count: int
    total: float


class Durations(_Folding):
    """A histogram of durations; each single one is counted.

    Args:
        bounds: in seconds, ascending.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        super().__init__()
        self._bounds = bounds
        self._durations: list[float] = []
        self._cumulative = [0] * len(bounds)
        self._count = 0
        self._total = 0.0

    def add(self, duration: float) -> None:
        """Add a duration, in seconds."""
        durations = self._durations
        durations.append(duration)
        if len(durations) >= _VALUES_PER_FOLD:
            self._try_to_fold()

    def read(self) -> Distribution:
        """Return the distribution of all durations that were added until now."""
        with self._lock:
            self._fold()
            return Distribution(tuple(self._cumulative), self._count, self._total)

    def _fold(self) -> None:
        durations = _take(self._durations)
        durations.sort()  # so that each bound is looked up once, and not each duration
        for index, bound in enumerate(self._bounds):
            self._cumulative[index] += bisect_right(durations, bound)
        self._count += len(durations)
        self._total += sum(durations)


def _take[Value](waiting: list[Value]) -> list[Value]:
    """Remove the values that are in the list at this moment. Others may append meanwhile."""
    taken = waiting[:]
    del waiting[: len(taken)]
    return taken
