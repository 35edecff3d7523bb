"""Running the coroutines of ``async`` handlers on an event loop, because the consumer thread has none.

asyncio is imported only where a loop runs or is needed: importing it takes as long as importing zmq.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from inspect import CORO_CREATED, getcoroutinestate
from threading import Condition, Event, Thread, current_thread
from time import perf_counter
from typing import TYPE_CHECKING, Any

from eventbus._base.descriptors import require_descriptors

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Collection, Coroutine

    from eventbus._base.deadline import Deadline

    # Called with the coroutine's exception or None, with how many seconds it ran, and with what it returned.
    type Done = Callable[[BaseException | None, float, object], None]

MAX_IN_FLIGHT = 1_000

_LOOP_DESCRIPTORS = 3  # a selector, and a pair of sockets that wake it
_CLEAN_UP_S = 1.0  # how long cancelled coroutines may take to end
LOOP_CHECK_S = 1.0
"""From one look whether the given loop has ended to the next, while something waits for coroutines on it."""


class ClientClosing(RuntimeError):
    """A coroutine was not run, because the client is closing."""

    def __init__(self) -> None:
        super().__init__("the client is closing")


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop that runs in this thread, if any."""
    if "asyncio" not in sys.modules:  # then no loop can be running
        return None
    import asyncio

    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class _Run:
    """A coroutine that is in flight: handed to a loop, and not ended yet as far as is known."""

    __slots__ = ("coroutine", "done", "loop", "task")

    def __init__(self, coroutine: Coroutine[object, object, object], done: Done, loop: asyncio.AbstractEventLoop) -> None:
        self.coroutine = coroutine
        self.done = done
        self.loop = loop
        self.task: asyncio.Task[object] | None = None  # until the loop begins with it


class CoroutineRunner:
    """Runs coroutines on a given event loop, or on its own loop if none was given.

    At most `MAX_IN_FLIGHT` coroutines run at the same time. Submitting another one blocks, which slows the consumer. The
    own loop has a thread from the first coroutine until `retire()` or `close()`. Any thread may call any method.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._runs: set[_Run] = set()  # with their tasks, to which asyncio itself keeps only weak references
        self._refusing = False
        self._closings = 0  # how often: what waits for room then is refused, also if it wakes after `resume`
        self._hurried = False
        self._given: asyncio.AbstractEventLoop | None = None
        self._own: _LoopThread | None = None
        self._retired: list[_LoopThread] = []  # own loops that end as soon as their coroutines do

    def open(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Accept coroutines, and run them on this loop from now on; None for the own loop."""
        with self._changed:
            self._refusing = self._hurried = False
            self._given = loop

    def resume(self) -> None:
        """Accept coroutines again after `close`, on the same loop as before."""
        with self._changed:
            self._refusing = self._hurried = False

    def hurry(self) -> None:
        """On the thread of the loop: refuse from now on those for which there is no room, because none comes meanwhile."""
        if self.is_inside():
            with self._changed:
                self._hurried = True
                self._changed.notify_all()

    def submit(
        self, coroutine: Coroutine[object, object, object], done: Done, *, wait: bool = True, while_closed: bool = False
    ) -> None:
        """Start the coroutine. `done` is called with its exception or None and its duration, on the loop's thread.

        Args:
            coroutine: what is to be run.
            done: called once.
            wait: whether to wait while too many are in flight; False: the caller limits them, and may be on the loop.
            while_closed: start it also after `close`: it belongs to no event.
        """
        refusal: Exception
        closings = self._closings

        def is_refused() -> bool:
            return not while_closed and (self._refusing or self._closings != closings)

        def has_room() -> bool:
            return not wait or len(self._runs) < MAX_IN_FLIGHT

        while True:
            with self._changed:
                if self._changed.wait_for(lambda: has_room() or is_refused() or self._hurried, LOOP_CHECK_S):
                    if is_refused() or not has_room():
                        refusal = ClientClosing()
                        break
                    try:
                        loop = self._given or (self._own or self._start_own()).loop
                        run = _Run(coroutine, done, loop)
                        loop.call_soon_threadsafe(self._start, run)
                    except (RuntimeError, OSError) as error:  # the given loop is closed, or no own loop can be made
                        refusal = error
                        break
                    self._runs.add(run)
                    return
            self.notice_end()
        coroutine.close()
        done(refusal, 0.0, None)
        self._give_up()

    def notice_end(self) -> None:
        """If the given loop has ended, let those fail that it has left in flight. Costs nothing if it has not."""
        if self._given is not None and self._given.is_closed():
            self._give_up()

    def idle(self) -> bool:
        """Whether nothing is in flight."""
        return not self._runs

    def under_way(self, resting: Collection[asyncio.Task[Any]]) -> list[asyncio.Task[Any] | None]:
        """The tasks of those in flight, without these tasks; None for one that is about to begin."""
        with self._changed:
            return [run.task for run in self._runs if run.task not in resting]

    def close(self, deadline: Deadline) -> int:
        """Refuse new coroutines, wait for those in flight, end the own loop. Returns how many were still in flight.

        Those are cancelled if they run on the own loop, and go on if they run on a given one. On the thread of the loop this
        does not wait, because no coroutine could finish in the meantime.
        """
        self._give_up()
        with self._changed:
            self._refusing = True
            self._closings += 1
            self._changed.notify_all()
            inside = self.is_inside()
            self._retire_own()
            loops = self._retired
            if not inside:
                to_clean_up = min(_CLEAN_UP_S, deadline.left() / 4) if loops else 0.0
                self._changed.wait_for(self.idle, deadline.left() - to_clean_up)
            left = len(self._runs)
        for loop in loops:
            loop.end(cancel=not inside)
        if not inside:
            for loop in loops:
                loop.join(deadline.left())  # cancelled tasks may clean up, within the deadline
        return left

    def is_inside(self) -> bool:
        """Whether this is the thread of the loop that runs them."""
        own = self._own  # first: it becomes a retired one
        return (
            (own is not None and own.is_current())
            or any(loop.is_current() for loop in self._retired)
            or self._is_on_given_loop()
        )

    def retire(self) -> None:
        """End the own loop when the coroutines in flight have finished, or at `close`. A later coroutine gets a new loop."""
        with self._changed:
            own = self._own
            self._retire_own()
        if own is not None:
            own.end(cancel=False)

    def _retire_own(self) -> None:
        self._retired = [loop for loop in (self._own, *self._retired) if loop is not None and loop.is_alive()]
        self._own = None

    def _is_on_given_loop(self) -> bool:
        return self._given is not None and running_loop() is self._given

    def _start_own(self) -> _LoopThread:
        self._own = _LoopThread()
        return self._own

    def _give_up(self) -> None:
        """Let the coroutines fail whose loop has ended: it forgets what it had not begun, or not ended, without a word."""
        with self._changed:
            gone = [run for run in self._runs if run.loop.is_closed()]
            self._runs.difference_update(gone)
            self._changed.notify_all()
        for run in gone:
            if run.task is not None and run.task.done():
                error = _outcome(run.task)
                run.done(error, 0.0, run.task.result() if error is None else None)
                continue
            if getcoroutinestate(run.coroutine) == CORO_CREATED:  # else whoever waits for it shall let it clean up
                run.coroutine.close()
            run.done(RuntimeError("its event loop has ended"), 0.0, None)

    def _start(self, run: _Run) -> None:
        began = perf_counter()

        async def guarded() -> object:
            try:
                return await run.coroutine
            except SystemExit as error:  # asyncio would end the loop, and all other handlers with it
                raise RuntimeError("a handler called sys.exit()") from error

        def finished(task: asyncio.Task[object]) -> None:
            run.coroutine.close()  # has an effect only if it was cancelled before its first step
            error = _outcome(task)
            run.done(error, perf_counter() - began, task.result() if error is None else None)
            with self._changed:
                self._runs.discard(run)
                run.task = None  # whose error refers to its frames, and they to the run
                self._changed.notify_all()

        run.task = run.loop.create_task(guarded())
        run.task.add_done_callback(finished)


def _outcome(task: asyncio.Task[object]) -> BaseException | None:
    if task.cancelled():
        import asyncio

        return asyncio.CancelledError()
    return task.exception()


class _LoopThread:
    """An event loop in its own thread.

    Raises:
        OSError: the process has no descriptors left.
        RuntimeError: the system refuses another thread.
    """

    def __init__(self) -> None:
        self._failure: Exception | None = None
        self._ready = Event()
        self._thread = Thread(target=self._run, name="eventbus-coroutines", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure

    def is_current(self) -> bool:
        return self._thread is current_thread()

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def end(self, *, cancel: bool) -> None:
        """Let the loop end after its tasks; `cancel` cancels them first. Idempotent."""
        with suppress(RuntimeError):  # it has ended
            self.loop.call_soon_threadsafe(self._end, cancel)

    def join(self, timeout: float) -> None:
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            import asyncio

            require_descriptors(_LOOP_DESCRIPTORS)  # a loop that is made in part is never closed
            with asyncio.Runner() as runner:
                loop = runner.get_loop()  # if this fails, no coroutine exists yet that would never be awaited
                main = self._first = loop.create_task(self._main())
                while not main.done():
                    # What a handler, or a task that it has started, raises must not end the loop for all others. The task
                    # itself has it, and asyncio logs it if nobody asks.
                    with suppress(SystemExit, KeyboardInterrupt):
                        loop.run_until_complete(main)
        except Exception as error:
            if self._ready.is_set():
                raise
            self._failure = error
            self._ready.set()

    async def _main(self) -> None:
        import asyncio

        self.loop = asyncio.get_running_loop()
        self._ending = asyncio.Event()
        self._ready.set()
        await self._ending.wait()
        if tasks := self._tasks():
            await asyncio.wait(tasks)

    def _end(self, cancel: bool) -> None:
        if cancel:
            for task in self._tasks():
                task.cancel()
        self._ending.set()

    def _tasks(self) -> set[asyncio.Task[Any]]:
        """All tasks of the loop but its first."""
        import asyncio

        return asyncio.all_tasks(self.loop) - {self._first}
