"""`EventBusClient` with compressed payloads: senders, readers, and payloads that nobody can read."""

import json
import sys
import zlib
from collections.abc import Callable

import lz4.frame
import pytest
import zmq

from eventbus import BaseEventTopic, Compression, CompressionMissing, EventBusClient, EventBusProxy, EventTooLarge, Packing
from eventbus.transports.memory import MemoryHub, MemoryTransport
from eventbus.wire.compression import is_compressed
from tests.support import PATIENCE, Bus, MyEvent, MyEventTopic, MyEventType, RawPeers, event, eventually, json_of, read_until

TOPIC, OTHER = MyEventTopic.my_service, MyEventTopic.other
ALL = [Compression.ZLIB, Compression.ZSTD, Compression.LZ4]


def large(value: float = 0.0, size: int = 3_000) -> MyEvent:
    """An event that a number tells from others, and that can be made smaller."""
    return event(value).model_copy(update={"time": "2026-01-31 " * (size // 11)})


def sent_by(client: Bus, raw: RawPeers, emit: Callable[[], None]) -> list[bytes]:
    """The payloads of what the client emits on `my_service`, as plain ZeroMQ receives them."""
    subscriber = raw.subscriber()
    client.connect()  # proves the path again: the client now knows that subscription
    emit()
    client.emit_event(event(), OTHER)
    return [payload for topic, payload in read_until(subscriber, b"other") if not topic.startswith(b"\xff")]


@pytest.mark.parametrize("numbered", [False, True], ids=["plain", "numbered"])
@pytest.mark.parametrize("compression", ALL)
def test_all_understand_each_other(connected: Callable[..., Bus], compression: Compression, numbered: bool) -> None:
    """A client's compressed events reach clients of any setting, and it receives theirs; each in order."""
    one, two = connected(compression=compression, numbered=numbered), connected(compression=Compression.NONE)
    for client in (one, two):
        client.subscribe(TOPIC)
        client.start_consumer()
    for client in (one, two):
        client.connect()  # by now it knows the other's subscription too
        expected = [large(1), event(2), *(large(number) for number in range(3, 60)), event(60)]
        for emitted in expected[:3]:
            client.emit_event(emitted, TOPIC)
        client.emit_events(expected[3:], TOPIC)
        for receiver in (one, two):
            assert [receiver.recv_event(PATIENCE) for _ in expected] == expected
    for client in (one, two):
        assert (client.stats().emitted, client.stats().received) == (60, 120)
        assert (client.stats().rejected, client.stats().lost) == (0, 0)


@pytest.mark.parametrize("compression", ALL)
def test_a_packed_message_is_compressed_as_a_whole(
    connected: Callable[..., Bus], raw: RawPeers, compression: Compression
) -> None:
    """Many small events travel as one compressed array."""
    client = connected(compression=compression)
    [payload] = sent_by(client, raw, lambda: client.emit_events(map(event, range(100)), TOPIC))
    assert is_compressed(payload)
    assert len(payload) < len(json_of()) * 50


def test_small_events_travel_as_they_are(connected: Callable[..., Bus], raw: RawPeers) -> None:
    """Up to the threshold, events are plain JSON, packed or not, and so is what would not get smaller."""
    size = len(large().model_dump_json())
    client = connected(compression=Compression.ZLIB, compression_threshold=size)

    def emit() -> None:
        client.emit_event(large(1), TOPIC)
        client.emit_events([event(2), event(3)], TOPIC)
        client.emit_event(large(10), TOPIC)

    payloads = sent_by(client, raw, emit)
    assert [is_compressed(payload) for payload in payloads] == [False, False, True]
    assert len(payloads[0]) == size
    assert json.loads(zlib.decompress(payloads[2]))["value"] == 10


def test_without_compression_nothing_is_compressed(connected: Callable[..., Bus], raw: RawPeers) -> None:
    """The default is plain JSON at any size, which the original client can read."""
    client = connected()
    [payload] = sent_by(client, raw, lambda: client.emit_event(large(1, 100_000), TOPIC))
    assert json.loads(payload)["value"] == 1


@pytest.mark.parametrize("packing", Packing)
def test_the_limit_is_that_of_the_json(connected: Callable[..., Bus], packing: Packing) -> None:
    """An event over `max_event_bytes` is refused, however small it would travel; one of just that size is not."""
    size = len(large().model_dump_json())
    client = connected(compression=Compression.ZLIB, max_event_bytes=size, packing=packing)
    client.subscribe(TOPIC)
    with pytest.raises(EventTooLarge) as caught:
        client.emit_event(large(10), TOPIC)
    assert (caught.value.size, caught.value.limit) == (size + 1, size)
    with pytest.raises(EventTooLarge):
        client.emit_events([large(1), large(10)], TOPIC)
    client.emit_event(large(1), TOPIC)
    client.emit_events([large(2), large(3)], TOPIC)
    assert [client.recv_event(PATIENCE) for _ in range(3)] == [large(1), large(2), large(3)]


# What cannot be read


DOUBLE = zlib.compress(zlib.compress(json_of(-1)))
REJECTED: dict[str, tuple[bytes, str]] = {
    "damaged": (zlib.compress(json_of(-1))[:-1] + b"\0", "compression"),
    "cut-off": (lz4.frame.compress(json_of(-1))[:-1], "compression"),
    "goes-on": (zlib.compress(json_of(-1)) + b"}", "compression"),
    "two-streams": (2 * lz4.frame.compress(json_of(-1)), "compression"),
    "only-a-magic": (b"\x28\xb5\x2f\xfd", "compression"),
    "holds-nothing": (zlib.compress(b""), "json"),
    "holds-text": (zlib.compress(b"started"), "json"),
    "compressed-twice": (DOUBLE, "json"),
    "holds-no-event": (zlib.compress(b'{"type":"updated"}'), "schema"),
    "bomb": (zlib.compress(bytes(10_000_000)), "too_large"),
    "says-2^60": (b"\x28\xb5\x2f\xfd\xe0" + (1 << 60).to_bytes(8, "little") + b"\x01\0\0", "too_large"),
    "over-the-limit": (zlib.compress(b" " * 100_000 + json_of(-1)), "too_large"),
    "text-over-the-limit-of-one": (zlib.compress(json_of(-1) + b" " * 2_000), "too_large"),
}


def test_what_cannot_be_inflated_is_rejected(
    connected: Callable[..., Bus], raw: RawPeers, caplog: pytest.LogCaptureFixture
) -> None:
    """Each bad payload is one reject with its reason, a line per reason is logged, and no neighbour is lost."""
    client = connected(max_event_bytes=2_000)
    client.subscribe(TOPIC)
    client.start_consumer()
    publisher = raw.publisher(b"my_service", zmq.XPUB)
    for number, (payload, _) in enumerate(REJECTED.values()):
        publisher.send_multipart([b"my_service", json_of(2 * number)])
        publisher.send_multipart([b"my_service", payload])
        publisher.send_multipart([b"my_service", zlib.compress(json_of(2 * number + 1), 9)])
    received = [client.recv_event(PATIENCE) for _ in range(2 * len(REJECTED))]
    assert received == [event(number) for number in range(2 * len(REJECTED))]
    reasons = [reason for _, reason in REJECTED.values()]
    eventually(lambda: client.stats().rejected == len(reasons))
    assert client.stats().rejects == {reason: reasons.count(reason) for reason in reasons}
    eventually(lambda: len(caplog.records) == len(set(reasons)))
    assert sorted(vars(line)["eventbus_reason"] for line in caplog.records) == sorted(set(reasons))


def test_packed_events_may_inflate_to_more_than_one(connected: Callable[..., Bus]) -> None:
    """A compressed array may be larger than the limit for one event, as a plain one may."""
    sender, receiver = connected(compression=Compression.ZSTD), connected(max_event_bytes=200)
    receiver.subscribe(TOPIC)
    receiver.start_consumer()
    sender.connect()
    sender.emit_events(map(event, range(200)), TOPIC)
    assert [receiver.recv_event(PATIENCE) for _ in range(200)] == [event(number) for number in range(200)]


@pytest.mark.parametrize("compression", [Compression.ZSTD, Compression.LZ4])
def test_a_missing_library(
    compression: Compression, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A client that is to compress without the library is not made; one that receives rejects, and names the extra."""
    hub = MemoryHub()
    sender = Bus(MyEvent, transport=MemoryTransport(hub), compression=compression)
    receiver = Bus(MyEvent, transport=MemoryTransport(hub))
    with sender, receiver:
        receiver.subscribe(TOPIC)
        for name in ("compression.zstd", "backports.zstd", "lz4.frame"):
            monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(CompressionMissing, match=rf"pip install 'eventbus\[{compression}\]'"):
            Bus(MyEvent, transport=MemoryTransport(hub), compression=compression)
        sender.emit_event(large(1), TOPIC)
        sender.emit_event(event(2), TOPIC)
        assert receiver.recv_event(PATIENCE) == event(2)
        assert receiver.stats().rejects == {"compression": 1}
        [line] = caplog.records
        assert f"pip install 'eventbus[{compression}]'" in line.getMessage()


# Topics that look like compressed payloads


class OddTopic(BaseEventTopic):
    letter = "x"
    parenthesis = "(µ/"
    magic = "x^y"
    text = "x\u06abV"


@pytest.mark.parametrize("everything", [False, True])
def test_topics_that_look_compressed(proxy: EventBusProxy, everything: bool) -> None:
    """A topic may begin like a compressed payload; its events come, compressed or not."""
    with EventBusClient[MyEvent, MyEventType, OddTopic](
        MyEvent, "127.0.0.1", proxy.pub_port, proxy.sub_port, compression=Compression.ZLIB
    ) as client:
        for topic in (None,) if everything else OddTopic:
            client.subscribe(topic)
        for topic in OddTopic:
            client.emit_event(event(1), topic)
            client.emit_event(large(2), topic)
        received = [client.recv_event(PATIENCE) for _ in range(2 * len(OddTopic))]
        assert received == [event(1), large(2)] * len(OddTopic)
        assert client.stats().rejected == 0
