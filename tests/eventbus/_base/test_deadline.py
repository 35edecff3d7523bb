"""Deadlines and waits that end in centuries."""

from threading import Event, Lock

from eventbus._base.clock import SystemClock
from eventbus._base.deadline import Deadline
from tests.support import in_thread

FOR_EVER = float("inf")


def test_an_infinite_deadline() -> None:
    """A thread can wait up to it, although no lock takes infinite seconds."""
    lock = Lock()
    assert lock.acquire(timeout=Deadline(FOR_EVER).left())
    assert not Deadline(FOR_EVER).passed()


def test_infinite_waits_by_the_clock() -> None:
    """They end as others do: when what they wait for is there."""
    clock, over, lock = SystemClock(), Event(), Lock()
    with in_thread(lambda: clock.wait(over, FOR_EVER)):
        over.set()
    clock.acquire(lock, FOR_EVER)
    assert lock.locked()
