"""`Keeper`: one thread that looks after wards when they are due, from the first to the last of them."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from math import inf
from threading import Event, Thread
from time import monotonic, thread_time

import pytest

from eventbus.transports.zeromq.supervisor import Keeper
from tests.support import PATIENCE, eventually, run_script, run_threads


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    """A keeper of the test's own, without wards."""
    made = Keeper()
    before = keepers()
    yield made
    eventually(lambda: keepers() == before, what="its thread ends with its last ward")


def keepers() -> set[Thread]:
    """The threads of all keepers."""
    return {thread for thread in threading.enumerate() if thread.name == "eventbus-keeper"}


class Ward:
    """Something to look after, which notes when it was, and is due again so many seconds later."""

    def __init__(self, pause: float = inf) -> None:
        self.pause = pause
        self.looks: list[float] = []
        self.worked: list[float] = []  # processor time of the keeper's thread at each look
        self.threads: set[Thread] = set()
        self.descriptors: tuple[int, ...] = ()

    def filenos(self) -> tuple[int, ...]:
        return self.descriptors

    def keep(self, now: float) -> float:
        self.looks.append(monotonic())
        self.worked.append(thread_time())
        self.threads.add(threading.current_thread())
        return now + self.pause

    def wait_for(self, looks: int) -> None:
        eventually(lambda: len(self.looks) >= looks, PATIENCE, f"{len(self.looks)} of {looks} looks")


class Failing(Ward):
    """A ward whose looking after fails."""

    def keep(self, now: float) -> float:
        super().keep(now)
        raise ZeroDivisionError("on purpose")


def test_an_interrupt_while_its_thread_starts(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the midst of the start leaves nothing behind, not even a traceback of the thread; the next start works."""

    interrupted = Event()

    class Interrupted(Thread):
        def start(self) -> None:
            super().start()
            raise KeyboardInterrupt

        def run(self) -> None:
            interrupted.wait(PATIENCE)
            super().run()

    before = keepers()
    ward = Ward()
    with monkeypatch.context() as patch:
        patch.setattr("eventbus.transports.zeromq.supervisor.Thread", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            keeper.watch(ward)
    interrupted.set()
    eventually(lambda: keepers() == before)
    assert ward.looks == []
    keeper.watch(ward)
    ward.wait_for(1)
    keeper.forget(ward)


def test_its_thread_is_there_while_there_are_wards(keeper: Keeper) -> None:
    """The thread starts with the first ward and ends with the last; as often as there is a first one."""
    before = keepers()
    for _ in range(3):
        one, two = Ward(), Ward()
        keeper.watch(one)
        keeper.watch(two)
        one.wait_for(1)
        two.wait_for(1)
        assert one.threads == two.threads
        assert keepers() - before == one.threads
        keeper.forget(one)
        keeper.wake(two)
        two.wait_for(2)
        assert keepers() > before
        keeper.forget(two)
        eventually(lambda: keepers() == before)


def test_it_leaves_no_descriptor(keeper: Keeper) -> None:
    """After the last ward nothing of it is open."""
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        ward = Ward()
        keeper.watch(ward)
        keeper.forget(ward)
    eventually(lambda: len(os.listdir("/proc/self/fd")) == before)


def test_forgetting_a_stranger_is_harmless(keeper: Keeper) -> None:
    """forget() and wake() of what is not looked after do nothing."""
    before = keepers()
    keeper.forget(Ward())
    keeper.wake(Ward())
    assert keepers() == before


def test_a_ward_is_looked_after_when_it_is_due(keeper: Keeper) -> None:
    """A ward is looked after at once, and again when it said, not sooner; others are left alone meanwhile."""
    often, seldom, never = Ward(0.02), Ward(3_600), Ward()
    for ward in (never, often, seldom):
        keeper.watch(ward)
    often.wait_for(10)
    for ward in (never, often, seldom):
        keeper.forget(ward)
    assert often.looks[-1] - often.looks[0] >= 0.02 * (len(often.looks) - 1) - 0.001
    assert (len(never.looks), len(seldom.looks)) == (1, 1)


@pytest.mark.parametrize("due", [inf, 10_000_000.0, -inf, -1.0])
def test_any_time_may_be_due(keeper: Keeper, due: float) -> None:
    """A ward may be due never, in months, or since long ago."""
    ward = Ward(due)
    keeper.watch(ward)
    ward.wait_for(1)
    keeper.wake(ward)
    ward.wait_for(2)
    keeper.forget(ward)


def test_waking_one(keeper: Keeper) -> None:
    """wake() has its ward looked after, as often as it is called, and no other one."""
    ward, other = Ward(), Ward()
    keeper.watch(other)
    keeper.watch(ward)
    for looks in range(1, 20):
        ward.wait_for(looks)
        keeper.wake(ward)
    ward.wait_for(20)
    assert len(other.looks) == 1
    keeper.forget(ward)
    keeper.forget(other)


def test_waking_one_that_is_being_looked_after(keeper: Keeper) -> None:
    """A ward that is woken while it is being looked after, also by itself, is looked after once more."""

    class Restless(Ward):
        def keep(self, now: float) -> float:
            if len(self.looks) < 5:
                keeper.wake(self)
            return super().keep(now)

    ward = Restless()
    keeper.watch(ward)
    ward.wait_for(6)
    keeper.forget(ward)
    assert len(ward.looks) == 6


def test_a_descriptor_wakes_it(keeper: Keeper) -> None:
    """When a ward's descriptor becomes readable it is looked after; one that it has dropped does nothing."""
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)

        class Reading(Ward):
            def keep(self, now: float) -> float:
                with suppress(BlockingIOError):
                    here.recv(1)
                return super().keep(now)

        ward = Reading()
        ward.descriptors = (-1, here.fileno())
        keeper.watch(ward)
        ward.wait_for(1)
        for _ in range(20):
            looks = len(ward.looks)
            there.send(b"1")
            ward.wait_for(looks + 1)
        ward.descriptors = (-1,)
        looks = len(ward.looks)
        keeper.wake(ward)
        ward.wait_for(looks + 1)
        there.send(b"2")
        other = Ward(0.01)
        keeper.watch(other)
        other.wait_for(5)
        keeper.forget(other)
        keeper.forget(ward)
        assert len(ward.looks) == looks + 1
        assert other.worked[-1] - other.worked[0] < 0.5 * (other.looks[-1] - other.looks[0])  # it slept in between


def test_a_failing_ward_leaves_the_others_alone(keeper: Keeper, caplog: pytest.LogCaptureFixture) -> None:
    """What a ward raises is logged, the others are looked after as ever, and it is tried again, a second later."""
    failing, other = Failing(), Ward(0.01)
    keeper.watch(failing)
    keeper.watch(other)
    other.wait_for(10)
    failing.wait_for(2)
    keeper.forget(failing)
    keeper.forget(other)
    assert "on purpose" in caplog.text


def test_a_ward_may_forget_itself(keeper: Keeper) -> None:
    """From inside `keep` a ward may leave, and watch another one: the thread goes on with that."""
    other = Ward()

    class Leaving(Ward):
        def keep(self, now: float) -> float:
            keeper.watch(other)
            keeper.forget(self)
            return super().keep(now)

    leaving = Leaving(0.0)
    keeper.watch(leaving)
    other.wait_for(1)
    assert len(leaving.looks) == 1
    assert other.threads == leaving.threads
    keeper.forget(other)


def test_one_that_is_slow_holds_up_no_caller(keeper: Keeper) -> None:
    """While a ward takes its time others are watched, forgotten and woken without waiting."""
    entered, go = Event(), Event()

    class Slow(Ward):
        def keep(self, now: float) -> float:
            entered.set()
            assert go.wait(PATIENCE)
            return super().keep(now)

    slow, late, other = Slow(), Slow(), Ward()
    keeper.watch(slow)
    assert entered.wait(PATIENCE)
    keeper.watch(late)
    keeper.watch(other)
    keeper.wake(other)
    keeper.forget(late)
    assert (slow.looks, other.looks) == ([], [])
    go.set()
    other.wait_for(1)
    assert late.looks == []
    keeper.forget(slow)
    keeper.forget(other)


def test_many_threads_watch_and_forget(keeper: Keeper) -> None:
    """However wards come and go, each that stays long enough is looked after, and there is never more than one thread."""
    before = keepers()

    def come_and_go(thread: int) -> None:
        for number in range(50):
            ward = Ward(0.001)
            keeper.watch(ward)
            if number % 5 == 0:
                ward.wait_for(2)
            keeper.forget(ward)

    run_threads(4, come_and_go)
    eventually(lambda: keepers() == before)


FORK = """
import os, sys
from threading import Event
from eventbus.transports.zeromq.supervisor import keeper

class Ward:
    def __init__(self):
        self.looked = Event()
    def filenos(self):
        return ()
    def keep(self, now):
        self.looked.set()
        return now + 3600

one, two = Ward(), Ward()
keeper.watch(one)
assert one.looked.wait(20)
child = os.fork()
one.looked.clear()
if not child:
    keeper.wake(one)
    assert not one.looked.wait(0.1)
    keeper.watch(two)
    assert two.looked.wait(20)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
keeper.wake(one)
assert one.looked.wait(20)
print("done")
"""


def test_a_forked_child_begins_without_wards() -> None:
    """In a forked child the keeper has no wards and no thread, and works as a new one; the parent's goes on."""
    done = run_script(FORK)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
