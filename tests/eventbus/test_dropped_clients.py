"""Clients that are dropped without `close()`: each is noticed, closed and collected, also if its handlers refer to it."""

import gc
import logging
import warnings
import weakref
from collections.abc import Callable

import pytest

from eventbus import Delivery, EventBusHook, EventBusProxy, Middleware, StateChange
from eventbus._base.deadline import Deadline
from eventbus.handle.middleware import HandleNext
from eventbus.transports.memory import MemoryTransport
from tests.support import PATIENCE, Bus, MyEvent, MyEventTopic, MyEventType, client_of, event, eventually, open_descriptors

TOPIC, UPDATED = MyEventTopic.my_service, MyEventType.updated

pytestmark = pytest.mark.filterwarnings("ignore:.*was never closed:ResourceWarning")


class Service:
    """A service as the README has it: it has the client, and the client has its method."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.received: list[float] = []

    def handle(self, event: MyEvent) -> None:
        self.received.append(event.value)

    async def handle_async(self, event: MyEvent) -> None:
        self.received.append(event.value)

    def note(self, change: StateChange) -> None:
        pass


class Observer(EventBusHook, Middleware):
    """A hook and a middleware that has the client."""

    bus: Bus

    def handled(self, topic: str, event: object, handler: str, duration: float) -> None:
        pass

    def dropped(self, reason: object, count: int) -> None:
        pass

    def state_changed(self, change: StateChange) -> None:
        pass

    def handle(self, delivery: Delivery, call_next: HandleNext) -> object:
        return call_next(delivery)


def with_a_function(bus: Bus) -> object:
    bus.attach_callback(UPDATED, lambda _: None)
    return None


def with_a_method(bus: Bus) -> object:
    service = Service(bus)
    bus.attach_callback(UPDATED, service.handle)
    return service


def with_a_coroutine(bus: Bus) -> object:
    service = Service(bus)
    bus.attach_callback(UPDATED, service.handle_async)
    return service


def with_a_pool(bus: Bus) -> object:
    service = Service(bus)
    bus.attach_callback(UPDATED, service.handle, concurrency=2)
    return service


def with_limited_coroutines(bus: Bus) -> object:
    service = Service(bus)
    bus.attach_callback(UPDATED, service.handle_async, concurrency=2)
    return service


def with_being_listed(bus: Bus) -> object:
    bus.be_listed()
    return with_a_method(bus)


def with_a_state_callback(bus: Bus) -> object:
    service = Service(bus)
    bus.on_state_change(service.note)
    return service


def with_a_hook(bus: Bus) -> object:
    observer = Observer()
    observer.bus = bus
    bus.add_hook(observer)
    bus.attach_callback(UPDATED, lambda _: None)
    return observer


def with_an_inbox(bus: Bus) -> object:
    service = Service(bus)
    bus.attach_callback(UPDATED, service.handle, answers=True)
    bus._parts.asker._link.inbox(Deadline(PATIENCE))  # as its first request opens it
    return service


def with_a_stream(bus: Bus) -> object:
    return bus.events()


KINDS = [
    with_a_function,
    with_a_method,
    with_a_coroutine,
    with_a_pool,
    with_limited_coroutines,
    with_being_listed,
    with_a_state_callback,
    with_a_hook,
    with_an_inbox,
    with_a_stream,
]


def consume(bus: Bus, attach: Callable[[Bus], object]) -> object:
    """Connect a client and let it handle an event; return what its handler belongs to."""
    bus.subscribe(TOPIC)
    bus.connect()
    owner = attach(bus)
    bus.start_consumer()
    bus.emit_event(event(1), TOPIC)
    eventually(lambda: bus.stats().received == 1)
    return owner


def collected(references: list[weakref.ref[object]]) -> bool:
    gc.collect()
    return not any(reference() for reference in references)


@pytest.mark.parametrize("attach", KINDS)
def test_a_dropped_client_ends(
    proxy: EventBusProxy, bus: Bus, attach: Callable[[Bus], object], caplog: pytest.LogCaptureFixture
) -> None:
    """Ten clients that are dropped while they consume are warned of, closed and collected, with what they hold."""
    consume(bus, with_a_function)  # stays open, and with it what clients share
    before = len(open_descriptors())
    references: list[weakref.ref[object]] = []
    gc.collect()  # what earlier tests have dropped would be warned of, too

    def drop_ten() -> None:
        for _ in range(10):
            dropped = client_of(proxy)
            owner = consume(dropped, attach)
            references.extend(weakref.ref(thing) for thing in (dropped, owner) if thing is not None)

    warned: list[str] = []
    with warnings.catch_warnings(action="always"):
        warnings.showwarning = lambda message, *_: warned.append(str(message))  # a recorded warning would keep its client
        drop_ten()
        eventually(lambda: collected(references), PATIENCE, "all are collected")
    assert ["never closed" in text for text in warned] == [True] * 10
    eventually(lambda: len(open_descriptors()) <= before, PATIENCE, "their descriptors are given back")
    lines = [record for record in caplog.records if "nothing but its own handlers refers to it" in record.getMessage()]
    assert len(lines) == 10
    assert {record.levelno for record in lines} == {logging.WARNING}
    assert bus.is_connected()


def test_one_with_middleware_and_hooks_ends() -> None:
    """The same holds if middleware and hooks were given from the start, and over another transport."""
    references: list[weakref.ref[object]] = []

    def drop() -> None:
        observer = Observer()
        observer.bus = Bus(MyEvent, transport=MemoryTransport(), hooks=[observer], middleware=[observer])
        consume(observer.bus, with_a_method)
        references.extend((weakref.ref(observer), weakref.ref(observer.bus)))

    drop()
    eventually(lambda: collected(references), PATIENCE, "all are collected")


def test_what_it_emitted_is_flushed(proxy: EventBusProxy, bus: Bus) -> None:
    """Events that a client has emitted before it was dropped arrive."""
    bus.subscribe(TOPIC)
    bus.start_consumer()

    def drop() -> None:
        dropped = client_of(proxy)
        dropped.connect()
        for number in range(100):
            dropped.emit_event(event(number), TOPIC)

    drop()
    gc.collect()
    assert [getattr(bus.recv_event(PATIENCE), "value", None) for _ in range(100)] == list(range(100))


def test_hooks_hear_that_it_is_closed() -> None:
    """A hook that the service keeps hears of the state CLOSED of a client that was dropped."""
    states: list[str] = []

    class Told(EventBusHook):
        def state_changed(self, change: StateChange) -> None:
            states.append(change.state)

    hook = Told()

    def drop() -> None:
        Bus(MyEvent, transport=MemoryTransport(), hooks=[hook]).connect()

    drop()
    gc.collect()
    eventually(lambda: states[-1:] == ["closed"])


def test_who_keeps_the_iterator_keeps_the_client(proxy: EventBusProxy) -> None:
    """A client whose events are read through its iterator stays open, although nothing else refers to it."""
    consume(bus := client_of(proxy), with_a_method)
    reference, events = weakref.ref(bus), bus.listen_forever()
    del bus
    gc.collect()
    kept = reference()
    assert kept is not None
    kept.emit_event(event(2), TOPIC)
    assert [int(next(events).value) for _ in range(2)] == [1, 2]
    kept.close()
