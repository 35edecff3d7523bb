"""Which calls are timed: all of a slow series, a random part of a fast one. The clock and chance are the tests' own."""

from collections.abc import Iterator
from random import Random

import pytest

from eventbus.telemetry.thinning import CALLS_PER_SECOND, Thinning, chooser
from tests.support import run_threads

BLOCK = 1_024


class Series:
    """Calls that follow each other on a clock that only they move."""

    def __init__(self) -> None:
        self.now = 0.0
        self._thinning = Thinning(lambda: self.now, Random(1).random)

    def call(self, duration: float) -> bool:
        """Whether a call of so many seconds is chosen."""
        started = self.now
        self.now += duration
        return self._thinning.chooses(started)

    def calls(self, per_second: float, seconds: float) -> Iterator[bool]:
        """Which calls are chosen of a series with this rate."""
        for _ in range(round(per_second * seconds)):
            yield self.call(1 / per_second)


@pytest.fixture
def series() -> Series:
    return Series()


@pytest.mark.parametrize("per_second", [0.01, 10, 0.99 * CALLS_PER_SECOND])
def test_a_slow_series_loses_nothing(series: Series, per_second: float) -> None:
    """All calls are chosen where there are at most a thousand per second."""
    assert all(series.calls(per_second, 3_000 / per_second))


@pytest.mark.parametrize("per_second", [1_500, 20_000, 300_000])
def test_a_fast_series_is_thinned(series: Series, per_second: float) -> None:
    """The first block is all chosen; then a thousand calls are per second, on average."""
    assert all(series.calls(per_second, BLOCK / per_second))
    chosen = sum(series.calls(per_second, 5))
    assert 0.95 * 5 * CALLS_PER_SECOND < chosen < 1.05 * 5 * CALLS_PER_SECOND


def test_bursts_with_pauses(series: Series) -> None:
    """A series of bursts has a thousand chosen calls per second, too, averaged over bursts and pauses."""
    chosen = 0
    for _ in range(20):
        chosen += sum(series.calls(200_000, 0.1))
        series.now += 0.9
    assert chosen < 1.05 * 20 * CALLS_PER_SECOND + BLOCK


def test_after_a_burst(series: Series) -> None:
    """All calls are chosen again when a burst is over, about a second after it at the latest."""
    assert not all(series.calls(100_000, 1))
    list(series.calls(10, 1.2))
    assert all(series.calls(10, 300))


def test_long_calls_are_not_preferred(series: Series) -> None:
    """A series has the same share of its long calls as of its short ones, so that its histogram is not distorted."""
    long, short = 0, 0
    for _ in range(5_000):
        short += sum(series.call(0.000_01) for _ in range(9))
        long += series.call(0.002)
    assert short + long < 50_000 / 2  # of a series with 4,800 per second
    assert 0.9 < long / (short / 9) < 1.1


def test_threads_may_share_a_series() -> None:
    """Any thread may ask; every call gets an answer, and some are chosen."""
    chooses = chooser("auto")
    chosen = [0] * 4

    def work(number: int) -> None:
        chosen[number] = sum(chooses(0.0) for _ in range(5_000))

    run_threads(4, work)
    assert sum(chosen) >= BLOCK


@pytest.mark.parametrize(("timed", "expected"), [(0.0, False), (1.0, True)])
def test_all_or_none(timed: float, expected: bool) -> None:
    """A part of 0 chooses no call, whatever chance has it, and 1 every call."""
    chooses = chooser(timed)
    assert {chooses(0.0) for _ in range(100)} == {expected}
