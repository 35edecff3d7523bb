"""Bytes of any kind for everything that reads them: nothing breaks, all is counted, and what is good gets through."""

import random
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from time import monotonic, thread_time
from typing import Any

import lz4.frame
import pytest
from pydantic import ValidationError

from eventbus import BaseEvent, RejectReason
from eventbus.receive.unpacking import Unpacker
from eventbus.transports.memory import MemoryHub, MemoryTransport
from eventbus.wire.codec import Codec
from eventbus.wire.frames import ARRAY, MARK, MAX_PACKED_BYTES, PAYLOAD_STARTS, PRIVATE, Prefixes, messages
from eventbus.wire.numbering import Gaps, Numbering
from eventbus.wire.rejects import Reject
from tests.support import PATIENCE, Bus, MyEvent, MyEventTopic, MyEventType, Recorder, eventually, json_of

SECONDS = 0.7  # for each test
AT_LEAST = 30  # rounds of each test, also on a machine that has other things to do
SEED = 20_260_131
TOPICS = [b"my_service", b"my_service_scheduler", b"other"]
SUBSCRIBED = b"my_service"

PIECES = [
    *TOPICS,
    *PAYLOAD_STARTS,
    MARK,
    PRIVATE,
    b"",
    b"m",
    b"\x00" * 8,
    b"\xff" * 8,
    b"null",
    b"[]",
    b"{}",
    b"[[[[",
    b"1e999",
    b'"\\ud800"',
    b'{"type":"updated"}',
    b'{"type":"unknown","time":"now"}',
    b'{"type":"updated","time":3}',
    "ä".encode(),
    json_of(1),
    b"[" + json_of(1) + b"," + json_of(2) + b"]",
]


class Fuzz:
    """Bytes made of random pieces, and of good ones that were tampered with."""

    def __init__(self) -> None:
        self.chance = random.Random(SEED)
        self._numberings = [Numbering(bytes([number]) * 8) for number in range(1, 4)]

    def frame(self) -> bytes:
        """A first frame: a topic, numbered or not, whole or not; or anything."""
        match self.chance.randrange(6):
            case 0:
                return self.anything()
            case 1:
                return self.tampered(self.numbered())
            case 2 | 3:
                return self.numbered()
            case _:
                return self.chance.choice(TOPICS)

    def numbered(self) -> bytes:
        """A numbered frame, perhaps with a gap before it, perhaps with a number that has been before."""
        numbering, topic = self.chance.choice(self._numberings), self.chance.choice(TOPICS)
        count = self.chance.choice([0, 1, 1, 1, 2, 3, 2**32 - 1])
        frame = numbering.next(topic, count)
        if self.chance.random() < 0.9 and count < 2**31:
            numbering.taken(topic, count)
        return frame

    def payload(self) -> bytes:
        """An event, several, none, or anything."""
        match self.chance.randrange(5):
            case 0:
                return self.anything()
            case 1:
                return self.tampered(self.chance.choice(PIECES))
            case _:
                return self.chance.choice(PIECES)

    def anything(self) -> bytes:
        """Pieces one after the other, or random bytes."""
        if self.chance.random() < 0.5:
            return b"".join(self.chance.choices(PIECES, k=self.chance.randrange(6)))
        return self.chance.randbytes(self.chance.choice([0, 1, 2, 8, 17, 21, 300]))

    def tampered(self, content: bytes) -> bytes:
        """The same with a byte changed, with something put in or taken away."""
        where = self.chance.randrange(len(content) + 1)
        what = self.chance.choice([b"", self.chance.randbytes(1), self.chance.choice(PIECES)])
        return content[:where] + what + content[where + self.chance.randrange(3) :]


def while_it_lasts(soak_seconds: float | None) -> Iterator[Fuzz]:
    """The same fuzz over and over, as long as there is time."""
    fuzz, end = Fuzz(), monotonic() + (soak_seconds or SECONDS)
    for number in count():
        if number > AT_LEAST and monotonic() > end:
            return
        yield fuzz


def test_splitting_frames(soak_seconds: float | None) -> None:
    """Whatever the frames, `messages` splits them into pairs of those frames, in order, and raises nothing."""
    for fuzz in while_it_lasts(soak_seconds):
        count = fuzz.chance.randrange(1, 20)
        make: list[Callable[[], bytes]] = [fuzz.frame, fuzz.payload]
        frames = [fuzz.chance.choice(make)() if fuzz.chance.random() < 0.2 else make[index % 2]() for index in range(count)]
        prefixes = Prefixes(fuzz.chance.sample([*TOPICS, b""], fuzz.chance.randrange(5)))
        (topics, payloads), malformed = messages(frames, prefixes)
        assert len(topics) == len(payloads)
        assert 2 * len(topics) + malformed <= len(frames)
        rest = iter(frames)
        for pair in zip(topics, payloads, strict=True):
            for part in pair:
                assert part in rest  # in this order


def test_decoding(soak_seconds: float | None) -> None:
    """Whatever the payload, it is an event, several, or refused with pydantic's error and then a reason for each element."""
    codec: Codec[MyEvent] = Codec(MyEvent)
    for fuzz in while_it_lasts(soak_seconds):
        payload = fuzz.payload()
        many = payload[:1] == ARRAY
        try:
            found: list[MyEvent] = codec.decode_many(payload) if many else [codec.decode_one(payload)]
            assert all(isinstance(one, MyEvent) for one in found)
        except ValidationError:
            salvaged = list(codec.salvage(payload))
            assert any(isinstance(one, Reject) for one in salvaged) or payload.lstrip().startswith(ARRAY)
            assert all(isinstance(one, (MyEvent, Reject)) for one in salvaged)


def test_decoding_takes_no_longer_than_some_events(soak_seconds: float | None) -> None:
    """Whatever an array that publishers could pack holds, each element counts, and a bounded number is looked at alone."""
    codec: Codec[MyEvent] = Codec(MyEvent)
    attempts = 0
    decode_one = codec.decode_one

    def count(payload: bytes) -> MyEvent:
        nonlocal attempts
        attempts += 1
        return decode_one(payload)

    codec.decode_one = count
    for fuzz in while_it_lasts(soak_seconds):
        pieces = [fuzz.payload() for _ in range(fuzz.chance.randrange(1, 4))]
        repeated = b",".join(pieces)
        payload = b"[" + b",".join([repeated] * (MAX_PACKED_BYTES // (len(repeated) + 1))) + b"]"
        attempts = 0
        found = list(codec.salvage(payload))
        events = sum(not isinstance(one, Reject) for one in found)
        rejects = [one for one in found if isinstance(one, Reject)]
        assert attempts <= events + 1_001
        assert len(rejects) <= 1_001
        assert events + sum(reject.count for reject in rejects) <= MAX_PACKED_BYTES


def test_reading_numbers(soak_seconds: float | None) -> None:
    """Whatever the first frames, `Gaps` names the topic of each, which have come before, and losses of subscribed topics."""
    gaps, lost = Gaps(limit=5), Counter[bytes]()
    for fuzz in while_it_lasts(soak_seconds):
        frames = [fuzz.frame() for _ in range(fuzz.chance.randrange(1, 20))]
        reading = gaps.read(frames, lambda topic: topic.startswith(SUBSCRIBED))
        assert len(reading.topics) == len(frames)
        assert all(frame.startswith(topic) for frame, topic in zip(frames, reading.topics, strict=True))
        assert reading.repeated == sorted(set(reading.repeated) & set(range(len(frames))))
        lost.update(reading.lost)
        assert all(topic.startswith(SUBSCRIBED) and count >= 0 for topic, count in lost.items())
        if fuzz.chance.random() < 0.05:
            gaps.forget(fuzz.chance.choice([b"", *TOPICS]))


def test_consuming(soak_seconds: float | None) -> None:
    """Whatever the messages, the consumer takes what is an event, counts the rest, and goes on with the next good one."""
    hub = MemoryHub()
    sender = MemoryTransport(hub)
    sender.open(1)
    recorder = Recorder()
    with Bus(MyEvent, transport=MemoryTransport(hub), max_event_bytes=200) as client:
        client.subscribe(MyEventTopic.my_service)
        for event_type in MyEventType:
            client.attach_callback(event_type, recorder)
        client.start_consumer()
        before = 0
        for round_, fuzz in enumerate(while_it_lasts(soak_seconds)):
            for _ in range(fuzz.chance.randrange(1, 50)):
                sender.send(fuzz.frame(), fuzz.payload())
            sender.send(SUBSCRIBED, json_of(round_ + 1_000.0))
            eventually(lambda r=round_: recorder.values[-1:] == [r + 1_000.0], PATIENCE)  # type: ignore[misc]
            eventually(lambda: client.stats().handled == len(recorder.events))  # it is counted when the handler has returned
            stats = client.stats()
            assert stats.received == stats.handled == len(recorder.events) > before
            assert stats.rejected == sum(stats.rejects.values())
            assert set(stats.rejects) <= set(RejectReason)
            before = stats.received
        stats = client.stats()
        assert min(stats.rejected, stats.lost, stats.repeated) > 0


class Samples(BaseEvent[MyEventType]):
    """An event in which anything may be, also very much of it."""

    anything: Any = None
    numbers: tuple[float, ...] = ()
    models: tuple[MyEvent, ...] = ()


REPEATED = [
    b"1,",
    b"1.5,",
    b"{},",
    b"[],",
    b'"a",',
    b'"\\u00e4",',
    b"[[",
    b'{"a":',
    b"null,",
    b"true,",
    b'"' + b"a," * 50 + b'",',
    b"\\",
    b'"',
    b'\\",',
    b"8" * 4_000 + b",",
]
COMPRESSIONS: list[Callable[[bytes], bytes]] = [bytes, bytes, lambda payload: zlib.compress(payload, 1), lz4.frame.compress]


def test_no_message_takes_long() -> None:
    """Unpacking and decoding a message takes a bounded time of the processor, whatever is repeated in it."""
    chance = random.Random(SEED)
    codec = Codec(Samples)
    report = Rejections()
    unpacker = Unpacker(lambda topic: True, report, 16_777_216, 100_000)
    end = monotonic() + SECONDS * 4
    slowest = 0.0
    while monotonic() < end:
        piece = b"".join(chance.choices(REPEATED, k=chance.randrange(1, 4)))
        body = piece * (chance.choice([1_000, 300_000, 4_000_000, 16_000_000]) // len(piece))
        field = chance.choice([b"anything", b"numbers", b"models"])
        payload = chance.choice([body, b"[" + body + b"1]", b'{"type":"updated","' + field + b'":[' + body + b"1]}"])
        payload = chance.choice(COMPRESSIONS)(payload)
        begin = thread_time()
        for content in unpacker.contents([SUBSCRIBED], [payload], None):
            try:
                codec.decode(content.json)
            except ValidationError as error:
                for _ in codec.salvage(content.json, error):
                    pass
        slowest = max(slowest, thread_time() - begin)
    # Ten times what it takes here. Without limits it is minutes.
    assert slowest < 1.0, f"{slowest:.2f} s of the processor for one message"


@pytest.mark.parametrize("piece", [b"1,", b"1.5,", b'"a",', b'"a":"b",', b"[],", b'"' + b"a," * 50 + b'",', b'"\\"",'])
@pytest.mark.parametrize("field", [b"", b'{"type":"updated","anything":'])
def test_no_more_is_inflated_than_needed(field: bytes, piece: bytes) -> None:
    """What is too much is found in the first megabytes: that the stream is cut off behind them is not noticed."""
    report = Rejections()
    unpacker = Unpacker(lambda topic: True, report, 16_777_216, 10_000)
    stream = zlib.compressobj(1)
    payload = stream.compress(field + b"[" + piece * (2_500_000 // len(piece))) + stream.flush(zlib.Z_SYNC_FLUSH)
    assert list(unpacker.contents([SUBSCRIBED], [payload], None)) == []
    assert report.reasons == [RejectReason.TOO_LARGE]


@pytest.mark.parametrize("text", [b"a,", b'\\",', b"\\\\,", b'\\\\\\",[{', "ä,".encode(), b"1,2,"])
@pytest.mark.parametrize("compress", [bytes, zlib.compress, lz4.frame.compress])
def test_a_long_text_is_one_value(compress: Callable[[bytes], bytes], text: bytes) -> None:
    """An event of nearly 16 MiB, or 8 MiB compressed, in one text passes, whatever the text holds."""
    report = Rejections()
    unpacker = Unpacker(lambda topic: True, report, 16_777_216, 100_000)
    size = 16_777_000 if compress is bytes else 8_388_500
    json = b'{"type":"updated","anything":"' + text * (size // len(text)) + b'"}'
    [content] = unpacker.contents([SUBSCRIBED], [compress(json)], None)
    assert content.json == json
    assert report.reasons == []


class Rejections:
    """Takes note of the reasons of rejects."""

    def __init__(self) -> None:
        self.reasons: list[RejectReason] = []

    def lost(self, topic: bytes, count: int) -> None:
        """Ignore it."""

    def forged(self, topic: bytes, count: int) -> None:
        """Ignore it."""

    def repeated(self, count: int) -> None:
        """Ignore it."""

    def rejected(self, topic: bytes, reject: Reject) -> None:
        """Remember the reason."""
        self.reasons.append(reject.reason)
