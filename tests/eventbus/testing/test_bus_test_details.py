"""bus_test in less usual cases: order, several buses, small steps of the clock, handlers that start tasks and threads."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from enum import auto
from threading import Event, Lock

import pytest
from dependency_injector import containers, providers
from pydantic import BaseModel, PrivateAttr

from eventbus import (
    BaseEvent,
    BaseEventTopic,
    BaseEventType,
    EventBusClient,
    EventBusHook,
    InvalidTopic,
    NoAnswer,
    RequestFailed,
    TimeLimit,
    every,
    on,
)
from eventbus.container import AsyncService, RestartPolicy, Service, event_bus
from eventbus.testing import FaultyHub, ManualClock, NotSettled, RecordingTransport, abus_test, bus_test
from tests.support import PATIENCE


class DoorType(BaseEventType):
    opened = auto()
    rang = auto()
    asked = auto()


class DoorTopic(BaseEventTopic):
    door = auto()
    bell = auto()


class DoorEvent(BaseEvent[DoorType]):
    number: int = 0


class LampType(BaseEventType):
    lit = auto()


class LampEvent(BaseEvent[LampType]):
    pass


class Answer(BaseModel):
    text: str


Bus = EventBusClient[DoorEvent, DoorType, DoorTopic]
LampBus = EventBusClient[LampEvent, LampType, DoorTopic]


def opened(number: int = 0) -> DoorEvent:
    return DoorEvent(type=DoorType.opened, number=number)


def rang(number: int = 0) -> DoorEvent:
    return DoorEvent(type=DoorType.rang, number=number)


class Bell:
    """Rings for what is opened, and once more for that."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus

    @on(DoorType.opened, topic=DoorTopic.door)
    async def on_opened(self, event: DoorEvent) -> None:
        self.bus.emit_event(rang(2), DoorTopic.bell)

    @on(DoorType.rang, topic=DoorTopic.bell)
    def on_rang(self, event: DoorEvent) -> None:
        if event.number:
            self.bus.emit_event(rang(event.number - 1), DoorTopic.bell)


class App(containers.DeclarativeContainer):
    bus = event_bus(Bus)
    bell = providers.Singleton(Bell, bus=bus.client)


class HoldingBack(EventBusHook):
    """Holds the first thread that has emitted until another one has emitted because of that."""

    def __init__(self) -> None:
        self.another = Event()

    def emitted(self, topic: str, events: object, size: int) -> None:
        if events == (rang(2),):
            assert self.another.wait(PATIENCE)
        else:
            self.another.set()


def test_what_was_emitted_comes_before_its_consequences() -> None:
    """The order of emitted() is that of the messages, although another thread may be the first to note its own."""
    app = App()
    app.bus.hooks.override(providers.List(HoldingBack()))
    with bus_test(app) as t:
        t.emit(opened(), DoorTopic.door)
        assert t.emitted() == [rang(2), rang(1), rang(0)]


def test_messages_stand_before_those_that_they_have_caused() -> None:
    """The same for the messages of a transport: one of another thread was sent because of this one."""

    class Hub(FaultyHub):
        def send(self, topic: bytes, payload: bytes, *args: object, **more: object) -> bool:
            if payload == b"{1}":
                transport.send(b"t", b"{2}")
            return True

    transport = RecordingTransport(Hub())
    transport.open(0)
    transport.send(b"t", b"{1}")
    assert [message.json for message in transport.messages] == [b"{1}", b"{2}"]
    transport.close(0)


class Switch:
    """Emits on two buses in turns."""

    def __init__(self, bus: Bus, lamps: LampBus) -> None:
        self.bus = bus
        self.lamps = lamps

    @on(DoorType.opened, topic=DoorTopic.door)
    def on_opened(self, event: DoorEvent) -> None:
        self.bus.emit_event(rang(1), DoorTopic.bell)
        self.lamps.emit_event(LampType.lit, DoorTopic.bell)
        self.bus.emit_event(rang(2), DoorTopic.bell)


class TwoBuses(containers.DeclarativeContainer):
    bus = event_bus(Bus)
    lamps = event_bus(LampBus)
    switch = providers.Singleton(Switch, bus=bus.client, lamps=lamps.client)


def test_several_buses_have_one_order() -> None:
    """What the buses of a container emit is the oldest first, too."""
    with bus_test(TwoBuses()) as t:
        t.emit(opened(), DoorTopic.door)
        assert t.emitted() == [rang(1), LampEvent(type=LampType.lit), rang(2)]
        assert [message.json[:12] for message in t.messages] == [b'{"type":"ran', b'{"type":"lit', b'{"type":"ran']


def test_what_nobody_can_emit() -> None:
    """A test that looks for what is not of its service would find nothing, whatever that does."""

    class OtherTopic(BaseEventTopic):
        elsewhere = auto()

    with bus_test(App()) as t:
        with pytest.raises(LookupError, match=r"no bus of App has events of <LampType.lit: 'lit'>; there are DoorEvent"):
            t.emitted(LampType.lit)
        with pytest.raises(LookupError, match="LampEvent"):
            t.emitted(LampEvent)
        with pytest.raises(InvalidTopic, match=r"OtherTopic.elsewhere is no topic of this client"):
            t.emitted(topic=OtherTopic.elsewhere)
        with pytest.raises(InvalidTopic):
            t.emit(opened(), "door")  # type: ignore[arg-type] # mypy knows it, too
        assert t.emitted(BaseEvent) == []


def test_a_test_is_its_block() -> None:
    """Before and after it, and a second time, nothing would happen: that is told."""
    t = bus_test(App())
    for ask in (t.emitted, t.settle, lambda: t.emit(opened(), DoorTopic.door)):
        with pytest.raises(RuntimeError, match="not begun"):
            ask()
    with t:
        t.emit(opened(), DoorTopic.door)
    assert len(t.emitted()) == 3
    for ask in (t.settle, lambda: t.advance(1), lambda: t.emit(opened(), DoorTopic.door)):
        with pytest.raises(RuntimeError, match="has ended"):
            ask()
    with pytest.raises(RuntimeError, match="make another"), t:
        pass


class Sealed(DoorEvent):
    """An event that cannot be copied whole."""

    _lock: Lock = PrivateAttr(default_factory=Lock)


def test_events_that_cannot_be_copied() -> None:
    """They are found all the same."""
    with bus_test(App()) as t:
        t.container.bus.client().emit_event(Sealed(type=DoorType.rang), DoorTopic.bell)
        assert [type(event) for event in t.emitted(DoorType.rang)] == [Sealed]


# Standing in for others


class Asking:
    """Asks at the door, in several ways."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.answers: list[str] = []

    @on(DoorType.opened, topic=DoorTopic.door)
    def on_opened(self, event: DoorEvent) -> None:
        self.answers.append(self.bus.request(DoorType.asked, DoorTopic.bell, Answer).text)

    @on(DoorType.rang, topic=DoorTopic.door)
    async def on_rang(self, event: DoorEvent) -> None:
        await asyncio.gather(*(self.bus.arequest(DoorType.asked, DoorTopic.bell, Answer, 60) for _ in range(2)))

    @on(DoorType.asked, topic=DoorTopic.door)
    async def on_asked(self, event: DoorEvent) -> None:
        await asyncio.to_thread(self.bus.request, DoorType.asked, DoorTopic.bell, Answer, 60)


class AskingApp(containers.DeclarativeContainer):
    bus = event_bus(Bus)
    asking = providers.Singleton(Asking, bus=bus.client)


async def answer_later(event: DoorEvent) -> Answer:
    return Answer(text="an async one")


def test_an_answer_takes_the_place_of_an_earlier_one() -> None:
    """From then on, where it holds; functions may be async, and exceptions may be classes."""
    with bus_test(AskingApp()) as t:

        def asked() -> str:
            t.emit(opened(), DoorTopic.door)
            return t.container.asking().answers[-1]

        calls: list[DoorEvent] = []
        t.answer(DoorType.asked, calls.append)
        t.answer(DoorType.asked, Answer(text="first"))
        assert asked() == "first"
        t.answer(DoorType.asked, Answer(text="second"), topic=DoorTopic.bell)
        assert asked() == "second"
        t.answer(DoorType.asked, Answer(text="elsewhere"), topic=DoorTopic.door)
        assert asked() == "second"
        t.answer(DoorEvent, answer_later)
        assert asked() == "an async one"
        t.answer(DoorType.asked, ZeroDivisionError)
        with pytest.raises(RequestFailed, match="ZeroDivisionError"):
            asked()
        assert calls == []


@pytest.mark.parametrize("asks", [DoorType.rang, DoorType.asked], ids=["tasks", "thread"])
def test_requests_in_what_a_handler_has_started(asks: DoorType) -> None:
    """A handler that waits for tasks or threads of its own, which wait for answers, waits for the clock."""
    with bus_test(AskingApp(), errors="collect") as t, Bus(DoorEvent, transport=RecordingTransport(t.hub)) as silent:
        silent.subscribe(DoorTopic.bell)
        t.emit(asks, DoorTopic.door)
        t.advance(50)
        assert t.errors == []
        t.advance(10)
        assert [type(error) for error in t.errors] == [NoAnswer]


def test_a_loop_whose_threads_are_all_taken() -> None:
    """abus_test settles, and moves the clock, although no thread of the loop is left for it."""

    async def main() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        async with (
            abus_test(AskingApp(), errors="collect") as t,
            Bus(DoorEvent, transport=RecordingTransport(t.hub)) as silent,
        ):
            silent.subscribe(DoorTopic.bell)
            await t.emit(DoorType.asked, DoorTopic.door)
            await t.advance(60)
            assert [type(error) for error in t.errors] == [NoAnswer]

    asyncio.run(main())


def test_settling_can_be_cancelled() -> None:
    """What it would have raised is raised by the next one."""
    go_on = Event()

    class Slow:
        @on(DoorType.opened, topic=DoorTopic.door)
        def fail(self, event: DoorEvent) -> None:
            assert go_on.wait(PATIENCE)
            raise ZeroDivisionError

    class SlowApp(containers.DeclarativeContainer):
        bus = event_bus(Bus)
        slow = providers.Singleton(Slow)

    async def main() -> None:
        async with abus_test(SlowApp()) as t:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await t.emit(opened(), DoorTopic.door)
            go_on.set()
            with pytest.raises(ZeroDivisionError):
                await t.settle()

    asyncio.run(main())


# The clock


class Ticking(Service[DoorEvent, DoorType, DoorTopic]):
    """Counts each tenth of a second in two ways."""

    pauses = calls = 0

    def run(self) -> None:
        while not self.pause(0.1):
            self.pauses += 1

    @every(0.1)
    def call(self) -> None:
        self.calls += 1


class TickingApp(containers.DeclarativeContainer):
    bus = event_bus(Bus)
    ticking = providers.Singleton(Ticking, bus.client)


@pytest.mark.parametrize("steps", [[0.1] * 10, [0.3, 0.7], [1.0], [0.7, 0.2, 0.1]], ids=str)
def test_small_steps_make_a_large_one(steps: list[float]) -> None:
    """Ten tenths are one second, which they are not as a sum of floats."""
    with bus_test(TickingApp()) as t, t.container.ticking() as ticking:
        for step in steps:
            t.advance(step)
            assert ticking.pauses == round(t.clock.now() * 10)
        assert (t.clock.now(), ticking.pauses, ticking.calls) == (1.0, 10, 11)


class Buying(AsyncService[DoorEvent, DoorType, DoorTopic]):
    """Asks twice at once, in tasks of its own."""

    has_failed = False

    async def run(self) -> None:
        try:
            await asyncio.gather(*(self.bus.arequest(DoorType.asked, DoorTopic.bell, Answer, 3_600) for _ in range(2)))
        except NoAnswer:
            self.has_failed = True


def test_requests_of_a_service_wait_for_the_clock() -> None:
    """Those of its tasks, too, and not those of the test."""

    async def main() -> None:
        async with (
            abus_test(App()) as t,
            Bus(DoorEvent, transport=RecordingTransport(t.hub)) as silent,
            Buying(t.container.bus.client()) as buying,
        ):
            silent.subscribe(DoorTopic.bell)
            await t.advance(3_500)
            assert not buying.has_failed
            await t.advance(100)
            assert buying.has_failed

    asyncio.run(main())


class Failing(AsyncService[DoorEvent, DoorType, DoorTopic]):
    """Fails three times."""

    runs = 0

    async def run(self) -> None:
        self.runs += 1
        if self.runs <= 3:
            raise ZeroDivisionError


def test_restarts_of_an_async_service_wait_for_the_clock() -> None:
    """One step of the test is as many of the service as there are pauses in it."""

    async def main() -> None:
        restart = RestartPolicy(interval=10, max_interval=10)
        async with abus_test(App()) as t, Failing(t.container.bus.client(), restart=restart) as failing:
            await t.advance(50)
            assert failing.runs == 4

    asyncio.run(main())


class Computing:
    """Takes its time, without waiting."""

    def __init__(self) -> None:
        self.ended = 0

    @on(DoorType.opened, topic=DoorTopic.door)
    async def compute(self, event: DoorEvent) -> None:
        for _ in range(2):
            began = time.monotonic()
            while time.monotonic() < began + 0.25:
                pass
            await asyncio.sleep(0)
        self.ended += 1


class ComputingApp(containers.DeclarativeContainer):
    bus = event_bus(Bus, middleware=providers.List(TimeLimit(60)))
    computing = providers.Singleton(Computing)


def test_a_handler_that_computes_under_a_time_limit() -> None:
    """It does not wait, so it is waited for, however long it takes."""
    with bus_test(ComputingApp()) as t:
        t.emit(opened(), DoorTopic.door)
        assert t.container.computing().ended == 1


def test_a_loop_that_ends_before_it_has_gone_on() -> None:
    """What was woken on it is not under way any more."""
    clock, loop = ManualClock(), asyncio.new_event_loop()
    task = loop.create_task(clock.sleep_async(5))
    loop.run_until_complete(asyncio.sleep(0))
    assert clock.fire_next(5)
    assert clock.is_waking_tasks()
    loop.run_until_complete(task)
    loop.close()
    assert not clock.is_waking_tasks()


class Polling(Service[DoorEvent, DoorType, DoorTopic]):
    """Waits by the system's clock."""

    def run(self) -> None:
        while not self.stopping:
            time.sleep(0.02)


class PollingApp(App):
    polling = providers.Singleton(Polling, App.bus.client)


def test_a_service_that_waits_otherwise() -> None:
    """A thread that does nothing, and does not wait by the clock, is not waited for long."""
    with bus_test(PollingApp()) as t, t.container.polling():
        t.emit(opened(), DoorTopic.door)
        assert len(t.emitted()) == 3


# Faults


def test_more_events_than_there_is_room_for() -> None:
    """The one that the service's queue does not take in time is not lost without a word."""
    entered, go_on = Event(), Event()

    class Slow:
        @on(DoorType.opened, topic=DoorTopic.door)
        def wait(self, event: DoorEvent) -> None:
            entered.set()
            assert go_on.wait(PATIENCE)

    class SlowApp(containers.DeclarativeContainer):
        bus = event_bus(Bus)
        slow = providers.Singleton(Slow)

    with bus_test(SlowApp(), patience=0.5) as t:
        t.container.bus.client()._transport._member._limit = 3  # type: ignore[attr-defined] # of one in memory
        t.emit(opened(), DoorTopic.door, settle=False)
        assert entered.wait(PATIENCE)
        for _ in range(3):
            t.emit(opened(), DoorTopic.door, settle=False)
        with pytest.raises(NotSettled, match="has room for"):
            t.emit(opened(), DoorTopic.door, settle=False)
        go_on.set()


def test_what_is_late_at_the_end_never_comes() -> None:
    """A message that is delayed beyond the end of the block is not handled by the service that stops."""
    with bus_test(App()) as t, t.delaying(5):
        t.emit(opened(), DoorTopic.door)
    assert t.calls("on_opened") == 0


def test_dropped_messages_count_their_events() -> None:
    """Also those of several events; of two blocks the outer one has them."""
    with bus_test(App()) as t:

        def send() -> None:
            t.container.bus.client().emit_events([rang(), rang(), rang()], DoorTopic.bell)
            t.settle()

        with t.dropping(DoorTopic.bell) as outer:
            with t.dropping(DoorTopic.bell) as inner:
                pass
            send()
        assert ([message.count for message in outer], inner, t.calls("on_rang")) == ([3], [], 0)
        send()
        assert t.calls("on_rang") == 3
