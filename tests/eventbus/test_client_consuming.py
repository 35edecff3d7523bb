"""`EventBusClient`: subscribing, callbacks, the receive buffer, the consumer's life."""

import asyncio
import logging
import sys
import threading
from collections.abc import Callable
from itertools import islice
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, TypeAdapter

from eventbus import BaseEvent, EventBusClient, EventBusProxy, InvalidHandler, NotConnected
from eventbus.transports.memory import MemoryTransport
from eventbus.wire.frames import Batch
from tests.support import (
    PATIENCE,
    Bus,
    MyEvent,
    MyEventTopic,
    MyEventType,
    Recorder,
    client_of,
    event,
    eventually,
    in_thread,
    is_waiting,
    run_threads,
)

TOPIC, SCHEDULER, OTHER = MyEventTopic.my_service, MyEventTopic.my_service_scheduler, MyEventTopic.other
STARTED, UPDATED, STOPPED = MyEventType.started, MyEventType.updated, MyEventType.stopped


def record(client: Bus, topic: MyEventTopic | None = None) -> Recorder:
    recorder = Recorder()
    client.attach_callback(UPDATED, recorder, topic=topic)
    client.start_consumer()
    return recorder


class Authorizer:
    """A callback that holds the consumer until it is opened."""

    def __init__(self) -> None:
        self.entered, self._go = threading.Event(), threading.Event()

    def __call__(self, event: MyEvent) -> None:
        self.entered.set()
        assert self._go.wait(PATIENCE)

    def open(self) -> None:
        self._go.set()


# Topics


def test_topics_are_exact(bus: Bus) -> None:
    """A subscriber of `my_service` never sees `my_service_scheduler`, nor the other way round."""
    recorder = record(bus)
    for number in range(50):
        bus.emit_event(event(-1), SCHEDULER)
        bus.emit_event(event(number), TOPIC)
    assert recorder.wait_for(50) == list(range(50))
    bus.unsubscribe(TOPIC)
    bus.subscribe(SCHEDULER)
    bus.emit_event(event(-1), TOPIC)
    bus.emit_event(event(50), SCHEDULER)
    assert recorder.wait_for(51) == list(range(51))
    assert bus.stats().received == 51


def test_subscribe_to_all(bus: Bus) -> None:
    """subscribe(None) receives every topic, once each; unsubscribe(None) leaves the exact ones."""
    recorder = record(bus)
    bus.subscribe(None)
    for number, topic in enumerate((TOPIC, SCHEDULER, OTHER)):
        bus.emit_event(event(number), topic)
    assert recorder.wait_for(3) == [0, 1, 2]
    bus.unsubscribe(None)
    bus.emit_event(event(-1), OTHER)
    bus.emit_event(event(3), TOPIC)
    assert recorder.wait_for(4) == [0, 1, 2, 3]


def test_topics_from_the_start(proxy: EventBusProxy) -> None:
    """The topics given to the constructor are subscribed by connect()."""
    with client_of(proxy, topics=["my_service", "other"]) as client:
        client.emit_event(event(-1), SCHEDULER)
        client.emit_event(event(1), TOPIC)
        client.emit_event(event(2), OTHER)
        assert [client.recv_event(PATIENCE), client.recv_event(PATIENCE)] == [event(1), event(2)]


def test_subscribe_and_unsubscribe_are_idempotent(bus: Bus) -> None:
    """Subscribing twice, or before and after connect(), is subscribing once; so is unsubscribing."""
    bus.subscribe(TOPIC)
    recorder = record(bus)
    bus.emit_event(event(1), TOPIC)
    recorder.wait_for(1)
    bus.unsubscribe(TOPIC)
    bus.unsubscribe(TOPIC)
    bus.subscribe(OTHER)
    bus.emit_event(event(-1), TOPIC)
    bus.emit_event(event(2), OTHER)
    assert recorder.wait_for(2) == [1, 2]


def test_subscribe_before_connect_and_after_close(proxy: EventBusProxy) -> None:
    """Subscriptions may be made and undone at any time of the client's life."""
    client = client_of(proxy)
    client.subscribe(TOPIC)
    client.subscribe(OTHER)
    client.unsubscribe(OTHER)
    with client:
        client.emit_event(event(-1), OTHER)
        client.emit_event(event(1), TOPIC)
        assert client.recv_event(PATIENCE) == event(1)
    client.unsubscribe(TOPIC)
    client.subscribe(OTHER)
    with client:
        client.emit_event(event(-1), TOPIC)
        client.emit_event(event(2), OTHER)
        assert client.recv_event(PATIENCE) == event(2)


def test_topics_and_event_types_are_told(bus: Bus) -> None:
    """A client tells what it is subscribed to, an empty value standing for everything, and which type enums it knows."""
    bus.subscribe(OTHER)
    bus.subscribe(None)
    bus.unsubscribe(TOPIC)
    assert bus.topics == {"other", ""}
    assert bus.event_types == {MyEventType}


def test_subscribe_from_many_threads(bus: Bus) -> None:
    """Threads may subscribe and unsubscribe at once while the consumer receives; what stays subscribed is received."""
    recorder = record(bus)

    def toggle(number: int) -> None:
        for _ in range(10):
            bus.subscribe(OTHER)
            bus.emit_event(event(number, STOPPED), OTHER)
            bus.unsubscribe(OTHER)

    run_threads(4, toggle)
    bus.subscribe(OTHER)
    bus.close()
    bus.connect()
    bus.start_consumer()
    bus.emit_event(event(1), OTHER)
    assert recorder.wait_for(1) == [1]


def test_subscribe_inside_a_handler(bus: Bus) -> None:
    """A handler may subscribe: what it emits right afterwards to that topic arrives."""
    recorder = record(bus, OTHER)

    def handler(_event: MyEvent) -> None:
        bus.subscribe(OTHER)
        bus.emit_event(event(1), OTHER)
        bus.unsubscribe(TOPIC)

    bus.attach_callback(STARTED, handler)
    bus.emit_event(event(0, STARTED), TOPIC)
    assert recorder.wait_for(1) == [1]
    bus.emit_event(event(-1), TOPIC)
    bus.emit_event(event(2), OTHER)
    assert recorder.wait_for(2) == [1, 2]


# Callbacks


def test_callbacks_run_in_order_of_attaching(bus: Bus) -> None:
    """Several callbacks of one type run one after the other, as attached, on the consumer's thread, event by event."""
    calls: list[tuple[str, float, str]] = []
    for name in "abc":
        bus.attach_callback(
            UPDATED,
            lambda event, name=name: calls.append((name, event.value, threading.current_thread().name)),  # type: ignore[misc] # a lambda's default
        )
    bus.start_consumer()
    bus.emit_events([event(1), event(2)], TOPIC)
    eventually(lambda: len(calls) == 6)
    assert calls == [(name, value, "eventbus-consumer") for value in (1.0, 2.0) for name in "abc"]


def test_callbacks_of_types_and_topics(bus: Bus) -> None:
    """A callback gets the events of its type; with a topic, only those of that topic; attaching subscribes to nothing."""
    everywhere, here, there, started = Recorder(), Recorder(), Recorder(), Recorder()
    bus.attach_callbacks({UPDATED: everywhere, STARTED: started})
    bus.attach_callback(UPDATED, here, topic=TOPIC)
    bus.attach_callback(UPDATED, there, topic=OTHER)
    bus.start_consumer()
    bus.emit_event(event(-1), OTHER)
    bus.emit_event(event(1), TOPIC)
    bus.emit_event(event(2, STARTED), TOPIC)
    started.wait_for(1)
    bus.subscribe(OTHER)
    bus.emit_event(event(3), OTHER)
    there.wait_for(1)
    assert (everywhere.values, here.values, there.values, started.values) == ([1, 3], [1], [3], [2])


def test_attach_and_detach_at_any_time(bus: Bus) -> None:
    """Callbacks come and go while events flow, from any thread; a detached one is called no more, others miss nothing."""
    steady = record(bus)

    def come_and_go(_number: int) -> None:
        for _ in range(50):
            passing = Recorder()
            bus.attach_callback(UPDATED, passing)
            bus.emit_event(event(), TOPIC)
            passing.wait_for(1)
            bus.detach_callback(UPDATED, passing)
            bus.detach_callback(UPDATED, passing)

    run_threads(3, come_and_go)
    steady.wait_for(150)
    bus.detach_callback(UPDATED, steady)
    last = record(bus)
    bus.emit_event(event(7), TOPIC)
    assert last.wait_for(1) == [7]
    assert len(steady.values) == 150


def test_a_handler_may_detach_itself(bus: Bus) -> None:
    """A callback that detaches itself is not called again, once the present batch is through."""
    calls = []

    def once(event: MyEvent) -> None:
        calls.append(event.value)
        bus.detach_callback(UPDATED, once)

    bus.attach_callback(UPDATED, once)
    recorder = record(bus)
    bus.emit_event(event(1), TOPIC)
    recorder.wait_for(1)
    bus.emit_event(event(2), TOPIC)
    recorder.wait_for(2)
    assert calls == [1]


def test_a_raising_callback_is_logged_and_counted(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    """A callback's exception is logged once with its event and its name, and counted; others run, and so do later events."""

    def fails(event: MyEvent) -> None:
        raise LookupError("nothing there")

    bus.attach_callback(UPDATED, fails)
    recorder = record(bus)
    bus.emit_event(event(1.25), TOPIC)
    bus.emit_event(event(2.25), TOPIC)
    assert recorder.wait_for(2) == [1.25, 2.25]
    eventually(lambda: (bus.stats().handled, bus.stats().handler_errors) == (2, 2))
    logged = [entry for entry in caplog.records if entry.levelno >= logging.ERROR]
    assert ["1.25" in entry.getMessage() for entry in logged] == [True, False]
    assert all("fails" in entry.getMessage() for entry in logged)
    assert logged[0].name == "eventbus"
    assert "nothing there" in caplog.text


def test_sys_exit_in_a_handler_ends_nothing(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    """A handler that calls sys.exit() is an error of that handler; the consumer lives."""
    bus.attach_callback(UPDATED, lambda _event: sys.exit(3))
    recorder = record(bus)
    bus.emit_event(event(1), TOPIC)
    bus.emit_event(event(2), TOPIC)
    assert recorder.wait_for(2) == [1, 2]
    eventually(lambda: bus.stats().handler_errors == 2)
    assert "SystemExit" in caplog.text


def test_a_cancellation_in_a_handler_ends_nothing(bus: Bus) -> None:
    """A handler that raises asyncio.CancelledError, which is no Exception, has failed like any other; the consumer lives."""

    def cancelled(_event: MyEvent) -> None:
        raise asyncio.CancelledError

    bus.attach_callback(UPDATED, cancelled)
    recorder = record(bus)
    bus.emit_event(event(1), TOPIC)
    bus.emit_event(event(2), TOPIC)
    assert recorder.wait_for(2) == [1, 2]
    eventually(lambda: bus.stats().handler_errors == 2)


@pytest.mark.parametrize("wrong", [lambda: None, lambda one, two: None, 3, None])
def test_what_cannot_be_called_is_refused(bus: Bus, wrong: Any) -> None:
    """A callback that cannot take one event raises InvalidHandler when it is attached, and attaches none of its group."""
    with pytest.raises(InvalidHandler):
        bus.attach_callback(UPDATED, wrong)
    good = Recorder()
    with pytest.raises(InvalidHandler):
        bus.attach_callbacks({UPDATED: good, STOPPED: wrong})
    last = record(bus)
    bus.emit_event(event(1), TOPIC)
    last.wait_for(1)
    assert good.values == []


@pytest.mark.parametrize("wrong", ["updated", None, TOPIC])
def test_a_type_of_elsewhere_is_refused(bus: Bus, wrong: Any) -> None:
    """Attaching to something else than the event class's types raises InvalidHandler."""
    with pytest.raises(InvalidHandler, match="use a member of MyEventType"):
        bus.attach_callback(wrong, print)


# The consumer


def test_start_consumer_needs_a_connection(proxy: EventBusProxy) -> None:
    """Without a connection start_consumer(), recv_event() and listen_forever() raise NotConnected."""
    client = client_of(proxy)
    for _ in range(2):
        for call in (client.start_consumer, client.recv_event, client.listen_forever):
            with pytest.raises(NotConnected):
                call()
        client.connect()
        client.close()


def test_start_consumer_is_idempotent(bus: Bus) -> None:
    """However often it is started, one consumer runs, and each event is handled once."""
    recorder = record(bus)
    run_threads(4, lambda _: bus.start_consumer())
    assert [thread.name for thread in threading.enumerate()].count("eventbus-consumer") == 1
    bus.emit_events([event(1), event(2)], TOPIC)
    assert recorder.wait_for(2) == [1, 2]


def test_stop_consumer_keeps_the_connection(bus: Bus) -> None:
    """After stop_consumer() nothing is handled, emitting works, and what came meanwhile is handled after a new start."""
    recorder = record(bus)
    bus.stop_consumer()
    bus.stop_consumer()
    assert bus.is_connected()
    assert "eventbus-consumer" not in [thread.name for thread in threading.enumerate()]
    bus.emit_event(event(1), TOPIC)
    assert recorder.values == []
    bus.start_consumer()
    assert recorder.wait_for(1) == [1]


def test_stop_and_start_inside_a_handler(bus: Bus) -> None:
    """A handler may stop the consumer and start it again."""
    recorder = Recorder()

    def handler(received: MyEvent) -> None:
        bus.stop_consumer()
        bus.start_consumer()
        recorder(received)

    bus.attach_callback(UPDATED, handler)
    bus.start_consumer()
    for number in range(20):
        bus.emit_event(event(number), TOPIC)
        assert recorder.wait_for(number + 1) == list(range(number + 1))
    eventually(lambda: [thread.name for thread in threading.enumerate()].count("eventbus-consumer") == 1)


# The receive buffer


def test_recv_event(bus: Bus) -> None:
    """recv_event() starts the consumer, returns the oldest event, and None when none comes in time."""
    assert bus.recv_event(0) is None
    assert bus.recv_event(timeout=0.01) is None
    bus.emit_event(event(1), TOPIC)
    bus.emit_event(event(2), TOPIC)
    assert [bus.recv_event(PATIENCE), bus.recv_event(PATIENCE)] == [event(1), event(2)]


def test_recv_event_gets_handled_events_too(bus: Bus) -> None:
    """An event that has callbacks gets into the receive buffer as well."""
    recorder = record(bus)
    bus.emit_event(event(1), TOPIC)
    assert bus.recv_event(PATIENCE) == event(1)
    assert recorder.wait_for(1) == [1]


def test_recv_event_without_a_limit_ends_at_close(bus: Bus) -> None:
    """recv_event(None) waits until an event comes, or until close()."""
    found: list[MyEvent | None] = []
    with in_thread(lambda: found.append(bus.recv_event(None))) as waiting:
        eventually(lambda: is_waiting(waiting))
        bus.close()
    assert found == [None]


def test_received_events_are_readable_after_close(bus: Bus) -> None:
    """Events in the buffer when the client closes can still be read; then NotConnected is raised."""
    recorder = record(bus)
    bus.emit_events([event(1), event(2)], TOPIC)
    recorder.wait_for(2)
    bus.close()
    assert [bus.recv_event(0), bus.recv_event(0)] == [event(1), event(2)]
    with pytest.raises(NotConnected):
        bus.recv_event(0)


def test_listen_forever_ends_at_close(bus: Bus) -> None:
    """listen_forever() gives every event in order and ends when the client is closed."""
    heard: list[float] = []
    with in_thread(lambda: heard.extend(event.value for event in bus.listen_forever())) as listening:
        bus.emit_events([event(number) for number in range(500)], TOPIC)
        eventually(lambda: bus.stats().received == 500 and is_waiting(listening))
        bus.close()
    assert heard == list(range(500))


@pytest.mark.parametrize("reads", ["recv_event", "arecv_event", "listen_forever"])
def test_readers_end_at_a_close_after_which_it_is_open_again(reads: str) -> None:
    """They do not wait for the events of the next connection."""
    with Bus(MyEvent, transport=MemoryTransport()) as client:

        def read() -> None:
            match reads:
                case "recv_event":
                    assert client.recv_event(None) is None
                case "arecv_event":
                    assert asyncio.run(client.arecv_event(None)) is None
                case _:
                    assert list(client.listen_forever()) == []

        with in_thread(read):
            eventually(lambda: client._parts.buffer._waiting == 1)
            with client._parts.buffer._lock:  # which the reader needs to see anything
                client.close()
                client.connect()


def test_a_consumer_that_ends_late_ends_nothing() -> None:
    """What waits after the next connect() goes on when the thread of the last connection notices that it was closed."""
    may_notice = threading.Event()

    class Slow(MemoryTransport):
        wakes = True

        def wake(self) -> None:
            if self.wakes:
                super().wake()

        def receive(self) -> Batch | None:
            batch = super().receive()
            if batch is None:
                assert may_notice.wait(PATIENCE)
            return batch

    transport = Slow()
    with Bus(MyEvent, transport=transport, topics=[TOPIC]) as client:
        client.start_consumer()
        (last,) = (thread for thread in threading.enumerate() if thread.name == "eventbus-consumer")
        transport.wakes = False
        client.close(0.0)
        transport.wakes = True
        client.connect()
        found: list[MyEvent | None] = []
        with in_thread(lambda: found.append(client.recv_event(PATIENCE))):
            eventually(lambda: client._parts.buffer._waiting == 1)
            may_notice.set()
            last.join(PATIENCE)
            client.emit_event(event(1), TOPIC)
        assert found == [event(1)]


def test_several_listeners_share(bus: Bus) -> None:
    """Several readers get each event once between them."""
    heard: list[float] = []

    def listen() -> None:
        heard.extend(event.value for event in bus.listen_forever())

    with in_thread(listen) as one, in_thread(listen) as two:
        bus.emit_events([event(number) for number in range(500)], TOPIC)
        eventually(lambda: bus.stats().received == 500 and is_waiting(one) and is_waiting(two))
        bus.close()
    assert sorted(heard) == list(range(500))


def test_listening_goes_on_in_a_loop(bus: Bus) -> None:
    """A listener may leave its loop and come back for the rest."""
    bus.emit_events([event(number) for number in range(4)], TOPIC)
    assert [found.value for found in islice(bus.listen_forever(), 2)] == [0, 1]
    assert [found.value for found in islice(bus.listen_forever(), 2)] == [2, 3]


def test_a_full_buffer_drops_the_oldest(connected: Callable[..., Bus]) -> None:
    """When nobody reads, the newest events are kept, and the lost ones are counted."""
    client = connected(receive_buffer=10, topics=[TOPIC])
    recorder = record(client)
    client.emit_events([event(number) for number in range(25)], TOPIC)
    recorder.wait_for(25)
    eventually(lambda: client.stats().handled == 25)
    assert [found.value for _ in range(10) if (found := client.recv_event(0))] == list(range(15, 25))
    assert client.recv_event(0) is None
    assert client.stats().dropped == 15


# Counting, and the rest


def test_stats_tell_what_became_of_events(bus: Bus) -> None:
    """stats() counts emitted, received and handled events."""
    gate, recorder = Authorizer(), Recorder()
    bus.attach_callback(STARTED, gate)
    bus.attach_callback(UPDATED, recorder)
    bus.attach_callback(UPDATED, print)
    bus.start_consumer()
    bus.emit_event(event(1, STARTED), TOPIC)
    assert gate.entered.wait(PATIENCE)
    bus.emit_events([event(2), event(3, STOPPED)], TOPIC)
    bus.emit_event(event(4), OTHER)
    gate.open()
    recorder.wait_for(1)
    eventually(lambda: bus.stats().handled == 3)
    stats = bus.stats()
    assert (stats.emitted, stats.received, stats.handled) == (4, 3, 3)
    assert (stats.handler_errors, stats.rejected, stats.dropped) == (0, 0, 0)


def test_stats_outlive_close(bus: Bus) -> None:
    """The counts go on over a close() and a new connect()."""
    for number in range(3):
        bus.emit_event(event(number), TOPIC)
        assert bus.recv_event(PATIENCE) == event(number)
        bus.close()
        assert (bus.stats().emitted, bus.stats().received) == (number + 1, number + 1)
        bus.connect()


class Started(BaseEvent[MyEventType]):
    type: Literal[MyEventType.started] = MyEventType.started
    who: str = "nobody"


class Stopped(BaseEvent[MyEventType]):
    type: Literal[MyEventType.stopped] = MyEventType.stopped
    why: str


def test_a_discriminated_union(proxy: EventBusProxy) -> None:
    """A client of a TypeAdapter of a union sends and receives each of its members."""
    adapter: TypeAdapter[Started | Stopped] = TypeAdapter(Annotated[Started | Stopped, Field(discriminator="type")])
    client = EventBusClient[Started | Stopped, MyEventType, MyEventTopic](
        adapter, "127.0.0.1", proxy.pub_port, proxy.sub_port, topics=[TOPIC]
    )
    seen: list[Started | Stopped] = []
    with client:
        client.attach_callbacks({STARTED: seen.append, STOPPED: seen.append})
        client.start_consumer()
        client.emit_event(Started(who="me"), TOPIC)
        client.emit_event(STARTED, TOPIC)
        client.emit_events([Stopped(why="done"), STARTED], TOPIC)
        eventually(lambda: len(seen) == 4)
    assert seen == [Started(who="me"), Started(), Stopped(why="done"), Started()]


def test_unsubscribing_while_another_subscribes_forgets_nothing() -> None:
    """subscribe() that comes between the two halves of another thread's unsubscribe() stays in force."""
    meanwhile: list[Callable[[], None]] = []

    class Slow(MemoryTransport):
        """Gives another thread its chance at the worst moment."""

        def unsubscribe(self, topic: bytes) -> None:
            while meanwhile:
                other = threading.Thread(target=meanwhile.pop(), daemon=True)
                other.start()
                other.join(0.2)
            super().unsubscribe(topic)

    client = Bus(MyEvent, transport=Slow())
    with client:
        client.subscribe(TOPIC)
        subscribed = threading.Event()

        def subscribe() -> None:
            client.subscribe(TOPIC)
            subscribed.set()

        meanwhile.append(subscribe)
        client.unsubscribe(TOPIC)
        assert subscribed.wait(PATIENCE)
        client.emit_event(event(1), TOPIC)
        assert client.recv_event(PATIENCE) == event(1)
