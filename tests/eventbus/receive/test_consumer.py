"""The consumer: starting and stopping its thread, and what must not fall between; what is missing, and what is too large."""

import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from pydantic import field_validator

from eventbus import Compression, EventBusProxy, EventBusStats, NotConnected, RejectReason
from eventbus._base.log_throttle import LogThrottle
from eventbus.observe.hooks import Hooks
from eventbus.observe.stats import Counters
from eventbus.receive.buffer import ReceiveBuffer
from eventbus.receive.consumer import Consumer
from eventbus.receive.dispatcher import Dispatcher
from eventbus.transports.memory import MemoryHub, MemoryTransport
from eventbus.wire.codec import Codec
from eventbus.wire.frames import MAX_PACKED_BYTES, MAX_TOPIC_BYTES, Batch
from eventbus.wire.numbering import Numbering
from tests.support import PATIENCE, Bus, MyEvent, MyEventTopic, MyEventType, Recorder, event, eventually, json_of

TOPIC = MyEventTopic.my_service


class StoppedInBetween(MemoryTransport):
    """Lets a test stop the consumer after it has read a batch and before it handles it."""

    def __init__(self) -> None:
        super().__init__()
        self.has_read, self.go_on = threading.Event(), threading.Event()

    def receive(self) -> Batch | None:
        batch = super().receive()
        if batch and batch[0]:
            self.has_read.set()
            assert self.go_on.wait(PATIENCE)
        return batch


def test_what_was_read_when_it_is_stopped_is_handled() -> None:
    """A batch that the consumer has read when stop_consumer() comes is handled, not forgotten."""
    transport = StoppedInBetween()
    recorder = Recorder()
    with Bus(MyEvent, transport=transport) as client:
        client.attach_callback(MyEventType.updated, recorder)
        client.subscribe(TOPIC)
        client.start_consumer()
        client.emit_event(event(1), TOPIC)
        assert transport.has_read.wait(PATIENCE)
        stopping = threading.Thread(target=client.stop_consumer, args=(PATIENCE,), daemon=True)
        stopping.start()
        transport.go_on.set()
        stopping.join(PATIENCE)
        assert recorder.values == [1]
        assert (client.stats().received, client.stats().dropped) == (1, 0)


def test_close_is_not_undone_by_a_reader(proxy: EventBusProxy) -> None:
    """A thread that calls recv_event() over and over does not start the consumer again while close() closes."""
    for _ in range(10):
        client = Bus(MyEvent, "127.0.0.1", proxy.pub_port, proxy.sub_port)
        client.connect()
        refused = threading.Event()

        def read(client: Bus = client, refused: threading.Event = refused) -> None:
            try:
                while True:
                    client.recv_event(0.001)
            except NotConnected:
                refused.set()

        threading.Thread(target=read, daemon=True).start()
        eventually(lambda: any(thread.name == "eventbus-consumer" for thread in threading.enumerate()))
        client.close(PATIENCE)
        eventually(lambda: not [thread for thread in threading.enumerate() if thread.name == "eventbus-consumer"])
        assert refused.wait(PATIENCE)


def test_it_starts_only_while_connected() -> None:
    """Before connect() and after close() starting is refused; after connecting again it is not."""
    client = Bus(MyEvent, transport=MemoryTransport())
    with pytest.raises(NotConnected):
        client.start_consumer()
    with client:
        client.start_consumer()
    with pytest.raises(NotConnected):
        client.start_consumer()
    with client:
        client.start_consumer()


class Bench:
    """A consumer in memory that is subscribed to `my_service` and runs, and a publisher that numbers."""

    def __init__(
        self,
        max_event_bytes: int | None = None,
        throttle: LogThrottle | None = None,
        max_event_values: int | None = None,
    ) -> None:
        hub = MemoryHub()
        self.recorder = Recorder()
        self.numbering = Numbering()
        self.counters = Counters()
        self.buffer: ReceiveBuffer[MyEvent] = ReceiveBuffer(1_000)
        self.dispatcher = Dispatcher(self.buffer, self.counters)
        self.dispatcher.attach(MyEventType.updated, self.recorder, None)
        self.dispatcher.subscribe(b"my_service")
        self.sender, self.transport = MemoryTransport(hub), MemoryTransport(hub)
        self.transport.subscribe(b"my_service")
        self.sender.open(PATIENCE)
        self.codec: Codec[MyEvent] = Codec(MyEvent)
        self.consumer = Consumer(
            self.transport,
            self.codec,
            self.dispatcher,
            self.counters,
            Hooks(),
            max_event_bytes=max_event_bytes,
            max_event_values=max_event_values,
            throttle=throttle,
        )
        self.open()

    def open(self) -> None:
        self.transport.open(PATIENCE)
        self.consumer.open()
        self.consumer.start()

    def close(self) -> None:
        self.consumer.stop(PATIENCE, for_good=True)
        self.transport.close(0)

    def send(self, *values: float, topic: bytes = b"my_service", arrives: bool = True) -> None:
        """Send one message of numbered events. If it arrives, return when they are handled; else it is lost."""
        payloads = [json_of(value) for value in values]
        payload = payloads[0] if len(payloads) == 1 else b"[" + b",".join(payloads) + b"]"
        if arrives:
            expected = len(self.recorder.events) + len(values) * self.dispatcher.takes(topic)
            self.sender.send(self.numbering.next(topic, len(values)), payload, len(values))
            self.recorder.wait_for(expected)
        self.numbering.taken(topic, len(values))

    def stats(self) -> EventBusStats:
        return self.counters.snapshot(emitted=0, received=self.buffer.received, malformed=0, unread=0, drops={})


@pytest.fixture
def benches() -> Iterator[Callable[..., Bench]]:
    """Makes benches, with the options that it is given, and closes them at the end."""
    with ExitStack() as stack:

        def make(
            max_event_bytes: int | None = None,
            throttle: LogThrottle | None = None,
            max_event_values: int | None = None,
        ) -> Bench:
            made = Bench(max_event_bytes, throttle, max_event_values)
            stack.callback(made.close)
            return made

        yield make


@pytest.fixture
def bench(benches: Callable[..., Bench]) -> Bench:
    return benches()


# What is missing


def test_numbered_events_are_received(bench: Bench) -> None:
    """Numbered events arrive as plain ones do, packed ones too, and nothing is lost where nothing is missing."""
    bench.send(1)
    bench.send(2, 3)
    bench.send(4)
    assert bench.recorder.values == [1, 2, 3, 4]
    assert (bench.stats().received, bench.stats().lost, bench.stats().rejected) == (4, 0, 0)


def test_what_is_missing_is_counted(bench: Bench) -> None:
    """Every event that was sent between two that have come counts as lost, those of a packed message one by one."""
    bench.send(1)
    bench.send(2, arrives=False)
    bench.send(3, 4, 5, arrives=False)
    bench.send(6)
    assert (bench.stats().received, bench.stats().lost) == (2, 4)


def test_a_loss_is_logged_once_a_minute(benches: Callable[..., Bench], caplog: pytest.LogCaptureFixture) -> None:
    """The first loss makes a line with its topic and count; the next one, a minute later, tells how many were lost since."""
    times = [0.0, 59.0, 59.9, 60.0, 120.0]
    bench = benches(throttle=LogThrottle(60.0, iter(times).__next__))
    bench.send(1)
    for _ in times:
        bench.send(2, 3, arrives=False)
        bench.send(4)
    first = caplog.records[0]
    assert first.getMessage().startswith("lost 2 events on 'my_service' between their publisher and here")
    assert (vars(first)["eventbus_topic"], vars(first)["eventbus_count"]) == ("my_service", 2)
    more = [line.getMessage().partition("queue there was full")[2] for line in caplog.records]
    assert more == ["", "; 4 more lost since the last such line", ""]
    assert bench.stats().lost == 10


def test_a_loss_on_a_hostile_topic(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """A topic's name is escaped and cut off in the line, and in its field."""
    topic = b"my_service\x1b[2J\n".ljust(MAX_TOPIC_BYTES, b"\x1b")
    bench.dispatcher.subscribe(topic)
    bench.send(1, topic=topic)
    bench.send(2, topic=topic, arrives=False)
    bench.send(3, topic=topic)
    [line] = caplog.records
    assert line.getMessage().startswith(r"lost 1 event on 'my_service\x1b[2J\n\x1b")
    assert line.getMessage().isprintable()
    assert len(line.getMessage()) < 500
    assert len(vars(line)["eventbus_topic"]) == 255


@pytest.mark.patience
@pytest.mark.parametrize("number", [900_000, 2**64 - 1])
def test_a_forged_number_costs_no_event(bench: Bench, caplog: pytest.LogCaptureFixture, number: int) -> None:
    """A number far ahead in a publisher's name hides none of its events; nothing is lost, and one line reports it."""
    forger = Numbering(bench.numbering.next(b"my_service")[len(b"my_service\0") :][:8])
    forger.taken(b"my_service", number - 1)
    for value in range(5):
        bench.send(value)
    bench.sender.send(forger.next(b"my_service"), json_of(-1))
    for value in range(5, 1_000):
        bench.send(value)
    assert bench.recorder.values == [0, 1, 2, 3, 4, -1, *range(5, 1_000)]
    assert (bench.stats().lost, bench.stats().repeated) == (0, 0)
    [line] = caplog.records
    assert line.getMessage().startswith("numbers of a publisher on 'my_service' cannot be its own")
    assert vars(line)["eventbus_topic"] == "my_service"


def test_what_is_not_subscribed_is_not_missed(bench: Bench) -> None:
    """Topics that only begin like a subscribed one are not counted, nor what was sent before they are subscribed."""
    bench.send(-1, topic=b"my_service_scheduler")
    bench.send(-1, topic=b"my_service_scheduler", arrives=False)
    bench.send(0)
    bench.dispatcher.subscribe(b"my_service_scheduler")
    bench.send(1, topic=b"my_service_scheduler")
    assert bench.recorder.values == [0, 1]
    assert bench.stats().lost == 0


def test_a_pause_is_not_missed(bench: Bench) -> None:
    """Events sent while a topic was unsubscribed are not lost; those missing after that are."""
    bench.send(1)
    bench.dispatcher.unsubscribe(b"my_service")
    bench.consumer.forget(b"my_service")
    bench.send(2, arrives=False)
    bench.dispatcher.subscribe(b"my_service")
    bench.send(3)
    assert bench.stats().lost == 0
    bench.send(4, arrives=False)
    bench.send(5)
    assert bench.stats().lost == 1


def test_what_was_sent_while_closed_is_not_missed(bench: Bench) -> None:
    """A client that connects again begins to count anew; one that only stopped its consumer goes on."""
    bench.send(1)
    bench.consumer.stop(PATIENCE)
    bench.consumer.start()
    bench.send(2, arrives=False)
    bench.send(3)
    assert bench.stats().lost == 1
    bench.close()
    bench.send(4, arrives=False)
    bench.open()
    bench.send(5)
    assert bench.stats().lost == 1


def test_opening_an_open_one_forgets_nothing(bench: Bench) -> None:
    """Proving the path again does not hide a loss."""
    bench.send(1)
    bench.consumer.open()
    bench.send(2, arrives=False)
    bench.send(3)
    assert bench.stats().lost == 1


# What is too large


@pytest.mark.parametrize(("limit", "accepted"), [(None, True), (len(json_of(1)), True), (len(json_of(1)) - 1, False)])
@pytest.mark.parametrize("numbered", [False, True])
def test_an_event_over_the_limit_is_rejected(
    benches: Callable[..., Bench], limit: int | None, accepted: bool, numbered: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A payload of more bytes than the limit is counted and logged, once a minute, and costs no other event."""
    small = b'{"type":"updated","time":""}'
    bench = benches(max_event_bytes=limit)
    for payload in (small, json_of(1), small, json_of(1), small):
        bench.sender.send(bench.numbering.next(b"my_service") if numbered else b"my_service", payload)
        bench.numbering.taken(b"my_service")
    assert bench.recorder.wait_for(5 if accepted else 3) == ([0, 1, 0, 1, 0] if accepted else [0, 0, 0])
    assert (bench.stats().rejected, bench.stats().lost) == (0 if accepted else 2, 0)
    assert [vars(line)["eventbus_reason"] for line in caplog.records] == ([] if accepted else ["too_large"])


def test_what_is_too_large_is_not_decoded(benches: Callable[..., Bench], caplog: pytest.LogCaptureFixture) -> None:
    """A payload over the limit is not looked at: also one that is no JSON is just too large."""
    bench = benches(max_event_bytes=60)
    bench.sender.send(b"my_service", b"{" + b"x" * 60)
    eventually(lambda: bench.stats().rejected == 1 and caplog.records)
    [line] = caplog.records
    assert "61 bytes, the limit is 60" in line.getMessage()


@pytest.mark.parametrize("pack", [bytes, zlib.compress], ids=["plain", "compressed"])
def test_an_event_with_too_many_values_is_not_decoded(
    benches: Callable[..., Bench], pack: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """However it is sent, an event with more values than allowed is refused; the events before and after it are not."""
    bench = benches(max_event_bytes=16_777_216, max_event_values=20)
    values = b'{"type":"updated","time":"","value":1,"more":[' + b"1," * 30 + b"1]}"
    for payload in (json_of(1), pack(values), json_of(2)):
        bench.sender.send(b"my_service", payload)
    assert bench.recorder.wait_for(2) == [1, 2]
    assert bench.stats().rejects == {RejectReason.TOO_LARGE: 1}
    assert "more values than the limit, which is 20" in caplog.messages[0]


@pytest.mark.parametrize("space", [b"", b" "])
@pytest.mark.parametrize("max_event_bytes", [100, 16_777_216, None])
def test_packed_events_may_be_larger_together(
    benches: Callable[..., Bench], space: bytes, max_event_bytes: int | None
) -> None:
    """An array is too large if no client would pack as many bytes, whatever the limit for one event is."""
    bench = benches(max_event_bytes=max_event_bytes)
    events = b",".join(json_of(number) for number in range(100))
    bench.sender.send(b"my_service", space + b"[" + events + b"]")
    assert bench.recorder.wait_for(100) == list(range(100))
    bench.sender.send(b"my_service", space + b"[" + events + b" " * MAX_PACKED_BYTES + b"]")
    eventually(lambda: bench.stats().rejected == 1)
    assert bench.stats().received == 100


def test_an_array_that_is_too_large_is_not_decoded(benches: Callable[..., Bench], caplog: pytest.LogCaptureFixture) -> None:
    """Millions of elements are one reject, also compressed to a few bytes, and also behind a good event in one batch."""
    bench = benches(max_event_bytes=16_777_216)
    array = b"[" + b"1," * 2_000_000 + b"1]"
    for payload in (json_of(1), array, zlib.compress(array), json_of(2)):
        bench.sender.send(b"my_service", payload)
    assert bench.recorder.wait_for(2) == [1, 2]
    assert bench.stats().rejects == {RejectReason.TOO_LARGE: 2}
    assert "bytes, the limit is 65536" in caplog.messages[0]


def test_an_array_of_nothing_is_rejected_at_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Each element of a message counts, but only some are looked at one by one; good events are found anywhere."""
    elements = [json_of(1), *[b"1"] * 15_000, json_of(2), *[b"{}"] * 5_000, json_of(3)]
    attempts: list[bytes] = []
    decode_one = bench.codec.decode_one
    bench.codec.decode_one = lambda payload: attempts.append(payload) or decode_one(payload)  # type: ignore[func-returns-value]
    bench.sender.send(b"my_service", b"[" + b",".join(elements) + b"]")
    assert bench.recorder.wait_for(3) == [1, 2, 3]
    assert bench.stats().rejects == {RejectReason.SCHEMA: 20_000}
    assert len(attempts) <= 1_002
    assert len(caplog.messages) == 1


def test_large_events_that_nobody_reads_are_not_kept() -> None:
    """A service that has callbacks only keeps 64 MiB of large events; the rest counts as unread."""
    hub, recorder = MemoryHub(), Recorder()
    sender = MemoryTransport(hub)
    sender.open(PATIENCE)
    with Bus(MyEvent, transport=MemoryTransport(hub)) as client:
        client.subscribe(None)
        client.attach_callback(MyEventType.updated, recorder)
        client.start_consumer()
        large = json_of() + b" " * 4_000_000
        for _ in range(40):
            sender.send(b"my_service", large)
        recorder.wait_for(40)
        assert client._parts.buffer.unread == 40 - 16


def test_a_topic_that_is_too_long_is_not_remembered() -> None:
    """Subscribers of all topics refuse what comes on a topic longer than any may be, and keep nothing of it."""
    hub, recorder = MemoryHub(), Recorder()
    sender = MemoryTransport(hub)
    sender.open(PATIENCE)
    with Bus(MyEvent, transport=MemoryTransport(hub)) as client:
        client.subscribe(None)
        client.attach_callback(MyEventType.updated, recorder)
        client.start_consumer()
        longest = b"x" * MAX_TOPIC_BYTES
        for number, topic in enumerate([longest + b"x", longest, b"y" * 1_000_000, b"z"]):
            sender.send(topic, json_of(number))
        assert recorder.wait_for(2) == [1, 3]
        assert client.stats().rejects == {RejectReason.TOPIC: 2}
        assert max(map(len, client._parts.dispatcher.routes)) == MAX_TOPIC_BYTES


def test_a_topic_that_is_not_subscribed_is_not_measured(benches: Callable[..., Bench]) -> None:
    """A message too large on a topic that only begins like a subscribed one is not this client's, and not counted."""
    bench = benches(max_event_bytes=30)
    bench.sender.send(b"my_service_scheduler", json_of(1))
    bench.sender.send(b"my_service", b'{"type":"updated","time":""}')
    bench.recorder.wait_for(1)
    assert bench.stats().rejected == 0


# Compressed batches


@pytest.fixture
def pair() -> Iterator[Callable[..., tuple[Bus, Bus]]]:
    """Makes a client that compresses and one that receives in memory, where all that is sent first comes in one batch."""
    with ExitStack() as stack:

        def make(event_class: type[MyEvent] = MyEvent, **options: Any) -> tuple[Bus, Bus]:
            hub = MemoryHub()
            sender = Bus(event_class, transport=MemoryTransport(hub), compression=Compression.ZLIB)
            receiver = Bus(event_class, transport=MemoryTransport(hub), **options)
            receiver.subscribe(TOPIC)
            for client in (sender, receiver):
                stack.enter_context(client)
            return sender, receiver

        yield make


def large(value: float, size: int = 2_000) -> MyEvent:
    return event(value).model_copy(update={"time": "-" * size})


def test_a_mixed_batch_is_decoded_once(pair: Callable[..., tuple[Bus, Bus]]) -> None:
    """Wherever in a batch compressed messages stand, each event is decoded once, and all are handled in order."""
    decoded: list[float] = []

    class Noted(MyEvent):
        @field_validator("value")
        @classmethod
        def note(cls, value: float) -> float:
            decoded.append(value)
            return value

    sender, receiver = pair(Noted)
    sent = [*map(event, range(20)), large(20), *map(event, range(21, 40)), large(40), large(41), event(42)]
    sent = [Noted(**each.model_dump()) for each in sent]
    decoded.clear()
    for each in sent:
        sender.emit_event(each, TOPIC)
    assert [receiver.recv_event(PATIENCE) for _ in sent] == sent
    assert decoded == [0, *range(43)], "the first of a class is also decoded where it is emitted"


def test_a_compressed_batch_is_never_in_memory_as_a_whole(pair: Callable[..., tuple[Bus, Bus]]) -> None:
    """Few of many messages that are small on their way and large here are in memory at once."""
    count, size = 100, 2_000_000
    sender, receiver = pair(receive_buffer=1)
    receiver._parts.dispatcher.buffer.expect_reader()  # or it keeps a thousand events
    handled: list[float] = []
    receiver.attach_callback(MyEventType.updated, lambda each: handled.append(each.value))
    for number in range(count):
        sender.emit_event(large(number, size), TOPIC)
    tracemalloc.start()
    try:
        receiver.start_consumer()
        eventually(lambda: len(handled) == count)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert handled == list(range(count))
    assert peak < 8 * size


@pytest.mark.parametrize("packed", [False, True])
def test_what_comes_after_a_stop_is_dropped(pair: Callable[..., tuple[Bus, Bus]], packed: bool) -> None:
    """A handler that stops the consumer is the last one that is called, wherever the rest of the batch was decoded."""
    sender, receiver = pair()
    recorder = Recorder()
    receiver.attach_callback(MyEventType.updated, recorder)
    receiver.attach_callback(MyEventType.updated, lambda each: receiver.stop_consumer())
    if packed:
        sender.emit_events(map(event, range(900)), TOPIC)
    else:
        for each in (event(0), large(1), event(2), large(3, 2_000_000), event(4)):
            sender.emit_event(each, TOPIC)
    receiver.start_consumer()
    eventually(lambda: receiver.stats().dropped == (899 if packed else 4))
    assert recorder.values == [0]
