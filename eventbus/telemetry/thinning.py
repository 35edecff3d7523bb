"""Which of many calls are timed, where recording a duration costs more than the call; no library of metrics."""

from collections.abc import Callable
from itertools import count
from math import inf
from random import random
from time import perf_counter

from eventbus.errors import InvalidSettings
from eventbus.policies import Timed

CALLS_PER_SECOND = 1_000  # that are chosen of a fast series, on average

_CALLS_PER_BLOCK = 1_024
_LONGEST_BLOCK_S = _CALLS_PER_BLOCK / CALLS_PER_SECOND

type Choose = Callable[[float], bool]
"""Decides whether a call is timed. Takes the time at which the call began, by `perf_counter`."""


# When it began, when it ends at the latest, which part of its calls is chosen, and what counts them.
type _Block = tuple[float, float, float, count[int]]


class Thinning:
    """Chooses every call of a slow series, and of a fast one a random part: a thousand calls per second on average.

    Calls come in blocks. A block ends after 1,024 calls, or with a call that begins more than 1.024 s after the block; the
    time that it took decides which part of the next block is chosen. So the clock is read once per block, the first 1,024
    calls of a burst are all chosen, and so are all calls from about a second after it. Whether a call is chosen does not
    depend on its own duration. A bucket of tokens would prefer long calls, because it fills while they last.

    Any thread may ask. Threads that begin a block at the same time all measure the block before.

    Args:
        clock: returns seconds.
        draw: returns random numbers from 0 to 1.
    """

    __slots__ = ("_block", "_clock", "_draw")

    def __init__(self, clock: Callable[[], float] = perf_counter, draw: Callable[[], float] = random) -> None:
        self._clock = clock
        self._draw = draw
        self._begin_after(-inf)

    def chooses(self, started: float) -> bool:
        """Whether the call that began at this time of the clock is one of the chosen."""
        began, ends, part, calls = self._block
        if started > ends:
            began, ends, part, calls = self._begin_after(began)
        if next(calls) == _CALLS_PER_BLOCK:
            self._begin_after(began)
        return part >= 1 or self._draw() < part

    def _begin_after(self, before: float) -> _Block:
        """Begin a block. The one before had begun at `before`."""
        now = self._clock()
        self._block: _Block = (now, now + _LONGEST_BLOCK_S, (now - before) / _LONGEST_BLOCK_S, count(1))
        return self._block


def check_share(name: str, share: float) -> None:
    """Check an argument that is a part of something, because what uses it would fail with the first event.

    Raises:
        InvalidSettings: it is no number from 0 to 1.
    """
    if not isinstance(share, int | float) or not 0 <= share <= 1:
        raise InvalidSettings(f"{name}={share!r}: it must be a number from 0 to 1")


def chooser(timed: Timed) -> Choose:
    """Return what chooses the calls of one series: by their rate, or a fixed part of them."""
    if timed == "auto":
        return Thinning().chooses
    if timed >= 1:
        return lambda _: True
    return lambda _: random() < timed
