"""Measure how long a receiver takes to unpack and decode the slowest messages within the default limits, and print a table.

    uv run python -m tests.benchmarks.worst_messages [NAME …]

Every message is as large as it may be, or has as many values as it may have, of one kind each. Times are of the processor,
the best of a few rounds. What is refused says why; what is not is an event for the handlers.
"""

import random
import sys
import zlib
from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import repeat
from time import process_time
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from eventbus import BaseEvent, BaseEventType
from eventbus.options import ClientOptions
from eventbus.receive.unpacking import Unpacker
from eventbus.wire.codec import Codec
from eventbus.wire.compression import MAX_INFLATED_BYTES
from eventbus.wire.frames import MAX_PACKED_BYTES
from eventbus.wire.rejects import Reject

MiB = 1 << 20
ROUNDS = 5
OPTIONS = ClientOptions()
SPARE_BYTES = 1_000  # for what is around the values
VALUES = OPTIONS.max_event_values - 1_000
COLLIDING = sys.hash_info.modulus


class SampleType(BaseEventType):
    sampled = "sampled"


class Part(BaseModel):
    name: str = ""
    number: int = 0


class Fields(BaseModel):
    anything: Any = None
    text: str = ""
    ints: list[int] = []
    decimals: list[Decimal] = []
    parts: list[Part] = []
    ids: set[int] = set()
    by_id: dict[UUID, str] = {}
    a: int | None = None
    b: int | None = None


class Sample(Fields, BaseEvent[SampleType]):
    type: SampleType


class Demanding(Sample):
    """Ten required fields more."""

    r01: int
    r02: int
    r03: int
    r04: int
    r05: int
    r06: int
    r07: int
    r08: int
    r09: int
    r10: int


def event(field: str, value: bytes, kind: bytes = b"sampled") -> bytes:
    return b'{"type":"%s","%s":%s}' % (kind, field.encode(), value)


def array(element: bytes, size: int, values: int = VALUES) -> bytes:
    return b"[" + b",".join(repeat(element, min(values, size // (len(element) + 1)))) + b"]"


def text(part: bytes, size: int) -> bytes:
    return b'"' + part * (size // len(part)) + b'"'


def mixture(parts: list[bytes]) -> bytes:
    """Parts in an order that the processor cannot foresee."""
    return b"".join(random.Random(1).choices(parts, k=20_000))


def numbers(form: str, step: int) -> bytes:
    return ",".join(form.format(step * number) for number in range(VALUES)).encode()


def ids(step: int) -> bytes:
    return ",".join(f'"{UUID(int=step * number)}":""' for number in range(VALUES)).encode()


LETTERS = ["a", "é", "€", "😀"]
ESCAPES = [rb"\u0041", rb"\u00e9", rb"\u20ac", rb"\ud83d\ude00"]
JSON_IN_JSON = [rb"{\"a\":1,", rb"\"b\"},", rb"[\\\"x\\\"],"]

# By name: makes JSON of about as many bytes as it is given, or of as many values as are allowed.
KINDS: dict[str, Callable[[int], bytes]] = {
    "one text": lambda size: event("text", text(b"a", size)),
    "one text of \\u escapes": lambda size: event("text", text(rb"\u20ac", size)),
    "one text of mixed \\u escapes": lambda size: event("text", text(mixture(ESCAPES), size)),
    "one text of mixed letters": lambda size: event("text", text(mixture([one.encode() for one in LETTERS]), size)),
    "one text of JSON in JSON": lambda size: event(
        "text", text(mixture([rb"{\"a\":1,", rb"\"b\"},", rb"[\\\"x\\\"],"]), size)
    ),
    "white space": lambda size: b'{"type":"sampled",' + b" " * size + b'"text":""}',
    "texts": lambda size: event("anything", array(text(b"a", 160), size)),
    "texts of \\u escapes": lambda size: event("anything", array(text(rb"\u20ac", 160), size)),
    "names of \\u escapes": lambda size: event(
        "anything", b"{%s}" % b",".join(b'"%d%s":1' % (index, rb"\u20ac" * 25) for index in range(min(VALUES, size // 162)))
    ),
    "numbers of 160 digits": lambda size: event("anything", array(b"7" * 160, size)),
    "numbers of 4,290 digits": lambda size: event("anything", array(b"7" * 4_290, size)),
    "texts of 4,290 digits for numbers": lambda size: event("ints", array(b'"%s"' % (b"7" * 4_290), size)),
    "decimals of 160 digits": lambda size: event("decimals", array(b"7" * 160, size)),
    "decimals of 4,290 digits": lambda size: event("decimals", array(b"7" * 4_290, size)),
    "models": lambda size: event("parts", array(b'{"number":1}', size, VALUES // 2)),
    "deep arrays": lambda size: event("anything", array(b"[" * 150 + b"]" * 150, size, VALUES // 151)),
    "a set of numbers": lambda size: event("ids", b"[%s]" % numbers("{}", 1)),
    "a set of numbers that collide": lambda size: event("ids", b"[%s]" % numbers("{}", COLLIDING)),
    "a dictionary of UUIDs": lambda size: event("by_id", b"{%s}" % ids(1)),
    "a dictionary of UUIDs that collide": lambda size: event("by_id", b"{%s}" % ids(COLLIDING)),
    "too many values": lambda size: event("anything", array(b"1", size, size)),
    "an unknown type, and a long text": lambda size: event("text", text(rb"\u20ac", size), b"unknown"),
    "no JSON at its end": lambda size: event("text", text(rb"\u20ac", size))[:-1] + b",}",
    "an array of events": lambda size: array(b'{"type":"sampled"}', MAX_PACKED_BYTES - 2),
    "an array of other types": lambda size: array(b'{"type":"unknown"}', MAX_PACKED_BYTES - 2),
    "an array of empty objects": lambda size: array(b"{}", MAX_PACKED_BYTES - 2),
    "an array of numbers": lambda size: array(b"0", MAX_PACKED_BYTES - 2),
}
MISSING = "ten missing fields, and a long text"  # of another class


class Report:
    """Keeps the last reject."""

    def __init__(self) -> None:
        self.last: Reject | None = None

    def lost(self, topic: bytes, count: int) -> None:
        """Ignore it."""

    def forged(self, topic: bytes, count: int) -> None:
        """Ignore it."""

    def repeated(self, count: int) -> None:
        """Ignore it."""

    def rejected(self, topic: bytes, reject: Reject) -> None:
        """Keep it."""
        self.last = reject


def receive(codec: Codec[Sample], payload: bytes) -> tuple[float, Reject | None]:
    """Return the seconds that one message takes, and its last reject."""
    report = Report()
    unpacker = Unpacker(lambda topic: True, report, OPTIONS.max_event_bytes, OPTIONS.max_event_values)
    begin = process_time()
    for content in unpacker.contents([b"plant"], [payload], None):
        try:
            codec.decode(content.json)
        except Exception as error:
            for found in codec.salvage(content.json, error):
                if isinstance(found, Reject):
                    report.rejected(content.topic, found)
    return process_time() - begin, report.last


def kinds() -> Iterator[tuple[str, Codec[Sample], Callable[[int], bytes]]]:
    """Each name with the codec that receives it, and what makes it."""
    codec = Codec(Sample)
    for name, make in KINDS.items():
        yield name, codec, make
    yield MISSING, Codec(Demanding), KINDS["one text of \\u escapes"]


def main() -> None:
    """Measure everything, or what is named, and print one table."""
    names = sys.argv[1:]
    print("| message | MiB | ms | compressed from MiB | ms | |\n|---|---|---|---|---|---|")
    for name, codec, make in kinds():
        if names and not any(one in name for one in names):
            continue
        plain, smaller = (make(limit - SPARE_BYTES) for limit in (OPTIONS.max_event_bytes, MAX_INFLATED_BYTES))
        cells: list[str] = []
        outcome = None
        for json, payload in ((plain, plain), (smaller, zlib.compress(smaller, 9))):
            rounds = [receive(codec, payload) for _ in range(ROUNDS)]
            outcome = rounds[0][1]
            cells += [f"{len(json) / MiB:.2f}", f"{min(seconds for seconds, _ in rounds) * 1_000:.0f}"]
        print(
            "|",
            " | ".join([name, *cells, "" if outcome is None else f"{outcome.reason}: {outcome.detail[:40]}"]),
            "|",
            flush=True,
        )


if __name__ == "__main__":
    main()
