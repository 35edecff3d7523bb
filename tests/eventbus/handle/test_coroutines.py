"""Running coroutines for a thread that has no event loop."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Coroutine

import pytest

from eventbus._base.deadline import Deadline
from eventbus.handle import coroutines
from eventbus.handle.coroutines import CoroutineRunner, running_loop
from tests.support import PATIENCE, eventually, in_thread

ENDED = "its event loop has ended"


class Outcomes:
    """Gets what came of each coroutine."""

    def __init__(self) -> None:
        self.all: list[BaseException | None] = []

    def __call__(self, error: BaseException | None, duration: float, returned: object = None) -> None:
        assert 0 <= duration < PATIENCE
        self.all.append(error)


async def nothing() -> None: ...


def waits_for(event: threading.Event) -> Callable[[], Coroutine[object, object, None]]:
    async def wait() -> None:
        await asyncio.to_thread(event.wait, PATIENCE)

    return wait


def own_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "eventbus-coroutines"]


@pytest.fixture
def runner() -> CoroutineRunner:
    made = CoroutineRunner()
    made.open(None)
    return made


def test_no_loop_no_asyncio() -> None:
    """Outside an event loop there is none; inside, it is that one."""

    async def main() -> bool:
        return running_loop() is asyncio.get_running_loop()

    assert running_loop() is None
    assert asyncio.run(main())


def test_without_a_loop_a_thread_runs_them(runner: CoroutineRunner) -> None:
    """A thread is there from the first coroutine on, and gone after close."""
    done, seen = Outcomes(), []

    async def look() -> None:
        seen.append(threading.current_thread().name)

    assert own_threads() == []
    runner.submit(look(), done)
    runner.submit(look(), done)
    eventually(lambda: done.all == [None, None])
    assert seen == ["eventbus-coroutines"] * 2
    assert runner.close(Deadline(PATIENCE)) == 0
    assert own_threads() == []


def test_the_running_loop_is_used() -> None:
    """Coroutines run on the loop that ran where open() was called, without another thread."""
    seen = []

    async def look() -> None:
        seen.append(asyncio.get_running_loop())

    async def main() -> None:
        runner = CoroutineRunner()
        runner.open(running_loop())
        done = Outcomes()
        await asyncio.to_thread(runner.submit, look(), done)
        while not done.all:
            await asyncio.sleep(0)
        assert seen == [asyncio.get_running_loop()]
        assert own_threads() == []
        assert await asyncio.to_thread(runner.close, Deadline(PATIENCE)) == 0

    asyncio.run(main())


def test_errors_come_back(runner: CoroutineRunner) -> None:
    """A coroutine's exception is handed over; sys.exit() in one ends nothing but itself."""
    done = Outcomes()

    async def fails(error: BaseException) -> None:
        raise error

    failure = ValueError("no")
    for error in (failure, SystemExit(2)):
        runner.submit(fails(error), done)
        eventually(lambda: runner.idle())
    runner.submit(nothing(), done)
    eventually(lambda: len(done.all) == 3)
    assert done.all[0] is failure
    assert "sys.exit" in str(done.all[1])
    assert done.all[2] is None
    runner.close(Deadline(PATIENCE))


def test_a_failure_leaves_no_circle(runner: CoroutineRunner) -> None:
    """What a failed coroutine refers to is free as soon as its error is, and needs no garbage collector."""
    done = Outcomes()

    async def fails(held: Outcomes) -> None:
        raise ValueError("no")

    held = Outcomes()
    reference = weakref.ref(held)
    gc.disable()
    try:
        runner.submit(fails(held), done)
        del held
        eventually(lambda: done.all and runner.idle())
        done.all.clear()
        eventually(lambda: reference() is None)
    finally:
        gc.enable()
    runner.close(Deadline(PATIENCE))


@pytest.mark.parametrize("ends", [SystemExit(3), KeyboardInterrupt()])
def test_the_own_loop_survives(runner: CoroutineRunner, ends: BaseException) -> None:
    """What would end a program, raised by a coroutine or by a task that it has started, ends no other coroutine."""
    done, may_end = Outcomes(), threading.Event()

    async def fail() -> None:
        raise ends

    async def start_task() -> None:
        await asyncio.wait([asyncio.create_task(fail())])

    runner.submit(waits_for(may_end)(), done)
    for count, coroutine in enumerate((start_task, fail, nothing), 1):
        runner.submit(coroutine(), done)
        eventually(lambda count=count: len(done.all) == count)  # type: ignore[misc] # mypy cannot infer a lambda's default
    assert (done.all[0], done.all[2]) == (None, None)
    assert isinstance(done.all[1], KeyboardInterrupt if isinstance(ends, KeyboardInterrupt) else RuntimeError)
    may_end.set()
    assert runner.close(Deadline(PATIENCE)) == 0
    assert len(done.all) == 4
    assert not own_threads()


def test_close_waits_for_those_in_flight(runner: CoroutineRunner) -> None:
    """close() returns when what is in flight has finished."""
    go, done = threading.Event(), Outcomes()
    runner.submit(waits_for(go)(), done)
    left: list[int] = []
    with in_thread(lambda: left.append(runner.close(Deadline(PATIENCE)))):
        assert not left
        assert not runner.idle()
        go.set()
    assert left == [0]
    assert done.all == [None]


def test_close_cancels_on_the_own_loop_after_the_deadline(runner: CoroutineRunner) -> None:
    """A coroutine that has not finished in time is reported and cancelled, and the thread is gone."""
    done, began = Outcomes(), threading.Event()

    async def forever() -> None:
        began.set()
        await asyncio.Event().wait()

    runner.submit(forever(), done)
    assert began.wait(PATIENCE)
    assert runner.close(Deadline(0.05)) == 1
    eventually(lambda: not own_threads())
    assert isinstance(done.all[0], asyncio.CancelledError)


def test_close_cancels_on_a_retired_loop_too(runner: CoroutineRunner) -> None:
    """The last handler was detached while it ran: it ends with the others, and so does its thread."""
    cancelled, done = [], Outcomes()

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    runner.submit(wait(), done)
    runner.retire()
    runner.submit(wait(), done)  # on another loop
    assert len(own_threads()) == 2
    assert runner.close(Deadline(0.1)) == 2
    eventually(lambda: not own_threads())
    assert cancelled == [True, True]


def test_closed_refuses(runner: CoroutineRunner) -> None:
    """After close() a coroutine is refused, without a warning that nobody awaited it; resume() accepts again."""
    done = Outcomes()
    runner.close(Deadline(0))
    runner.submit(nothing(), done)
    assert "closing" in str(done.all[0])
    runner.resume()
    runner.submit(nothing(), done)
    eventually(lambda: done.all[1:] == [None])
    runner.close(Deadline(PATIENCE))


def test_a_loop_that_has_ended_refuses() -> None:
    """When the given loop has ended before the client, the coroutine counts as failed and nothing hangs."""
    runner, done = CoroutineRunner(), Outcomes()

    async def main() -> None:
        runner.open(running_loop())

    asyncio.run(main())
    runner.submit(nothing(), done)
    assert isinstance(done.all[0], RuntimeError)
    assert runner.close(Deadline(PATIENCE)) == 0


@pytest.mark.parametrize("begins", [False, True])
@pytest.mark.parametrize("refuses", [False, True])
def test_a_loop_that_ends_too_early(runner: CoroutineRunner, begins: bool, refuses: bool) -> None:
    """A coroutine fails whose loop ends before it has begun, or ended. One that has ended has not, if nobody was told yet.

    That is told when the next coroutine is refused, or at close, which waits for none of them.
    """
    done, loop = Outcomes(), asyncio.new_event_loop()
    runner.open(loop)
    for coroutine in (nothing(), asyncio.Event().wait()):
        runner.submit(coroutine, done)
    if begins:
        loop.call_soon(loop.call_soon, loop.stop)  # one pass begins with them, and one takes their first steps
        loop.run_forever()
    loop.close()
    if refuses:
        runner.submit(nothing(), done)
        assert str(done.all.pop(0)) == "Event loop is closed"
    else:
        assert runner.close(Deadline(PATIENCE)) == 0
    assert sorted(map(str, done.all)) == sorted(["None" if begins else ENDED, ENDED])


def test_retire_ends_the_thread_after_its_tasks(runner: CoroutineRunner) -> None:
    """retire() lets what is in flight finish, then the thread goes; the next coroutine gets a new one."""
    go, done = threading.Event(), Outcomes()
    runner.submit(waits_for(go)(), done)
    runner.retire()
    assert len(own_threads()) == 1
    go.set()
    eventually(lambda: not own_threads())
    assert done.all == [None]
    runner.submit(nothing(), done)
    eventually(lambda: done.all == [None, None])
    runner.close(Deadline(PATIENCE))


def test_so_many_in_flight_and_no_more(runner: CoroutineRunner) -> None:
    """At the limit submit() waits until one has finished, and none is lost."""
    go, done, submitted = threading.Event(), Outcomes(), []
    release: list[asyncio.Event] = []

    async def wait() -> None:
        if not release:
            release.append(asyncio.Event())
        await release[0].wait()

    async def let_go() -> None:
        release[0].set()

    for _ in range(coroutines.MAX_IN_FLIGHT - 1):
        runner.submit(wait(), done)
    runner.submit(waits_for(go)(), done)

    def one_more() -> None:
        runner.submit(let_go(), done)
        submitted.append(True)

    with in_thread(one_more):
        assert not submitted
        assert len(runner._runs) == coroutines.MAX_IN_FLIGHT
        go.set()
    eventually(lambda: len(done.all) == coroutines.MAX_IN_FLIGHT + 1)
    assert set(done.all) == {None}
    runner.close(Deadline(PATIENCE))


def test_close_lets_a_waiting_submit_go(runner: CoroutineRunner) -> None:
    """A submit() that waits for room is refused when the runner closes, so a consumer never hangs in it."""
    done = Outcomes()

    async def forever() -> None:
        await asyncio.Event().wait()

    for _ in range(coroutines.MAX_IN_FLIGHT):
        runner.submit(forever(), done)
    with in_thread(lambda: runner.submit(nothing(), done)):
        runner.close(Deadline(0.05))
    eventually(lambda: not own_threads())
    assert len(done.all) == coroutines.MAX_IN_FLIGHT + 1
    assert None not in done.all
