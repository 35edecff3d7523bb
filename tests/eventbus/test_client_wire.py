"""`EventBusClient` among strangers: plain ZeroMQ peers, other proxies, and messages that are no events."""

import logging
import random
from collections.abc import Callable
from threading import Event, Thread

import pytest
import zmq
from pydantic import field_validator

from eventbus import BaseEvent, EventBusClient, EventBusProxy, EventTooLarge, InvalidSettings, Packing, TooManyValues
from eventbus.transports.zeromq import ZeroMQTransport
from eventbus.wire.numbering import Numbering
from tests.support import (
    PATIENCE,
    Bus,
    MyEvent,
    MyEventTopic,
    MyEventType,
    RawPeers,
    Recorder,
    event,
    eventually,
    json_of,
)

TOPIC, OTHER = MyEventTopic.my_service, MyEventTopic.other
UPDATED = MyEventType.updated

MALFORMED: dict[str, list[bytes]] = {
    "1-frame": [b"my_service"],
    "3-frames": [b"my_service", json_of(-1), b"{}"],
    "1000-frames": [b"my_service", *[b"{}"] * 999],
    "empty-payload": [b"my_service", b""],
    "binary": [b"my_service", b"\x00\xff"],
    "no-json": [b"my_service", b"{nonsense}"],
    "cut-off": [b"my_service", json_of(-1)[:-1]],
    "wrong-schema": [b"my_service", b'{"type":"updated"}'],
    "unknown-type": [b"my_service", json_of(-1, "unheard")],
    "cut-off-array": [b"my_service", b"[" + json_of(-1)],
}


def record(client: Bus) -> Recorder:
    recorder = Recorder()
    client.attach_callback(UPDATED, recorder)
    client.start_consumer()
    return recorder


def rejections(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [entry for entry in caplog.records if entry.name == "eventbus" and entry.levelno == logging.WARNING]


@pytest.mark.parametrize("frames", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_no_event_is_rejected(
    bus: Bus, raw: RawPeers, frames: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """A message that is no event is counted once, logged once for its kind, and costs no other event."""
    recorder = record(bus)
    publisher = raw.publisher(b"my_service")
    publisher.send_multipart([b"my_service", json_of(1)])
    recorder.wait_for(1)
    for number in range(3):
        publisher.send_multipart(frames)
        eventually(lambda count=number + 1: bus.stats().rejected >= count)  # type: ignore[misc] # a lambda's default
        publisher.send_multipart([b"my_service", json_of(2 + number)])
    assert recorder.wait_for(4) == [1, 2, 3, 4]
    assert (bus.stats().rejected, bus.stats().received) == (3, 4)
    [logged] = rejections(caplog)
    assert "rejected" in logged.getMessage()
    assert "MyEvent" in logged.getMessage()
    assert len(logged.getMessage()) < 500


@pytest.fixture(params=list(MALFORMED.values()), ids=list(MALFORMED))
def flooded(request: pytest.FixtureRequest, bus: Bus, raw: RawPeers) -> Recorder:
    """2,000 good events with three malformed messages among them, which waited in the queue to be received at once."""
    entered, go = Event(), Event()

    def hold(_event: MyEvent) -> None:
        entered.set()
        assert go.wait(PATIENCE)

    bus.attach_callback(MyEventType.started, hold)
    recorder = record(bus)
    publisher = raw.publisher(b"my_service")
    publisher.send_multipart([b"my_service", json_of(0, "started")])
    assert entered.wait(PATIENCE)
    for number in range(2_000):
        publisher.send_multipart([b"my_service", json_of(number)])
        if number in (50, 700, 701):
            publisher.send_multipart(request.param)
    publisher.send_multipart([b"my_service", json_of(0, "stopped")])
    last = Recorder()
    bus.attach_callback(MyEventType.stopped, last)
    go.set()
    last.wait_for(1)
    return recorder


def test_malformed_messages_cost_no_neighbour(flooded: Recorder) -> None:
    """In a full queue too, no malformed message costs another one: every good event is received, in order."""
    assert [value for value in flooded.values if value >= 0] == list(range(2_000))


def test_malformed_messages_are_never_events(flooded: Recorder) -> None:
    """In a full queue too, nothing that is in a malformed message is taken for an event."""
    assert -1 not in flooded.values


def test_malformed_messages_are_counted_once_each(flooded: Recorder, bus: Bus) -> None:
    """In a full queue too, each malformed message counts as one."""
    assert bus.stats().rejected == 3


def test_a_topic_that_is_no_text_is_rejected(bus: Bus, raw: RawPeers, caplog: pytest.LogCaptureFixture) -> None:
    """Subscribed to everything, an event on a topic that is not UTF-8 is rejected, each time."""
    bus.subscribe(None)
    recorder = record(bus)
    publisher = raw.publisher(b"")
    for number in range(3):
        publisher.send_multipart([b"\xfe\xfe", json_of(-1)])
        publisher.send_multipart([b"my_service", json_of(number)])
        assert recorder.wait_for(number + 1) == list(range(number + 1))
    assert bus.stats().rejected == 3
    assert len(rejections(caplog)) == 1


def test_an_array_with_a_bad_element(bus: Bus, raw: RawPeers, caplog: pytest.LogCaptureFixture) -> None:
    """The good events of a packed message are received, in order, and each bad one is counted."""
    recorder = record(bus)
    publisher = raw.publisher(b"my_service")
    elements = [json_of(1), b'{"type":"updated"}', json_of(2), b"3", json_of(-1, "unheard"), json_of(3)]
    publisher.send_multipart([b"my_service", b"[" + b",".join(elements) + b"]"])
    publisher.send_multipart([b"my_service", b"[]"])
    publisher.send_multipart([b"my_service", json_of(4)])
    assert recorder.wait_for(4) == [1, 2, 3, 4]
    assert (bus.stats().rejected, bus.stats().received) == (3, 4)
    assert len(rejections(caplog)) == 2, "one line for the schema, one for the type"


def test_kinds_are_logged_once_each(bus: Bus, raw: RawPeers, caplog: pytest.LogCaptureFixture) -> None:
    """A flood of rejected messages makes one line per kind, with the kind as a field."""
    recorder = record(bus)
    publisher = raw.publisher(b"my_service")
    for _ in range(100):
        for frames in (MALFORMED["no-json"], MALFORMED["wrong-schema"], MALFORMED["unknown-type"], MALFORMED["1-frame"]):
            publisher.send_multipart(frames)
    publisher.send_multipart([b"my_service", json_of(1)])
    assert recorder.wait_for(1) == [1]
    assert bus.stats().rejected == 400
    eventually(lambda: len(rejections(caplog)) == 4)  # the consumer speaks of frames once it has handled the rest
    facts = [vars(entry) for entry in rejections(caplog)]
    assert sorted((each["eventbus_reason"], each["eventbus_topic"] or "") for each in facts) == [
        ("frames", ""),
        ("json", "my_service"),
        ("schema", "my_service"),
        ("type", "my_service"),
    ]
    assert all(each["eventbus_count"] >= 1 for each in facts)


class Careless(MyEvent):
    """Its validator raises what no validator should."""

    @field_validator("value")
    @classmethod
    def invert(cls, value: float) -> float:
        return {1.0: 1.0, 2.0: 2.0}[value]


def test_a_validator_that_raises_anything_ends_nothing(proxy: EventBusProxy, raw: RawPeers) -> None:
    """An event class's own validator may raise any error: the event is rejected, and the consumer lives."""
    client = EventBusClient[Careless, MyEventType, MyEventTopic](
        Careless, "127.0.0.1", proxy.pub_port, proxy.sub_port, topics=[TOPIC]
    )
    seen: list[float] = []
    with client:
        client.attach_callback(UPDATED, lambda event: seen.append(event.value))
        client.start_consumer()
        publisher = raw.publisher(b"my_service")
        for payload in (json_of(1), json_of(9), b"[" + json_of(9) + b"," + json_of(2) + b"]"):
            publisher.send_multipart([b"my_service", payload])
        eventually(lambda: seen == [1, 2])
        eventually(lambda: client.stats().rejected == 2)


# Numbered messages


class Numbered:
    """A plain publisher that numbers its messages, and loses some."""

    def __init__(self, publisher: "zmq.Socket[bytes]") -> None:
        self._publisher = publisher
        self._numbering = Numbering()

    def send(self, *values: float, topic: bytes = b"my_service") -> None:
        payloads = [json_of(value) for value in values]
        payload = payloads[0] if len(payloads) == 1 else b"[" + b",".join(payloads) + b"]"
        self._publisher.send_multipart([self._numbering.next(topic, len(values)), payload])
        self._numbering.taken(topic, len(values))

    def lose(self, count: int, topic: bytes = b"my_service") -> None:
        """Go on as if a message of `count` events had been sent."""
        self._numbering.taken(topic, count)


def test_events_that_are_missing_are_counted(bus: Bus, raw: RawPeers, caplog: pytest.LogCaptureFixture) -> None:
    """Gaps in the numbers of each publisher are counted in stats() and logged; what arrives is received, in order."""
    recorder = record(bus)
    publisher = raw.publisher(b"my_service")
    one, two = Numbered(publisher), Numbered(publisher)
    one.lose(100)  # before the first message that is seen
    one.send(1)
    two.send(2)
    one.lose(3)
    one.send(3, 4)
    publisher.send_multipart([b"my_service", json_of(5)])
    two.lose(40)
    two.send(6)
    one.lose(1)  # after the last one: nobody can see that yet
    assert recorder.wait_for(6) == [1, 2, 3, 4, 5, 6]
    assert (bus.stats().lost, bus.stats().received, bus.stats().rejected) == (43, 6, 0)
    assert rejections(caplog)[0].getMessage().startswith("lost ")
    one.send(7)
    recorder.wait_for(7)
    assert bus.stats().lost == 44


@pytest.mark.parametrize("everything", [False, True])
def test_a_flood_of_numbered_and_plain_messages(bus: Bus, raw: RawPeers, everything: bool) -> None:
    """Each event of thousands, read in large batches, is received in order, and each lost one is counted."""
    if everything:
        bus.subscribe(None)
    entered, go = Event(), Event()

    def hold(_event: MyEvent) -> None:
        entered.set()
        assert go.wait(PATIENCE)

    bus.attach_callback(MyEventType.started, hold)
    recorder = record(bus)
    publisher = raw.publisher(b"my_service")
    publisher.send_multipart([b"my_service", json_of(0, "started")])
    assert entered.wait(PATIENCE)
    publishers = [Numbered(publisher) for _ in range(7)]
    for numbered in publishers:
        numbered.send(0)
    for number in range(5_000):
        numbered = publishers[number % 7]
        match number % 10:
            case 0:
                publisher.send_multipart([b"my_service", json_of(number)])
            case 1:
                numbered.send(number, number + 0.5)
            case 2:
                numbered.lose(3)
                numbered.send(number)
            case 3:
                numbered.send(-1, topic=b"my_service_unheard_of")
            case _:
                numbered.send(number)
    go.set()
    expected = [
        value
        for number in range(5_000)
        if number % 10 != 3
        for value in ((number, number + 0.5) if number % 10 == 1 else (number,))
    ]
    received = recorder.wait_for(len(expected) + 7 + 500 * everything)
    assert [value for value in received[7:] if value >= 0] == expected
    assert (bus.stats().lost, bus.stats().rejected) == (1_500, 0)


def test_a_header_of_another_kind_is_skipped(bus: Bus, raw: RawPeers) -> None:
    """Whatever follows the topic behind a NUL byte, the event is one of that topic, and nothing is lost."""
    recorder = record(bus)
    publisher = raw.publisher(b"my_service")
    source = random.Random(1)
    for length in range(30):
        publisher.send_multipart([b"my_service\0" + source.randbytes(length), json_of(length)])
    assert recorder.wait_for(30) == list(range(30))
    assert (bus.stats().lost, bus.stats().rejected) == (0, 0)


@pytest.mark.parametrize("header", [b"", b"\0", b"\0" + bytes(16)])
def test_malformed_messages_with_a_header(bus: Bus, raw: RawPeers, header: bytes) -> None:
    """A message without a payload, or with two, is rejected behind a header too, and costs no neighbour."""
    recorder = record(bus)
    publisher = raw.publisher(b"my_service")
    numbered = Numbered(publisher)
    for number in range(300):
        numbered.send(number)
        if number in (100, 200):
            publisher.send_multipart([b"my_service" + header, *[b"{}"] * (number // 100 * 2 - 2)])
    assert recorder.wait_for(300) == list(range(300))
    eventually(lambda: bus.stats().rejected == 2)
    assert bus.stats().lost == 0


# Interoperation with the original client, which is plain pyzmq


def test_a_plain_subscriber_understands(connected: Callable[..., Bus], raw: RawPeers) -> None:
    """A plain SUB receives exactly two frames, the topic and the event's JSON, from the first event on."""
    subscriber = raw.subscriber(b"my_service")
    client = connected()
    client.emit_event(event(1.5), TOPIC)
    assert subscriber.recv_multipart() == [b"my_service", event(1.5).model_dump_json().encode()]


def test_a_plain_publisher_is_understood(bus: Bus, raw: RawPeers) -> None:
    """Events that a plain PUB sends in two frames are received."""
    recorder = record(bus)
    with zmq.Context() as context, context.socket(zmq.PUB) as publisher:
        publisher.set(zmq.LINGER, 0)
        publisher.connect(raw.pub_endpoint)

        def sent_and_received() -> bool:
            publisher.send_multipart([b"my_service", json_of(1)])
            return bool(recorder.values)

        eventually(sent_and_received, PATIENCE)
    assert set(recorder.values) == {1.0}


def test_spaced_json_is_understood(bus: Bus, raw: RawPeers) -> None:
    """JSON with white space around it, as other libraries write it, is an event; so are packed events."""
    recorder = record(bus)
    publisher = raw.publisher(b"my_service")
    publisher.send_multipart([b"my_service", b'\r\n { "type" : "updated" , "time" : "" , "value" : 1 } \n'])
    publisher.send_multipart([b"my_service", b" [ " + json_of(2) + b" , " + json_of(3) + b" ] "])
    assert recorder.wait_for(3) == [1, 2, 3]
    assert bus.stats().rejected == 0


def test_over_a_bare_proxy() -> None:
    """Everything works over a plain zmq.proxy without any of our options."""
    context = zmq.Context()
    frontend, backend = context.socket(zmq.XSUB), context.socket(zmq.XPUB)
    ports = frontend.bind_to_random_port("tcp://127.0.0.1"), backend.bind_to_random_port("tcp://127.0.0.1")

    def run() -> None:
        try:
            zmq.proxy(frontend, backend)
        except zmq.ContextTerminated:
            frontend.close(linger=0)
            backend.close(linger=0)

    running = Thread(target=run, daemon=True)
    running.start()
    with Bus(MyEvent, "127.0.0.1", *ports) as client:
        client.subscribe(TOPIC)
        recorder = record(client)
        client.emit_event(event(1), TOPIC)
        client.emit_event(event(-1), OTHER)
        client.emit_events([event(2), event(3)], TOPIC)
        assert recorder.wait_for(3) == [1, 2, 3]
    context.term()
    running.join(PATIENCE)
    assert not running.is_alive()


@pytest.mark.parametrize("host", ["no such host", "a b"])
def test_a_host_that_is_none(host: str) -> None:
    """A host that cannot even be tried is refused when the client is made."""
    with pytest.raises(InvalidSettings, match="host: it is not the name or the address of a host"):
        Bus(MyEvent, host, 5559, 5560)


def test_a_client_that_only_emits_keeps_no_subscriptions_of_others(proxy: EventBusProxy, raw: RawPeers) -> None:
    """The subscriptions of others, and their ends, arrive at every publisher; one that never receives reads them too."""
    other = raw.subscriber(b"")
    with Bus(MyEvent, "127.0.0.1", proxy.pub_port, proxy.sub_port) as client:
        transport = client._transport
        assert isinstance(transport, ZeroMQTransport)
        assert transport._link
        upstream = transport._link.publisher._socket
        for number in range(10):
            other.subscribe(b"topic-%d" % number)
        eventually(lambda: upstream.poll(0))
        for number in range(1_001):
            client.emit_event(event(number), TOPIC)
        assert not upstream.poll(0)


# Limits


class Samples(BaseEvent[MyEventType]):
    values: list[float]


@pytest.mark.parametrize("packing", [True, False])
def test_an_event_with_too_many_values_is_refused(proxy: EventBusProxy, packing: Packing) -> None:
    """An event with more values than allowed is an error; nothing is sent, of many events neither."""
    ports = proxy.pub_port, proxy.sub_port
    bus = EventBusClient[Samples, MyEventType, MyEventTopic](
        Samples, "127.0.0.1", *ports, topics=["my_service"], max_event_values=10, packing=packing
    )
    many, few = (Samples(type=MyEventType.updated, values=[1.0] * count) for count in (11, 7))
    with bus:
        with pytest.raises(TooManyValues, match=r"my_service: .* more than 10 values.*EVENTBUS_MAX_EVENT_VALUES"):
            bus.emit_event(many, MyEventTopic.my_service)
        with pytest.raises(TooManyValues):
            bus.emit_events([few, many], MyEventTopic.my_service)
        assert bus.stats().emitted == 0
        bus.emit_events([few, few], MyEventTopic.my_service)
        assert [bus.recv_event(PATIENCE), bus.recv_event(PATIENCE)] == [few, few]


@pytest.mark.parametrize("packing", Packing)
def test_an_event_that_is_too_large_is_refused(connected: Callable[..., Bus], packing: Packing) -> None:
    """An event beyond the limit is an error that names topic, size and limit; nothing is sent, of many events neither."""
    size = len(json_of()) + 10
    bus = connected(max_event_bytes=size, packing=packing)
    bus.subscribe(MyEventTopic.my_service)
    fitting = event().model_copy(update={"time": event().time + "x" * 10})
    assert len(fitting.model_dump_json()) == size
    larger = fitting.model_copy(update={"time": fitting.time + "x"})
    with pytest.raises(EventTooLarge, match=rf"my_service: the event is {size + 1} bytes.*{size}.*EVENTBUS_MAX_EVENT_BYTES"):
        bus.emit_event(larger, MyEventTopic.my_service)
    with pytest.raises(EventTooLarge):
        bus.emit_events([fitting, larger], MyEventTopic.my_service)
    assert bus.stats().emitted == 0
    bus.emit_event(fitting, MyEventTopic.my_service)
    bus.emit_events([fitting, fitting], MyEventTopic.my_service)
    assert [bus.recv_event(timeout=PATIENCE) for _ in range(3)] == [fitting] * 3
