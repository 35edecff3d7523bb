"""`Service` and `AsyncService`: long-running components that start, stop, and run again when they fail."""

import asyncio
import inspect
from abc import ABC, abstractmethod
from queue import SimpleQueue
from threading import Thread, current_thread
from types import TracebackType
from typing import Any, Self

from eventbus._base.deadline import Deadline
from eventbus.container.lifecycle import Lifecycle
from eventbus.container.signals import glancing, on_interrupt, wait_for_item
from eventbus.errors import ServiceTimeout
from eventbus.events import BaseEvent, BaseEventTopic, BaseEventType
from eventbus.handle.marks import is_async


class Service[EventClass: BaseEvent[Any], EventTypeClass: BaseEventType, EventTopicClass: BaseEventTopic](
    Lifecycle[EventClass, EventTypeClass, EventTopicClass], ABC
):
    """A component that runs in a thread of its own::

        class Agent(Service[MyEvent, MyEventType, MyEventTopic]):
            def __init__(self, bus: EventBusClient[MyEvent, MyEventType, MyEventTopic]) -> None:
                super().__init__(bus, topic=MyEventTopic.agent)

            def run(self) -> None:
                while not self.pause(0.1):
                    self.bus.emit_event(...)

    `eventbus.container.run` starts the services of a container; elsewhere ``with service:`` does, or `run_forever`. When
    `run` raises, that is logged and told on the bus, and it is run again as the restart policy says.
    """

    _thread: Thread | None = None  # before the first start

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if is_async(cls.run):
            raise TypeError(f"{cls.__name__}.run is async: derive from AsyncService, or drop the `async`")

    @abstractmethod
    def run(self) -> None:
        """Do the work: return when it is done, or soon after the service was asked to stop."""

    def pause(self, seconds: float) -> bool:
        """Wait for so many seconds, in `run`. Returns whether the service is to stop, and at once when it is."""
        return self._asked_to_stop.wait(seconds)

    def start(self) -> None:
        """Run from now on. Idempotent; one that is about to stop is waited for, and begins anew.

        Raises:
            InvalidEvent: its lifecycle events need more than a type; see `lifecycle_event`.
            RuntimeError: `run` itself was asked to stop, and starts it.
            ServiceTimeout: it was asked to stop, and still goes on.
        """
        deadline = Deadline(self._stop_timeout)
        while (last := self._start_after_last()) is not None:
            if last is current_thread():
                raise RuntimeError(
                    f"`run` of service {self.name} starts it again: that can be done when it has ended, see `on_end`"
                )
            self._join(last, deadline)

    def stop(self, timeout: float | None = None) -> None:
        """Ask it to stop, and return when it has. Idempotent; from inside of `run` it does not wait.

        Args:
            timeout: seconds; None for the service's `stop_timeout`.

        Raises:
            ServiceTimeout: it still goes on.
        """
        if current_thread() is self._thread:
            self.request_stop()
            return
        deadline = Deadline(self._stop_timeout if timeout is None else timeout)
        # What is asked to stop and what is waited for must be the same, whoever starts it meanwhile.
        if not self._starting.acquire(timeout=deadline.left()):
            raise self._timeout(deadline)
        try:
            self.request_stop()
            thread = self._thread
        finally:
            self._starting.release()
        if thread is not None:
            self._join(thread, deadline)

    def run_forever(self) -> None:
        """Start it, and return when it has ended: by itself, or stopped by SIGINT or SIGTERM if this is the main thread.

        Raises:
            ServiceFailed: it has given up.
            ServiceTimeout: it did not stop in time.
        """
        # Not an event: a signal handler may put here what it has interrupted waiting for.
        ended: SimpleQueue[None] = SimpleQueue()
        stop_waiting = self.on_end(lambda: ended.put(None))
        try:
            with on_interrupt(lambda: ended.put(None)), self:
                wait_for_item(ended)
        finally:
            stop_waiting()
        self.raise_failure()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _start_after_last(self) -> Thread | None:
        """Start it, if it does not run. Returns the thread of the last time, if that has to end first."""
        with self._starting:
            last = self._thread
            if self.is_alive and not self.stopping:
                return None
            # One that has ended may still be calling those who wait for that, and be started by them.
            if last is not None and last.is_alive() and (self.is_alive or last is not current_thread()):
                return last
            self._begin_anew()
            self._thread = Thread(target=self._main, name=f"eventbus-service-{self.name}", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # the system lets no thread start any more
                self._thread = None
                self._end()
                raise
        return None

    def _join(self, thread: Thread, deadline: Deadline) -> None:
        thread.join(deadline.left())
        if thread.is_alive():
            raise self._timeout(deadline)

    def _timeout(self, deadline: Deadline) -> ServiceTimeout:
        remedy = "have `run` look at `self.stopping`, or wait by `self.pause`"
        return ServiceTimeout(self.name, deadline.timeout, remedy)

    def _main(self) -> None:
        try:
            while not self._has_ended():
                self._begin()
        finally:
            self._end()

    def _has_ended(self) -> bool:
        """Run, and wait before the next time. Returns whether there is none."""
        try:
            self.run()
        except BaseException as error:  # also sys.exit(), which would end this thread without a word
            pause = self._failed(error)
            return pause is None or self.pause(pause)
        return True


class AsyncService[EventClass: BaseEvent[Any], EventTypeClass: BaseEventType, EventTopicClass: BaseEventTopic](
    Lifecycle[EventClass, EventTypeClass, EventTopicClass], ABC
):
    """A component that runs as a task of the event loop on which it is started, and is cancelled there to stop.

    It is otherwise as `Service`. What is ``async`` here is for the thread of that loop.
    """

    _task: "asyncio.Task[None] | None" = None  # before the first start

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if not is_async(inspect.unwrap(cls.run)):
            raise TypeError(
                f"{cls.__name__}.run is not async: make it `async def`, mark what wraps it with "
                "inspect.markcoroutinefunction(), or derive from Service"
            )

    @abstractmethod
    async def run(self) -> None:
        """Do the work: return when it is done. To stop, it is cancelled."""

    async def start(self) -> None:
        """Run from now on; as `Service.start`."""
        # Also a task that is done is waited for until that is told; another one, if somebody else has waited for it too.
        while self._task is not None and (self.is_alive or not self._task.done()):
            if self.is_alive and not self.stopping and not self._task.done():
                return
            await self._join(self._task, self._stop_timeout)
        self._begin_anew()
        task = asyncio.get_running_loop().create_task(self._main(), name=f"eventbus-service-{self.name}")
        # Not the task's own work, for it may be cancelled before it has begun.
        task.add_done_callback(lambda _task: self._end())
        with self._changing:
            self._task, asked = task, self.stopping
        if asked:  # by whoever has heard that it starts, when there was nothing to cancel yet
            task.cancel()

    def request_stop(self) -> None:
        """Ask it to stop, by cancelling `run`, and do not wait until it has. Idempotent; any thread may."""
        with self._changing:
            asked, task = self.stopping, self._task
            self._asked_to_stop.set()
        super().request_stop()
        if not asked and task is not None and not task.done():  # once: what it cleans up then must not be cancelled too
            task.get_loop().call_soon_threadsafe(task.cancel)

    async def stop(self, timeout: float | None = None) -> None:
        """Ask it to stop, and return when it has; as `Service.stop`."""
        self.request_stop()
        if self._task is not None and self._task is not asyncio.current_task():
            await self._join(self._task, self._stop_timeout if timeout is None else timeout)

    async def run_forever(self) -> None:
        """Start it, and return when it has ended; as `Service.run_forever`."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        stop_waiting = self.on_end(ended.set)
        try:
            with glancing(), on_interrupt(lambda: loop.call_soon_threadsafe(ended.set)):
                async with self:
                    await ended.wait()
        finally:
            stop_waiting()
        self.raise_failure()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _join(self, task: "asyncio.Task[None]", timeout: float) -> None:
        await asyncio.wait([task], timeout=timeout)
        if not task.done():
            raise ServiceTimeout(self.name, timeout, "have `run` end when it is cancelled")

    def _rest(self) -> None:
        super()._rest()
        self._task = None  # of a loop of the parent, in a forked child

    async def _main(self) -> None:
        while not await self._has_ended():
            self._begin()

    async def _has_ended(self) -> bool:
        """Run, and wait before the next time. Returns whether there is none."""
        try:
            await self.run()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if self._is_cancelled():
                if isinstance(error, asyncio.CancelledError):
                    raise
                # Whoever has cancelled it, a loop that ends for one, does not want it to run again.
                self._asked_to_stop.set()
            pause = self._failed(error)
            if pause is None:
                return True
            await asyncio.sleep(pause)
            return False
        return True

    @staticmethod
    def _is_cancelled() -> bool:
        """Whether it is this task that was cancelled, and not something that it waits for."""
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
