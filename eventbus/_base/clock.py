"""The clock by which handlers, services and requests wait: the system's, or in tests one that moves when the test says so.

Connections keep to the system's clock: other processes do not know any other.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from threading import TIMEOUT_MAX
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from threading import Event, Lock, Thread


in_service: ContextVar[bool] = ContextVar("eventbus_in_service", default=False)
"""Whether a task was started by a service, also over other tasks, rather than by what surrounds it, such as a test."""


class Clock(Protocol):
    """Tells the time, and waits. Any thread may call any method."""

    def now(self) -> float:
        """Seconds since some moment."""

    def sleep(self, seconds: float) -> None:
        """Block this thread."""

    def wait(self, event: Event, seconds: float) -> bool:
        """Block this thread until the event is set, up to `seconds`; return whether it is set."""

    async def sleep_async(self, seconds: float) -> None:
        """Let this task wait."""

    def time_limit(self, seconds: float) -> AbstractAsyncContextManager[asyncio.Timeout]:
        """Return a context like that of `asyncio.timeout`."""

    def acquire(self, lock: Lock, seconds: float) -> None:
        """Block this thread until another one releases the lock, up to `seconds`."""

    def call_later(self, loop: asyncio.AbstractEventLoop, seconds: float, call: Callable[[], object]) -> Cancellable:
        """Call a function on an event loop, for a task of it that waits for something else up to then; in that task only."""

    def starting(self, thread: Thread) -> None:
        """Expect a thread that will wait by this clock, before it starts."""

    def waking(self, thread: Thread) -> None:
        """Expect such a thread to go on, before what else it waits for is there."""


class Cancellable(Protocol):
    """A call that is to come."""

    def cancel(self) -> None:
        """Let it not come."""


class SystemClock:
    """The monotonic clock of the system."""

    now = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)

    def wait(self, event: Event, seconds: float) -> bool:
        """See `Clock`."""
        return event.wait(min(seconds, TIMEOUT_MAX))  # infinite seconds are refused

    async def sleep_async(self, seconds: float) -> None:
        """See `Clock`."""
        import asyncio  # already loaded, because a loop is running

        await asyncio.sleep(seconds)

    def time_limit(self, seconds: float) -> asyncio.Timeout:
        """See `Clock`."""
        import asyncio  # already loaded, because a loop is running

        return asyncio.timeout(seconds)

    def acquire(self, lock: Lock, seconds: float) -> None:
        """See `Clock`."""
        lock.acquire(timeout=min(seconds, TIMEOUT_MAX))

    def call_later(self, loop: asyncio.AbstractEventLoop, seconds: float, call: Callable[[], object]) -> asyncio.TimerHandle:
        """See `Clock`."""
        return loop.call_later(seconds, call)

    def starting(self, thread: Thread) -> None:
        """See `Clock`."""

    def waking(self, thread: Thread) -> None:
        """See `Clock`."""


_in_force: Clock = SystemClock()


def clock() -> Clock:
    """Return the clock of this process."""
    return _in_force


def set_clock(new: Clock) -> Clock:
    """Make this the clock of the process, and return the one before. Waits that have begun go on by the old one."""
    global _in_force
    before, _in_force = _in_force, new
    return before
