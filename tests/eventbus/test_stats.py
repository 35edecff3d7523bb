"""Counting, and saying it seldom."""

from eventbus import EventBusStats
from eventbus.stats import Counters, Throttle
from tests.support import run_threads


def test_counters_add_up() -> None:
    """A snapshot holds what was added; malformed messages count as rejected, pushed out events as dropped."""
    counters = Counters()
    counters.add(handled=2, dropped=1)
    counters.add(handler_errors=1, rejected=4, lost=7)
    assert counters.snapshot(emitted=9, received=3, malformed=2, pushed_out=5) == EventBusStats(
        emitted=9, received=3, handled=2, handler_errors=1, rejected=6, dropped=6, lost=7
    )


def test_counters_lose_nothing_between_threads() -> None:
    """Adding from many threads at once loses no count."""
    counters = Counters()

    def add(_number: int) -> None:
        for _ in range(2_000):
            counters.add(handled=1)

    run_threads(4, add)
    assert counters.snapshot(emitted=0, received=0, malformed=0, pushed_out=0).handled == 8_000


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_throttle_lets_one_through_per_interval() -> None:
    """The first of its kind passes, those of the next minute are held back, then one passes and tells how many were not."""
    clock = Clock()
    throttle = Throttle(60.0, clock)
    assert throttle.admit("a") == 0
    clock.now = 59.9
    assert throttle.admit("a") is None
    assert throttle.admit("a") is None
    clock.now = 60.0
    assert throttle.admit("a") == 2
    clock.now = 120.0
    assert throttle.admit("a") == 0


def test_throttle_counts_from_the_last_that_passed() -> None:
    """What is held back does not put off the next one."""
    clock = Clock()
    throttle = Throttle(10.0, clock)
    passed = []
    for second in range(31):
        clock.now = float(second)
        if throttle.admit("a") is not None:
            passed.append(second)
    assert passed == [0, 10, 20, 30]


def test_throttle_keeps_kinds_apart() -> None:
    """Messages of one kind hold back none of another."""
    throttle = Throttle(60.0, Clock())
    assert [throttle.admit("a"), throttle.admit("b"), throttle.admit("a"), throttle.admit("b")] == [0, 0, None, None]
