"""Handlers of objects without a container, and the topic that a handler can ask for."""

import asyncio
import sys
from collections.abc import Callable
from contextvars import Context, copy_context
from functools import partialmethod
from threading import Event, Thread
from types import ModuleType

import pytest

from eventbus import BaseEventType, HandshakeFailed, InvalidHandler, Middleware, current_delivery, current_topic, on
from eventbus.handle.middleware import Delivery, HandleNext, HandleNextAsync
from eventbus.transports.memory import MemoryTransport
from tests.support import PATIENCE, Bus, MyEvent, MyEventTopic, MyEventType, event, eventually

STARTED, UPDATED = MyEventType.started, MyEventType.updated
TOPIC, OTHER = MyEventTopic.my_service, MyEventTopic.other


class Thermostat:
    """A service that knows nothing of a container."""

    def __init__(self) -> None:
        self.got: list[str] = []

    @on(UPDATED, topic=TOPIC)
    def update(self, event: MyEvent) -> None:
        self.got.append("update")

    @on(STARTED, UPDATED, topic=OTHER)
    async def start(self, event: MyEvent) -> None:
        self.got.append("start")

    def _handle(self, name: str, event: MyEvent) -> None:
        self.got.append(name)

    part = on(UPDATED, topic=TOPIC)(partialmethod(_handle, "part"))  # type: ignore[type-var] # a descriptor, no function


def test_handlers_of_an_object(connected: Callable[..., Bus]) -> None:
    """Every marked method is attached and its topic subscribed, once; detached, none is called any more."""
    client, thermostat = connected(), Thermostat()
    client.attach_handlers(thermostat)
    client.attach_handlers(thermostat)
    assert client.topics == {"my_service", "other"}
    client.start_consumer()
    client.emit_event(event(1), TOPIC)
    client.emit_event(event(1, STARTED), OTHER)
    client.emit_event(event(1), OTHER)
    eventually(lambda: client.stats().handled == 4)
    assert sorted(thermostat.got) == ["part", "start", "start", "update"]
    client.detach_handlers(thermostat)
    client.detach_handlers(thermostat)
    client.emit_event(event(2), TOPIC)
    eventually(lambda: client.stats().received == 4)
    client.stop_consumer()
    assert len(thermostat.got) == 4
    assert client.topics == {"my_service", "other"}


def test_without_a_topic() -> None:
    """If no handler names a topic, the client subscribes to all, unless some are subscribed already."""

    class Everything:
        @on(UPDATED)
        def handle(self, event: MyEvent) -> None: ...

    for before, after in (((), {""}), (("other",), {"other"})):
        client = Bus(MyEvent, transport=MemoryTransport(), topics=before)
        client.attach_handlers(Everything())
        assert client.topics == after


def test_functions_of_a_module(connected: Callable[..., Bus]) -> None:
    """The functions that a module marks are attached."""
    got: list[float] = []
    module = ModuleType(__name__)

    @on(UPDATED, topic=TOPIC)
    def handle(event: MyEvent) -> None:
        got.append(event.value)

    module.handle = handle  # type: ignore[attr-defined] # a module made by hand
    client = connected()
    client.attach_handlers(module)
    client.start_consumer()
    client.emit_event(event(3), TOPIC)
    eventually(lambda: got == [3])


class StrangeType(BaseEventType):
    odd = "odd"


class OfAnotherEnum(Thermostat):
    @on(StrangeType.odd)
    def wonder(self, event: MyEvent) -> None: ...


class OfAnotherClass(Thermostat):
    @on(UPDATED)
    def read(self, event: Thermostat) -> None: ...


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (object(), "has no handlers: mark its methods with @on"),
        (sys, "has no handlers"),
        (OfAnotherEnum(), "StrangeType.odd.* is not a type of MyEvent"),
        (OfAnotherClass(), "read takes `event: Thermostat`, but gets events of class MyEvent"),
    ],
    ids=["nothing marked", "module", "another enum", "another class"],
)
def test_what_cannot_be_attached(target: object, reason: str) -> None:
    """An object without handlers, or with one that cannot be attached, raises InvalidHandler and changes nothing."""
    client = Bus(MyEvent, transport=MemoryTransport())
    with pytest.raises(InvalidHandler, match=reason):
        client.attach_handlers(target)
    assert client.topics == set()
    client.detach_handlers(target)


def test_a_topic_that_is_refused() -> None:
    """Then nothing of the object is attached, and the next attempt does all of it."""

    class Refusing(MemoryTransport):
        refuses = True

        def subscribe(self, topic: bytes) -> None:
            if self.refuses and topic == b"other":
                raise HandshakeFailed("nats")
            super().subscribe(topic)

    transport, thermostat = Refusing(), Thermostat()
    with Bus(MyEvent, transport=transport) as client:
        for _ in range(2):
            with pytest.raises(HandshakeFailed):
                client.attach_handlers(thermostat)
        transport.refuses = False
        client.attach_handlers(thermostat)
        client.start_consumer()
        client.emit_event(event(1), TOPIC)
        client.emit_event(event(1), OTHER)
        eventually(lambda: client.stats().handled == 3)
        client.stop_consumer()
        assert sorted(thermostat.got) == ["part", "start", "update"]


def test_a_callback_of_another_class() -> None:
    """attach_callback, too, refuses a callback that is annotated with another class than the client's events have."""

    def handle(event: int) -> None: ...

    client = Bus(MyEvent, transport=MemoryTransport())
    with pytest.raises(InvalidHandler, match="handle takes `event: int`"):
        client.attach_callback(UPDATED, handle)  # type: ignore[arg-type] # what is wrong here


# The topic


class Asking(Middleware):
    """Sees every call of a handler."""

    def __init__(self) -> None:
        self.topics: list[str | None] = []

    def handle(self, delivery: Delivery, call_next: HandleNext) -> object:
        self.topics.append(current_topic())
        return call_next(delivery)

    async def handle_async(self, delivery: Delivery, call_next: HandleNextAsync) -> object:
        await asyncio.sleep(0)
        self.topics.append(current_topic())
        return await call_next(delivery)


@pytest.mark.parametrize("observed", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_the_topic_of_each_event(connected: Callable[..., Bus], observed: bool, packed: bool) -> None:
    """Handlers that are called one after the other with many events get the topic of their own event."""
    asking = Asking()
    client = connected(middleware=[asking] if observed else [])
    client.subscribe(None)
    got: list[str | None] = []
    entered, go = Event(), Event()

    def handle(event: MyEvent) -> None:
        entered.set()
        assert go.wait(PATIENCE)  # until all others wait: they come in one batch then
        got.append(current_topic())

    client.attach_callback(UPDATED, handle)
    client.start_consumer()
    emitted = [topic for topic in (TOPIC, OTHER, OTHER, TOPIC) for _ in range(3)]
    client.emit_event(event(), TOPIC)
    assert entered.wait(PATIENCE)
    if packed:
        for topic in emitted[::3]:
            client.emit_events([event()] * 3, topic)
    else:
        for topic in emitted:
            client.emit_event(event(), topic)
    client.connect()  # after which the proxy has passed on what was emitted
    go.set()
    eventually(lambda: len(got) == 13)
    assert got[1:] == [topic.value for topic in emitted]
    assert asking.topics == (got if observed else [])


def test_the_topic_in_a_coroutine(connected: Callable[..., Bus]) -> None:
    """An async handler, and what it awaits, keeps the topic of its event while others are handled."""
    client = connected(topics=["my_service", "other"])
    got: list[tuple[float, str | None]] = []
    go: list[asyncio.Event] = []

    async def handle(event: MyEvent) -> None:
        if not go:
            go.append(asyncio.Event())
        await go[0].wait()
        got.append((event.value, await asyncio.to_thread(current_topic)))

    async def release(event: MyEvent) -> None:
        go[0].set()

    client.attach_callback(UPDATED, handle)
    client.attach_callback(STARTED, release)
    client.start_consumer()
    client.emit_event(event(1), TOPIC)
    client.emit_event(event(2), OTHER)
    client.emit_event(event(3), TOPIC)
    client.emit_event(event(0, STARTED), TOPIC)
    eventually(lambda: len(got) == 3)
    assert sorted(got) == [(1, "my_service"), (2, "other"), (3, "my_service")]


def test_no_topic_outside_of_handlers(connected: Callable[..., Bus]) -> None:
    """Elsewhere there is none: in the caller's thread, in a thread of the handler's own, and in the consumer afterwards."""
    client = connected(topics=["my_service"])
    got: list[str | None] = []

    def handle(event: MyEvent) -> None:
        thread = Thread(target=lambda: got.append(current_topic()))
        thread.start()
        thread.join(PATIENCE)

    client.attach_callback(UPDATED, handle)
    client.start_consumer()
    client.emit_event(event(1), TOPIC)
    eventually(lambda: got == [None])
    assert current_topic() is None


def test_no_topic_of_another_event(connected: Callable[..., Bus]) -> None:
    """What a handler leaves for later, on an event loop for example, has a copy of its context, and no topic but its own."""
    client = connected(topics=["my_service", "other"])
    contexts: list[Context] = []
    inside: list[str | None] = []

    def handle(event: MyEvent) -> None:
        contexts.append(copy_context())
        inside.append(asyncio.run(in_a_task()))

    async def in_a_task() -> str | None:
        return await asyncio.create_task(of_the_event())

    async def of_the_event() -> str | None:
        return current_topic()

    client.attach_callback(UPDATED, handle)
    client.start_consumer()
    for topic in (TOPIC, OTHER):
        client.emit_event(event(1), topic)
    eventually(lambda: client.stats().handled == 2)
    assert inside == ["my_service", "other"]
    assert [context.run(current_topic) for context in contexts] == [None, None]
    assert [context.run(current_delivery) for context in contexts] == [None, None]
