"""Late joiners: last values, history, and subscriptions that begin with what was stored; within the proxy and beside it."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Event, Thread
from typing import Any

import pytest

from eventbus import (
    ClientState,
    DropReason,
    EventBusHistorian,
    EventBusProxy,
    HistorianMissing,
    HistoryDamaged,
    InvalidHandler,
    InvalidSettings,
    NotConnected,
    current_delivery,
    on,
)
from eventbus.history.server import HistoryServer
from eventbus.history.store import Bounds, MemoryStore
from eventbus.options import ClientOptions
from eventbus.proxy.metrics import ProxyCollector
from eventbus.transports.memory import MemoryHub, MemoryTransport
from eventbus.transports.nats.jetstream import JetStreamTransport
from eventbus.transports.zeromq import ZeroMQTransport
from eventbus.wire.history import Kept
from tests.nats import Server, running
from tests.support import (
    PATIENCE,
    Bus,
    MyEvent,
    MyEventTopic,
    MyEventType,
    RawPeers,
    client_of,
    event,
    eventually,
    is_joining,
    json_of,
)

TOPIC, OTHER = MyEventTopic.my_service, MyEventTopic.other
UPDATED = MyEventType.updated

type Connect = Callable[..., Bus]


@pytest.fixture(scope="module")
def jetstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A NATS server that stores."""
    with running(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture(
    params=["in the proxy", "beside the proxy", "in memory", pytest.param("JetStream", marks=pytest.mark.process)]
)
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Makes connected clients of a bus that has a historian, or keeps events itself."""
    with ExitStack() as stack:
        if request.param == "JetStream":
            nats = stack.enter_context(request.getfixturevalue("jetstream").stream())

            def make(**options: Any) -> Bus:
                chosen = ClientOptions(connect_timeout=PATIENCE, **options)
                return stack.enter_context(Bus(MyEvent, transport=JetStreamTransport(nats, chosen), options=chosen))
        elif request.param == "in memory":
            hub = MemoryHub()
            stack.enter_context(EventBusHistorian(MemoryTransport(hub)))

            def make(**options: Any) -> Bus:
                return stack.enter_context(Bus(MyEvent, transport=MemoryTransport(hub), **options))
        else:
            history = 1_000 if request.param == "in the proxy" else 0
            proxy = stack.enter_context(EventBusProxy(pub_port=0, sub_port=0, history=history))
            if not history:
                stack.enter_context(EventBusHistorian(ZeroMQTransport("127.0.0.1", proxy.pub_port, proxy.sub_port)))

            def make(**options: Any) -> Bus:
                return stack.enter_context(client_of(proxy, connect_timeout=PATIENCE, **options))

        yield make


class Handled:
    """A callback that keeps the values of events, and which of them were replayed."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self.replayed: list[float] = []

    def __call__(self, event: MyEvent) -> None:
        delivery = current_delivery()
        assert delivery is not None
        self.values.append(event.value)
        if delivery.replayed:
            self.replayed.append(event.value)

    def wait_for(self, values: list[float]) -> None:
        eventually(lambda: len(self.values) >= len(values), PATIENCE)
        assert self.values == values


def emit(client: Bus, *values: float, topic: MyEventTopic = TOPIC) -> None:
    """Emit events. Queries that are sent after that find them."""
    for value in values:
        client.emit_event(event(value), topic)
    settle(client)


def settle(client: Bus) -> None:
    """Wait until what was emitted is stored, where that is not a matter of the order in which messages pass a proxy."""
    transport = client._transport
    if isinstance(transport, JetStreamTransport):
        eventually(transport.is_flushed, PATIENCE)


def values_of(events: Any) -> list[float]:
    return [each.value for each in events]


# Asking


def test_last_values_and_history(connect: Connect) -> None:
    """Of topics to which nobody was subscribed, too; without subscribing."""
    client = connect()
    before = datetime.now(UTC)
    assert client.last(TOPIC) is None
    assert list(client.history(TOPIC)) == []
    emit(client, 1, 2, 3)
    emit(client, 4, topic=OTHER)
    client.emit_events([event(5), event(6)], TOPIC)
    settle(client)
    last = client.last(TOPIC)
    assert last is not None
    assert last.value == 6
    assert values_of(client.history(TOPIC)) == [1, 2, 3, 5, 6]
    assert values_of(client.history(None)) == [1, 2, 3, 4, 5, 6]
    assert values_of(client.history(TOPIC, count=1)) == [6]
    assert values_of(client.history(TOPIC, count=4)) == [2, 3, 5, 6]
    assert values_of(client.history(TOPIC, since=before)) == [1, 2, 3, 5, 6]
    assert values_of(client.history(TOPIC, since=timedelta(hours=1))) == values_of(client.history(TOPIC, since="1h"))
    assert values_of(client.history(TOPIC, since=datetime.now(UTC))) == []
    assert client.topics == set()
    assert client.stats().received == 0
    with pytest.raises(InvalidSettings, match="is no time"):
        client.history(TOPIC, since="yesterday")


def test_what_is_larger_than_a_page_comes_whole(connect: Connect) -> None:
    """In several queries, each event once and in order."""
    client = connect()
    large = "x" * 20_000
    for value in range(600):
        client.emit_event(MyEvent(type=UPDATED, time=large, value=value), TOPIC)
    settle(client)
    assert values_of(client.history(TOPIC, timeout=PATIENCE)) == list(range(600))


def test_on_an_event_loop(connect: Connect) -> None:
    """The same without blocking it."""
    client = connect()
    emit(client, *range(600))

    async def ask() -> tuple[MyEvent | None, list[float]]:
        return await client.alast(TOPIC), [each.value async for each in client.ahistory(TOPIC, count=500)]

    last, values = asyncio.run(ask())
    assert last is not None
    assert (last.value, values) == (599, list(range(100, 600)))


def test_without_a_historian(proxy: EventBusProxy) -> None:
    """Each call says what is missing, at once; the setting only logs it, and nothing that comes meanwhile is lost."""
    client = client_of(proxy)
    with pytest.raises(NotConnected):
        client.last(TOPIC)
    with client:
        for call in (
            lambda: client.last(TOPIC),
            lambda: client.history(TOPIC),
            lambda: client.subscribe(TOPIC, start="all"),
        ):
            with pytest.raises(HistorianMissing, match="there is no historian"):
                call()
        assert client.topics == set()


def test_the_setting_without_a_historian(proxy: EventBusProxy, caplog: pytest.LogCaptureFixture) -> None:
    """One line, and the topics begin with what is new."""
    handled = Handled()
    with client_of(proxy, start="all", topics=[TOPIC.value]) as client:
        client.subscribe(OTHER)
        client.attach_callback(UPDATED, handled)
        client.start_consumer()
        emit(client, 1)
        emit(client, 2, topic=OTHER)
        handled.wait_for([1, 2])
    assert handled.replayed == []
    (line,) = [record for record in caplog.records if "historian" in record.getMessage()]
    assert "2 topics begin with what is emitted from now on" in line.getMessage()


def test_a_disabled_client_misses_no_historian() -> None:
    """Its calls do nothing."""
    with Bus(MyEvent, enabled=False) as client:
        client.subscribe(TOPIC, start="all")
        assert client.topics == {TOPIC}


def test_somebody_else_who_takes_everything_is_no_historian(proxy: EventBusProxy, raw: RawPeers) -> None:
    """Then only time can tell."""
    raw.subscriber(b"")
    with client_of(proxy) as client, pytest.raises(HistorianMissing, match=r"within 1 s"):
        client.last(TOPIC, timeout=1.0)  # in which the inbox has to open


# Beginning


@pytest.mark.parametrize("numbered", [False, True])
@pytest.mark.parametrize("topic", [TOPIC, None])
def test_stored_events_first_then_live_ones(connect: Connect, numbered: bool, topic: MyEventTopic | None) -> None:
    """While another client emits all the time, each event comes once and in order, and those that are new count as such."""
    client, emitting = connect(), connect(numbered=numbered)
    emit(emitting, *range(500))
    handled = Handled()

    def emit_until_live() -> None:
        value = 500
        while len(handled.values) == len(handled.replayed) and value < 200_000:
            emit(emitting, value)
            value += 1

    thread = Thread(target=emit_until_live)
    thread.start()
    client.attach_callback(UPDATED, handled)
    client.start_consumer()
    try:
        client.subscribe(topic, start="all")
    finally:
        thread.join()
    emit(emitting, -1)
    eventually(lambda: handled.values[-1:] == [-1], PATIENCE)
    first, last = int(handled.values[0]), int(handled.values[-2])
    assert handled.values == [*range(first, last + 1), -1]
    assert handled.replayed == handled.values[: len(handled.replayed)]
    assert 0 < len(handled.replayed) <= 1_000
    stats = client.stats()
    assert (stats.lost, stats.rejected) == (0, 0)


def test_live_events_while_pages_are_read(connect: Connect) -> None:
    """What comes between two pages of an answer belongs to none of them: it comes live, and once."""
    client, emitting = connect(), connect()
    large = "x" * 20_000
    for value in range(600):
        emitting.emit_event(MyEvent(type=UPDATED, time=large, value=value), TOPIC)
    settle(emitting)
    last = emitting.last(TOPIC, timeout=PATIENCE)  # what this client sends comes after all of them
    assert last is not None
    assert last.value == 599
    handled = Handled()

    def handle(event: MyEvent) -> None:
        handled(event)
        if event.value in (50, 350):
            emit(emitting, 600 if event.value == 50 else 601)

    client.attach_callback(UPDATED, handle)
    client.start_consumer()
    client.subscribe(TOPIC, start="all")
    handled.wait_for([float(value) for value in range(602)])
    emit(emitting, 602)
    handled.wait_for([float(value) for value in range(603)])
    assert handled.replayed == list(range(600))


def test_a_handler_begins_a_topic_whose_messages_are_at_hand(connect: Connect) -> None:
    """They came because another topic is a prefix of it. They are stored, too, and are handled once."""
    client, emitting = connect(), connect()
    scheduler = MyEventTopic.my_service_scheduler
    handled, entered, go_on = Handled(), Event(), Event()

    def handle(event: MyEvent) -> None:
        if event.value == 0:
            entered.set()
            assert go_on.wait(PATIENCE)
        elif event.value == 1:
            client.subscribe(scheduler, start="all")
        elif event.value >= 1_000:
            handled(event)

    client.attach_callback(UPDATED, handle)
    client.subscribe(TOPIC)
    client.start_consumer()
    emit(emitting, 0)
    assert entered.wait(PATIENCE)
    emitting.emit_events([event(value) for value in range(1, 400)], TOPIC)  # more than are decoded at once
    emit(emitting, 1_000, topic=scheduler)
    assert emitting.last(scheduler) is not None
    go_on.set()
    handled.wait_for([1_000])
    emit(emitting, 1_001, topic=scheduler)
    handled.wait_for([1_000, 1_001])
    assert handled.replayed == [1_000]


@pytest.mark.parametrize("how", ["closed", "stopped"])
def test_a_restart_while_a_topic_begins(connect: Connect, how: str) -> None:
    """It goes on as soon as the handler does that was running, and live events follow."""
    emitting, client = connect(), connect()
    emit(emitting, *range(10))
    settle(emitting)
    values: list[float] = []
    inside, may_go_on = Event(), Event()

    def handle(event: MyEvent) -> None:
        values.append(event.value)
        if event.value == 3:
            inside.set()
            assert may_go_on.wait(PATIENCE)

    client.attach_callback(UPDATED, handle)
    client.subscribe(TOPIC, start="all")
    client.start_consumer()
    assert inside.wait(PATIENCE)
    if how == "closed":
        closing = Thread(target=client.close, args=(PATIENCE,))
        closing.start()
        eventually(lambda: client.state is ClientState.CLOSED or is_joining(closing), PATIENCE)
        may_go_on.set()
        closing.join()
        client.connect()
        client.start_consumer()
    else:
        client.stop_consumer(0.0)  # the rest of what it has received is dropped
        client.start_consumer()
        may_go_on.set()
    emit(emitting, 10)
    eventually(lambda: values[-1] == 10, PATIENCE)
    dropped = int(client.stats().drops.get(DropReason.STOPPED, 0))
    assert values == [*range(4), *range(4 + dropped, 11)]


def test_a_topic_begins_anew_while_it_begins(connect: Connect) -> None:
    """Who unsubscribes and subscribes again gets all of it again, and then goes on."""
    client = connect()
    emit(client, *range(10))
    handled = Handled()

    def handle(event: MyEvent) -> None:
        handled(event)
        if len(handled.values) == 10:
            client.unsubscribe(TOPIC)
            client.subscribe(TOPIC, start="all")

    client.attach_callback(UPDATED, handle)
    client.start_consumer()
    client.subscribe(TOPIC, start="all")
    handled.wait_for([float(value) for value in (*range(10), *range(10))])
    emit(client, 10)
    handled.wait_for([float(value) for value in (*range(10), *range(11))])


@pytest.mark.parametrize("start", ["last", "all", "1h", "new"])
def test_where_it_begins(connect: Connect, start: str) -> None:
    """With the newest event of each topic, with all, with those since a time, or with what is new."""
    emitting = connect()
    emit(emitting, 1, 2)
    emitting.emit_events([event(3), event(4)], TOPIC)
    emit(emitting, 5, topic=OTHER)
    handled = Handled()
    client = connect(start=start)
    for topic in (TOPIC, OTHER):
        client.subscribe(topic)
    client.attach_callback(UPDATED, handled)
    client.start_consumer()
    of_start: dict[str, list[float]] = {"last": [4, 5], "new": []}
    stored = of_start.get(start, [1, 2, 3, 4, 5])
    handled.wait_for(stored)
    emit(emitting, 6)
    handled.wait_for([*stored, 6])
    assert handled.replayed == stored


@pytest.mark.parametrize("by_option", [True, False])
def test_a_service_that_starts_before_its_proxy(ports: tuple[int, int], by_option: bool) -> None:
    """It begins with what is stored as soon as there is one to ask."""
    proxy = EventBusProxy("127.0.0.1", *ports, history=10)
    with proxy, client_of(proxy, connect_timeout=PATIENCE) as emitting:
        emit(emitting, 1, 2)
        assert values_of(emitting.history(TOPIC, timeout=PATIENCE)) == [1, 2]
    handled = Handled()
    with Bus(MyEvent, "127.0.0.1", *ports, connect_required=False, start="last" if by_option else "new") as client:
        client.attach_callback(UPDATED, handled)
        client.subscribe(TOPIC, start=None if by_option else "last")
        client.start_consumer()
        with proxy:
            handled.wait_for([2])
            client.wait_ready(PATIENCE)
            emit(client, 3)
            handled.wait_for([2, 3])
    assert handled.replayed == [2]


def test_a_handler_says_where_its_topic_begins(connect: Connect) -> None:
    """`@on(…, start=…)`; if two say it of one topic, both get what the topic begins with, which is the most."""
    emitting = connect()
    emit(emitting, 1, 2)
    emit(emitting, 3, topic=OTHER)

    class Service:
        def __init__(self) -> None:
            self.one, self.two, self.other = Handled(), Handled(), Handled()

        @on(UPDATED, topic=TOPIC, start="last")
        def first(self, event: MyEvent) -> None:
            self.one(event)

        @on(UPDATED, topic=TOPIC, start="all")
        def second(self, event: MyEvent) -> None:
            self.two(event)

        @on(UPDATED, topic=OTHER)
        async def third(self, event: MyEvent) -> None:
            self.other(event)

    service = Service()
    client = connect()
    client.attach_handlers(service)
    client.start_consumer()
    emit(emitting, 4)
    emit(emitting, 5, topic=OTHER)
    for handled, expected in ((service.one, [1, 2, 4]), (service.two, [1, 2, 4]), (service.other, [5])):
        handled.wait_for([float(value) for value in expected])
    assert service.one.replayed[:2] == [1, 2]
    assert service.other.replayed == []


def test_topics_begin_where_each_says(connect: Connect) -> None:
    """Whatever the client's own start is; what has begun does not begin again when all topics do."""
    emitting = connect()
    emit(emitting, 1, 2)
    emit(emitting, 3, 4, topic=OTHER)
    emit(emitting, 5, topic=MyEventTopic.my_service_scheduler)
    handled = Handled()
    client = connect(start="all")
    client.subscribe(TOPIC, start="new")
    client.subscribe(OTHER, start="last")
    client.attach_callback(UPDATED, handled)
    client.start_consumer()
    handled.wait_for([4])
    emit(emitting, 6)
    handled.wait_for([4, 6])
    client.subscribe(None, start="all")
    handled.wait_for([4, 6, 5])
    client.subscribe(OTHER, start="all")
    emit(emitting, 7, topic=OTHER)
    emit(emitting, 8, topic=MyEventTopic.my_service_scheduler)
    handled.wait_for([4, 6, 5, 7, 8])
    assert handled.replayed == [4, 5]


def test_a_start_needs_a_topic_and_a_time() -> None:
    """Said where the mark is made."""
    with pytest.raises(InvalidHandler, match="needs a topic"):
        on(UPDATED, start="last")(lambda event: None)
    with pytest.raises(InvalidSettings, match="is no time"):
        on(UPDATED, topic=TOPIC, start="tomorrow")(lambda event: None)


def test_a_topic_that_is_received_already_does_not_begin_again(connect: Connect) -> None:
    """Nor does one that is subscribed twice."""
    client = connect()
    handled = Handled()
    client.attach_callback(UPDATED, handled)
    client.subscribe(TOPIC)
    client.start_consumer()
    emit(client, 1)
    handled.wait_for([1])
    client.subscribe(TOPIC, start="all")
    emit(client, 2)
    handled.wait_for([1, 2])
    client.unsubscribe(TOPIC)
    client.subscribe(TOPIC, start="all")
    handled.wait_for([1, 2, 1, 2])


def test_a_query_in_a_handler(connect: Connect) -> None:
    """A handler may ask, although the consumer waits for it."""
    client = connect()
    found: list[float] = []
    client.attach_callback(UPDATED, lambda _: found.extend(values_of(client.history(TOPIC))))
    client.subscribe(TOPIC)
    client.start_consumer()
    emit(client, 1)
    eventually(lambda: found == [1], PATIENCE)


# The historian itself


def test_it_speaks_to_a_bare_proxy_and_knows_no_event_classes(raw: RawPeers, proxy: EventBusProxy) -> None:
    """Events of the original client, and what is no event at all, are kept as they are; readers leave out what is none."""
    with EventBusHistorian(ZeroMQTransport("127.0.0.1", proxy.pub_port, proxy.sub_port)):
        publisher = raw.publisher(b"")
        for payload in (json_of(1), b'{"type":"unknown"}', json_of(2)):
            publisher.send_multipart([b"my_service", payload])
        with client_of(proxy) as client:
            eventually(lambda: len(list(client.history(TOPIC))) == 2, PATIENCE)
            assert values_of(client.history(TOPIC)) == [1, 2]
            assert client.stats().rejected > 0


def test_a_historian_ends_with_its_transport(proxy: EventBusProxy) -> None:
    """`stop` is idempotent, and leaves nothing."""
    transport = ZeroMQTransport("127.0.0.1", proxy.pub_port, proxy.sub_port)
    historian = EventBusHistorian(transport, HistoryServer(Bounds(count=1)))
    historian.start()
    with client_of(proxy) as client:
        emit(client, 1, 2)
        assert values_of(client.history(TOPIC)) == [2]
    historian.stop()
    historian.stop()
    historian.wait()
    assert transport.status.state is ClientState.CLOSED


def test_a_historian_that_repeats_a_page_is_not_asked_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each page has to end behind the one before it."""
    read = MemoryStore.read
    monkeypatch.setattr(MemoryStore, "read", lambda store, query, *rest: read(store, replace(query, after=0), *rest))
    monkeypatch.setattr("eventbus.history.server.PAGE_BYTES", 1)
    monkeypatch.setattr("eventbus.history.historian.PART_BYTES", 1)
    hub = MemoryHub()
    with EventBusHistorian(MemoryTransport(hub)), Bus(MyEvent, transport=MemoryTransport(hub)) as client:
        emit(client, 1, 2, 3)
        stored = client.history(TOPIC)
        assert next(iter(stored)).value == 1
        with pytest.raises(HistoryDamaged, match="history-next does not go on"):
            list(stored)


def test_a_historian_behind_a_proxy_with_a_small_limit() -> None:
    """Its answers are no larger than the proxy accepts."""
    with EventBusProxy(pub_port=0, sub_port=0, max_event_bytes=2_000) as proxy:
        transport = ZeroMQTransport("127.0.0.1", proxy.pub_port, proxy.sub_port)
        with EventBusHistorian(transport), client_of(proxy) as client:
            emit(client, *range(100))
            assert values_of(client.history(TOPIC, timeout=PATIENCE)) == list(range(100))


def test_a_stopped_proxy_keeps_its_history() -> None:
    """It is there again when the same proxy is started again."""
    proxy = EventBusProxy(pub_port=0, sub_port=0, history=10)
    for value in (1, 2):
        with proxy, client_of(proxy) as client:
            emit(client, value)
            assert values_of(client.history(TOPIC)) == list(range(1, value + 1))


def test_the_health_of_a_proxy_with_a_history() -> None:
    """What it keeps, how many queries it has answered, and that it is not behind; also as metrics."""
    with EventBusProxy(pub_port=0, sub_port=0, history=10) as proxy, client_of(proxy) as client:
        emit(client, 1, 2)
        assert values_of(client.history(TOPIC)) == [1, 2]
        eventually(lambda: (proxy.health().history or Kept()).behind == 0, PATIENCE)
        kept = proxy.health().history
        assert kept is not None
        assert (kept.messages, kept.topics, kept.queries, kept.dropped, kept.unwritten) == (2, 1, 1, 0, 0)
        samples = {
            sample.name: sample.value for family in ProxyCollector(proxy.health).collect() for sample in family.samples
        }
        assert samples["eventbus_proxy_history_messages"] == 2
        assert samples["eventbus_proxy_history_queries_total"] == 1
    with EventBusProxy(pub_port=0, sub_port=0) as proxy:
        assert proxy.health().history is None


@pytest.mark.parametrize("text", ["", "[]", '{"messages": "1"}', '{"messages": 1.5}', "[" * 200_000])
def test_anything_may_come_as_the_state_of_a_historian(text: str) -> None:
    """What is none raises ValueError; what is not known is left out."""
    with pytest.raises(ValueError, match=r"."):
        Kept.decode(text)
    assert Kept.decode('{"messages": 1, "newer": 2}') == Kept(1)
