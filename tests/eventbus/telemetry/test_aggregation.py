"""Sums of telemetry: nothing is lost or counted twice with any number of writers and readers, and memory is bounded."""

import os
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus.telemetry import aggregation
from eventbus.telemetry.aggregation import Durations, Volume
from tests.support import run_threads

BOUNDS = (0.001, 0.01, 0.1)
FOLD = aggregation._VALUES_PER_FOLD


@given(calls=st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 1_000)), max_size=2 * FOLD), reads=st.booleans())
def test_a_volume_is_the_sum_of_its_calls(calls: list[tuple[int, int]], reads: bool) -> None:
    """A volume has the events and bytes of all calls, whether it is read meanwhile or not."""
    volume = Volume()
    for size, count in calls:
        volume.add(size, count)
        if reads:
            volume.read()
    assert volume.read() == (sum(count for _, count in calls), sum(size for size, _ in calls))


@given(st.lists(st.sampled_from(BOUNDS) | st.floats(0, 10), max_size=2 * FOLD))
def test_each_duration_is_counted(durations: list[float]) -> None:
    """A distribution counts each duration below every bound that it does not exceed; a bound includes itself."""
    timed = Durations(BOUNDS)
    for duration in durations:
        timed.add(duration)
    distribution = timed.read()
    assert distribution.cumulative == tuple(sum(duration <= bound for duration in durations) for bound in BOUNDS)
    assert distribution.count == len(durations)
    assert distribution.total == pytest.approx(sum(durations))
    assert timed.read() == distribution


def test_what_waits_is_bounded() -> None:
    """However much is added between two reads, no more than a few hundred values wait to be added up."""
    volume, timed = Volume(), Durations(BOUNDS)
    for _ in range(10 * FOLD):
        volume.add(1, 2)
        timed.add(0.5)
    assert max(len(volume._sizes), len(volume._more), len(timed._durations)) < FOLD


def test_threads_add_and_read_at_once() -> None:
    """Values that many threads add while others read are all there in the end, once."""
    volume, timed = Volume(), Durations(BOUNDS)

    def work(number: int) -> None:
        for _ in range(5 * FOLD):
            if number:
                volume.add(3, 1)
                timed.add(0.05)
            else:
                events, size = volume.read()
                assert size <= 3 * 8 * 5 * FOLD
                assert events <= 8 * 5 * FOLD
                timed.read()

    run_threads(9, work)
    assert volume.read() == (8 * 5 * FOLD, 3 * 8 * 5 * FOLD)
    assert timed.read().cumulative == (0, 0, 8 * 5 * FOLD)


ADD: dict[str, Callable[[], tuple[Volume | Durations, Callable[[], None]]]] = {
    "volume": lambda: (volume := Volume(), lambda: volume.add(1, 1)),
    "durations": lambda: (timed := Durations(BOUNDS), lambda: timed.add(0.5)),
}


@pytest.mark.parametrize("make", ADD.values(), ids=ADD.keys())
def test_adding_waits_for_nobody(make: Callable[[], tuple[Volume | Durations, Callable[[], None]]]) -> None:
    """Adding goes on during a read: a signal handler may interrupt that and emit. It is added up later."""
    sums, add = make()
    with sums._lock:
        for _ in range(2 * FOLD):
            add()
    add()
    found = sums.read()
    assert (found[0] if isinstance(found, tuple) else found.count) == 2 * FOLD + 1


@pytest.mark.process
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.process
def test_a_forked_child_goes_on() -> None:
    """A child that was forked while a thread of the parent was reading adds and reads; it begins with the parent's sums."""
    volume = Volume()
    volume.add(10, 1)
    with volume._lock:
        child = os.fork()
        if not child:
            volume.add(10, 1)
            os._exit(0 if volume.read() == (2, 20) else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert volume.read() == (1, 10)
