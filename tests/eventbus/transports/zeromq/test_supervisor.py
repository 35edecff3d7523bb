"""`ConnectionSupervisor`: one thread that calls each supervised object when it is due, from the first to the last."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from math import inf
from threading import Event, Thread
from time import monotonic, thread_time

import pytest

from eventbus.transports.zeromq.supervisor import ConnectionSupervisor
from tests.support import PATIENCE, eventually, run_script, run_threads


@pytest.fixture
def supervisor() -> Iterator[ConnectionSupervisor]:
    """A supervisor of the test's own, without supervised objects."""
    made = ConnectionSupervisor()
    before = supervisor_threads()
    yield made
    eventually(lambda: supervisor_threads() <= before, what="its thread ends with its last supervised")


def supervisor_threads() -> set[Thread]:
    """The threads of all supervisors."""
    return {thread for thread in threading.enumerate() if thread.name == "eventbus-supervisor"}


class Supervised:
    """An object that notes when it was supervised, and is due again after a pause."""

    def __init__(self, pause: float = inf) -> None:
        self.pause = pause
        self.looks: list[float] = []
        self.worked: list[float] = []  # processor time of the supervisor's thread at each look
        self.threads: set[Thread] = set()
        self.descriptors: tuple[int, ...] = ()

    def filenos(self) -> tuple[int, ...]:
        return self.descriptors

    def supervise(self, now: float) -> float:
        self.looks.append(monotonic())
        self.worked.append(thread_time())
        self.threads.add(threading.current_thread())
        return now + self.pause

    def wait_for(self, looks: int) -> None:
        eventually(lambda: len(self.looks) >= looks, PATIENCE, f"{len(self.looks)} of {looks} looks")


class Failing(Supervised):
    """A supervised object whose supervision fails."""

    def supervise(self, now: float) -> float:
        super().supervise(now)
        raise ZeroDivisionError("on purpose")


def test_an_interrupt_while_its_thread_starts(supervisor: ConnectionSupervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the midst of the start leaves nothing behind, not even a traceback of the thread; the next start works."""

    interrupted = Event()

    class Interrupted(Thread):
        def start(self) -> None:
            super().start()
            raise KeyboardInterrupt

        def run(self) -> None:
            interrupted.wait(PATIENCE)
            super().run()

    before = supervisor_threads()
    supervised = Supervised()
    with monkeypatch.context() as patch:
        patch.setattr("eventbus.transports.zeromq.supervisor.Thread", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            supervisor.watch(supervised)
    interrupted.set()
    eventually(lambda: supervisor_threads() <= before)
    assert supervised.looks == []
    supervisor.watch(supervised)
    supervised.wait_for(1)
    supervisor.forget(supervised)


def test_its_thread_is_there_while_there_are_supervised(supervisor: ConnectionSupervisor) -> None:
    """The thread starts with the first supervised and ends with the last; as often as there is a first one."""
    before = supervisor_threads()
    for _ in range(3):
        one, two = Supervised(), Supervised()
        supervisor.watch(one)
        supervisor.watch(two)
        one.wait_for(1)
        two.wait_for(1)
        assert one.threads == two.threads
        assert supervisor_threads() - before == one.threads
        supervisor.forget(one)
        supervisor.wake(two)
        two.wait_for(2)
        assert one.threads <= supervisor_threads()
        supervisor.forget(two)
        eventually(lambda: supervisor_threads() <= before)


def test_it_leaves_no_descriptor(supervisor: ConnectionSupervisor) -> None:
    """After the last supervised nothing of it is open."""
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        supervised = Supervised()
        supervisor.watch(supervised)
        supervisor.forget(supervised)
    eventually(lambda: len(os.listdir("/proc/self/fd")) <= before)


def test_forgetting_a_stranger_is_harmless(supervisor: ConnectionSupervisor) -> None:
    """forget() and wake() of an object that is not watched do nothing."""
    before = supervisor_threads()
    supervisor.forget(Supervised())
    supervisor.wake(Supervised())
    assert supervisor_threads() <= before


def test_each_is_called_when_it_is_due(supervisor: ConnectionSupervisor) -> None:
    """An object is called at once, and again when it is due, not sooner; others are not called meanwhile."""
    often, seldom, never = Supervised(0.02), Supervised(3_600), Supervised()
    for supervised in (never, often, seldom):
        supervisor.watch(supervised)
    often.wait_for(10)
    for supervised in (never, often, seldom):
        supervisor.forget(supervised)
    assert often.looks[-1] - often.looks[0] >= 0.02 * (len(often.looks) - 1) - 0.001
    assert (len(never.looks), len(seldom.looks)) == (1, 1)


@pytest.mark.parametrize("due", [inf, 10_000_000.0, -inf, -1.0])
def test_any_time_may_be_due(supervisor: ConnectionSupervisor, due: float) -> None:
    """A supervised may be due never, in months, or since long ago."""
    supervised = Supervised(due)
    supervisor.watch(supervised)
    supervised.wait_for(1)
    supervisor.wake(supervised)
    supervised.wait_for(2)
    supervisor.forget(supervised)


def test_waking_one(supervisor: ConnectionSupervisor) -> None:
    """wake() has its object called, each time, and no other one."""
    supervised, other = Supervised(), Supervised()
    supervisor.watch(other)
    supervisor.watch(supervised)
    for looks in range(1, 20):
        supervised.wait_for(looks)
        supervisor.wake(supervised)
    supervised.wait_for(20)
    assert len(other.looks) == 1
    supervisor.forget(supervised)
    supervisor.forget(other)


def test_waking_one_that_is_being_called(supervisor: ConnectionSupervisor) -> None:
    """An object that is woken while it is being called, also by itself, is called once more."""

    class Restless(Supervised):
        def supervise(self, now: float) -> float:
            if len(self.looks) < 5:
                supervisor.wake(self)
            return super().supervise(now)

    supervised = Restless()
    supervisor.watch(supervised)
    supervised.wait_for(6)
    supervisor.forget(supervised)
    assert len(supervised.looks) == 6


def test_a_descriptor_wakes_it(supervisor: ConnectionSupervisor) -> None:
    """When an object's descriptor becomes readable it is called; one that it does not have any more does nothing."""
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)

        class Reading(Supervised):
            def supervise(self, now: float) -> float:
                with suppress(BlockingIOError):
                    here.recv(1)
                return super().supervise(now)

        supervised = Reading()
        supervised.descriptors = (-1, here.fileno())
        supervisor.watch(supervised)
        supervised.wait_for(1)
        for _ in range(20):
            looks = len(supervised.looks)
            there.send(b"1")
            supervised.wait_for(looks + 1)
        supervised.descriptors = (-1,)
        looks = len(supervised.looks)
        supervisor.wake(supervised)
        supervised.wait_for(looks + 1)
        there.send(b"2")
        other = Supervised(0.01)
        supervisor.watch(other)
        other.wait_for(5)
        supervisor.forget(other)
        supervisor.forget(supervised)
        assert len(supervised.looks) == looks + 1
        assert other.worked[-1] - other.worked[0] < 0.5 * (other.looks[-1] - other.looks[0])  # it slept in between


@pytest.mark.patience
def test_a_failing_supervised_leaves_the_others_alone(
    supervisor: ConnectionSupervisor, caplog: pytest.LogCaptureFixture
) -> None:
    """When a call fails that is logged, the others are called as ever, and it is called again a second later."""
    failing, other = Failing(), Supervised(0.01)
    supervisor.watch(failing)
    supervisor.watch(other)
    other.wait_for(10)
    failing.wait_for(2)
    supervisor.forget(failing)
    supervisor.forget(other)
    assert "on purpose" in caplog.text


def test_a_supervised_may_forget_itself(supervisor: ConnectionSupervisor) -> None:
    """A supervised may leave in its `supervise`, and watch another one: the thread goes on with that."""
    other = Supervised()

    class Leaving(Supervised):
        def supervise(self, now: float) -> float:
            supervisor.watch(other)
            supervisor.forget(self)
            return super().supervise(now)

    leaving = Leaving(0.0)
    supervisor.watch(leaving)
    other.wait_for(1)
    assert len(leaving.looks) == 1
    assert other.threads == leaving.threads
    supervisor.forget(other)


def test_one_that_is_slow_holds_up_no_caller(supervisor: ConnectionSupervisor) -> None:
    """While a supervised takes its time others are watched, forgotten and woken without waiting."""
    entered, go = Event(), Event()

    class Slow(Supervised):
        def supervise(self, now: float) -> float:
            entered.set()
            assert go.wait(PATIENCE)
            return super().supervise(now)

    slow, late, other = Slow(), Slow(), Supervised()
    supervisor.watch(slow)
    assert entered.wait(PATIENCE)
    supervisor.watch(late)
    supervisor.watch(other)
    supervisor.wake(other)
    supervisor.forget(late)
    assert (slow.looks, other.looks) == ([], [])
    go.set()
    other.wait_for(1)
    assert late.looks == []
    supervisor.forget(slow)
    supervisor.forget(other)


def test_many_threads_watch_and_forget(supervisor: ConnectionSupervisor) -> None:
    """Objects come and go, each that stays is called, and there is never more than one thread."""
    before = supervisor_threads()

    def come_and_go(thread: int) -> None:
        for number in range(50):
            supervised = Supervised(0.001)
            supervisor.watch(supervised)
            if number % 5 == 0:
                supervised.wait_for(2)
            supervisor.forget(supervised)

    run_threads(4, come_and_go)
    eventually(lambda: supervisor_threads() <= before)


FORK = """
import os, sys
from threading import Event
from eventbus.transports.zeromq.supervisor import supervisor

class Supervised:
    def __init__(self):
        self.looked = Event()
    def filenos(self):
        return ()
    def supervise(self, now):
        self.looked.set()
        return now + 3600

one, two = Supervised(), Supervised()
supervisor.watch(one)
assert one.looked.wait(20)
child = os.fork()
one.looked.clear()
if not child:
    supervisor.wake(one)
    assert not one.looked.wait(0.1)
    supervisor.watch(two)
    assert two.looked.wait(20)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
supervisor.wake(one)
assert one.looked.wait(20)
print("done")
"""


@pytest.mark.process
def test_a_forked_child_begins_without_supervised() -> None:
    """In a forked child the supervisor has no supervised and no thread, and works as a new one; the parent's goes on."""
    done = run_script(FORK)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
