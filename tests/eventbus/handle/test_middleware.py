"""Middleware: called around handlers and around emitting, in order."""

import asyncio
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import replace

import pytest

from eventbus import Delivery, Emission, EventTooLarge, InvalidHandler, InvalidTopic, Middleware, current_headers
from eventbus.handle.middleware import Choosing, EmitNext, HandleNext, HandleNextAsync, Measuring
from eventbus.transports.memory import MemoryTransport
from tests.support import Bus, MyEvent, MyEventTopic, MyEventType, Recorder, event, eventually

TOPIC = MyEventTopic.my_service
UPDATED = MyEventType.updated


class Noting(Middleware):
    """Notes when it is entered and left, and with what."""

    def __init__(self, name: str, notes: list[str]) -> None:
        self.name = name
        self.notes = notes

    def emit(self, emission: Emission, call_next: EmitNext) -> None:
        self.notes.append(f"{self.name} emits {len(emission.events)} to {emission.topic}")
        call_next(emission)
        self.notes.append(f"{self.name} has emitted")

    def handle(self, delivery: Delivery, call_next: HandleNext) -> object:
        self.notes.append(f"{self.name} handles {delivery.handler.rpartition('.')[2]} on {delivery.topic}")
        result = call_next(delivery)
        self.notes.append(f"{self.name} has handled")
        return result

    async def handle_async(self, delivery: Delivery, call_next: HandleNextAsync) -> object:
        await asyncio.sleep(0)
        self.notes.append(f"{self.name} handles {delivery.handler.rpartition('.')[2]} on {delivery.topic}")
        result = await call_next(delivery)
        self.notes.append(f"{self.name} has handled")
        return result


class Doubling(Middleware):
    """Doubles the value of what is handled, and handles nothing that is negative."""

    def handle(self, delivery: Delivery, call_next: HandleNext) -> object:
        assert isinstance(delivery.event, MyEvent)
        if delivery.event.value < 0:
            return None
        return call_next(replace(delivery, event=delivery.event.model_copy(update={"value": 2 * delivery.event.value})))


class OnlyAsync(Middleware):
    async def handle_async(self, delivery: Delivery, call_next: HandleNextAsync) -> object:
        return await call_next(delivery)


async def handle_async(event: MyEvent) -> None: ...


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_the_first_is_the_outermost(connected: Callable[..., Bus], kind: str) -> None:
    """Around a handler of either kind and around emitting, each middleware is called in its turn."""
    notes: list[str] = []
    client = connected(middleware=[Noting("a", notes), Noting("b", notes)], topics=[TOPIC])

    def handler(event: MyEvent) -> None:
        notes.append("handled")

    async def async_handler(event: MyEvent) -> None:
        notes.append("handled")

    client.emit_event(event(0, MyEventType.started), MyEventTopic.other)
    assert notes == ["a emits 1 to other", "b emits 1 to other", "b has emitted", "a has emitted"]
    notes.clear()
    client.attach_callback(UPDATED, handler if kind == "sync" else async_handler)
    client.start_consumer()
    client.emit_event(event(1), TOPIC)
    eventually(lambda: client.stats().handled == 1)
    name = "handler" if kind == "sync" else "async_handler"
    assert [note for note in notes if "emit" not in note] == [
        f"a handles {name} on my_service",
        f"b handles {name} on my_service",
        "handled",
        "b has handled",
        "a has handled",
    ]


def test_what_is_handled_can_be_changed_and_left_out(connected: Callable[..., Bus]) -> None:
    """A middleware may hand on another event, or none: the handler sees what it hands on, the receive buffer what came."""
    client = connected(middleware=[Doubling()], topics=[TOPIC])
    recorder = Recorder()
    client.attach_callback(UPDATED, recorder)
    client.start_consumer()
    client.emit_events([event(1), event(-1), event(2)], TOPIC)
    assert recorder.wait_for(2) == [2, 4]
    eventually(lambda: client.stats().handled == 3)
    assert [received.value for _ in range(3) if (received := client.recv_event(0))] == [1, -1, 2]


def test_what_is_emitted_can_be_changed_and_left_out(connected: Callable[..., Bus]) -> None:
    """A middleware may emit other events, elsewhere, or nothing at all."""

    class Elsewhere(Middleware):
        def emit(self, emission: Emission, call_next: EmitNext) -> None:
            events = [one for one in emission.events if isinstance(one, MyEvent) and one.value]
            if events:
                call_next(replace(emission, events=events, topic=MyEventTopic.other))

    client = connected(middleware=[Elsewhere()], topics=[MyEventTopic.other])
    recorder = Recorder()
    client.attach_callback(UPDATED, recorder)
    client.start_consumer()
    client.emit_event(event(0), TOPIC)
    client.emit_events([event(1), event(0), event(2)], TOPIC)
    assert recorder.wait_for(2) == [1, 2]
    assert client.stats().emitted == 2


def test_what_middleware_emits_is_checked(connected: Callable[..., Bus]) -> None:
    """A topic of another enum is refused, also if middleware names it."""

    class Astray(Middleware):
        def emit(self, emission: Emission, call_next: EmitNext) -> None:
            call_next(replace(emission, topic=UPDATED))  # type: ignore[arg-type] # what is wrong here

    client = connected(middleware=[Astray()])
    with pytest.raises(InvalidTopic):
        client.emit_event(event(1), TOPIC)


def test_what_middleware_raises_is_the_caller_s(connected: Callable[..., Bus], caplog: pytest.LogCaptureFixture) -> None:
    """Around emitting it is raised by emit_event(); around handling it counts as the handler's, and others run."""

    class Refusing(Middleware):
        def emit(self, emission: Emission, call_next: EmitNext) -> None:
            if emission.topic is not TOPIC:
                raise PermissionError("not there")
            call_next(emission)

        def handle(self, delivery: Delivery, call_next: HandleNext) -> object:
            if "Recorder" not in delivery.handler:
                raise PermissionError("not this one")
            return call_next(delivery)

    client = connected(middleware=[Refusing()], topics=[TOPIC])
    with pytest.raises(PermissionError, match="not there"):
        client.emit_event(event(1), MyEventTopic.other)
    recorder = Recorder()
    client.attach_callback(UPDATED, lambda event: None)
    client.attach_callback(UPDATED, recorder)
    client.start_consumer()
    client.emit_event(event(1), TOPIC)
    assert recorder.wait_for(1) == [1]
    eventually(lambda: (client.stats().handled, client.stats().handler_errors) == (1, 1))
    (line,) = [record for record in caplog.records if "failed on" in record.message]
    assert "lambda" in line.__dict__["eventbus_handler"]


@pytest.mark.parametrize("topics", [[TOPIC], []], ids=["one topic", "all topics"])
def test_deliveries_say_where_they_come_from(connected: Callable[..., Bus], topics: list[MyEventTopic]) -> None:
    """A delivery has its own topic, also where everything is subscribed."""
    notes: list[str] = []
    client = connected(middleware=[Noting("a", notes)], topics=topics)
    if not topics:
        client.subscribe(None)
    client.attach_callback(UPDATED, handler := Recorder())
    client.start_consumer()
    client.emit_event(event(1), TOPIC)
    client.emit_event(event(2), MyEventTopic.other)
    handler.wait_for(1 if topics else 2)
    handled = [note.rpartition(" on ")[2] for note in notes if "handles" in note]
    assert handled == (["my_service"] if topics else ["my_service", "other"])


def test_correlation(connected: Callable[..., Bus]) -> None:
    """A use of middleware: an event that is emitted while another one is handled carries the id of that one."""
    current: ContextVar[str] = ContextVar("current", default="")

    class Correlation(Middleware):
        def emit(self, emission: Emission, call_next: EmitNext) -> None:
            known = current.get() or str(id(emission))
            call_next(replace(emission, headers={**emission.headers, "correlation-id": known}))

        def handle(self, delivery: Delivery, call_next: HandleNext) -> object:
            token = current.set(delivery.headers["correlation-id"])
            try:
                return call_next(delivery)
            finally:
                current.reset(token)

    ids: list[str] = []
    client = connected(middleware=[Correlation()], topics=[TOPIC, MyEventTopic.other])

    def answer(event: MyEvent) -> None:
        ids.append(current_headers()["correlation-id"])
        client.emit_event(event, MyEventTopic.other)

    client.attach_callback(UPDATED, answer, topic=TOPIC)
    client.attach_callback(UPDATED, lambda event: ids.append(current_headers()["correlation-id"]), topic=MyEventTopic.other)
    client.start_consumer()
    client.emit_event(event(1), TOPIC)
    eventually(lambda: len(ids) == 2)
    assert ids[0] == ids[1]


def test_a_kind_of_handler_that_middleware_passes_by() -> None:
    """A handler of a kind that a middleware does not see is refused, and the error names both and the missing method."""
    with Bus(MyEvent, transport=MemoryTransport(), middleware=[Doubling()]) as client:
        with pytest.raises(InvalidHandler, match=r"handle_async is async.*Doubling has only `handle`.*`handle_async`"):
            client.attach_callback(UPDATED, handle_async)
        client.attach_callback(UPDATED, Recorder())
    with Bus(MyEvent, transport=MemoryTransport(), middleware=[OnlyAsync()]) as client:
        with pytest.raises(InvalidHandler, match=r"Recorder.* is not async.*OnlyAsync has only `handle_async`"):
            client.attach_callbacks({UPDATED: Recorder()})
        client.attach_callback(UPDATED, handle_async)


def test_a_coroutine_that_nothing_is_around(connected: Callable[..., Bus], caplog: pytest.LogCaptureFixture) -> None:
    """A function that returns a coroutine without saying that it is async fails, with the remedy; marked, it is handled."""
    notes: list[str] = []
    client = connected(middleware=[Noting("a", notes)], topics=[TOPIC])

    def wrapped(event: MyEvent) -> object:
        return handle_async(event)

    client.attach_callback(UPDATED, wrapped)
    client.attach_callback(MyEventType.stopped, inspect.markcoroutinefunction(lambda event: handle_async(event)))
    client.start_consumer()
    client.emit_event(event(1), TOPIC)
    client.emit_event(event(2, MyEventType.stopped), TOPIC)
    eventually(lambda: (client.stats().handled, client.stats().handler_errors) == (1, 1))
    assert "inspect.markcoroutinefunction" in caplog.text


def test_errors_of_middleware_have_no_other_context(connected: Callable[..., Bus]) -> None:
    """An exception from emitting did not come about while something else was handled."""

    class Refusing(Middleware):
        def emit(self, emission: Emission, call_next: EmitNext) -> None:
            raise PermissionError("not there")

    with pytest.raises(PermissionError) as caught:
        connected(middleware=[Refusing()]).emit_event(event(1), TOPIC)
    assert caught.value.__context__ is None


def test_only_what_is_overridden_is_around(connected: Callable[..., Bus]) -> None:
    """Middleware around emitting is not in the way of handlers, nor the other way round."""

    class OnlyEmit(Middleware):
        def emit(self, emission: Emission, call_next: EmitNext) -> None:
            call_next(emission)

    client = connected(middleware=[OnlyEmit()], topics=[TOPIC])
    recorder = Recorder()
    client.attach_callback(UPDATED, recorder)
    assert client._parts.dispatcher.route_of(b"my_service")[UPDATED] == (recorder,)
    assert not connected(middleware=[Doubling()])._parts.observed


class Clock(Measuring):
    """Notes what it measures, and how that has ended."""

    def __init__(self) -> None:
        self.measured: list[tuple[str, int, str]] = []

    def measure[**Arguments](
        self, topic: str, count: int, send: Callable[Arguments, None], *arguments: Arguments.args, **named: Arguments.kwargs
    ) -> None:
        try:
            send(*arguments, **named)
        except BaseException as error:
            self.measured.append((str(topic), count, type(error).__name__))
            raise
        self.measured.append((str(topic), count, "sent"))


class ClockThatLooks(Clock):
    """Measures, and looks at the emissions, too."""

    def __init__(self) -> None:
        super().__init__()
        self.emissions: list[Emission] = []

    def emit(self, emission: Emission, call_next: EmitNext) -> None:
        self.emissions.append(emission)
        super().emit(emission, call_next)


@pytest.mark.parametrize("others", [[], [Noting("other", [])]], ids=["alone", "with others"])
@pytest.mark.parametrize("make", [Clock, ClockThatLooks])
def test_measuring(connected: Callable[..., Bus], make: Callable[[], Clock], others: list[Middleware]) -> None:
    """Middleware that measures gets each call with its topic and its events, and each error, alone or among others."""
    clock = make()
    client = connected(middleware=[clock, *others], topics=[TOPIC], max_event_bytes=500)
    recorder = Recorder()
    client.attach_callback(UPDATED, recorder)
    client.start_consumer()
    client.emit_event(event(1), TOPIC)
    client.emit_events([event(2), event(3)], TOPIC)
    with pytest.raises(EventTooLarge):
        client.emit_event(MyEvent(type=UPDATED, time="x" * 500), TOPIC)
    recorder.wait_for(3)
    assert clock.measured == [("my_service", 1, "sent"), ("my_service", 2, "sent"), ("my_service", 1, "EventTooLarge")]
    if isinstance(clock, ClockThatLooks):
        assert [len(emission.events) for emission in clock.emissions] == [1, 2, 1]


def test_detaching_what_middleware_is_around(connected: Callable[..., Bus]) -> None:
    """A callback is detached by itself, whatever is around it."""
    client = connected(middleware=[Doubling()], topics=[TOPIC])
    first, second = Recorder(), Recorder()
    client.attach_callback(UPDATED, first)
    client.attach_callback(UPDATED, second)
    client.detach_callback(UPDATED, first)
    client.start_consumer()
    client.emit_event(event(1), TOPIC)
    assert second.wait_for(1) == [2]
    assert first.values == []


class Some(Choosing):
    """Has to do with events of a value above zero, and with what comes with headers."""

    def __init__(self) -> None:
        self.next_value = 0.0
        self.emitted: list[float] = []
        self.handled: list[float] = []

    def chooses_emission(self) -> bool:
        return self.next_value > 0

    def chooses_delivery(self, encoded_headers: bytes) -> bool:
        return bool(encoded_headers)

    def emit_chosen(self, emission: Emission, call_next: EmitNext) -> None:
        self.emitted.append(value_of(emission.events[0]))
        call_next(replace(emission, headers={"chosen": "yes"}))

    def handle(self, delivery: Delivery, call_next: HandleNext) -> object:
        if delivery.headers:
            self.handled.append(value_of(delivery.event))
        return call_next(delivery)

    async def handle_async(self, delivery: Delivery, call_next: HandleNextAsync) -> object:
        if delivery.headers:
            self.handled.append(value_of(delivery.event))
        return await call_next(delivery)


class SomeThatLooks(Some):
    """Overrides what is left out for events that are not chosen."""

    def __init__(self) -> None:
        super().__init__()
        self.looked: list[float] = []

    def emit(self, emission: Emission, call_next: EmitNext) -> None:
        self.looked.append(value_of(emission.events[0]))
        super().emit(emission, call_next)

    def handle(self, delivery: Delivery, call_next: HandleNext) -> object:
        self.looked.append(value_of(delivery.event))
        return super().handle(delivery, call_next)


def value_of(what: object) -> float:
    assert isinstance(what, MyEvent)
    return what.value


@pytest.mark.parametrize("others", ["alone", "measured", "with others"])
@pytest.mark.parametrize("make", [Some, SomeThatLooks])
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_choosing(connected: Callable[..., Bus], make: Callable[[], Some], others: str, is_async: bool) -> None:
    """Alone and among others, it is called around what it chooses, and everything is sent, measured and handled."""
    some, clock = make(), Clock()
    all_of_them: dict[str, list[Middleware]] = {
        "alone": [],
        "measured": [clock],
        "with others": [Noting("other", []), clock],
    }
    client = connected(middleware=[some, *all_of_them[others]], topics=[TOPIC])
    handled: list[float] = []

    async def handle_later(event: MyEvent) -> None:
        handled.append(event.value)

    client.attach_callback(UPDATED, handle_later if is_async else lambda event: handled.append(event.value))
    client.start_consumer()
    for value in (-1.0, 1.0, -2.0, 2.0):
        some.next_value = value
        client.emit_event(event(value), TOPIC)
        eventually(lambda: client.stats().handled == len(handled) and handled[-1:] == [value])  # noqa: B023 # within the round
    assert handled == [-1, 1, -2, 2]
    assert (some.emitted, some.handled) == ([1, 2], [1, 2])
    assert len(clock.measured) == (0 if others == "alone" else 4)
    if isinstance(some, SomeThatLooks):
        assert sorted(some.looked) == sorted(handled * (1 if is_async else 2))


def test_a_handler_that_is_not_declared_async_is_refused_where_nothing_is_chosen(
    connected: Callable[..., Bus], caplog: pytest.LogCaptureFixture
) -> None:
    """As where a middleware is called around it."""
    client = connected(middleware=[Some()], topics=[TOPIC])
    client.attach_callback(UPDATED, lambda event: handle_async(event))
    client.start_consumer()
    client.emit_event(event(1), TOPIC)
    eventually(lambda: client.stats().handler_errors == 1)
    assert "inspect.markcoroutinefunction" in caplog.text
