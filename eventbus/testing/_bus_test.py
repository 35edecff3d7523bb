"""`bus_test`: a service's container, running in memory, and a test that knows when nothing is under way."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Event
from types import TracebackType
from typing import Any, Self

from dependency_injector import containers

from eventbus.container.lifespans import lifespan
from eventbus.events import BaseEvent, BaseEventTopic, BaseEventType
from eventbus.handle.coroutines import running_loop
from eventbus.history.recording import delays, read_recording
from eventbus.settings import EventBusSettings
from eventbus.testing._bus_test_base import PATIENCE_S, BusTestBase, Errors
from eventbus.testing._clock import PASSES
from eventbus.wire.headers import NO_HEADERS, Headers


class BusTest[Root: containers.Container](BusTestBase[Root]):
    """A service that runs in memory, for one test. Made by `bus_test`.

    Attributes:
        container: the service's container, running.
        clock: what handlers, services and ``@every`` wait by.
        hub: connects the service with others that the test makes.
    """

    def __enter__(self) -> Self:
        if running_loop() is not None:
            raise RuntimeError("an event loop runs in this thread: use `async with abus_test(…)`")
        with ExitStack() as stack:
            stack.enter_context(self._overrides)
            self._prepare()
            stack.enter_context(lifespan(self.container))
            stack.callback(self._end_waiting)
            self._settle()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._stack:
            if error is None:
                self._settle()

    def emit(
        self,
        event: BaseEvent[Any] | BaseEventType,
        topic: BaseEventTopic,
        *,
        headers: Headers = NO_HEADERS,
        settle: bool = True,
    ) -> None:
        """Emit an event as another service would, and `settle`.

        Args:
            event: an event, or a bare type.
            topic: where.
            headers: texts that travel beside it.
            settle: whether to wait; several events may be on their way at once.

        Raises:
            InvalidEvent: no bus of the container has such events.
            NotSettled: as `settle`, which raises what handlers have raised, too.
        """
        self._emit(event, topic, headers)
        if settle:
            self._settle()

    def replay(self, path: str | os.PathLike[str], *, timed: bool = False, settle: bool = True) -> int:
        """Emit the events of a recording, as `eventbus record` writes it, in its order; return how many.

        Handlers can tell by `current_delivery` that they are replayed.

        Args:
            path: the file.
            timed: whether to move the `clock` on between them, as far apart as they were recorded.
            settle: whether to wait after each of them; with `timed` it does.

        Raises:
            InvalidRecording: a line of the file is none of a recording.
            NotSettled: as `settle`, which raises what handlers have raised, too.
        """
        count, moved = 0, 0.0
        for delay, recorded in delays(read_recording(os.fspath(path)), 1.0 if timed else None):
            if delay > moved:
                self._advance(delay - moved)
                moved = delay
            self._send(recorded)
            count += 1
            if settle or timed:
                self._settle()
        return count

    def settle(self) -> None:
        """Return when nothing is under way: no event, no handler, no service but those that wait.

        A handler that waits for the `clock` counts as waiting; one that runs under a `TimeLimit`, or waits for an answer,
        after 0.2 seconds in which nothing happens.

        Raises:
            NotSettled: something did not end in time.
            BaseException: what a handler has raised, unless errors are collected; a group, if there are several.
        """
        self._settle()

    def advance(self, seconds: float) -> None:
        """Move the clock on, step by step: what is over by then ends in its order, and everything settles in between.

        It moves ``@every``, `Retry`, `TimeLimit`, `Service.pause`, restarts and timeouts of requests.

        Raises:
            ValueError: the seconds are negative, or without end.

        And as `settle`.
        """
        self._advance(seconds)


class AsyncBusTest[Root: containers.Container](BusTestBase[Root]):
    """Like `BusTest`, on the event loop of the test, which runs the ``async`` handlers. Made by `abus_test`."""

    async def __aenter__(self) -> Self:
        from contextlib import AsyncExitStack

        async with AsyncExitStack() as stack:
            stack.enter_context(self._overrides)
            self._prepare()
            await stack.enter_async_context(lifespan(self.container))
            stack.callback(self._end_waiting)
            await self.settle()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async with self._stack:
            if error is None:
                await self.settle()

    async def emit(
        self,
        event: BaseEvent[Any] | BaseEventType,
        topic: BaseEventTopic,
        *,
        headers: Headers = NO_HEADERS,
        settle: bool = True,
    ) -> None:
        """See `BusTest.emit`."""
        self._emit(event, topic, headers)
        if settle:
            await self.settle()

    async def replay(self, path: str | os.PathLike[str], *, timed: bool = False, settle: bool = True) -> int:
        """See `BusTest.replay`."""
        count, moved = 0, 0.0
        for delay, recorded in delays(read_recording(os.fspath(path)), 1.0 if timed else None):
            if delay > moved:
                await self.advance(delay - moved)
                moved = delay
            self._send(recorded)
            count += 1
            if settle or timed:
                await self.settle()
        return count

    async def settle(self) -> None:
        """See `BusTest.settle`."""
        await self._apart(lambda given_up: self._settle(given_up=given_up))

    async def advance(self, seconds: float) -> None:
        """See `BusTest.advance`."""
        await self._apart(lambda given_up: self._advance(seconds, given_up))

    async def _apart(self, wait: Callable[[Event], None]) -> None:
        """Wait in a thread: not in one of the loop's own, all of which handlers may have."""
        self._require_running()
        for _ in range(PASSES):
            await asyncio.sleep(0)
        given_up = Event()
        pool = ThreadPoolExecutor(1, "eventbus-test")
        try:
            await asyncio.get_running_loop().run_in_executor(pool, wait, given_up)
        finally:
            given_up.set()
            pool.shutdown(wait=False)


def bus_test[Root: containers.Container](
    container: Root, *, errors: Errors = "raise", settings: EventBusSettings | None = None, patience: float = PATIENCE_S
) -> BusTest[Root]:
    """Run a service's container in memory within a block, for a test::

        with bus_test(App()) as t:
            t.emit(Paid(amount=1), ShopTopic.shop)
            assert t.emitted(Receipt, topic=ShopTopic.mail) == [Receipt(to="a")]

    Handlers, codec, middleware and the container's resources are the real ones. The network is a hub in memory, the settings
    are the defaults whatever the environment says, and the clock stands still. One at a time in a process.

    Args:
        container: the service's container, not started. Override other providers of it before.
        errors: ``"raise"``: what a handler raises reaches the test. ``"collect"``: `BusTest.errors` has it.
        settings: instead of the defaults.
        patience: the seconds that something may be under way.

    Raises:
        TypeError: the container has no bus, or is none.
        ValueError: `errors` is neither of both.
        NotSettled: something did not end in time.
    """
    return BusTest(container, errors=errors, settings=settings, patience=patience)


def abus_test[Root: containers.Container](
    container: Root, *, errors: Errors = "raise", settings: EventBusSettings | None = None, patience: float = PATIENCE_S
) -> AsyncBusTest[Root]:
    """Like `bus_test`, for tests that are coroutines: ``async with abus_test(App()) as t: await t.emit(…)``."""
    return AsyncBusTest(container, errors=errors, settings=settings, patience=patience)
