"""Calling a handler several times at once: in a pool of threads, or on an event loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Hashable
from contextvars import Context
from inspect import iscoroutine
from threading import Condition, Thread, current_thread
from time import perf_counter
from typing import Any, Protocol

from eventbus._base.deadline import Deadline
from eventbus.errors import InvalidHandler
from eventbus.handle.coroutines import LOOP_CHECK_S, CoroutineRunner
from eventbus.handle.lanes import Lanes

MAX_WAITING = 1_000
"""How many calls may wait for their turn. One more makes the consumer wait."""


class Outcome(Protocol):
    """Is told how one call has ended. Any thread may call it."""

    def done(self, error: BaseException | None, duration: float, returned: object, *, told: bool = False) -> None:
        """The call has returned this, or raised, and how many seconds that took; `told`: what was called has told hooks."""

    def dropped(self) -> None:
        """The handler was not called, because the client stops."""


class _Call:
    """One call that is to be made."""

    __slots__ = ("call", "context", "event", "outcome")

    def __init__(self, call: Callable[[Any], object], event: object, context: Context, outcome: Outcome) -> None:
        self.call = call
        self.event = event
        self.context = context
        self.outcome = outcome


class ConcurrentCalls(ABC):
    """The calls of one handler that run at once, on all its topics. Any thread may use it.

    It refers to handlers only while calls wait or run, so that a client to which only its handlers refer can be collected.

    Args:
        limit: how many calls may run at once.
    """

    def __init__(self, limit: int) -> None:
        self._changed = Condition()
        self._lanes: Lanes[_Call] = Lanes(limit)
        self._limit = limit
        self._refusing = False
        self._hurried = False
        self._starting = False

    def submit(
        self,
        key: Hashable,
        call: Callable[[Any], object],
        event: object,
        context: Context,
        outcome: Outcome,
        is_abandoned: Callable[[], bool] = lambda: False,
    ) -> None:
        """Call ``call(event)`` in this context when its turn comes; blocks while too many wait.

        Args:
            key: calls with the same one run in order; None: without order.
            call: the handler.
            event: its argument.
            context: has the topic and the headers of the event.
            outcome: is told how it ends.
            is_abandoned: whether the caller was stopped. Then the call is refused, also after `resume`: another thread may
                have submitted later ones.

        Raises:
            Exception: the key cannot be hashed, or compared with others.
        """
        settled = False
        while not settled:
            self._notice_end()
            with self._changed:
                settled = self._changed.wait_for(
                    lambda: self._refusing or is_abandoned() or self._hurried or self._lanes.waiting < MAX_WAITING,
                    LOOP_CHECK_S,
                )
                refused = self._refusing or is_abandoned() or self._lanes.waiting >= MAX_WAITING
                if not refused:
                    self._lanes.add(key, _Call(call, event, context, outcome))
        if refused:
            outcome.dropped()
        else:
            self._start_all()

    @property
    def is_idle(self) -> bool:
        """Whether no call runs or waits."""
        return not (self._lanes.running or self._lanes.waiting)

    def resume(self) -> None:
        """Accept calls again, after `stop`."""
        with self._changed:
            self._refusing = self._hurried = False

    def hurry(self) -> None:
        """If one of the calls is what stops them, refuse from now on those for which there is no room: none may come."""
        if self._is_inside():
            with self._changed:
                self._hurried = True
                self._changed.notify_all()

    def stop(self, deadline: Deadline) -> int:
        """Wait until all calls have ended, then drop those that have not begun. Returns how many still run.

        From inside one of the calls it does not wait.
        """
        self._notice_end()
        with self._changed:
            if not self._is_inside():
                self._changed.wait_for(lambda: self.is_idle, deadline.left())
            self._refusing = True
            dropped = self._lanes.clear()
            running = self._lanes.running
            self._changed.notify_all()
        for call in dropped:
            call.outcome.dropped()
        return running

    @abstractmethod
    def retire(self) -> None:
        """Let go of what is not needed once nothing is left to do: no more calls will come."""

    @abstractmethod
    def under_way(self, resting: Collection[Thread]) -> list[Thread | None]:
        """The threads of the calls that nobody else knows, without these threads; None for a call that is about to begin."""

    @abstractmethod
    def _notice_end(self) -> None:
        """End the calls that nothing will end any more."""

    @abstractmethod
    def _is_inside(self) -> bool:
        """Whether this thread runs one of the calls, or has to run them."""

    @abstractmethod
    def _start(self, key: Hashable, call: _Call) -> None:
        """Start a call, which ends with `_end`; does not block."""

    def _start_all(self) -> None:
        """Start what may begin."""
        with self._changed:
            if self._starting:  # further up in this thread, or in another one, which looks again
                return
            self._starting = True
        while True:
            with self._changed:
                found = self._lanes.next()
                if found is None:
                    self._starting = False
                    return
            self._start(*found)

    def _end(self, key: Hashable) -> None:
        """Note that a call has ended, and start what may begin now."""
        with self._changed:
            self._lanes.done(key)
            self._changed.notify_all()
        self._start_all()


class CallsInThreads(ConcurrentCalls):
    """Runs calls in threads of its own, which exist from the first call until `stop` or `retire`."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._ready: deque[tuple[Hashable, _Call]] = deque()
        self._threads: set[Thread] = set()
        self._busy: set[Thread] = set()
        self._retired = False

    def stop(self, deadline: Deadline) -> int:
        """See `ConcurrentCalls.stop`."""
        left = super().stop(deadline)
        self.retire()
        if not self._is_inside():
            with self._changed:
                threads = list(self._threads)
            for thread in threads:
                thread.join(deadline.left())
        return left

    def resume(self) -> None:
        """See `ConcurrentCalls.resume`."""
        with self._changed:
            self._retired = False
        super().resume()

    def retire(self) -> None:
        """End the threads as soon as they have nothing to do."""
        with self._changed:
            self._retired = True
            self._changed.notify_all()

    def under_way(self, resting: Collection[Thread]) -> list[Thread | None]:
        """See `ConcurrentCalls.under_way`."""
        with self._changed:
            to_begin = self._lanes.running - len(self._busy) + self._lanes.startable
            return [*self._busy.difference(resting), *[None] * to_begin]

    def _notice_end(self) -> None:
        """Threads end their calls."""

    def _is_inside(self) -> bool:
        return current_thread() in self._threads

    def _start(self, key: Hashable, call: _Call) -> None:
        refusal: RuntimeError | None = None
        with self._changed:
            self._ready.append((key, call))
            if len(self._ready) + len(self._busy) > len(self._threads) and len(self._threads) < self._limit:
                thread = Thread(target=self._work, name="eventbus-handler", daemon=True)
                self._threads.add(thread)
                try:
                    thread.start()
                except RuntimeError as error:  # the system refuses another thread: those that there are go on
                    self._threads.discard(thread)
                    if not self._threads:
                        self._ready.pop()
                        refusal = error
            self._changed.notify_all()
        if refusal is not None:
            call.outcome.done(refusal, 0.0, None)
            self._end(key)

    def _work(self) -> None:
        """Make calls until nothing is left and nothing will come; a thread of the pool."""
        me = current_thread()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ready or self._retired)
                if not self._ready:
                    self._threads.discard(me)
                    return
                key, call = self._ready.popleft()
                self._busy.add(me)
            _make(call)
            del call
            with self._changed:
                self._busy.discard(me)
            self._end(key)


class CallsOnLoop(ConcurrentCalls):
    """Runs calls of an ``async`` handler as coroutines.

    Args:
        limit: how many may run at once.
        coroutines: runs them.
    """

    def __init__(self, limit: int, coroutines: CoroutineRunner) -> None:
        super().__init__(limit)
        self._coroutines = coroutines

    def retire(self) -> None:
        """See `ConcurrentCalls.retire`: it has nothing of its own."""

    def under_way(self, resting: Collection[Thread]) -> list[Thread | None]:
        """None: the runner of coroutines knows them."""
        return []

    def _notice_end(self) -> None:
        self._coroutines.notice_end()

    def _is_inside(self) -> bool:
        return self._coroutines.is_inside()

    def _start(self, key: Hashable, call: _Call) -> None:
        def done(error: BaseException | None, duration: float, returned: object, *, told: bool = False) -> None:
            call.outcome.done(error, duration, returned, told=told)
            self._end(key)

        try:
            coroutine = call.context.run(call.call, call.event)
        except BaseException as error:  # as in the dispatcher
            done(error, 0.0, None, told=True)
            return
        if iscoroutine(coroutine):
            call.context.run(self._coroutines.submit, coroutine, done, wait=False)
        else:
            done(None, 0.0, coroutine, told=True)


def _make(call: _Call) -> None:
    began = perf_counter()
    error: BaseException | None = None
    returned: object = None
    told = True
    try:
        returned = call.context.run(call.call, call.event)
        if iscoroutine(returned):
            returned.close()
            error, told = InvalidHandler("it has returned a coroutine in a pool of threads: declare it `async`"), False
    except BaseException as raised:  # SystemExit too: it must not end the thread
        error = raised
    call.outcome.done(error, perf_counter() - began, None if error else returned, told=told)
