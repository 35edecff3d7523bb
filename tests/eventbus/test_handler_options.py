"""Handlers that fit: event classes, several calls at once, filters, middleware of their own."""

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from contextvars import copy_context
from enum import auto
from inspect import markcoroutinefunction
from threading import Event, RLock
from typing import Annotated, Any, Literal, assert_type

import pytest
from pydantic import AfterValidator

from eventbus import (
    BaseEvent,
    BaseEventTopic,
    BaseEventType,
    DropReason,
    EventBusClient,
    EventBusHook,
    InvalidHandler,
    InvalidTopic,
    Middleware,
    RequestFailed,
    current_headers,
    current_topic,
    on,
)
from eventbus._base.deadline import Deadline
from eventbus.handle import concurrent, coroutines
from eventbus.handle.concurrent import CallsInThreads
from eventbus.handle.dead_letter import DeadLetter
from eventbus.handle.middleware import Delivery, Emission, EmitNext, HandleNext, HandleNextAsync
from eventbus.testing import RecordingTransport
from tests.support import PATIENCE, eventually, in_thread, is_waiting


class ShopType(BaseEventType):
    paid = auto()
    refunded = auto()
    closed = auto()


class ShopTopic(BaseEventTopic):
    shop = auto()
    other = auto()


class ShopEvent(BaseEvent[ShopType]):
    order: int = 0


class Paid(ShopEvent):
    type: Literal[ShopType.paid] = ShopType.paid
    amount: int


class Refunded(ShopEvent):
    type: Literal[ShopType.refunded] = ShopType.refunded


Bus = EventBusClient[ShopEvent, ShopType, ShopTopic]


@pytest.fixture
def make_bus() -> Iterator[Callable[..., Bus]]:
    """Makes connected clients in memory, that are subscribed to `shop`, with options."""
    with ExitStack() as stack:

        def make(**options: Any) -> Bus:
            bus = Bus(ShopEvent, topics=[ShopTopic.shop], transport=RecordingTransport(), **options)
            bus.connect()
            stack.callback(bus.close, 1)
            return bus

        yield make


@pytest.fixture
def bus(make_bus: Callable[..., Bus]) -> Bus:
    return make_bus()


class Meter:
    """A handler that keeps what it has seen, and how many of its calls ran at once. Calls wait until they may go on."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.running = self.most = 0
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.topics: set[str | None] = set()
        self.headers: list[str] = []
        self.may_end = Event()

    def enter(self, event: ShopEvent) -> None:
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
            self.begun.append(event.order)
            self.topics.add(current_topic())
            self.headers += current_headers().values()

    def leave(self, event: ShopEvent) -> None:
        with self.lock:
            self.running -= 1
            self.ended.append(event.order)

    def handle(self, event: ShopEvent) -> None:
        self.enter(event)
        assert self.may_end.wait(PATIENCE)
        self.leave(event)

    async def handle_async(self, event: ShopEvent) -> None:
        self.enter(event)
        while not self.may_end.is_set():
            await asyncio.sleep(0.001)
        self.leave(event)


def closed(order: int) -> ShopEvent:
    return ShopEvent(type=ShopType.closed, order=order)


def emit(bus: Bus, *orders: int) -> None:
    bus.start_consumer()
    bus.emit_events([closed(order) for order in orders], ShopTopic.shop)


@pytest.fixture(params=["handle", "handle_async"])
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


# Event classes


def test_classes_instead_of_types(bus: Bus) -> None:
    """`@on(Paid)` is for the types of that class, and the handler gets objects of it."""
    seen: list[ShopEvent] = []

    class Till:
        @on(Paid, topic=ShopTopic.shop)
        def on_paid(self, event: Paid) -> None:
            assert_type(event.amount, int)
            seen.append(event)

        @on(Refunded, ShopType.closed)  # type: ignore[call-overload,untyped-decorator] # type checkers want one kind
        def on_others(self, event: ShopEvent) -> None:
            seen.append(event)

    bus.attach_handlers(Till())
    bus.start_consumer()
    events = [Paid(amount=1), Refunded(), closed(3)]
    for event in events:
        bus.emit_event(event, ShopTopic.shop)
    eventually(lambda: len(seen) == 3)
    assert seen == events
    assert [type(event) for event in seen] == [Paid, Refunded, ShopEvent]


def test_checkers_know_the_class() -> None:
    """The handler of another class, and an option that does not fit, are errors for type checkers."""

    class Till:
        @on(Paid, key=lambda event: event.amount, concurrency=2)
        def right(self, event: Paid) -> int:
            return event.amount

        @on(Paid, Refunded, where=lambda event: event.order > 0)
        def both(self, event: Paid | Refunded) -> None: ...

        @on(Paid)  # type: ignore[arg-type] # it gets a Paid
        def wrong(self, event: Refunded) -> None: ...

        @on(Refunded, where=lambda event: event.amount > 0)  # type: ignore[attr-defined] # it has none
        def none(self, event: Refunded) -> None: ...

    @on(Paid)
    def function(event: Paid) -> None: ...

    assert_type(Till().right(Paid(amount=3)), int)
    function(Paid(amount=1))
    with pytest.raises(InvalidHandler, match="takes `event: Refunded`, but gets events of class Paid"):
        Bus(ShopEvent, transport=RecordingTransport()).attach_handlers(Till())


def test_a_handler_of_a_generic_class(bus: Bus) -> None:
    """A handler may be annotated with a generic base of its events."""

    class Till:
        @on(ShopType.paid)
        def on_paid(self, event: BaseEvent[Any]) -> None: ...

    bus.attach_handlers(Till())


def test_a_class_that_does_not_say_its_types() -> None:
    """A class of any type names no types."""

    class Anything(BaseEvent[Any]):
        pass

    with pytest.raises(InvalidHandler, match=r"@on\(Anything\): the class does not say which types its events have"):
        on(Anything)


def test_a_class_that_shares_its_type(bus: Bus) -> None:
    """A handler of one class is refused where events of its type may be of another."""

    class Old(BaseEvent[ShopType]):
        type: Literal[ShopType.paid] = ShopType.paid

    class Till:
        @on(Old)
        def on_old(self, event: Old) -> None: ...

    with pytest.raises(InvalidHandler):
        bus.attach_handlers(Till())
    both: EventBusClient[Any, ShopType, ShopTopic] = EventBusClient(Old | Paid, transport=RecordingTransport())
    with pytest.raises(InvalidHandler, match=r"is for events of class Old, but on this bus .* may be a Paid"):
        both.attach_handlers(Till())


# Several at once


def test_so_many_run_at_once(bus: Bus, kind: str) -> None:
    """With `concurrency=3` three calls run at once, threads or coroutines, and the others after them."""
    meter = Meter()
    bus.attach_callback(ShopType.closed, getattr(meter, kind), concurrency=3)
    emit(bus, *range(10))
    eventually(lambda: meter.running == 3)
    assert bus.stats().handled == 0
    meter.may_end.set()
    eventually(lambda: bus.stats().handled == 10)
    assert meter.most == 3
    assert sorted(meter.ended) == list(range(10))
    assert meter.topics == {"shop"}


def test_events_of_one_key_stay_in_order(bus: Bus, kind: str) -> None:
    """Events with the same key are handled one after the other; those behind a slow one of another key are not held up."""
    meter = Meter()
    bus.attach_callback(ShopType.closed, getattr(meter, kind), concurrency=8, key=lambda event: event.order % 4)
    emit(bus, *range(40))
    eventually(lambda: meter.running == 4)
    assert sorted(meter.begun) == [0, 1, 2, 3]
    meter.may_end.set()
    eventually(lambda: bus.stats().handled == 40)
    assert meter.most == 4
    for key in range(4):
        assert [order for order in meter.ended if order % 4 == key] == list(range(key, 40, 4))


def test_types_and_topics_of_one_mark_share_the_limit(bus: Bus, kind: str) -> None:
    """The limit is that of the handler, whatever the type and topic of its events."""
    meter = Meter()

    class Till:
        @on(ShopType.closed, ShopType.paid, concurrency=2)
        def handle(self, event: ShopEvent) -> None:
            meter.handle(event)

    class AsyncTill:
        @on(ShopType.closed, ShopType.paid, concurrency=2)
        async def handle(self, event: ShopEvent) -> None:
            await meter.handle_async(event)

    bus.subscribe(ShopTopic.other)
    bus.attach_handlers(Till() if kind == "handle" else AsyncTill())
    bus.start_consumer()
    for topic in ShopTopic:
        for event in (Paid(amount=1), closed(1)):
            bus.emit_event(event, topic)
    eventually(lambda: meter.running == 2)
    meter.may_end.set()
    eventually(lambda: bus.stats().handled == 4)
    assert meter.most == 2
    assert meter.topics == {"shop", "other"}


def test_errors_are_those_of_the_handler(make_bus: Callable[..., Bus], kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """What a call raises is logged and counted, hooks get it, and its key goes on."""
    failures: list[tuple[str, str]] = []

    class Hook(EventBusHook):
        def handler_failed(self, topic: str, event: object, handler: str, duration: float, error: BaseException) -> None:
            failures.append((handler.rpartition(".")[2], type(error).__name__))

    def fail(event: ShopEvent) -> None:
        if event.order % 2:
            raise SystemExit(event.order)

    async def fail_async(event: ShopEvent) -> None:
        await asyncio.sleep(0)
        fail(event)

    bus = make_bus(hooks=[Hook()])
    callback = fail if kind == "handle" else fail_async
    bus.attach_callback(ShopType.closed, callback, concurrency=2, key=lambda event: "all")
    emit(bus, 1, 2, 3)
    eventually(lambda: (bus.stats().handled, bus.stats().handler_errors) == (1, 2))
    eventually(lambda: len(failures) == 2)
    assert failures == [(callback.__name__, "SystemExit" if kind == "handle" else "RuntimeError")] * 2
    eventually(lambda: caplog.text.count(f"{callback.__qualname__} failed on ShopEvent(") == 2)


def test_each_call_is_told_once(make_bus: Callable[..., Bus]) -> None:
    """Hooks are told of each call once, also if a wrapper that is marked as async raises or returns without a coroutine."""
    told: list[tuple[str, int]] = []

    class Hook(EventBusHook):
        def handled(self, topic: str, event: Any, handler: str, duration: float) -> None:
            told.append(("handled", event.order))

        def handler_failed(self, topic: str, event: Any, handler: str, duration: float, error: BaseException) -> None:
            told.append((type(error).__name__, event.order))

    async def handle(event: ShopEvent) -> None: ...

    def wrapped(event: ShopEvent) -> object:
        if event.order == 1:
            raise ValueError("no")
        return handle(event) if event.order == 2 else None

    def undeclared(event: ShopEvent) -> object:
        return handle(event) if event.order == 0 else None

    bus = make_bus(hooks=[Hook()])
    bus.attach_callback(ShopType.closed, markcoroutinefunction(wrapped), concurrency=2)
    emit(bus, 0, 1, 2)
    bus.stop_consumer()
    assert sorted(told) == [("ValueError", 1), ("handled", 0), ("handled", 2)]
    told.clear()
    bus.detach_callback(ShopType.closed, wrapped)
    bus.attach_callback(ShopType.closed, undeclared, concurrency=2)
    emit(bus, 0, 1)
    bus.stop_consumer()
    assert sorted(told) == [("InvalidHandler", 0), ("handled", 1)]


def test_an_answer_that_is_a_coroutine_is_told(make_bus: Callable[..., Bus]) -> None:
    """Hooks are told that a handler has failed which answers with a coroutine that nobody awaits, as the asker is."""
    failures: list[str] = []

    class Hook(EventBusHook):
        def handler_failed(self, topic: str, event: object, handler: str, duration: float, error: BaseException) -> None:
            failures.append(type(error).__name__)

    async def price(event: ShopEvent) -> int:
        return event.order

    bus = make_bus(hooks=[Hook()])
    bus.attach_callback(ShopType.closed, lambda event: price(event), answers=True)
    bus.start_consumer()
    with pytest.raises(RequestFailed, match="not declared `async`"):
        bus.request(closed(1), ShopTopic.shop, int, PATIENCE)
    eventually(lambda: bus.stats().handler_errors == 1)
    assert failures == ["InvalidHandler"]


def test_an_answer_that_cannot_be_sent_is_told(make_bus: Callable[..., Bus], kind: str) -> None:
    """Hooks count an answer that is too large as the statistics do: the call has failed."""
    told: list[str] = []

    class Hook(EventBusHook):
        def handled(self, topic: str, event: object, handler: str, duration: float) -> None:
            told.append("handled")

        def handler_failed(self, topic: str, event: object, handler: str, duration: float, error: BaseException) -> None:
            told.append(type(error).__name__)

    def answer(event: ShopEvent) -> str:
        return "x" * event.order

    async def answer_async(event: ShopEvent) -> str:
        return answer(event)

    bus = make_bus(hooks=[Hook()], max_event_bytes=1_000)
    bus.attach_callback(ShopType.closed, answer if kind == "handle" else answer_async, answers=True)
    bus.start_consumer()
    assert bus.request(closed(1), ShopTopic.shop, str, PATIENCE) == "x"
    with pytest.raises(RequestFailed, match="EventTooLarge"):
        bus.request(closed(2_000), ShopTopic.shop, str, PATIENCE)
    eventually(lambda: (bus.stats().handled, bus.stats().handler_errors) == (1, 1))
    assert told == ["handled", "EventTooLarge"]


def test_headers_come_along(make_bus: Callable[..., Bus], kind: str) -> None:
    """A call in another thread, or in a task, knows the headers of its event."""

    class Heading(Middleware):
        def emit(self, emission: Emission, call_next: EmitNext) -> None:
            call_next(Emission(emission.events, emission.topic, {"h": str(emission.events[0])}, emission.packed))

    meter = Meter()
    meter.may_end.set()
    bus = make_bus(middleware=[Heading()])
    bus.attach_callback(ShopType.closed, getattr(meter, kind), concurrency=4)
    bus.start_consumer()
    for order in range(20):
        bus.emit_event(closed(order), ShopTopic.shop)
    eventually(lambda: bus.stats().handled == 20)
    assert len(set(meter.headers)) == 20


def test_stopping_waits_for_all(bus: Bus, kind: str) -> None:
    """stop_consumer() waits for calls that run and for those that wait; then everything works again."""
    meter = Meter()
    bus.attach_callback(ShopType.closed, getattr(meter, kind), concurrency=2)
    for start in (0, 20):
        emit(bus, *range(start, start + 20))
        eventually(lambda: meter.running == 2)
        threading.Timer(0.05, meter.may_end.set).start()
        bus.stop_consumer(PATIENCE)
        assert sorted(meter.ended) == list(range(start + 20))
        meter.may_end.clear()
    eventually(lambda: "eventbus-handler" not in [thread.name for thread in threading.enumerate()])


def test_stopping_waits_for_what_was_detached(bus: Bus, kind: str) -> None:
    """Calls that wait when their handler is detached are made, and stop_consumer() waits for them, too."""
    meter = Meter()
    handler = getattr(meter, kind)
    bus.attach_callback(ShopType.closed, handler, concurrency=1)
    emit(bus, *range(5))
    eventually(lambda: bus.stats().received == 5 and meter.begun)
    bus.detach_callback(ShopType.closed, handler)
    with in_thread(lambda: bus.stop_consumer(PATIENCE)) as stopping:
        eventually(lambda: is_waiting(stopping))
        meter.may_end.set()
    assert meter.ended == [0, 1, 2, 3, 4]
    assert bus.stats().handled == 5
    bus.stop_consumer()


def test_what_does_not_end_in_time_is_dropped(bus: Bus, kind: str) -> None:
    """After the timeout, calls that have not begun are dropped and counted."""
    meter = Meter()
    bus.attach_callback(ShopType.closed, getattr(meter, kind), concurrency=2)
    emit(bus, *range(20))
    eventually(lambda: meter.running == 2 and bus.stats().received == 20)
    bus.stop_consumer(0.2)
    assert bus.stats().drops == {DropReason.STOPPED: 18}
    assert len(meter.begun) == 2
    meter.may_end.set()


def test_closing_from_inside(bus: Bus, kind: str) -> None:
    """A call may close the client: it is not waited for."""
    ended = Event()

    def close(event: ShopEvent) -> None:
        bus.close(PATIENCE)
        ended.set()

    async def close_async(event: ShopEvent) -> None:
        close(event)

    bus.attach_callback(ShopType.closed, close if kind == "handle" else close_async, concurrency=2)
    emit(bus, 1)
    assert ended.wait(PATIENCE / 2)


def test_what_waits_for_room_does_not_outlast_a_stop() -> None:
    """A call that waits for room when they are stopped is dropped, also if they are resumed before it could notice."""

    class Told:
        drops = 0

        def done(self, error: BaseException | None, duration: float, returned: object, *, told: bool = False) -> None: ...

        def dropped(self) -> None:
            self.drops += 1

    calls, go, told, abandoned = CallsInThreads(1), Event(), Told(), Event()
    for _ in range(concurrent.MAX_WAITING + 1):
        calls.submit(None, lambda _: go.wait(PATIENCE), None, copy_context(), told)
    with in_thread(lambda: calls.submit(None, lambda _: None, None, copy_context(), told, abandoned.is_set)) as waiting:
        eventually(lambda: is_waiting(waiting))
        with calls._changed:  # which the thread needs to go on
            abandoned.set()
            calls.stop(Deadline(0))
            calls.resume()
    assert told.drops == concurrent.MAX_WAITING + 1
    go.set()
    calls.stop(Deadline(PATIENCE))


@pytest.mark.parametrize("lone", [True, False], ids=["a lone event", "among others"])
@pytest.mark.parametrize("where", ["decoding", "key"])
def test_what_a_stop_left_behind_does_not_come_after_newer_events(where: str, lone: bool) -> None:
    """An event that is being read or given its key when the consumer is stopped, and started at once, is dropped."""
    entered, go_on, handled = Event(), Event(), list[int]()

    def pause(order: int) -> int:
        if order == 1 and not entered.is_set():
            entered.set()
            assert go_on.wait(PATIENCE)
        return order

    class SlowEvent(ShopEvent):
        order: Annotated[int, AfterValidator(pause if where == "decoding" else int)] = 0

    make = EventBusClient[SlowEvent, ShopType, ShopTopic]
    with make(SlowEvent, topics=[ShopTopic.shop], transport=RecordingTransport()) as slow:
        options: dict[str, Any] = (
            {"concurrency": 2, "key": lambda event: pause(event.order) and "all"} if where == "key" else {}
        )
        slow.attach_callback(ShopType.closed, lambda event: handled.append(event.order), **options)
        old = [b'{"type":"closed","order":%d}' % order for order in ((1,) if lone else (1, 1))]
        slow._transport.send(b"shop", old[0] if lone else b"[%b]" % b",".join(old))
        slow.start_consumer()
        assert entered.wait(PATIENCE)
        slow.stop_consumer(0)
        slow.start_consumer()
        slow._transport.send(b"shop", b'{"type":"closed","order":2}')
        eventually(lambda: handled == [2])
        go_on.set()
        eventually(lambda: slow.stats().drops.get(DropReason.STOPPED, 0) == len(old))
        assert handled == [2]


@pytest.mark.parametrize(
    ("is_async", "options"),
    [(False, {"concurrency": 1}), (True, {"concurrency": 1}), (True, {})],
    ids=["threads", "tasks", "tasks without options"],
)
def test_stopping_from_inside_while_others_wait(
    bus: Bus, is_async: bool, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that stops the consumer does not wait for it, although it waits for room that only the call can make."""
    monkeypatch.setattr(concurrent, "MAX_WAITING", 2)
    monkeypatch.setattr(coroutines, "MAX_IN_FLIGHT", 2)
    may_stop, stopped = Event(), Event()

    def stop(event: ShopEvent) -> None:
        if event.order == 0:
            assert may_stop.wait(PATIENCE)
            bus.stop_consumer(PATIENCE)
            stopped.set()

    async def stop_async(event: ShopEvent) -> None:
        stop(event)

    bus.attach_callback(ShopType.closed, stop_async if is_async else stop, **options)
    emit(bus, *range(10))
    eventually(lambda: any(thread.name == "eventbus-consumer" and is_in_submit(thread) for thread in threading.enumerate()))
    may_stop.set()
    assert stopped.wait(PATIENCE / 2)
    eventually(lambda: bus.stats().handled + bus.stats().drops.get(DropReason.STOPPED, 0) == 10)
    assert bus.stats().handler_errors == 0


def is_in_submit(thread: threading.Thread) -> bool:
    """Whether a thread waits for room."""
    frame = sys._current_frames().get(thread.ident or 0)
    names = set()
    while frame is not None:
        names.add(frame.f_code.co_name)
        frame = frame.f_back
    return {"wait", "submit"} <= names


def test_too_many_wait_and_hold_the_consumer() -> None:
    """A thousand calls may wait; then the consumer waits, and goes on when there is room."""
    meter = Meter()
    with Bus(ShopEvent, topics=[ShopTopic.shop], transport=RecordingTransport()) as bus:
        bus.attach_callback(ShopType.closed, meter.handle, concurrency=1)
        emit(bus, *range(1_100))
        eventually(lambda: bus.health(0.0).live is False)
        meter.may_end.set()
        eventually(lambda: bus.stats().handled == 1_100)
        assert meter.ended == list(range(1_100))


@pytest.mark.parametrize("options", [{}, {"concurrency": 1}], ids=["no options", "concurrency"])
def test_the_loop_ends_while_others_wait(bus: Bus, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls fail whose loop has ended, and those that wait for their turn; the consumer goes on."""
    monkeypatch.setattr(concurrent, "MAX_WAITING", 2)
    monkeypatch.setattr(coroutines, "MAX_IN_FLIGHT", 2)
    others: list[int] = []
    loop = asyncio.new_event_loop()

    async def begin() -> None:
        bus.close()
        await bus.aconnect()
        emit(bus, *range(10))
        while not any(thread.name == "eventbus-consumer" and is_in_submit(thread) for thread in threading.enumerate()):
            await asyncio.sleep(0.001)

    async def handle(event: ShopEvent) -> None:
        await asyncio.Event().wait()

    bus.attach_callback(ShopType.closed, handle, **options)
    bus.attach_callback(ShopType.closed, lambda event: others.append(event.order))
    loop.run_until_complete(begin())
    loop.close()
    eventually(lambda: others == list(range(10)))
    eventually(lambda: bus.stats().handler_errors == 10)


# Filters, middleware


def test_a_handler_is_called_where_it_is_wanted(bus: Bus, kind: str) -> None:
    """`where` decides, before the call is counted or waits for its turn."""
    meter = Meter()
    meter.may_end.set()
    bus.attach_callback(ShopType.closed, getattr(meter, kind), where=lambda event: event.order % 2)
    bus.attach_callback(ShopType.closed, getattr(meter, kind), where=lambda event: event.order == 2, concurrency=2)
    emit(bus, *range(6))
    eventually(lambda: bus.stats().handled == 4)
    assert sorted(meter.ended) == [1, 2, 3, 5]


def test_a_filter_that_is_false_itself(bus: Bus) -> None:
    """A filter is asked also if it is an object that counts as false, such as a set that is empty still."""

    class Orders(set[int]):
        def __call__(self, event: ShopEvent) -> bool:
            return event.order in self

    meter, orders = Meter(), Orders()
    meter.may_end.set()
    bus.attach_callback(ShopType.closed, meter.handle, where=orders)
    orders.add(1)
    emit(bus, 0, 1)
    bus.stop_consumer()
    assert meter.ended == [1]


def test_a_filter_that_fails(bus: Bus) -> None:
    """What `where` or `key` raises counts as the handler's error."""
    meter = Meter()
    meter.may_end.set()
    bus.attach_callback(ShopType.closed, meter.handle, where=lambda event: 1 / event.order)
    bus.attach_callback(ShopType.closed, meter.handle, concurrency=2, key=lambda event: [event])  # cannot be hashed
    emit(bus, 0, 1)
    eventually(lambda: (bus.stats().handled, bus.stats().handler_errors) == (1, 3))


def test_a_key_that_cannot_be_compared(bus: Bus) -> None:
    """What it raises counts as the handler's error, too, and the consumer goes on."""

    class Key:
        def __hash__(self) -> int:
            return 0

        def __eq__(self, other: object) -> bool:
            raise ValueError

    meter = Meter()
    bus.attach_callback(ShopType.closed, meter.handle, concurrency=2, key=lambda event: Key())
    emit(bus, 0, 1)
    eventually(lambda: bus.stats().handler_errors == 1)
    meter.may_end.set()
    eventually(lambda: meter.ended == [0])
    emit(bus, 2)
    eventually(lambda: meter.ended == [0, 2])


@pytest.mark.parametrize("option", ["where", "key"])
def test_a_filter_that_fails_fails_the_request(bus: Bus, option: str) -> None:
    """What it raises is told to who has asked, as the error of the handler would be."""
    options: dict[str, Any] = {option: lambda event: 1 / event.order}
    bus.attach_callback(ShopType.closed, lambda event: event.order, answers=True, concurrency=2, **options)
    bus.start_consumer()
    assert bus.request(closed(1), ShopTopic.shop, int, PATIENCE) == 1
    with pytest.raises(RequestFailed, match="ZeroDivisionError"):
        bus.request(closed(0), ShopTopic.shop, int, PATIENCE)
    eventually(lambda: (bus.stats().handled, bus.stats().handler_errors) == (1, 1))


class Noting(Middleware):
    """Notes that it was entered."""

    def __init__(self, name: str, notes: list[str]) -> None:
        self.name = name
        self.notes = notes

    def handle(self, delivery: Delivery, call_next: HandleNext) -> object:
        self.notes.append(self.name)
        return call_next(delivery)

    async def handle_async(self, delivery: Delivery, call_next: HandleNextAsync) -> object:
        self.notes.append(self.name)
        return await call_next(delivery)


def test_middleware_around_one_handler(make_bus: Callable[..., Bus], kind: str) -> None:
    """It is called inside of the client's, around its handler only."""
    notes: list[str] = []
    meter = Meter()
    meter.may_end.set()
    bus = make_bus(middleware=[Noting("client", notes)])
    handler = getattr(meter, kind)
    bus.attach_callback(ShopType.closed, handler, middleware=[Noting("outer", notes), Noting("inner", notes)])
    bus.attach_callback(ShopType.refunded, handler)
    bus.start_consumer()
    bus.emit_event(closed(1), ShopTopic.shop)
    eventually(lambda: bus.stats().handled == 1)
    bus.emit_event(Refunded(), ShopTopic.shop)
    eventually(lambda: bus.stats().handled == 2)
    assert notes == ["client", "outer", "inner", "client"]


def test_middleware_is_checked(bus: Bus) -> None:
    """A topic that is not of this bus, and a middleware that would be skipped, are refused when the handler is attached."""

    class Elsewhere(BaseEventTopic):
        dead = auto()

    class OnlySync(Middleware):
        def handle(self, delivery: Delivery, call_next: HandleNext) -> object:
            return call_next(delivery)

    meter = Meter()
    with pytest.raises(InvalidTopic):
        bus.attach_callback(ShopType.closed, meter.handle, middleware=[DeadLetter(Elsewhere.dead)])
    with pytest.raises(InvalidHandler, match=r"the middleware .*OnlySync has only `handle`"):
        bus.attach_callback(ShopType.closed, meter.handle_async, middleware=[OnlySync()])


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 0},
        {"middleware": Middleware()},
        {"concurrency": "8"},
        {"key": len},
        {"key": "order", "concurrency": 2},
        {"where": True},
        {"middleware": [Middleware]},
    ],
    ids=" ".join,
)
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    """They are refused where they stand."""
    with pytest.raises(InvalidHandler):
        on(ShopType.paid, **options)


# What handlers return


def test_a_result_that_nobody_gets(bus: Bus) -> None:
    """A handler that says it returns an event is refused: nobody gets it. `@answers` may."""

    def reply(event: ShopEvent) -> Paid | None:
        return None

    with pytest.raises(InvalidHandler, match=r"reply returns Paid, which nobody gets: emit it, or mark .* with @answers"):
        bus.attach_callback(ShopType.closed, reply)
    bus.attach_callback(ShopType.closed, reply, answers=True)


def test_a_result_without_an_annotation(bus: Bus, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """One that returns an event and does not say so is warned of, once."""

    def reply(event: ShopEvent) -> Any:
        return event

    async def reply_async(event: ShopEvent) -> Any:
        return event

    bus.attach_callback(ShopType.closed, reply if kind == "handle" else reply_async)
    bus.attach_callback(ShopType.closed, reply if kind == "handle" else reply_async, concurrency=2)
    emit(bus, 1, 2, 3)
    eventually(lambda: bus.stats().handled == 6)
    bus.stop_consumer()
    assert caplog.text.count("returns ShopEvent, which nobody gets") == 1
