"""A batch is confirmed once its callbacks have returned and its coroutines are done; not what was dropped or cancelled."""

import asyncio
from collections.abc import Iterator
from threading import Event

import pytest

from eventbus.transports.memory import MemoryTransport
from eventbus.wire.frames import Batch
from tests.support import PATIENCE, Bus, MyEvent, MyEventTopic, MyEventType, event, eventually


class Confirming(MemoryTransport):
    """Remembers how many messages were confirmed."""

    confirms = True

    def __init__(self) -> None:
        super().__init__()
        self.confirmed = 0

    def confirm(self, batch: Batch) -> None:
        self.confirmed += len(batch[1])


@pytest.fixture
def transport() -> Confirming:
    return Confirming()


@pytest.fixture
def bus(transport: Confirming) -> Iterator[Bus]:
    with Bus(MyEvent, transport=transport, topics=[MyEventTopic.my_service]) as client:
        yield client


def test_a_batch_is_confirmed_when_callbacks_have_returned(bus: Bus, transport: Confirming) -> None:
    """It comes after the callbacks, because a crash would lose a confirmed event. A handler's error changes nothing."""
    entered, go_on = Event(), Event()

    def handle(_: MyEvent) -> None:
        entered.set()
        assert go_on.wait(PATIENCE)
        raise ValueError("on purpose")

    bus.attach_callback(MyEventType.updated, handle)
    bus.start_consumer()
    bus.emit_event(event(), MyEventTopic.my_service)
    assert entered.wait(PATIENCE)
    assert transport.confirmed == 0
    go_on.set()
    eventually(lambda: transport.confirmed == 1)


def test_a_batch_is_confirmed_when_its_coroutines_are_done(bus: Bus, transport: Confirming) -> None:
    """The consumer does not wait for coroutines, so a batch is confirmed by the last of them."""
    entered, go_on = Event(), Event()

    async def handle(of: MyEvent) -> None:
        if of.value:
            entered.set()
            await asyncio.to_thread(go_on.wait, PATIENCE)

    bus.attach_callback(MyEventType.updated, handle)
    bus.start_consumer()
    bus.emit_events([event(1.0), event(0.0)], MyEventTopic.my_service)
    assert entered.wait(PATIENCE)
    eventually(lambda: bus.stats().handled == 1)
    assert transport.confirmed == 0
    go_on.set()
    eventually(lambda: transport.confirmed == 1)


def test_what_is_cancelled_or_dropped_is_not_confirmed(bus: Bus, transport: Confirming) -> None:
    """A consumer that stops drops events: they come again, to this client or to another worker."""
    entered = Event()

    async def handle(_: MyEvent) -> None:
        entered.set()
        await asyncio.sleep(PATIENCE)

    bus.attach_callback(MyEventType.updated, handle)
    bus.start_consumer()
    bus.emit_event(event(), MyEventTopic.my_service)
    assert entered.wait(PATIENCE)
    bus.stop_consumer(0.1)
    eventually(lambda: bus.stats().handler_errors == 1)
    assert transport.confirmed == 0
