"""Request and reply, as users see it, on each transport."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from enum import auto
from threading import Barrier, Event, Thread
from typing import Any, assert_type

import pytest
from pydantic import BaseModel, JsonValue, TypeAdapter

from eventbus import (
    Answers,
    BaseEvent,
    BaseEventTopic,
    BaseEventType,
    DeadLetter,
    Delivery,
    DropReason,
    Emission,
    EventBusClient,
    EventBusHistorian,
    EventBusProxy,
    Middleware,
    Retry,
    answers,
    current_headers,
    on,
)
from eventbus.errors import InvalidAnswer, InvalidHandler, NoAnswer, NobodyAnswers, NotConnected, RequestFailed
from eventbus.handle.middleware import EmitNext, HandleNext
from eventbus.transports.contract import Transport
from eventbus.transports.memory import MemoryHub, MemoryTransport
from eventbus.transports.nats.core import CoreTransport
from eventbus.transports.nats.jetstream import JetStreamTransport
from eventbus.transports.zeromq import ZeroMQOptions, ZeroMQTransport
from tests.nats import Server, running
from tests.support import PATIENCE, eventually, in_thread, run_threads

SHORT = 0.5  # seconds that are meant to be used up; the first request of a client connects in this time, too


class ShopType(BaseEventType):
    price_wanted = auto()
    ping = auto()


class ShopTopic(BaseEventTopic):
    prices = auto()
    all = auto()
    nobody = auto()
    dead = auto()


class ShopEvent(BaseEvent[ShopType]):
    sku: str = ""


class Price(BaseModel):
    amount: int


Shop = EventBusClient[ShopEvent, ShopType, ShopTopic]
type Make = Callable[..., Shop]


def wanted(sku: str = "x") -> ShopEvent:
    return ShopEvent(type=ShopType.price_wanted, sku=sku)


class Prices:
    """Answers with the length of the sku; counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    @answers(ShopType.price_wanted, topic=ShopTopic.prices)
    def price(self, event: ShopEvent) -> Price:
        self.calls += 1
        if event.sku == "bad":
            raise LookupError("no such sku: bad")
        return Price(amount=len(event.sku))


class AsyncPrices:
    """The same as coroutines."""

    @answers(ShopType.price_wanted, topic=ShopTopic.prices)
    async def price(self, event: ShopEvent) -> Price:
        await asyncio.sleep(0)
        if event.sku == "bad":
            raise LookupError("no such sku: bad")
        return Price(amount=len(event.sku))


@pytest.fixture(scope="module")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests of this module, each of which has a bus of its own there."""
    with running(tmp_path_factory.mktemp("nats")) as server:
        yield server


def over_zeromq(stack: ExitStack, _: pytest.FixtureRequest) -> Callable[[], Transport]:
    proxy = stack.enter_context(EventBusProxy(pub_port=0, sub_port=0))
    return lambda: ZeroMQTransport("127.0.0.1", proxy.pub_port, proxy.sub_port)


def in_memory(stack: ExitStack, _: pytest.FixtureRequest) -> Callable[[], Transport]:
    hub = MemoryHub()
    return lambda: MemoryTransport(hub)


def over_nats(stack: ExitStack, request: pytest.FixtureRequest) -> Callable[[], Transport]:
    options = stack.enter_context(request.getfixturevalue("nats_server").stream())
    return lambda: CoreTransport(options, ZeroMQOptions())


def over_jetstream(stack: ExitStack, request: pytest.FixtureRequest) -> Callable[[], Transport]:
    options = stack.enter_context(request.getfixturevalue("nats_server").stream())
    return lambda: JetStreamTransport(options, ZeroMQOptions())


@pytest.fixture(
    params=[
        over_zeromq,
        in_memory,
        pytest.param(over_nats, marks=pytest.mark.process),
        pytest.param(over_jetstream, marks=pytest.mark.process),
    ],
    ids=["zeromq", "memory", "nats", "jetstream"],
)
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes connected clients that hear each other, and closes them."""
    with ExitStack() as stack:
        transport = request.param(stack, request)

        def make(service: object = None, **options: Any) -> Shop:
            client = Shop(ShopEvent, transport=transport(), **options)
            client.connect(PATIENCE)
            stack.callback(client.close)
            if service is not None:
                client.attach_handlers(service)
                client.start_consumer()
            return client

        yield make


def test_a_request_gets_what_the_handler_returns(make: Make) -> None:
    """request() returns the handler's value as the class that was asked for, from the very first one on."""
    prices = Prices()
    make(prices)
    bus = make()
    price = bus.request(wanted("abc"), topic=ShopTopic.prices, reply=Price, timeout=PATIENCE)
    assert_type(price, Price)
    assert price == Price(amount=3)
    assert bus.request(wanted(""), topic=ShopTopic.prices, reply=Price, timeout=PATIENCE) == Price(amount=0)
    assert prices.calls == 2


@pytest.mark.parametrize("again", range(10))
def test_the_first_answer_of_an_answerer_arrives(make: Make, again: int) -> None:
    """Neither the asker's first request nor the first answer to a new asker is lost."""
    make(Prices())
    assert make().request(wanted(), topic=ShopTopic.prices, reply=Price, timeout=PATIENCE) == Price(amount=1)


def test_async_handlers_answer(make: Make) -> None:
    """So do coroutines, with their errors."""
    make(AsyncPrices())
    bus = make()
    assert bus.request(wanted("ab"), topic=ShopTopic.prices, reply=Price, timeout=PATIENCE) == Price(amount=2)
    with pytest.raises(RequestFailed, match="LookupError: no such sku: bad"):
        bus.request(wanted("bad"), topic=ShopTopic.prices, reply=Price, timeout=PATIENCE)


def test_a_coroutine_that_nobody_declares(make: Make) -> None:
    """A function that returns a coroutine without saying that it is async has no answer: it fails, with the remedy."""
    service, bus = make(), make()
    service.subscribe(ShopTopic.prices)
    service.attach_callback(ShopType.price_wanted, lambda event: AsyncPrices().price(event), answers=True)
    service.start_consumer()
    with pytest.raises(RequestFailed, match=r"InvalidHandler: .*markcoroutinefunction"):
        bus.request(wanted(), topic=ShopTopic.prices, reply=Price, timeout=PATIENCE)


def test_answers_of_any_class(make: Make) -> None:
    """Whatever pydantic can write and read may be an answer, also what is no JSON object; and a bare type may be asked."""
    given: list[object] = [None, 1.5, "text", [1, 2], {"a": [Price(amount=1)]}, True]

    def answer(_: ShopEvent) -> object:
        return given[0]

    service, bus = make(), make()
    service.subscribe(ShopTopic.all)
    service.attach_callback(ShopType.ping, answer, topic=ShopTopic.all, answers=True)
    service.start_consumer()

    def ask[Reply](reply: type[Reply] | TypeAdapter[Reply]) -> Reply:
        answered = bus.request(ShopType.ping, topic=ShopTopic.all, reply=reply, timeout=PATIENCE)
        given.pop(0)
        return answered

    assert ask(type(None)) is None
    assert ask(float) == 1.5
    assert ask(str) == "text"
    assert ask(list[int]) == [1, 2]
    assert ask(TypeAdapter(dict[str, list[Price]])) == {"a": [Price(amount=1)]}
    assert ask(bool) is True


def test_large_answers_are_compressed_and_limited(make: Make) -> None:
    """An answer is compressed as an event is, and one that is too large says so instead."""
    size = 100_000

    def answer(_: ShopEvent) -> str:
        return "x" * size

    service, bus = make(compression="zlib", max_event_bytes=200_000), make()
    strict, frugal = make(max_event_bytes=1_000), make(max_event_values=10)
    service.subscribe(ShopTopic.all)
    service.attach_callback(ShopType.ping, answer, answers=True)
    service.start_consumer()
    assert bus.request(ShopType.ping, topic=ShopTopic.all, reply=str, timeout=PATIENCE) == "x" * size
    with pytest.raises(InvalidAnswer, match="EVENTBUS_MAX_EVENT_BYTES"):
        strict.request(ShopType.ping, topic=ShopTopic.all, reply=str, timeout=PATIENCE)
    service.attach_callback(ShopType.price_wanted, lambda _: list(range(100)), answers=True)
    with pytest.raises(InvalidAnswer, match="EVENTBUS_MAX_EVENT_VALUES"):
        frugal.request(wanted(), topic=ShopTopic.all, reply=list[int], timeout=PATIENCE)
    size = 300_000
    with pytest.raises(RequestFailed, match="EventTooLarge"):
        bus.request(ShopType.ping, topic=ShopTopic.all, reply=str, timeout=PATIENCE)


# Errors


def test_the_error_of_a_handler_travels(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """RequestFailed says what the handler has raised, without a traceback, and the answerer logs and counts it as ever."""
    service, bus = make(Prices()), make()
    with pytest.raises(RequestFailed) as raised:
        bus.request(wanted("bad"), topic=ShopTopic.prices, reply=Price, timeout=PATIENCE)
    error = raised.value
    assert (error.topic, error.event_type) == ("prices", "price_wanted")
    assert (error.error_type, error.error_text) == ("LookupError", "no such sku: bad")
    assert "Traceback" not in str(error)
    eventually(lambda: service.stats().handler_errors == 1)
    assert "Prices.price failed" in caplog.text


def test_nobody_answers_at_once(make: Make, request: pytest.FixtureRequest) -> None:
    """Where nobody subscribes the request is not even sent, however long it might wait."""
    if "jetstream" in request.node.name:
        pytest.skip("a stream keeps what nobody subscribes to")
    bus = make()
    with pytest.raises(NobodyAnswers) as raised:
        bus.request(wanted(), topic=ShopTopic.nobody, reply=Price, timeout=3_600)
    assert (raised.value.topic, raised.value.event_type) == ("nobody", "price_wanted")
    assert bus.request_all(wanted(), topic=ShopTopic.nobody, timeout=3_600) == []
    assert bus.stats().emitted == 0
    make(Prices())
    assert bus.request(wanted(), topic=ShopTopic.prices, reply=Price, timeout=PATIENCE) == Price(amount=1)


def test_who_only_watches_does_not_count(make: Make, request: pytest.FixtureRequest) -> None:
    """A historian is no answerer; a client that subscribes to all topics may be one."""
    if "zeromq" not in request.node.name and "memory" not in request.node.name:
        pytest.skip("a NATS server does not tell who subscribes to all")
    bus = make()
    historian = EventBusHistorian(bus._transport.sibling())
    with historian:
        assert bus.last(ShopTopic.nobody) is None
        with pytest.raises(NobodyAnswers):
            bus.request(wanted(), topic=ShopTopic.nobody, reply=Price, timeout=3_600)
        listener = make()
        listener.subscribe(None)
        with pytest.raises(NoAnswer):
            bus.request(wanted(), topic=ShopTopic.nobody, reply=Price, timeout=SHORT)
        listener.unsubscribe(None)
        eventually(lambda: bus.request_all(wanted(), topic=ShopTopic.nobody, timeout=0.05) == [], PATIENCE)
        assert bus.last(ShopTopic.nobody) is not None


def test_a_subscriber_that_does_not_answer(make: Make) -> None:
    """If somebody subscribes, but nobody answers this type, the request times out; handlers with @on run as ever."""
    seen: list[ShopEvent] = []

    class Listener:
        @on(ShopType.price_wanted, topic=ShopTopic.prices)
        def seen(self, event: ShopEvent) -> int:
            seen.append(event)
            return 1

    make(Listener())
    bus = make()
    with pytest.raises(NoAnswer) as raised:
        bus.request(wanted(), topic=ShopTopic.prices, reply=Price, timeout=SHORT)
    assert isinstance(raised.value, TimeoutError)
    assert (raised.value.topic, raised.value.event_type, raised.value.timeout) == ("prices", "price_wanted", SHORT)
    eventually(lambda: seen == [wanted()])


def test_an_answer_of_another_class(make: Make) -> None:
    """InvalidAnswer says what is wrong with it."""
    make(Prices())
    with pytest.raises(InvalidAnswer, match="is no list") as raised:
        make().request(wanted(), topic=ShopTopic.prices, reply=list[int], timeout=PATIENCE)
    assert raised.value.reply == "list[int]"


def test_what_cannot_be_written(make: Make) -> None:
    """A handler that returns what is no JSON has failed."""
    service, bus = make(), make()
    service.subscribe(ShopTopic.all)
    service.attach_callback(ShopType.ping, lambda _: object(), answers=True)
    service.start_consumer()
    with pytest.raises(RequestFailed, match="InvalidEvent"):
        bus.request(ShopType.ping, topic=ShopTopic.all, reply=str, timeout=PATIENCE)


def test_a_mark_is_checked() -> None:
    """@answers takes what @on takes."""
    with pytest.raises(InvalidHandler, match="@answers needs members"):
        answers()
    with pytest.raises(InvalidHandler, match="@answers cannot mark"):
        answers(ShopType.ping)(Price)


# Who answers


def test_an_event_that_is_no_request_is_handled(make: Make) -> None:
    """An @answers handler gets ordinary events as well, and nothing is sent for them."""
    prices = Prices()
    service, bus = make(prices), make()
    bus.emit_event(wanted(), ShopTopic.prices)
    eventually(lambda: prices.calls == 1)
    assert service.stats().emitted == 0


def test_the_first_answer_wins_and_others_are_counted(make: Make) -> None:
    """Of several answers, the first is returned, and the others count as dropped."""
    for _ in range(3):
        make(Prices())
    bus = make()
    bus.request_all(wanted(), topic=ShopTopic.prices, timeout=PATIENCE, at_most=3)  # until all three are known here
    assert bus.request(wanted("abc"), topic=ShopTopic.prices, reply=Price, timeout=PATIENCE) == Price(amount=3)
    eventually(lambda: bus.stats().drops.get(DropReason.UNWANTED_ANSWER) == 2)
    assert bus.stats().dropped == 2


def test_all_answer(make: Make) -> None:
    """request_all() returns all answers that come in time; those of handlers that have failed are kept apart."""

    class Failing:
        @answers(ShopType.price_wanted, topic=ShopTopic.prices)
        def price(self, event: ShopEvent) -> Price:
            raise RuntimeError("out of order")

    for service in (Prices(), AsyncPrices(), Failing()):
        make(service)
    bus = make()
    found = bus.request_all(wanted("ab"), topic=ShopTopic.prices, reply=Price, timeout=PATIENCE, at_most=3)
    assert_type(found, Answers[Price])
    assert found == [Price(amount=2)] * 2
    (failure,) = found.failures
    assert isinstance(failure, RequestFailed)
    assert failure.error_text == "out of order"
    plain = bus.request_all(wanted("ab"), topic=ShopTopic.prices, timeout=PATIENCE, at_most=3)
    assert_type(plain, Answers[JsonValue])
    assert plain == [{"amount": 2}] * 2


def test_no_answer_is_not_waited_for(make: Make) -> None:
    """With `at_most=0` the request is sent, and nothing is waited for."""
    prices, found = Prices(), list[Answers[JsonValue]]()
    make(prices)
    bus = make()

    async def ask(at_most: int) -> None:
        found.append(await bus.arequest_all(wanted(), topic=ShopTopic.prices, timeout=3600, at_most=at_most))

    def ask_for_none() -> None:
        for at_most in (0, -1):
            found.append(bus.request_all(wanted(), topic=ShopTopic.prices, timeout=3600, at_most=at_most))
            asyncio.run(ask(at_most))

    with in_thread(ask_for_none):
        eventually(lambda: found == [[]] * 4 and prices.calls == 4)


def test_a_handler_may_ask(make: Make) -> None:
    """A handler on the consumer's thread asks another service, over the client that has called it, and gets the answer."""
    make(Prices())

    class Asking:
        @answers(ShopType.ping, topic=ShopTopic.all)
        def ping(self, event: ShopEvent) -> Price:
            assert threading.current_thread().name == "eventbus-consumer"
            inner = asking.request(wanted("abcd"), topic=ShopTopic.prices, reply=Price, timeout=PATIENCE)
            return Price(amount=inner.amount + 1)

    asking = make(Asking())
    assert make().request(ShopType.ping, topic=ShopTopic.all, reply=Price, timeout=PATIENCE) == Price(amount=5)


def test_a_client_may_ask_itself(make: Make) -> None:
    """A service answers requests of its own client, too, from any thread but that of its handlers."""
    bus = make(Prices())
    assert bus.request(wanted(), topic=ShopTopic.prices, reply=Price, timeout=PATIENCE) == Price(amount=1)


def test_handlers_that_run_at_once_answer(make: Make) -> None:
    """With `concurrency`, each request is answered with its own answer, from threads and from the loop."""
    together = Barrier(4)

    class Service:
        @answers(ShopType.price_wanted, topic=ShopTopic.prices, concurrency=4)
        def price(self, event: ShopEvent) -> Price:
            together.wait(PATIENCE)
            return Price(amount=len(event.sku))

        @answers(ShopType.ping, topic=ShopTopic.prices, concurrency=4, where=lambda event: event.sku != "odd")
        async def ping(self, event: ShopEvent) -> int:
            await asyncio.sleep(0.001 * (10 - len(event.sku)))
            return len(event.sku)

    make(Service())
    bus = make()

    async def ask() -> None:
        prices = [
            bus.arequest(wanted("x" * length), topic=ShopTopic.prices, reply=Price, timeout=PATIENCE) for length in range(8)
        ]
        pings = [
            bus.arequest(
                ShopEvent(type=ShopType.ping, sku="x" * length), topic=ShopTopic.prices, reply=int, timeout=PATIENCE
            )
            for length in range(8)
        ]
        assert [price.amount for price in await asyncio.gather(*prices)] == list(range(8))
        assert await asyncio.gather(*pings) == list(range(8))

    asyncio.run(ask())
    with pytest.raises(NoAnswer):
        bus.request(ShopEvent(type=ShopType.ping, sku="odd"), topic=ShopTopic.prices, reply=int, timeout=SHORT)


# Middleware


def test_a_retry_answers_once(make: Make) -> None:
    """What middleware makes of a handler's failures counts: only the attempt that succeeds is answered."""
    attempts = 0

    class Flaky:
        @answers(ShopType.ping, topic=ShopTopic.all)
        def ping(self, event: ShopEvent) -> int:
            nonlocal attempts
            attempts += 1
            if attempts < 3:
                raise RuntimeError("not yet")
            return attempts

    make(Flaky(), middleware=[Retry(attempts=3, interval=0.001)])
    bus = make()
    assert bus.request(ShopType.ping, topic=ShopTopic.all, reply=int, timeout=PATIENCE) == 3
    assert bus.stats().dropped == 0


def test_a_dead_letter_is_a_failure(make: Make) -> None:
    """A middleware that takes care of the error does not hide it from the asker."""

    class Failing:
        @answers(ShopType.ping, topic=ShopTopic.all)
        def ping(self, event: ShopEvent) -> int:
            raise RuntimeError("broken")

    make(Failing(), middleware=[DeadLetter(ShopTopic.dead)])
    letters = make()
    letters.subscribe(ShopTopic.dead)
    headers: list[dict[str, str]] = []
    letters.attach_callback(ShopType.ping, lambda _: headers.append(dict(current_headers())), answers=True)
    letters.start_consumer()
    with pytest.raises(RequestFailed, match="RuntimeError: broken"):
        make().request(ShopType.ping, topic=ShopTopic.all, reply=int, timeout=PATIENCE)
    eventually(lambda: headers)
    assert "reply-to" not in headers[0]
    assert letters.stats().emitted == 0


def test_middleware_sees_requests_and_cannot_break_them(make: Make) -> None:
    """Middleware around emitting gets requests with their headers, and may use headers of the same names itself."""
    seen: list[set[str]] = []

    class Correlation(Middleware):
        def emit(self, emission: Emission, call_next: EmitNext) -> None:
            seen.append(set(emission.headers))
            call_next(replace(emission, headers={"correlation-id": "mine", "other": "x"}))

    found: list[str] = []

    class Service:
        @answers(ShopType.ping, topic=ShopTopic.all)
        def ping(self, event: ShopEvent) -> int:
            found.append(current_headers()["other"])
            return 1

    make(Service(), middleware=[Correlation()])
    bus = make(middleware=[Correlation()])
    assert bus.request(ShopType.ping, topic=ShopTopic.all, reply=int, timeout=PATIENCE) == 1
    assert seen == [{"reply-to", "correlation-id"}]
    assert found == ["x"]


def test_what_middleware_filters_is_not_answered(make: Make) -> None:
    """A handler that is not called answers nothing."""

    class Filter(Middleware):
        def handle(self, delivery: Delivery, call_next: HandleNext) -> object:
            return None

    make(Prices(), middleware=[Filter()])
    with pytest.raises(NoAnswer):
        make().request(wanted(), topic=ShopTopic.prices, reply=Price, timeout=SHORT)


# Many at once, cancelling, closing


def test_thousands_at_once(make: Make) -> None:
    """Each of thousands of requests that are under way at once gets its own answer; the loop that asks is not blocked."""
    make(Prices())
    bus = make()

    async def ask() -> None:
        async def one(length: int) -> None:
            price = await bus.arequest(wanted("x" * length), topic=ShopTopic.prices, reply=Price, timeout=PATIENCE)
            assert price.amount == length

        async with asyncio.TaskGroup() as group:
            for number in range(3_000):
                group.create_task(one(number % 100))

    asyncio.run(ask())
    asyncio.run(ask())  # another loop


def test_from_many_threads(make: Make) -> None:
    """Threads that ask at once, the first time too, each get their own answers."""
    make(Prices())
    bus = make()

    def ask(thread: int) -> None:
        for number in range(50):
            length = 10 * thread + number
            price = bus.request(wanted("x" * length), topic=ShopTopic.prices, reply=Price, timeout=PATIENCE)
            assert price.amount == length

    run_threads(4, ask)


class Slow:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked, self.go_on = Event(), Event()

    @answers(ShopType.ping, topic=ShopTopic.all)
    def ping(self, event: ShopEvent) -> int:
        self.asked.set()
        assert self.go_on.wait(PATIENCE)
        return 1


def test_a_cancelled_request_leaves_nothing(make: Make) -> None:
    """A task that is cancelled while it waits ends at once; the answer that comes later is dropped and counted."""
    slow = Slow()
    make(slow)
    bus = make()

    async def ask() -> None:
        task = asyncio.create_task(bus.arequest(ShopType.ping, topic=ShopTopic.all, reply=int, timeout=PATIENCE))
        await asyncio.to_thread(slow.asked.wait, PATIENCE)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(ask())
    slow.go_on.set()
    eventually(lambda: bus.stats().drops.get(DropReason.UNWANTED_ANSWER) == 1)


def test_closing_ends_requests_at_once(make: Make) -> None:
    """close() makes whoever waits for an answer raise NotConnected, in threads, in handlers and on loops."""
    slow = Slow()
    make(slow)
    bus = make()
    raised: list[BaseException] = []

    def ask() -> None:
        with pytest.raises(NotConnected):
            bus.request(ShopType.ping, topic=ShopTopic.all, reply=int, timeout=3_600)
        raised.append(NotConnected(""))

    async def ask_on_loop() -> None:
        with pytest.raises(NotConnected):
            await bus.arequest(ShopType.ping, topic=ShopTopic.all, reply=int, timeout=3_600)
        with pytest.raises(NotConnected):
            await bus.arequest(ShopType.ping, topic=ShopTopic.all, reply=int, timeout=3_600)

    with in_thread(ask), in_thread(lambda: asyncio.run(ask_on_loop())):
        eventually(lambda: bus.stats().emitted == 2)
        bus.close()
    slow.go_on.set()
    with pytest.raises(NotConnected):
        bus.request(ShopType.ping, topic=ShopTopic.all, reply=int)
    bus.connect(PATIENCE)
    assert bus.request(ShopType.ping, topic=ShopTopic.all, reply=int, timeout=PATIENCE) == 1


def test_requests_made_while_it_closes_end_too(make: Make) -> None:
    """Nor does a request wait that is made while close() waits for a handler."""
    slow, entered, go_on = Slow(), Event(), Event()

    class Busy:
        @on(ShopType.price_wanted, topic=ShopTopic.prices)
        def wait(self, event: ShopEvent) -> None:
            entered.set()
            assert go_on.wait(PATIENCE)

    make(slow)
    bus = make(Busy(), close_timeout=PATIENCE)

    def ask_twice() -> None:
        for _ in range(2):
            with pytest.raises(NotConnected):
                bus.request(ShopType.ping, topic=ShopTopic.all, reply=int, timeout=3_600)

    bus.emit_event(wanted(), ShopTopic.prices)
    assert entered.wait(PATIENCE)
    with in_thread(ask_twice):
        eventually(lambda: bus.stats().emitted == 2)
        with in_thread(bus.close):
            eventually(lambda: bus.stats().emitted == 3)
            go_on.set()
    slow.go_on.set()


def test_nothing_is_left_behind(make: Make) -> None:
    """The thread that receives answers ends with its client."""
    make(Prices())
    bus = make()
    bus.request(wanted(), topic=ShopTopic.prices, reply=Price, timeout=PATIENCE)

    def threads() -> list[Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "eventbus-answers"]

    assert len(threads()) == 1
    bus.close()
    eventually(lambda: not threads())


def test_a_disabled_client_gets_no_answer(make: Make) -> None:
    """A client with enabled=False asks nobody."""
    bus = make(enabled=False)
    with pytest.raises(NobodyAnswers):
        bus.request(wanted(), topic=ShopTopic.prices, reply=Price)
    assert bus.request_all(wanted(), topic=ShopTopic.prices) == []


def test_subscribers_to_everything_are_not_disturbed(make: Make) -> None:
    """A client that subscribes to every topic gets the request as an event, and takes no answer for one."""
    make(Prices())
    witness, bus = make(), make()
    witness.subscribe(None)
    witness.start_consumer()
    headers: list[dict[str, str]] = []
    witness.attach_callback(ShopType.price_wanted, lambda _: headers.append(dict(current_headers())))
    bus.request_all(wanted(), topic=ShopTopic.prices, timeout=PATIENCE, at_most=1)
    bus.request(wanted(), topic=ShopTopic.prices, reply=Price, timeout=PATIENCE)
    bus.emit_event(ShopType.ping, ShopTopic.prices)
    last = witness.recv_event(PATIENCE)
    while last is not None and last.type is not ShopType.ping:
        last = witness.recv_event(PATIENCE)
    assert last is not None
    assert [set(found) for found in headers] == [{"reply-to", "correlation-id"}] * 2
    stats = witness.stats()
    assert (stats.received, stats.rejected, stats.dropped) == (3, 0, 0)
