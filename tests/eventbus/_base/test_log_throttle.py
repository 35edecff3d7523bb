"""The rate limit for log lines."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

import pytest

from eventbus._base.log_throttle import LogThrottle, more
from tests.support import PATIENCE, run_threads


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_it_lets_one_through_per_interval() -> None:
    """The first of its kind passes, those of the next minute are held back, then one passes and tells how many were not."""
    clock = Clock()
    throttle = LogThrottle(60.0, clock)
    assert throttle.admit("a") == 0
    clock.now = 59.9
    assert throttle.admit("a") is None
    assert throttle.admit("a", 10) is None
    clock.now = 60.0
    assert throttle.admit("a", 5) == 11
    clock.now = 120.0
    assert throttle.admit("a") == 0
    assert throttle.counts() == {"a": 18}


def test_a_line_tells_what_was_held_back_if_anything_was() -> None:
    """The end of a line counts what was held back; where nothing was, as in a first line, it says nothing."""
    assert more(0) == more(0, "more refused") == ""
    assert more(3, "more refused") == "; 3 more refused since the last such line"


def test_it_counts_from_the_last_that_passed() -> None:
    """A line that is held back does not put off the next one."""
    clock = Clock()
    throttle = LogThrottle(10.0, clock)
    passed = []
    for second in range(31):
        clock.now = float(second)
        if throttle.admit("a") is not None:
            passed.append(second)
    assert passed == [0, 10, 20, 30]


def test_it_lets_through_what_has_to_be_said_at_once() -> None:
    """An urgent message passes at any time, with the number held back before it; those after it wait as after any other."""
    clock = Clock()
    throttle = LogThrottle(60.0, clock)
    assert [throttle.admit("a"), throttle.admit("a"), throttle.admit("a", at_once=True)] == [0, None, 1]
    clock.now = 59.9
    assert throttle.admit("a") is None
    assert throttle.admit("a", at_once=True) == 1
    clock.now = 60.0
    assert throttle.admit("a") is None


def test_it_keeps_kinds_apart() -> None:
    """Messages of one kind hold back none of another."""
    throttle = LogThrottle(60.0, Clock())
    assert [throttle.admit("a"), throttle.admit("b"), throttle.admit("a"), throttle.admit("b")] == [0, 0, None, None]


def test_it_gives_the_rest_once() -> None:
    """The lines held back can be asked for, and are then not mentioned again."""
    clock = Clock()
    throttle = LogThrottle(60.0, clock)
    for key, count in (("a", 1), ("b", 1), ("a", 2), ("a", 3)):
        throttle.admit(key, count)
    assert throttle.take_held_back() == {"a": 5}
    assert throttle.take_held_back() == {}
    clock.now = 60.0
    assert throttle.admit("a") == 0


def test_it_lets_only_one_of_many_threads_through() -> None:
    """However many threads come at once, one message passes, and everything is counted."""
    pause = Event()

    def slow_clock() -> float:
        pause.wait(0.001)  # lets the others come to the same place
        return 0.0

    throttle = LogThrottle(60.0, slow_clock)
    answers: list[int | None] = []
    run_threads(4, lambda _: answers.extend([throttle.admit("a") for _ in range(10)]))
    assert [answer for answer in answers if answer is not None] == [0]
    assert (throttle.counts(), throttle.take_held_back()) == ({"a": 40}, {"a": 39})


@contextmanager
def held_elsewhere(throttle: LogThrottle) -> Iterator[None]:
    """Another thread holds the throttle's lock within the block."""
    held, go = Event(), Event()

    def hold() -> None:
        with throttle._lock:
            held.set()
            go.wait(PATIENCE)

    thread = Thread(target=hold)
    thread.start()
    held.wait(PATIENCE)
    try:
        yield
    finally:
        go.set()
        thread.join()


@pytest.mark.process
def test_it_works_in_a_forked_child() -> None:
    """A child can use a throttle whose lock another thread of the parent held during the fork."""
    throttle = LogThrottle(60.0, Clock())
    with held_elsewhere(throttle):
        child = os.fork()
        if child == 0:
            os._exit(0 if throttle._lock.acquire(blocking=False) and throttle.admit("a") == 0 else 1)
        assert os.waitpid(child, 0)[1] == 0
