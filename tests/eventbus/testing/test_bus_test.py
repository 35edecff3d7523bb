"""bus_test: a container in memory, a test that knows when nothing is under way, and a clock that the test moves."""

import asyncio
import sys
import time
from collections.abc import Iterator
from enum import auto
from threading import Event, Thread
from time import monotonic
from typing import Any

import pytest
from dependency_injector import containers, providers
from pydantic import BaseModel

from eventbus import (
    BaseEvent,
    BaseEventTopic,
    BaseEventType,
    ClientState,
    EventBusClient,
    HandlerTimeout,
    InvalidEvent,
    NoAnswer,
    NobodyAnswers,
    RequestFailed,
    Retry,
    TimeLimit,
    current_headers,
    every,
    on,
)
from eventbus.container import AsyncService, RestartPolicy, Service, event_bus, lifespan
from eventbus.settings import EventBusSettings
from eventbus.testing import AsyncBusTest, BusTest, NotSettled, RecordingTransport, abus_test, bus_test
from tests.support import PATIENCE, eventually, is_waiting


class ShopType(BaseEventType):
    paid = auto()
    receipt = auto()
    closed = auto()


class ShopTopic(BaseEventTopic):
    shop = auto()
    mail = auto()


class ShopEvent(BaseEvent[ShopType]):
    amount: int = 0


Bus = EventBusClient[ShopEvent, ShopType, ShopTopic]


def paid(amount: int = 1) -> ShopEvent:
    return ShopEvent(type=ShopType.paid, amount=amount)


def receipt(amount: int) -> ShopEvent:
    return ShopEvent(type=ShopType.receipt, amount=amount)


class Refused(Exception):
    """The error that a handler raises."""


class Mailer:
    """Answers what is paid with a receipt, over two handlers, one of them async."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.failures = 0
        self.headers: list[str] = []

    @on(ShopType.paid, topic=ShopTopic.shop)
    async def on_paid(self, event: ShopEvent) -> None:
        self.headers += current_headers()
        await asyncio.sleep(0.01)
        if event.amount < 0:
            raise Refused(event.amount)
        self.bus.emit_event(receipt(event.amount), ShopTopic.mail)

    @on(ShopType.receipt, topic=ShopTopic.mail)
    def on_receipt(self, event: ShopEvent) -> None:
        if self.failures:
            self.failures -= 1
            raise Refused(event.amount)
        if event.amount > 1:
            self.bus.emit_event(receipt(event.amount - 1), ShopTopic.mail)


class App(containers.DeclarativeContainer):
    bus = event_bus(Bus)
    mailer = providers.Singleton(Mailer, bus=bus.client)


@pytest.fixture(autouse=True)
def _a_bus_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTBUS_HOST", "nowhere.invalid")
    monkeypatch.setenv("EVENTBUS_ENABLED", "false")


def test_emitting_returns_when_everything_is_done() -> None:
    """emit() waits for handlers, async ones, and what those emit; then the test asks what has happened."""
    with bus_test(App()) as t:
        t.emit(paid(3), ShopTopic.shop)
        assert t.emitted(ShopEvent, topic=ShopTopic.mail) == [receipt(3), receipt(2), receipt(1)]
        assert t.emitted(ShopType.receipt) == t.emitted() == t.emitted(ShopEvent)
        assert t.emitted(ShopType.paid) == []  # the test's own
        assert t.calls("Mailer.on_paid") == t.calls(t.container.mailer().on_paid) == 1
        assert t.calls("on_receipt") == 3
        t.forget()
        assert (t.emitted(), t.calls("on_receipt"), t.messages) == ([], 0, [])


def test_several_at_once() -> None:
    """Without settling, events are on their way together; settle() waits for all."""
    with bus_test(App()) as t:
        for _ in range(50):
            t.emit(paid(), ShopTopic.shop, settle=False, headers={"h": "1"})
        t.settle()
        assert t.calls("on_paid") == t.calls("on_receipt") == 50
        assert t.container.mailer().headers == ["h"] * 50


def test_a_bare_type_is_an_event() -> None:
    """Bare types are emitted, and found, as the events that they become."""
    with bus_test(App()) as t:
        t.emit(ShopType.paid, ShopTopic.shop)
        t.container.bus.client().emit_event(ShopType.closed, ShopTopic.shop)
        assert t.emitted(ShopType.closed) == [ShopEvent(type=ShopType.closed)]
        assert t.emitted(ShopType.receipt) == [receipt(0)]


def test_errors_of_handlers_reach_the_test() -> None:
    """emit() raises a handler's error, with a note that names the handler; several are a group."""
    with bus_test(App()) as t:
        with pytest.raises(Refused) as caught:
            t.emit(paid(-1), ShopTopic.shop)
        assert "Mailer.on_paid, which handled ShopEvent(" in caught.value.__notes__[0]
        t.emit(paid(-1), ShopTopic.shop, settle=False)
        t.emit(paid(-2), ShopTopic.shop, settle=False)
        with pytest.raises(ExceptionGroup) as group:
            t.settle()
        assert {error.args for error in group.value.exceptions} == {(-1,), (-2,)}
        assert t.calls("on_paid") == 3


def test_errors_at_the_end_reach_the_test() -> None:
    """The end of the block waits for everything that the test has not waited for."""
    with pytest.raises(Refused), bus_test(App()) as t:
        t.emit(paid(-1), ShopTopic.shop, settle=False)
    with pytest.raises(ZeroDivisionError), bus_test(App()) as t:  # not hidden by the handler's
        failing(t)


def failing(t: BusTest[App]) -> None:
    t.emit(paid(-1), ShopTopic.shop, settle=False)
    raise ZeroDivisionError


def test_errors_can_be_collected() -> None:
    """With errors="collect" they wait to be looked at."""
    with bus_test(App(), errors="collect") as t:
        t.emit(paid(-1), ShopTopic.shop)
        assert [type(error) for error in t.errors] == [Refused]
        assert len(t.errors) == 1


def test_a_name_that_no_handler_has() -> None:
    """A misspelt handler is no handler that was never called."""
    with bus_test(App()) as t:
        with pytest.raises(LookupError, match=r"no handlers are called Mailer.on_payed; there are .*Mailer.on_paid"):
            t.calls("Mailer.on_payed")
        with pytest.raises(LookupError):
            t.calls("paid")  # not a whole part of a name


def test_what_is_no_event_of_the_bus() -> None:
    """An event of another service's class is refused."""

    class Other(BaseEvent[ShopType]):
        pass

    with bus_test(App()) as t, pytest.raises(InvalidEvent):
        t.emit(Other(type=ShopType.paid), ShopTopic.shop)


def test_a_handler_that_hangs() -> None:
    """A handler that does not end in time is named."""
    go_on = Event()

    class Hanging:
        @on(ShopType.paid)
        def hang(self, event: ShopEvent) -> None:
            assert go_on.wait(PATIENCE)

    class HangingApp(App):
        hanging = providers.Singleton(Hanging)

    with bus_test(HangingApp(), patience=1.0) as t:
        with pytest.raises(
            NotSettled, match=r"a handler, or an event on its way to one \(.*Hanging.hang, test_bus_test.py:\d+\)"
        ):
            t.emit(paid(), ShopTopic.mail)
        go_on.set()


def test_an_async_handler_that_hangs() -> None:
    """One of a task is named, too, with the place where it waits."""
    go_on = Event()

    class Hanging:
        async def wait(self) -> None:
            while not go_on.is_set():
                await asyncio.sleep(0.01)

        @on(ShopType.paid)
        async def hang(self, event: ShopEvent) -> None:
            await self.wait()

    class HangingApp(App):
        hanging = providers.Singleton(Hanging)

    with bus_test(HangingApp(), patience=1.0) as t:
        with pytest.raises(NotSettled, match=r"Hanging.wait, test_bus_test.py:\d+"):
            t.emit(paid(), ShopTopic.mail)
        go_on.set()


def test_time_that_is_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patience ends although the module's names for the time are replaced, as freezegun does."""
    for module in [module for name, module in sys.modules.items() if name.startswith("eventbus.testing")]:
        for name, value in list(vars(module).items()):
            if value is time.monotonic:
                monkeypatch.setattr(module, name, lambda: 0.0)
    with bus_test(SlowApp()) as t:
        t.emit(ShopType.closed, ShopTopic.shop)
        t.container.slow().attempts = 3
        with pytest.raises(HandlerTimeout):
            t.advance(300)


def test_retries_wait_for_the_clock() -> None:
    """Pauses between attempts take no time but the clock's; a pause counts as nothing under way."""
    app = App()
    app.bus.middleware.override(providers.List(Retry(attempts=3, interval=60)))
    with bus_test(app) as t:
        t.container.mailer().failures = 2
        t.emit(receipt(0), ShopTopic.mail)
        assert t.calls("on_receipt") == 0
        t.advance(30 - 1)
        assert t.container.mailer().failures == 1
        t.advance(150)
        assert (t.container.mailer().failures, t.calls("on_receipt")) == (0, 1)
        assert t.clock.now() == 179


class Slow:
    """Has async handlers that fail, and that hang."""

    def __init__(self) -> None:
        self.attempts = 0

    @on(ShopType.paid)
    async def fail(self, event: ShopEvent) -> None:
        self.attempts += 1
        if self.attempts < 3:
            raise Refused

    @on(ShopType.closed)
    async def hang(self, event: ShopEvent) -> None:
        await asyncio.get_running_loop().create_future()


class SlowApp(containers.DeclarativeContainer):
    bus = event_bus(Bus, middleware=providers.List(Retry(attempts=3, interval=5), TimeLimit(90)))
    slow = providers.Singleton(Slow)


def test_async_handlers_wait_for_the_clock() -> None:
    """Retries and time limits of async handlers, too."""
    with bus_test(SlowApp()) as t:
        t.emit(paid(), ShopTopic.shop)
        assert t.container.slow().attempts == 1
        t.advance(20)
        assert t.container.slow().attempts == 3
        t.emit(ShopType.closed, ShopTopic.shop)
        assert t.calls("hang") == 0
        with pytest.raises(HandlerTimeout):
            t.advance(3 * 90 + 2 * 5)
        assert t.calls("hang") == 1


class Ticker(Service[ShopEvent, ShopType, ShopTopic]):
    """Emits each second, and fails at the third."""

    def __init__(self, bus: Bus) -> None:
        super().__init__(bus, restart=RestartPolicy(interval=100))
        self.ticks = 0

    def run(self) -> None:
        while not self.pause(1.0):
            self.ticks += 1
            if self.ticks == 3:
                raise Refused
            self.bus.emit_event(receipt(0), ShopTopic.mail)


class TickingApp(App):
    ticker = providers.Singleton(Ticker, bus=App.bus.client)


def test_services_wait_for_the_clock() -> None:
    """`pause` and restarts of a service, in order with everything else."""
    with bus_test(TickingApp()) as t, t.container.ticker() as ticker:
        t.advance(0.9)
        assert t.calls("on_receipt") == 0
        t.advance(1.2)
        assert t.calls("on_receipt") == len(t.emitted(ShopType.receipt)) == 2
        t.advance(100)
        assert ticker.ticks == 3
        t.advance(5)
        assert t.calls("on_receipt") == 2 + 4
    assert not ticker.is_alive


def test_a_service_that_reads_events_counts() -> None:
    """A service that waits for events is waited for, when there is one."""

    class Reader(Service[ShopEvent, ShopType, ShopTopic]):
        def __init__(self, bus: Bus) -> None:
            super().__init__(bus)
            self.amounts: list[int] = []

        def run(self) -> None:
            for event in self.bus.listen_forever():
                self.amounts.append(event.amount)

    class ReadingApp(App):
        reader = providers.Singleton(Reader, bus=App.bus.client)

    with bus_test(ReadingApp()) as t:
        reader = t.container.reader()
        reader.start()
        for amount in range(20):
            t.emit(receipt(amount), ShopTopic.mail)
            assert reader.amounts[-1] in (0, 1)  # on_receipt emits the smaller ones


def test_messages_get_lost_and_late() -> None:
    """Faults on purpose: messages of a topic are dropped, delayed, or held while the service is cut off."""
    with bus_test(App()) as t:
        with t.dropping(ShopTopic.mail) as dropped:
            t.emit(paid(), ShopTopic.shop)
        assert [message.topic for message in dropped] == ["mail"]
        assert (t.calls("on_paid"), t.calls("on_receipt"), len(t.emitted())) == (1, 0, 1)
        with t.delaying(5):
            t.emit(paid(), ShopTopic.shop)
        t.advance(4)
        assert t.calls("on_paid") == 1
        t.advance(1)
        assert (t.calls("on_paid"), t.calls("on_receipt")) == (2, 1)
        client = t.container.bus.client()
        with t.disconnected():
            assert str(client.state) == ClientState.DEGRADED
            assert not client.is_connected()
            t.emit(paid(), ShopTopic.shop)
            client.emit_event(receipt(0), ShopTopic.mail)
            t.settle()
            assert (t.calls("on_paid"), t.calls("on_receipt")) == (2, 1)
        assert client.state is ClientState.READY
        t.settle()
        assert (t.calls("on_paid"), t.calls("on_receipt")) == (3, 3)


def test_the_settings_are_the_defaults() -> None:
    """The environment does not matter; settings of the test's own do, and the overrides end with the block."""
    app = App()
    with bus_test(app) as t:
        assert app.bus.settings() == EventBusSettings.model_construct()
        assert t.container is app
    with bus_test(app, settings=EventBusSettings(enabled=True, receive_buffer=7)):
        assert app.bus.settings().receive_buffer == 7
    assert app.bus.settings().host == "nowhere.invalid"
    assert app.bus.transport() is None
    with lifespan(app) as running:
        assert type(running.bus.client()) is EventBusClient


def test_what_has_no_bus() -> None:
    """A container without a bus is no container to test this way."""
    with pytest.raises(TypeError, match="has no bus"), bus_test(containers.DeclarativeContainer()):
        pass


def test_what_cannot_be_tested() -> None:
    """A class is no container, a misspelt wish would hide errors, and a clock moves on by real numbers only."""
    with pytest.raises(TypeError, match=r"use App\(\)"):
        bus_test(App)  # type: ignore[type-var] # mypy knows it, too
    with pytest.raises(ValueError, match="errors='colect'"):
        bus_test(App(), errors="colect")  # type: ignore[arg-type] # mypy knows it, too
    with bus_test(App()) as t:
        for seconds in (-1, float("nan"), float("inf")):
            with pytest.raises(ValueError, match="advance"):
                t.advance(seconds)


def test_a_running_loop_wants_the_other_one() -> None:
    """On an event loop, waiting would stop the handlers."""

    async def main() -> None:
        with pytest.raises(RuntimeError, match="abus_test"), bus_test(App()):
            pass

    asyncio.run(main())


def test_one_at_a_time() -> None:
    """There is one clock. Another service joins by a transport of the same hub."""
    with bus_test(App()) as t:
        with pytest.raises(RuntimeError, match="RecordingTransport"), bus_test(App()):
            pass
        other = AskingApp()
        other.bus.transport.override(providers.Object(RecordingTransport(t.hub)))
        other.bus.settings.override(EventBusSettings(enabled=True))
        t.answer(ShopType.receipt, Price(cents=7))
        with lifespan(other):
            t.emit(paid(), ShopTopic.shop)
            eventually(lambda: other.asking().prices == [7])
        t.advance(1)


def test_async_tests() -> None:
    """abus_test runs async handlers on the test's loop, and its calls are awaited."""
    loops = []

    class Handlers:
        @on(ShopType.paid)
        async def on_paid(self, event: ShopEvent) -> None:
            loops.append(asyncio.get_running_loop())

    class AsyncApp(SlowApp):
        handlers = providers.Singleton(Handlers)

    async def main() -> None:
        async with abus_test(AsyncApp()) as t:
            await t.emit(paid(), ShopTopic.shop)
            assert t.calls("Handlers.on_paid") == 1
            assert t.container.slow().attempts == 1
            await t.advance(60)
            assert t.container.slow().attempts == 3
            await t.emit(ShopType.closed, ShopTopic.shop)
            with pytest.raises(HandlerTimeout):
                await t.advance(300)
        assert loops == [asyncio.get_running_loop()]

    asyncio.run(main())


def test_nothing_is_left() -> None:
    """Handlers and services that wait for the clock end with the block, and no thread stays."""
    before = {thread.name for thread in threads()}
    app = App()
    app.bus.middleware.override(providers.List(Retry(attempts=3, interval=60)))
    with bus_test(app, errors="collect") as t:
        t.container.mailer().failures = 100
        t.emit(receipt(0), ShopTopic.mail)
    assert {thread.name for thread in threads()} <= before


class Counting(Service[ShopEvent, ShopType, ShopTopic]):
    """Counts its rounds, and those of a method that is called periodically."""

    rounds = calls = 0

    def run(self) -> None:
        while not self.pause(60):
            self.rounds += 1

    @every(60)
    def call(self) -> None:
        self.calls += 1


def counting(bus: Bus) -> Iterator[Counting]:
    with Counting(bus) as service:
        yield service


class CountingApp(containers.DeclarativeContainer):
    bus = event_bus(Bus)
    # Stopped after a while: the clock has ended by then.
    counting = providers.Resource(counting, bus=bus.client)


def test_the_end_of_the_block_repeats_nothing() -> None:
    """What is done again and again, with pauses, is not done without pauses until it is stopped."""
    with bus_test(CountingApp()) as t:
        service = t.container.counting()
        t.advance(150)
        t.clock.end()  # as the end of the block does; the stop may take any time
        eventually(lambda: all(is_waiting(thread) for thread in threads() if "ounting" in thread.name))
        assert (service.rounds, service.calls) == (2, 3)
    assert (service.rounds, service.calls) == (2, 3)


def threads() -> Iterator[Thread]:
    import threading

    yield from threading.enumerate()


def test_checkers_know_what_was_emitted() -> None:
    """The class that is asked for is the class of the list."""
    with bus_test(App()) as t:
        events: list[ShopEvent] = t.emitted(ShopEvent)
        anything: list[BaseEvent[Any]] = t.emitted(ShopType.paid)
    assert events == anything == []


class Price(BaseModel):
    cents: int


class Asking:
    """Asks another service in its handlers, synchronously and not."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.prices: list[int] = []
        self.timeout = 2.0

    @on(ShopType.paid, topic=ShopTopic.shop)
    def on_paid(self, event: ShopEvent) -> None:
        self.prices.append(self.bus.request(receipt(event.amount), ShopTopic.mail, Price, self.timeout).cents)

    @on(ShopType.closed, topic=ShopTopic.shop)
    async def on_closed(self, event: ShopEvent) -> None:
        price = await self.bus.arequest(receipt(event.amount), ShopTopic.mail, Price, self.timeout)
        self.prices.append(price.cents)


class AskingApp(containers.DeclarativeContainer):
    bus = event_bus(Bus)
    asking = providers.Singleton(Asking, bus=bus.client)


def test_the_test_stands_in_for_a_service() -> None:
    """answer() answers requests: always the same, or what a function makes of the request."""
    with bus_test(AskingApp()) as t:
        t.answer(ShopType.receipt, Price(cents=7))
        t.emit(paid(), ShopTopic.shop)
        t.emit(ShopType.closed, ShopTopic.shop)
        assert t.container.asking().prices == [7, 7]
        assert t.emitted(ShopType.receipt) == [receipt(1), receipt(0)]
    with bus_test(AskingApp()) as t:
        t.answer(ShopType.receipt, lambda event: Price(cents=100 * event.amount), topic=ShopTopic.mail)
        for amount in range(10):
            t.emit(paid(amount), ShopTopic.shop)
            assert t.container.asking().prices[-1] == 100 * amount


def test_nobody_answers_or_fails() -> None:
    """Without it nobody answers; an exception is what the other side raises."""
    with bus_test(AskingApp()) as t:
        with pytest.raises(NobodyAnswers):
            t.emit(paid(), ShopTopic.shop)
        t.answer(ShopType.receipt, Refused("no"))
        with pytest.raises(RequestFailed, match="Refused: no"):
            t.emit(paid(), ShopTopic.shop)


def test_answers_on_a_loop() -> None:
    """The same with abus_test."""

    async def main() -> None:
        async with abus_test(AskingApp()) as t:
            t.answer(ShopType.receipt, Price(cents=7))
            await t.emit(ShopType.closed, ShopTopic.shop)
            await t.emit(paid(), ShopTopic.shop)
            assert t.container.asking().prices == [7, 7]

    asyncio.run(main())


@pytest.mark.parametrize("asks", [ShopType.paid, ShopType.closed], ids=["thread", "task"])
def test_the_clock_moves_time_limits_of_requests(asks: ShopType) -> None:
    """A request that nobody answers is over when the clock has moved on by its hour, and not before."""
    with bus_test(AskingApp(), errors="collect") as t, Bus(ShopEvent, transport=RecordingTransport(t.hub)) as silent:
        silent.subscribe(ShopTopic.mail)
        t.container.asking().timeout = 3_600.0
        t.emit(asks, ShopTopic.shop)
        t.advance(3_000)
        assert t.errors == []
        t.advance(600)
        (error,) = t.errors
        assert isinstance(error, NoAnswer)


def test_requests_of_the_test_keep_to_real_time() -> None:
    """A test that waits cannot move the clock meanwhile."""
    with bus_test(AskingApp()) as t, Bus(ShopEvent, transport=RecordingTransport(t.hub)) as silent:
        silent.subscribe(ShopTopic.mail)
        with pytest.raises(NoAnswer):
            silent.request(receipt(1), ShopTopic.mail, Price, 0.01)

    async def main() -> None:
        async with abus_test(AskingApp()) as t, Bus(ShopEvent, transport=RecordingTransport(t.hub)) as silent:
            silent.subscribe(ShopTopic.mail)
            with pytest.raises(NoAnswer):
                await silent.arequest(receipt(1), ShopTopic.mail, Price, 0.01)

    asyncio.run(main())


def test_requests_of_a_test_whose_block_began_in_a_fixture() -> None:
    """They keep to real time, too, although a fixture may be a task of its own."""

    async def test(t: AsyncBusTest[AskingApp]) -> None:
        async with Bus(ShopEvent, transport=RecordingTransport(t.hub)) as silent, asyncio.timeout(5):
            silent.subscribe(ShopTopic.mail)
            with pytest.raises(NoAnswer):
                await silent.arequest(receipt(1), ShopTopic.mail, Price, 0.01)

    async def main() -> None:
        async with abus_test(AskingApp()) as t:
            await asyncio.create_task(test(t))

    asyncio.run(main())


def test_the_end_of_a_test_ends_requests() -> None:
    """They do not take their time."""
    began = monotonic()
    with bus_test(AskingApp(), errors="collect") as t, Bus(ShopEvent, transport=RecordingTransport(t.hub)) as silent:
        silent.subscribe(ShopTopic.mail)
        t.container.asking().timeout = 60.0
        t.emit(paid(), ShopTopic.shop)
        t.emit(ShopType.closed, ShopTopic.shop)
    assert monotonic() - began < PATIENCE


class Buyer(Service[ShopEvent, ShopType, ShopTopic]):
    """Asks once."""

    price = 0

    def run(self) -> None:
        self.price = self.bus.request(receipt(1), ShopTopic.mail, Price).cents


class AsyncBuyer(AsyncService[ShopEvent, ShopType, ShopTopic]):
    """The same on a loop."""

    price = 0

    async def run(self) -> None:
        self.price = (await self.bus.arequest(receipt(1), ShopTopic.mail, Price)).cents


def test_a_service_that_asks_is_under_way() -> None:
    """From before its inbox is open until it has its answer."""

    async def main() -> None:
        async with abus_test(App()) as t:
            t.answer(ShopType.receipt, Price(cents=7))
            async with AsyncBuyer(t.container.bus.client()) as buyer:
                await t.settle()
                assert buyer.price == 7

    for _ in range(10):
        with bus_test(App()) as t:
            t.answer(ShopType.receipt, Price(cents=7))
            with Buyer(t.container.bus.client()) as buyer:
                t.settle()
                assert buyer.price == 7
        asyncio.run(main())


def test_a_thread_that_starts_another_one_does_not_wait() -> None:
    """However long the other one takes until it runs."""
    begun, go_on = Event(), Event()

    class Late(Thread):
        def _bootstrap(self) -> None:
            begun.set()
            go_on.wait(PATIENCE)
            super()._bootstrap()  # type: ignore[misc] # private, but there is no other way to be late

    starting = Thread(target=lambda: Late(target=str).start())
    starting.start()
    assert begun.wait(PATIENCE)
    assert not is_waiting(starting)
    go_on.set()
    starting.join(PATIENCE)
