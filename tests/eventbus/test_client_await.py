"""`EventBusClient` on event loops: what can be awaited, on asyncio's own loop and on uvloop."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from threading import Event
from typing import Any, assert_type

import pytest

from eventbus import ClientState, DropReason, EventBusProxy, SendPolicy
from eventbus.errors import NotConnected, ProxyUnreachable, SendBufferFull, SendTimeout
from eventbus.transports.memory import MemoryHub, MemoryTransport
from tests.support import PATIENCE, Bus, MyEvent, MyEventTopic, MyEventType, client_of, event, eventually, in_thread

TOPIC, OTHER = MyEventTopic.my_service, MyEventTopic.other
UPDATED = MyEventType.updated

type Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine on a loop of this kind, in debug mode where it complains of what is never awaited."""
    factory = None
    if request.param == "uvloop":
        factory = pytest.importorskip("uvloop").new_event_loop

    def do(main: Coroutine[Any, Any, None]) -> None:
        async def limited() -> None:
            async with asyncio.timeout(PATIENCE):
                await main

        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(limited())

    return do


def in_memory(hub: MemoryHub, **options: Any) -> Bus:
    return Bus(MyEvent, transport=MemoryTransport(hub), **options)


async def until(condition: Callable[[], object]) -> None:
    """Return as soon as the condition is true, while the loop goes on."""
    while not condition():
        await asyncio.sleep(0.001)


# Connecting


def test_async_with(run: Run, proxy: EventBusProxy) -> None:
    """`async with client:` connects and closes without blocking; async callbacks run on that loop."""
    loops = []

    async def main() -> None:
        async def handle(_: MyEvent) -> None:
            loops.append(asyncio.get_running_loop())

        client = client_of(proxy, topics=[TOPIC])
        client.attach_callback(UPDATED, handle)
        async with client as entered:
            assert entered is client
            assert client.is_connected()
            client.start_consumer()
            await client.aemit_event(event(), TOPIC)
            await until(lambda: loops)
            assert loops == [asyncio.get_running_loop()]
        assert client.state is ClientState.CLOSED

    run(main())


def test_connecting_in_vain(run: Run, dead_ports: tuple[int, int]) -> None:
    """aconnect() raises as connect() does, and the loop goes on meanwhile."""

    async def main() -> None:
        client = Bus(MyEvent, "127.0.0.1", *dead_ports)
        connecting = asyncio.create_task(client.aconnect(1.0))
        await until(lambda: client.state is ClientState.CONNECTING)
        with pytest.raises(ProxyUnreachable):
            await connecting
        assert client.state is ClientState.CLOSED

    run(main())


def test_cancelled_while_connecting(run: Run, dead_ports: tuple[int, int]) -> None:
    """A client whose aconnect() is cancelled is closed, soon and without a thread that goes on; it can connect again."""

    async def main() -> None:
        client = Bus(MyEvent, "127.0.0.1", *dead_ports)
        for _ in range(2):
            connecting = asyncio.create_task(client.aconnect(3_600))
            await until(lambda: client.state is ClientState.CONNECTING)
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
            assert client.state is ClientState.CLOSED

    run(main())


def test_cancelled_while_proving_again(run: Run, proxy: EventBusProxy) -> None:
    """A client that was connected before stays so."""

    async def main() -> None:
        async with client_of(proxy) as client:
            connecting = asyncio.create_task(client.aconnect())
            await asyncio.sleep(0)
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
            assert client.is_connected()

    run(main())


# Reading


def test_reading_one_by_one(run: Run) -> None:
    """arecv_event() returns the oldest event, None when none comes in time, and starts the consumer."""

    async def main() -> None:
        async with in_memory(MemoryHub(), topics=[TOPIC]) as client:
            assert await client.arecv_event(0.01) is None
            assert await client.arecv_event(0) is None
            for number in range(3):
                await client.aemit_event(event(number), TOPIC)
            for number in range(3):
                received = await client.arecv_event(None)
                assert_type(received, MyEvent | None)
                assert received == event(number)
            waiting = asyncio.create_task(client.arecv_event(None))
            await asyncio.sleep(0)
            client.emit_event(event(7), TOPIC)
            assert await waiting == event(7)
            waiting = asyncio.create_task(client.arecv_event(None))
            await asyncio.sleep(0)
        assert await waiting is None
        with pytest.raises(NotConnected):
            await client.arecv_event(0)

    run(main())


def test_a_cancelled_reader_loses_nothing(run: Run) -> None:
    """Whenever a task that reads is cancelled, the event is there for the next one."""

    async def main() -> None:
        async with in_memory(MemoryHub(), topics=[TOPIC]) as client:
            stream = client.events()
            seen: list[float] = []
            streamed: list[float] = []

            async def read() -> None:
                while len(seen) < 300:
                    received = await client.arecv_event(None)
                    assert received is not None
                    seen.append(received.value)

            async def iterate() -> None:
                while len(streamed) < 300:
                    streamed.append((await anext(stream)).value)

            async def cancel_again_and_again(action: Callable[[], Coroutine[Any, Any, None]]) -> None:
                while True:
                    task = asyncio.create_task(action())
                    await asyncio.sleep(0.0003)
                    if task.done():
                        return await task
                    task.cancel()
                    await asyncio.wait([task])

            def emit() -> None:
                for number in range(300):
                    client.emit_event(event(number), TOPIC)

            with in_thread(emit):
                async with asyncio.TaskGroup() as group:
                    group.create_task(cancel_again_and_again(read))
                    group.create_task(cancel_again_and_again(iterate))
            assert seen == streamed == list(range(300))

    run(main())


def test_several_readers_share_a_buffer(run: Run) -> None:
    """Tasks and threads that read the receive buffer get each event once."""

    async def main() -> None:
        async with in_memory(MemoryHub(), topics=[TOPIC]) as client:
            seen: list[float] = []

            async def read() -> None:
                while (received := await client.arecv_event(None)) is not None:
                    seen.append(received.value)

            async with asyncio.TaskGroup() as group:
                for _ in range(3):
                    group.create_task(read())
                await asyncio.sleep(0)
                for number in range(100):
                    await client.aemit_event(event(number), TOPIC)
                await until(lambda: len(seen) == 100)
                await client.aclose()
            assert sorted(seen) == list(range(100))

    run(main())


# Iterating


def test_iterating(run: Run, proxy: EventBusProxy) -> None:
    """`async for` gets the events of all subscribed topics, or of one to which it subscribes, until the client closes."""

    async def main() -> None:
        async with client_of(proxy, topics=[TOPIC]) as client:
            everything, other = client.events(), client.events(OTHER)
            found: list[float] = []

            async def iterate() -> None:
                async for received in everything:
                    assert_type(received, MyEvent)
                    found.append(received.value)

            iterating = asyncio.create_task(iterate())
            first = asyncio.create_task(anext(other))
            await until(lambda: "other" in client.topics)
            client.subscribe(OTHER)  # returns when it is in force
            for number in range(10):
                await client.aemit_event(event(number), OTHER if number % 2 else TOPIC)
            assert (await first).value == 1
            assert [(await anext(other)).value for _ in range(4)] == [3, 5, 7, 9]
            await until(lambda: len(found) == 10)
            await client.aemit_event(event(11), OTHER)
            await until(lambda: len(found) == 11)
        await iterating
        assert found == [*range(10), 11]
        assert [received.value async for received in other] == [11]  # what had come before the end
        with pytest.raises(StopAsyncIteration):
            await anext(other)
        with pytest.raises(NotConnected):
            client.events()

    run(main())


def test_an_iterator_is_bounded(run: Run) -> None:
    """One that is not read keeps the newest events, and the others count as dropped; it holds back nobody."""

    async def main() -> None:
        async with in_memory(MemoryHub(), topics=[TOPIC]) as client:
            stream = client.events(limit=10)
            for number in range(100):
                await client.aemit_event(event(number), TOPIC)
            await until(lambda: client.stats().received == 100)
            assert [(await anext(stream)).value for _ in range(10)] == list(range(90, 100))
            assert client.stats().drops == {DropReason.RECEIVE_BUFFER: 90}

    run(main())


def test_an_iterator_that_is_closed_or_dropped(run: Run) -> None:
    """It takes no more events; others go on."""

    async def main() -> None:
        async with in_memory(MemoryHub(), topics=[TOPIC]) as client:
            left = client.events()
            async with aclosing(client.events()) as closed:
                client.events(limit=1)  # and nobody refers to it
                await client.aemit_event(event(1), TOPIC)
                assert await anext(closed) == event(1)
            await client.aemit_event(event(2), TOPIC)
            assert [(await anext(left)).value for _ in range(2)] == [1, 2]
            with pytest.raises(StopAsyncIteration):
                await anext(closed)
            assert client.stats().dropped == 0

    run(main())


def test_two_loops(run: Run) -> None:
    """One client serves tasks on several loops at once, in their threads."""
    with in_memory(MemoryHub(), topics=[TOPIC]) as client:
        stream = client.events()
        ready, seen = Event(), []

        async def elsewhere() -> None:
            ready.set()
            async for received in client.events():
                seen.append((threading.current_thread().name, received.value))
                if received.value == 9:
                    return

        async def here() -> None:
            await asyncio.to_thread(ready.wait, PATIENCE)
            for number in range(10):
                await client.aemit_event(event(number), TOPIC)
            assert [(await anext(stream)).value for _ in range(5)] == list(range(5))

        async def later() -> None:
            assert [(await anext(stream)).value for _ in range(5)] == list(range(5, 10))

        with in_thread(lambda: run(elsewhere())) as thread:
            run(here())
        run(later())
        assert seen == [(thread.name, number) for number in range(10)]


# Emitting


def test_emitting_waits_for_room_without_blocking(run: Run) -> None:
    """While the send buffer is full, aemit_event() waits and the loop goes on; then the event is sent, once."""

    async def main() -> None:
        hub = MemoryHub()
        full = MemoryTransport(hub, queue=5)
        full.subscribe(b"my_service")
        full.open(0)
        async with in_memory(hub, send_timeout=PATIENCE) as client:
            for number in range(5):
                await client.aemit_event(event(number), TOPIC)
            waiting = asyncio.create_task(client.aemit_event(event(5), TOPIC))
            cancelled = asyncio.create_task(client.aemit_event(event(6), TOPIC))
            await asyncio.sleep(0.01)
            cancelled.cancel()
            assert not waiting.done()
            batch = full.receive()
            assert batch is not None
            assert len(batch[0]) == 5
            await waiting
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            batch = full.receive()
            assert batch is not None
            assert len(batch[0]) == 1
            assert client.stats().emitted == 6
        full.close(0)

    run(main())


@pytest.mark.parametrize(
    ("policy", "error"), [(SendPolicy.BLOCK, SendTimeout), (SendPolicy.RAISE, SendBufferFull), (SendPolicy.DROP, None)]
)
def test_emitting_follows_the_send_policy(
    run: Run, dead_ports: tuple[int, int], policy: SendPolicy, error: type[Exception] | None
) -> None:
    """Where no room comes in time, the event is refused or dropped as emit_event() does."""

    async def main() -> None:
        client = Bus(
            MyEvent,
            "127.0.0.1",
            *dead_ports,
            connect_required=False,
            send_hwm=1,
            send_timeout=0.02,
            send_policy=policy,
            linger=0,
        )
        async with client:
            await client.aemit_event(event(), TOPIC)
            if error is None:
                await client.aemit_event(event(), TOPIC)
                assert client.stats().drops == {DropReason.SEND_BUFFER: 1}
            else:
                with pytest.raises(error) as raised:
                    await client.aemit_event(event(), TOPIC)
                assert type(raised.value) is error

    run(main())


def test_a_task_group_is_ended_by_an_error(run: Run, proxy: EventBusProxy) -> None:
    """Tasks that wait for events end with their group, and the client closes after them."""

    async def main() -> None:
        client = client_of(proxy, topics=[TOPIC])

        async def iterate() -> None:
            async for _ in client.events():
                raise ValueError("enough")

        async def work() -> None:
            async with client, asyncio.TaskGroup() as group:
                group.create_task(client.arecv_event(None))
                group.create_task(iterate())
                await asyncio.sleep(0)
                await client.aemit_event(event(), TOPIC)
                await client.arecv_event(None)
                await asyncio.sleep(3_600)

        with pytest.raises(ExceptionGroup) as raised:
            await work()
        assert raised.group_contains(ValueError, match="enough")
        assert client.state is ClientState.CLOSED

    run(main())
    eventually(lambda: not [thread for thread in threading.enumerate() if thread.name == "eventbus-consumer"])
