"""`EventBusClient` with ``async`` callbacks, on the service's event loop or on one of its own."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from eventbus import DropReason, EventBusProxy
from eventbus.handle import coroutines
from tests.support import (
    PATIENCE,
    Bus,
    MyEvent,
    MyEventTopic,
    MyEventType,
    Recorder,
    client_of,
    event,
    eventually,
    in_thread,
    is_waiting,
)

TOPIC = MyEventTopic.my_service
UPDATED = MyEventType.updated


def own_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "eventbus-coroutines"]


def test_on_the_running_loop(proxy: EventBusProxy) -> None:
    """Connected inside asyncio.run(), async callbacks run on that loop, and aclose() waits for those in flight."""
    finished = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        began, go = asyncio.Event(), asyncio.Event()

        async def handler(event: MyEvent) -> None:
            assert asyncio.get_running_loop() is loop
            began.set()
            await go.wait()
            finished.append(event.value)

        client = client_of(proxy)
        client.connect()
        client.subscribe(TOPIC)
        client.attach_callback(UPDATED, handler)
        client.start_consumer()
        client.emit_event(event(1), TOPIC)
        client.emit_event(event(2), TOPIC)
        async with asyncio.timeout(PATIENCE):
            await began.wait()
            loop.call_later(0.02, go.set)
            await client.aclose(PATIENCE)
        assert own_threads() == []
        assert not client.is_connected()
        assert (client.stats().handled, client.stats().handler_errors) == (len(finished), 0)

    asyncio.run(main())
    assert finished
    assert finished == [1, 2][: len(finished)]


@pytest.mark.parametrize("start", ["start_consumer", "recv_event", "listen_forever"])
def test_the_loop_is_that_of_connect(proxy: EventBusProxy, start: str) -> None:
    """Async callbacks run on the loop that ran at connect(), whichever thread starts the consumer."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        seen: asyncio.Queue[asyncio.AbstractEventLoop] = asyncio.Queue()

        async def handler(event: MyEvent) -> None:
            here = asyncio.get_running_loop()
            loop.call_soon_threadsafe(seen.put_nowait, here)

        client = client_of(proxy)
        client.connect()
        client.subscribe(TOPIC)
        client.attach_callback(UPDATED, handler)
        starts: dict[str, Callable[[], object]] = {
            "start_consumer": client.start_consumer,
            "recv_event": lambda: client.recv_event(0),
            "listen_forever": client.listen_forever,
        }
        await asyncio.to_thread(starts[start])
        client.emit_event(event(1), TOPIC)
        try:
            async with asyncio.timeout(PATIENCE):
                assert await seen.get() is loop
        finally:
            await client.aclose()

    asyncio.run(main())


def test_without_a_loop_on_an_own_thread(bus: Bus) -> None:
    """Without a loop, async callbacks run on a thread that comes with the first of them and goes at close()."""
    seen = []

    async def handler(event: MyEvent) -> None:
        await asyncio.sleep(0)
        seen.append((event.value, threading.current_thread().name))

    bus.attach_callback(UPDATED, handler)
    bus.start_consumer()
    assert own_threads() == []
    bus.emit_event(event(1), TOPIC)
    bus.emit_event(event(2), TOPIC)
    eventually(lambda: len(seen) == 2)
    assert seen == [(1, "eventbus-coroutines"), (2, "eventbus-coroutines")]
    bus.close()
    assert own_threads() == []


def test_the_own_thread_goes_with_the_last_async_callback(bus: Bus) -> None:
    """Detaching the last async callback ends the thread; attaching another brings a new one."""
    seen = []

    async def one(event: MyEvent) -> None:
        seen.append(1)

    async def two(event: MyEvent) -> None:
        seen.append(2)

    bus.attach_callbacks({UPDATED: one, MyEventType.stopped: two})
    bus.start_consumer()
    bus.emit_event(event(), TOPIC)
    eventually(lambda: seen == [1])
    bus.detach_callback(UPDATED, one)
    assert len(own_threads()) == 1
    bus.detach_callback(MyEventType.stopped, two)
    eventually(lambda: own_threads() == [])
    bus.attach_callback(UPDATED, two)
    bus.emit_event(event(), TOPIC)
    eventually(lambda: seen == [1, 2])


def test_close_waits_for_those_in_flight(bus: Bus) -> None:
    """close() returns when the async callbacks that are running have finished."""
    began, go, finished = threading.Event(), threading.Event(), threading.Event()

    async def handler(event: MyEvent) -> None:
        began.set()
        await asyncio.to_thread(go.wait, PATIENCE)
        finished.set()

    bus.attach_callback(UPDATED, handler)
    bus.start_consumer()
    bus.emit_event(event(), TOPIC)
    assert began.wait(PATIENCE)
    with in_thread(lambda: bus.close(PATIENCE)) as closing:
        eventually(lambda: is_waiting(closing), what="close() waits for the coroutine")
        go.set()
    assert finished.is_set()
    assert bus.stats().handled == 1


def test_what_does_not_begin_in_time_is_dropped(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An event that waits for room among the async callbacks when the client stops is dropped, as those after it."""
    monkeypatch.setattr(coroutines, "MAX_IN_FLIGHT", 1)
    began = threading.Event()

    async def handler(event: MyEvent) -> None:
        began.set()
        await asyncio.Event().wait()

    bus.attach_callback(UPDATED, handler)
    bus.start_consumer()
    bus.emit_events([event(1), event(2), event(3)], TOPIC)
    assert began.wait(PATIENCE)
    bus.stop_consumer(0.05)
    eventually(lambda: bus.stats().handler_errors == 1)  # the first one, which was cancelled
    eventually(lambda: bus.stats().drops == {DropReason.STOPPED: 2})
    assert "the client is closing" not in caplog.text


def test_close_cancels_after_its_timeout(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    """An async callback that does not finish in time is cancelled, counted as failed and mentioned in the log."""
    began = threading.Event()

    async def handler(event: MyEvent) -> None:
        began.set()
        await asyncio.Event().wait()

    bus.attach_callback(UPDATED, handler)
    bus.start_consumer()
    bus.emit_event(event(), TOPIC)
    assert began.wait(PATIENCE)
    bus.close(0.05)
    eventually(lambda: own_threads() == [])
    assert "1 async handler had not finished" in caplog.text
    assert bus.stats().handler_errors == 1


def test_a_failing_async_callback(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    """An async callback's exception, SystemExit included, is logged with its event and counted; the others still run."""
    failures = {1.25: ValueError("no"), 2.25: SystemExit(3)}

    async def fails(event: MyEvent) -> None:
        await asyncio.sleep(0)
        if event.value in failures:
            raise failures[event.value]

    bus.attach_callback(UPDATED, fails)
    recorder = Recorder()
    bus.attach_callback(UPDATED, recorder)
    bus.start_consumer()
    for value in (*failures, 3.25):
        bus.emit_event(event(value), TOPIC)
    assert recorder.wait_for(3) == [*failures, 3.25]
    eventually(lambda: bus.stats().handler_errors == 2 and bus.stats().handled == 4)
    for value in failures:
        assert f"value={value}" in caplog.text
    assert "value=3.25" not in caplog.text


def test_an_object_with_an_async_call(bus: Bus) -> None:
    """A callback may be an object whose __call__ is async, or a function that returns a coroutine."""
    seen = []

    class Handler:
        async def __call__(self, event: MyEvent) -> None:
            seen.append("object")

    handler = Handler()
    bus.attach_callback(UPDATED, handler)
    bus.attach_callback(UPDATED, lambda event: handler(event))
    bus.start_consumer()
    bus.emit_event(event(), TOPIC)
    eventually(lambda: seen == ["object", "object"])
    eventually(lambda: bus.stats().handled == 2)


def test_an_async_callback_may_use_the_client(bus: Bus) -> None:
    """An async callback may emit, subscribe, attach and detach."""
    recorder = Recorder()

    async def handler(received: MyEvent) -> None:
        bus.subscribe(MyEventTopic.other)
        bus.attach_callback(MyEventType.stopped, recorder)
        bus.detach_callback(UPDATED, handler)
        bus.emit_event(event(received.value + 1, MyEventType.stopped), MyEventTopic.other)

    bus.attach_callback(UPDATED, handler)
    bus.start_consumer()
    bus.emit_event(event(1), TOPIC)
    assert recorder.wait_for(1) == [2]
