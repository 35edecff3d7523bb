"""`Service` and `AsyncService`: long-running components that start, stop, and are restarted when they fail."""

import asyncio
import inspect
from abc import ABC, abstractmethod
from queue import SimpleQueue
from threading import Thread, current_thread
from types import TracebackType
from typing import Any, Self

from eventbus._base.clock import clock, in_service
from eventbus._base.deadline import Deadline
from eventbus.container.lifecycle import Lifecycle
from eventbus.container.signals import on_interrupt, wait_for_item, waking_loop
from eventbus.errors import ServiceTimeout
from eventbus.events import BaseEvent, BaseEventTopic, BaseEventType
from eventbus.handle.marks import is_async


class Service[EventClass: BaseEvent[Any], EventTypeClass: BaseEventType, EventTopicClass: BaseEventTopic](
    Lifecycle[EventClass, EventTypeClass, EventTopicClass], ABC
):
    """A component that runs in its own thread::

        class Agent(Service[MyEvent, MyEventType, MyEventTopic]):
            def __init__(self, bus: EventBusClient[MyEvent, MyEventType, MyEventTopic]) -> None:
                super().__init__(bus, topic=MyEventTopic.agent)

            def run(self) -> None:
                while not self.pause(0.1):
                    self.bus.emit_event(...)

    `eventbus.container.run` starts the services of a container; without it, use ``with service:`` or `run_forever`. If `run`
    raises, the service logs it, emits a lifecycle event and runs again as the restart policy says.
    """

    _thread: Thread | None = None  # before the first start

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if is_async(cls.run):
            raise TypeError(f"{cls.__name__}.run is async: derive from AsyncService, or drop the `async`")

    @abstractmethod
    def run(self) -> None:
        """Do the work. Return when it is done, or soon after the service was asked to stop."""

    def pause(self, seconds: float) -> bool:
        """Wait in `run` for this many seconds. Returns True as soon as the service is asked to stop, else False."""
        return clock().wait(self._asked_to_stop, seconds)

    def start(self) -> None:
        """Start the service. Idempotent. If it is about to stop, wait for that and start it again.

        Raises:
            InvalidEvent: its lifecycle events need more than a type; see `lifecycle_event`.
            RuntimeError: the service was asked to stop, and `run` itself calls this.
            ServiceTimeout: the service was asked to stop, and is still running.
        """
        deadline = Deadline(self._stop_timeout)
        while (last := self._start_after_last()) is not None:
            if last is current_thread():
                raise RuntimeError(
                    f"`run` of service {self.name} starts it again, which is possible only after its end: see `on_end`"
                )
            self._join(last, deadline)

    def stop(self, timeout: float | None = None) -> None:
        """Ask the service to stop, and return when it has stopped. Idempotent; inside of `run` it does not wait.

        Args:
            timeout: seconds; None for the service's `stop_timeout`.

        Raises:
            ServiceTimeout: the service is still running.
        """
        if current_thread() is self._thread:
            self.request_stop()
            return
        deadline = Deadline(self._stop_timeout if timeout is None else timeout)
        # Under the lock of `start`, so that the thread that is asked to stop is the one that is waited for.
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
        """Start the service, and return when it has ended. In the main thread SIGINT and SIGTERM stop it.

        Raises:
            ServiceFailed: the service has failed finally.
            ServiceTimeout: the service did not stop in time.
        """
        # Not an Event, because a signal handler may put an item while this thread waits for it.
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
        """Start the thread unless it runs. Returns the thread of the previous run if that has to end first."""
        with self._starting:
            last = self._thread
            if self.is_alive and not self.stopping:
                return None
            # After the end of a run its thread may still be calling callbacks, which may start the service again.
            if last is not None and last.is_alive() and (self.is_alive or last is not current_thread()):
                return last
            self._begin_anew()
            self._thread = Thread(target=self._main, name=f"eventbus-service-{self.name}", daemon=True)
            clock().starting(self._thread)
            try:
                self._thread.start()
            except RuntimeError:  # the system refuses another thread
                self._thread = None
                self._end()
                raise
        return None

    def _join(self, thread: Thread, deadline: Deadline) -> None:
        thread.join(deadline.left())
        if thread.is_alive():
            raise self._timeout(deadline)

    def _timeout(self, deadline: Deadline) -> ServiceTimeout:
        remedy = "let `run` check `self.stopping`, or wait with `self.pause`"
        return ServiceTimeout(self.name, deadline.timeout, remedy)

    def _main(self) -> None:
        try:
            while not self._has_ended():
                self._begin()
        finally:
            self._end()

    def _has_ended(self) -> bool:
        """Run once; after a failure wait for the restart. Returns whether there is no restart."""
        try:
            self.run()
        except BaseException as error:  # also sys.exit(), which would end this thread silently
            pause = self._failed(error)
            return pause is None or self.pause(pause)
        return True


class AsyncService[EventClass: BaseEvent[Any], EventTypeClass: BaseEventType, EventTopicClass: BaseEventTopic](
    Lifecycle[EventClass, EventTypeClass, EventTopicClass], ABC
):
    """A component that runs as a task of the event loop on which it is started, and that stops by being cancelled.

    Otherwise it is like `Service`. Call its ``async`` methods in the thread of that loop.
    """

    _task: "asyncio.Task[None] | None" = None  # before the first start

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if not is_async(inspect.unwrap(cls.run)):
            raise TypeError(
                f"{cls.__name__}.run is not async: make it `async def`, mark the function that wraps it with "
                "inspect.markcoroutinefunction(), or derive from Service"
            )

    @abstractmethod
    async def run(self) -> None:
        """Do the work. Return when it is done; to stop, it is cancelled."""

    async def start(self) -> None:
        """Start the service; see `Service.start`."""
        # A task that is done is waited for too, until its callbacks were called. It may be a new task by then.
        while self._task is not None and (self.is_alive or not self._task.done()):
            if self.is_alive and not self.stopping and not self._task.done():
                return
            await self._join(self._task, self._stop_timeout)
        self._begin_anew()
        task = asyncio.get_running_loop().create_task(self._main(), name=f"eventbus-service-{self.name}")
        # In a callback, because the task may be cancelled before its first step.
        task.add_done_callback(lambda _task: self._end())
        with self._changing:
            self._task, asked = task, self.stopping
        if asked:  # by a listener to `service_started`, when there was no task to cancel yet
            task.cancel()

    def request_stop(self) -> None:
        """Ask the service to stop by cancelling `run`, without waiting. Idempotent; any thread may call it."""
        with self._changing:
            asked, task = self.stopping, self._task
            self._asked_to_stop.set()
        super().request_stop()
        if not asked and task is not None and not task.done():  # only once, so that its clean-up is not cancelled
            task.get_loop().call_soon_threadsafe(task.cancel)

    async def stop(self, timeout: float | None = None) -> None:
        """Ask the service to stop, and return when it has stopped; see `Service.stop`."""
        self.request_stop()
        if self._task is not None and self._task is not asyncio.current_task():
            await self._join(self._task, self._stop_timeout if timeout is None else timeout)

    async def run_forever(self) -> None:
        """Start the service, and return when it has ended; see `Service.run_forever`."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        stop_waiting = self.on_end(ended.set)
        try:
            with waking_loop(), on_interrupt(lambda: loop.call_soon_threadsafe(ended.set)):
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
            raise ServiceTimeout(self.name, timeout, "let `run` end when it is cancelled")

    def _reset_lifecycle(self) -> None:
        super()._reset_lifecycle()
        self._task = None  # in a forked child it belongs to a loop of the parent

    async def _main(self) -> None:
        in_service.set(True)
        while not await self._has_ended():
            self._begin()

    async def _has_ended(self) -> bool:
        """Run once; after a failure wait for the restart. Returns whether there is no restart."""
        try:
            await self.run()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if self._is_cancelled():
                if isinstance(error, asyncio.CancelledError):
                    raise
                # Cancelled from outside, for example because its loop ends: it must not be restarted.
                self._asked_to_stop.set()
            pause = self._failed(error)
            if pause is None:
                return True
            await clock().sleep_async(pause)
            return False
        return True

    @staticmethod
    def _is_cancelled() -> bool:
        """Whether this task itself was cancelled, and not something that it waits for."""
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
