"""Reading received events on an event loop: one from a buffer, or all of them as an asynchronous iterator."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from eventbus.observe.stats import DropLog
from eventbus.receive.buffer import ReceiveBuffer

if TYPE_CHECKING:
    import asyncio


async def read[EventClass](buffer: ReceiveBuffer[EventClass], timeout: float | None) -> EventClass | None:
    """Wait for an event up to `timeout` seconds (None: until the buffer is closed). Returns the oldest; None if none came.

    If the task is cancelled, no event is lost: it is taken only when this returns it.
    """
    import asyncio  # already loaded, because a loop is running

    loop = asyncio.get_running_loop()
    end = None if timeout is None else loop.time() + timeout
    closings = buffer.closings
    while True:
        arrived = loop.create_future()

        def wake(arrived: asyncio.Future[None] = arrived) -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(_resolve, arrived)

        with buffer.waking(wake):
            is_open = buffer.is_open and buffer.closings == closings  # first: what came before that is still returned
            event = buffer.get(0)
            if event is not None or not is_open or (end is not None and loop.time() >= end):
                return event
            timer = None if end is None else loop.call_at(end, _resolve, arrived)
            try:
                await arrived
            finally:
                if timer is not None:
                    timer.cancel()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class EventStream[EventClass](AsyncIterator[EventClass]):
    """The events that a client receives from now on, in a buffer of its own; see `EventBusClient.events`.

    Args:
        topic: the frame of the one topic whose events it has; None: those of every subscribed one.
        limit: how many events wait to be read; more push the oldest out.
        drops: counts those.
        subscribe: called in a thread when the iteration begins; None: nothing has to be subscribed.
        raise_failure: raises the error of a client that has given up.
    """

    def __init__(
        self,
        topic: bytes | None,
        limit: int,
        drops: DropLog,
        subscribe: Callable[[], object] | None,
        raise_failure: Callable[[], None],
    ) -> None:
        self._topic = topic
        self._subscribe = subscribe
        self._raise_failure = raise_failure
        self._buffer: ReceiveBuffer[EventClass] = ReceiveBuffer(limit, drops=drops)
        self._buffer.open()
        self._buffer.expect_reader()

    @property
    def is_open(self) -> bool:
        """Whether it takes events."""
        return self._buffer.is_open

    async def __anext__(self) -> EventClass:
        if self._subscribe is not None:
            import asyncio

            await asyncio.to_thread(self._subscribe)
            self._subscribe = None
        event = await read(self._buffer, None)
        if event is None:
            self._raise_failure()
            raise StopAsyncIteration
        return event

    async def aclose(self) -> None:
        """End the iteration: events that are not read yet are still returned, and none is added. Idempotent."""
        self.close()

    def close(self) -> None:
        """Do as `aclose`, from any thread."""
        self._buffer.close()

    def feed(self, events: list[EventClass], topics: list[bytes]) -> None:
        """Take the events of its topic. One thread at a time."""
        if self._topic is not None:
            events = [event for event, topic in zip(events, topics, strict=True) if topic == self._topic]
        self._buffer.extend(events)
