"""A clock that stands still until a test moves it."""

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock, RLock, Thread, current_thread
from typing import Any
from weakref import WeakSet

from eventbus._base.clock import Cancellable, in_service
from eventbus.testing._waiting import is_waiting

_LONGEST_S = 10.0  # for which a request waits by the system's clock beyond its timeout: perhaps nobody moves this one
_LOOK_S = 0.05  # how long a wait may miss that it is over; nearly always it is woken
PASSES = 5
"""Of an event loop, until what was woken on it waits again."""

_DIGITS = 6  # of seconds: ten steps of 0.1 make 1.0, which their sum as floats is not
_IDLE_S, _IDLE_SHARE = 1.0, 0.1  # a thread that uses less of a processor than this, for so long, waits for something


@dataclass(slots=True, eq=False)
class HandlerCall:
    """One call of a handler.

    Attributes:
        worker: the thread or the task that handles the event.
        ended: whether the call has ended; tasks and threads that it has started may go on.
    """

    worker: "Thread | asyncio.Task[Any]"
    ended: bool = False


current_call: ContextVar[HandlerCall | None] = ContextVar("eventbus_tested_call", default=None)
"""The call of a handler that has led here, perhaps over other tasks and threads."""


@dataclass(slots=True)
class _Awake:
    """A thread that was woken or started.

    Attributes:
        has_left: whether it has left its wait.
        since: when it was looked at last, in real seconds.
        used: the seconds that a processor had spent on it until then.
    """

    has_left: bool
    since: float
    used: float


@dataclass(slots=True, eq=False)
class _Waiter:
    """One wait that has begun.

    Attributes:
        due: when it is over.
        wake: ends it.
        thread: the thread that waits, if one does.
        task: the task that waits, if one does.
        over: whether the clock has reached `due`.
        limits: whether this is a time limit: what is waited for may come before, for example an answer.
        lock: what the thread waits for up to the limit, if it is a lock.
        outlasts: whether it goes on by the system's clock when the test is over.
        lapses: whether `wake` is not called when the test is over before.
        call: the call of a handler that waits, itself or in what it has started.
    """

    due: float
    wake: Callable[[], object]
    thread: Thread | None = None
    task: "asyncio.Task[object] | None" = None
    over: bool = False
    limits: bool = False
    lock: "Lock | None" = None
    outlasts: bool = False
    lapses: bool = False
    call: HandlerCall | None = field(default_factory=current_call.get)
    number: int = field(default_factory=itertools.count().__next__)


class _Call:
    """A call that can be cancelled."""

    def __init__(self, cancel: Callable[[], None]) -> None:
        self.cancel = cancel


class ManualClock:
    """Fulfils `eventbus._base.clock.Clock`: `fire_next` moves it to the end of the next wait. Any thread may use it."""

    system_time = staticmethod(time.monotonic)
    """Real seconds. Not a name of the module: freezegun would replace that one."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._now = 0.0
        self._waiters: list[_Waiter] = []
        self._awake: dict[Thread, _Awake] = {}
        self._waking: dict[object, asyncio.AbstractEventLoop] = {}  # what wakes tasks, and their loops
        self._started: WeakSet[Thread] = WeakSet()  # threads whose work is known by this clock only
        self._ended = False
        self.owner: Thread | None = None
        """The thread of the test, which moves this clock: its requests keep to the system's."""

    def now(self) -> float:
        """Seconds since this clock was made."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Block this thread until the clock has moved on by `seconds`."""
        over = Event()
        waiter = self._enter(_Waiter(self._now + seconds, over.set, current_thread()))
        over.wait()
        self._leave(waiter)

    def wait(self, event: Event, seconds: float) -> bool:
        """Block this thread until the event is set or the clock has moved on by `seconds`; return whether it is set.

        When the test is over, it goes on by the system's clock: the event is what stops the thread, and is set soon. If such
        a wait ended instead, what is done between two of them would be done again and again until then.
        """

        def wake() -> None:
            with event._cond:  # type: ignore[attr-defined] # private, but nothing else ends the wait and leaves it unset
                event._cond.notify_all()  # type: ignore[attr-defined] # see above

        waiter = self._enter(_Waiter(self._now + seconds, wake, current_thread(), outlasts=True))
        while not (waiter.over or event.is_set() or self._ended):
            event.wait(_LOOK_S)
        if not waiter.over and self._ended:
            event.wait(seconds)
        self._leave(waiter)
        return event.is_set()

    async def sleep_async(self, seconds: float) -> None:
        """Let this task wait until the clock has moved on by `seconds`."""
        loop = asyncio.get_running_loop()
        over = loop.create_future()

        def end() -> None:
            if not over.done():
                over.set_result(None)

        task = asyncio.current_task()
        waiter = self._enter(_Waiter(self._now + seconds, self._on(loop, end), task=task))
        try:
            await over
        finally:
            self._leave(waiter)

    @asynccontextmanager
    async def time_limit(self, seconds: float) -> AsyncIterator[asyncio.Timeout]:
        """Cancel this task when the clock has moved on by `seconds`, as `asyncio.timeout` does."""
        loop = asyncio.get_running_loop()
        left = False
        async with asyncio.timeout(None) as limit:

            def expire() -> None:
                if not left:
                    limit.reschedule(loop.time())

            due, task = self._now + seconds, asyncio.current_task()
            waiter = self._enter(_Waiter(due, self._on(loop, expire), task=task, limits=True))
            try:
                yield limit
            finally:
                left = True
                self._leave(waiter)

    def acquire(self, lock: Lock, seconds: float) -> None:
        """Block this thread until another one releases the lock, or the clock has moved on by `seconds`."""
        if self.owner is current_thread():  # who moves the clock cannot wait for it
            lock.acquire(timeout=seconds)
            return

        def release() -> None:
            with suppress(RuntimeError):  # what was waited for has just come
                lock.release()

        waiter = self._enter(_Waiter(self._now + seconds, release, current_thread(), limits=True, lock=lock))
        lock.acquire(timeout=seconds + (0.0 if waiter.over else _LONGEST_S))
        self._leave(waiter)

    def call_later(self, loop: asyncio.AbstractEventLoop, seconds: float, call: Callable[[], object]) -> Cancellable:
        """Call a function on an event loop when the clock has moved on by `seconds`."""
        if current_call.get() is None and not in_service.get():  # a task of the test, which moves the clock
            return loop.call_later(seconds, call)
        due, task = self._now + seconds, asyncio.current_task()
        waiter = self._enter(_Waiter(due, self._on(loop, call), task=task, limits=True))
        timer = loop.call_later(seconds + (0.0 if waiter.over else _LONGEST_S), call)

        def cancel() -> None:
            timer.cancel()
            self._leave(waiter)

        return _Call(cancel)

    def starting(self, thread: Thread) -> None:
        """Count this thread as under way until it waits."""
        with self._lock:
            self._awake[thread] = self._seen(thread, has_left=True)
            self._started.add(thread)

    def waking(self, thread: Thread) -> None:
        """Count this thread as under way until it waits by this clock, or ends."""
        with self._lock:
            self._awake[thread] = self._seen(thread, has_left=False)

    def pause(self, seconds: float) -> None:
        """Block this thread for real seconds."""
        time.sleep(seconds)

    def call(self, seconds: float, call: Callable[[], object]) -> None:
        """Call a function, in the thread that moves the clock, when it has moved on by `seconds`; if the test lasts."""
        self._enter(_Waiter(self._now + seconds, call, lapses=True))

    # For who moves it.

    def threads_under_way(self) -> list[Thread]:
        """The threads that were started or woken, and do not wait again yet, neither by this clock nor otherwise."""
        with self._lock:
            for thread, awake in list(self._awake.items()):
                ended = thread.ident is not None and not thread.is_alive()
                if ended or (awake.has_left and (is_waiting(thread) or self._is_idle(thread, awake))):
                    del self._awake[thread]
            got = [one.thread for one in self._waiters if one.lock is not None and not one.lock.locked()]
            return [*self._awake, *(thread for thread in got if thread is not None)]

    def is_waking_tasks(self) -> bool:
        """Whether a task was woken that may not have gone on until it waits again."""
        with self._lock:
            return any(not loop.is_closed() for loop in self._waking.values())

    def sleeping_threads(self) -> set[Thread]:
        """The threads that wait for this clock, and for nothing else."""
        with self._lock:
            return {waiter.thread for waiter in self._waiters if waiter.thread is not None and not waiter.limits}

    def limited_threads(self) -> set[Thread]:
        """The threads that wait for whatever they want, up to a time limit."""
        with self._lock:
            found = {waiter.thread for waiter in self._waiters if waiter.thread is not None and waiter.limits}
            return found | {worker for worker in self._limited_handlers() if isinstance(worker, Thread)}

    def sleeping_tasks(self) -> set["asyncio.Task[object]"]:
        """The tasks that wait for this clock."""
        with self._lock:
            return {waiter.task for waiter in self._waiters if waiter.task is not None and not waiter.limits}

    def limited_tasks(self) -> set["asyncio.Task[object]"]:
        """The tasks that wait for whatever they want, up to a time limit."""
        with self._lock:
            found = {waiter.task for waiter in self._waiters if waiter.task is not None and waiter.limits}
            return found | {worker for worker in self._limited_handlers() if not isinstance(worker, Thread)}

    def fire_next(self, until: float) -> bool:
        """Move to the end of the next wait that is over at `until`, and end it; False if there is none."""
        with self._lock:
            waiter = min(self._waiters, key=lambda waiter: (waiter.due, waiter.number), default=None)
            if waiter is None or waiter.due > round(until, _DIGITS):
                return False
            self._now = max(self._now, waiter.due)
            self._end(waiter)
        waiter.wake()
        return True

    def move_to(self, now: float) -> None:
        """Move on; all waits that are over by then must have been ended."""
        with self._lock:
            self._now = max(self._now, round(now, _DIGITS))

    def end(self) -> None:
        """End all waits, also those that begin from now on, but for those in `wait`: the test is over."""
        with self._lock:
            self._ended = True
            waiters = [waiter for waiter in self._waiters if not waiter.outlasts]
            for waiter in waiters:
                self._end(waiter)
        for waiter in waiters:
            if not waiter.lapses:
                waiter.wake()

    def _on(self, loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> Callable[[], None]:
        """Return what calls this on the loop, and sees to it that what is woken by that has gone on."""

        def go_on(passes: int) -> None:
            if passes == 0:
                call()
            if passes < PASSES:
                loop.call_soon(go_on, passes + 1)
            else:
                with self._lock:
                    self._waking.pop(wake, None)

        def wake() -> None:
            with self._lock:
                self._waking[wake] = loop
            with suppress(RuntimeError):  # the loop has ended, and nothing waits on it
                loop.call_soon_threadsafe(go_on, 0)

        return wake

    def _limited_handlers(self) -> "Iterator[Thread | asyncio.Task[Any]]":
        for waiter in self._waiters:
            if waiter.limits and waiter.call is not None and not waiter.call.ended:
                yield waiter.call.worker

    def _enter(self, waiter: _Waiter) -> _Waiter:
        with self._lock:
            waiter.due = round(waiter.due, _DIGITS)
            if waiter.thread is not None:
                self._awake.pop(waiter.thread, None)
            if not self._ended or waiter.outlasts:
                self._waiters.append(waiter)
                return waiter
            waiter.over = True
        if not (waiter.limits or waiter.lapses):
            waiter.wake()
        return waiter

    def _leave(self, waiter: _Waiter) -> None:
        with self._lock:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            self._note_awake(waiter, has_left=True)

    def _end(self, waiter: _Waiter) -> None:
        waiter.over = True
        self._waiters.remove(waiter)
        self._note_awake(waiter, has_left=False)

    def _note_awake(self, waiter: _Waiter, *, has_left: bool) -> None:
        # Any thread may ask, that of the test too. Whether a thread that handles events does so is known otherwise.
        if waiter.thread is not None and (not waiter.limits or waiter.thread in self._started):
            self._awake[waiter.thread] = self._seen(waiter.thread, has_left=has_left)

    def _seen(self, thread: Thread, *, has_left: bool) -> _Awake:
        return _Awake(has_left, self.system_time(), _processor_time(thread))

    def _is_idle(self, thread: Thread, awake: _Awake) -> bool:
        """Whether the thread waits for something that is not known here: it sleeps for real, or reads from a socket."""
        now = self.system_time()
        if thread.ident is None or now - awake.since < _IDLE_S:
            return False
        used, since = awake.used, awake.since
        awake.used, awake.since = _processor_time(thread), now
        return awake.used - used < _IDLE_SHARE * (now - since)


def _processor_time(thread: Thread) -> float:
    """The seconds that a processor has spent on a thread; 0 where the system does not tell."""
    try:
        fields = Path(f"/proc/self/task/{thread.native_id}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
