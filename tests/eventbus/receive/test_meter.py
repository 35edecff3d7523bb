"""Counting what passes: by topic and by publisher, events and not messages, in bounded memory."""

import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus.receive.meter import HISTORY, Line, Meter, Snapshot
from eventbus.wire.first_frame import with_headers
from eventbus.wire.frames import is_text
from eventbus.wire.headers import encode_headers
from eventbus.wire.numbering import Numbering
from eventbus.wire.presence import QUESTION
from eventbus.wire.private_topics import PRESENCE_TOPIC
from eventbus.wire.requests import CORRELATION_ID, new_reply_topic, owner_of, request_headers

EVENT = b'{"type":"a"}'
PUBLISHER, OTHER = b"\x01publish", b"\x01another"


@pytest.fixture
def meter() -> Meter:
    """One that has begun at 0 s."""
    return Meter(0.0)


def count(meter: Meter, frame: bytes, payload: bytes = EVENT, times: int = 1, now: float = 0.5) -> None:
    meter.count(([frame] * times, [payload] * times), now)


def events(lines: tuple[Line, ...]) -> dict[str, int]:
    return {line.name: line.events for line in lines}


def test_nothing_has_come(meter: Meter) -> None:
    """A snapshot of nothing has no lines."""
    assert meter.tick(1.0) == Snapshot(1.0, Line("", 0.0, 0.0, 0, 0, None, (0.0,)), (), None, (), None, None, 0)


def test_rates_are_of_the_last_interval(meter: Meter) -> None:
    """Rates belong to the interval that has just ended, as long as it was; totals to all of them."""
    count(meter, b"plant", times=10)
    assert meter.tick(2.0).topics[0].events_per_second == 5.0
    count(meter, b"plant", times=3, now=2.25)
    [line] = meter.tick(2.5).topics
    size = len(b"plant" + EVENT)
    assert line == Line("plant", 6.0, 6.0 * size, 13, 13 * size, 0.25, (5.0, 6.0))
    [line] = meter.tick(3.5).topics
    assert (line.events_per_second, line.events, line.last_seen, line.history) == (0.0, 13, 1.25, (5.0, 6.0, 0.0))


def test_the_fastest_is_the_first(meter: Meter) -> None:
    """Lines are in the order of their rates, and in that of their names where they are the same."""
    for name, times in ((b"c", 1), (b"b", 1), (b"a", 1), (b"d", 5)):
        count(meter, name, times=times)
    assert [line.name for line in meter.tick(1.0).topics] == ["d", "a", "b", "c"]


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (EVENT, 1),
        (b" \n" + EVENT, 1),
        (b"[" + EVENT + b"," + EVENT + b"]", 2),
        (b" [" + EVENT + b"]", 1),
        (b"[]", 0),
        (zlib.compress(EVENT), 1),
        (zlib.compress(b"[" + b",".join([EVENT] * 500) + b"]"), 500),
        (zlib.compress(b'{"text":"' + b"x" * 10_000_000 + b'"}'), 1),
        (b'{"text":"' + b"x" * 100_000 + b'"}', 1),
        (b"[" + b",".join([EVENT] * 10_000) + b"]", 1),
    ],
    ids=range(10),
)
def test_events_are_counted_not_messages(meter: Meter, payload: bytes, expected: int) -> None:
    """A packed message counts as its events, inflated too; one longer than any array of ours counts as one."""
    count(meter, b"plant", payload)
    snapshot = meter.tick(1.0)
    assert (snapshot.total.events, snapshot.malformed) == (expected, 0)
    assert snapshot.total.bytes == (len(b"plant" + payload) if expected else 0)


@pytest.mark.parametrize(
    ("frame", "payload"),
    [
        (b"plant", b"[" + EVENT),
        (b"plant", b"[" * 5_000),
        (b"plant", b"text"),
        (b"plant", b"3"),
        (b"plant", b""),
        (b"plant", zlib.compress(EVENT)[:-1]),
        (b"", EVENT),
        (b"\xff\xfe", EVENT),
        (b"x" * 256, EVENT),
        (b"\0\0{}\0", EVENT),
    ],
)
def test_what_is_malformed(meter: Meter, frame: bytes, payload: bytes) -> None:
    """A message that is no event, or on no topic, is counted apart, and makes no line."""
    count(meter, frame, payload)
    snapshot = meter.tick(1.0)
    assert (snapshot.malformed, snapshot.total.events, snapshot.topics) == (1, 0, ())


def test_publishers_are_told_apart_by_their_numbers(meter: Meter) -> None:
    """A publisher that numbers messages has a line, whatever the topic, the packing and the headers."""
    one, two = Numbering(PUBLISHER), Numbering(OTHER)
    count(meter, one.next(b"a"))
    count(meter, one.next(b"a", 2), b"[" + EVENT + b"," + EVENT + b"]")
    for number in range(3):
        count(meter, with_headers(one.next(b"b"), encode_headers({"trace": str(number)})))
    count(meter, two.next(b"a"))
    count(meter, b"a")
    count(meter, with_headers(b"a", encode_headers({"trace": "x"})))
    count(meter, b"a\0", times=2)
    snapshot = meter.tick(1.0)
    assert events(snapshot.publishers) == {PUBLISHER.hex(): 6, OTHER.hex(): 1}
    assert snapshot.not_numbered is not None
    assert snapshot.not_numbered.events == 4
    assert events(snapshot.topics) == {"a": 8, "b": 3}
    assert snapshot.total.events == 11


def test_a_topic_is_not_taken_for_another_one(meter: Meter) -> None:
    """A topic that is eight letters longer than another one is no numbered message of that."""
    count(meter, b"plant", times=2)
    count(meter, b"plantation-12")
    assert events(meter.tick(1.0).topics) == {"plant": 2, "plantation-12": 1}


def test_only_wanted_topics_count() -> None:
    """Subscriptions are prefixes: what else comes is neither counted nor malformed."""
    meter = Meter(0.0, [b"plant"])
    for frame in (b"plant", b"plant-2", Numbering().next(b"plant-2"), Numbering().next(b"plant")):
        count(meter, frame)
    snapshot = meter.tick(1.0)
    assert (events(snapshot.topics), snapshot.total.events, snapshot.malformed) == ({"plant": 2}, 2, 0)


def test_who_is_there_does_not_count(meter: Meter) -> None:
    """Neither the questions nor their answers, because who watches asks; other requests and answers do."""
    who, other = (new_reply_topic(owner_of(None)) for _ in range(2))
    count(meter, with_headers(PRESENCE_TOPIC, request_headers(who, "1")), QUESTION)
    count(meter, with_headers(who, encode_headers({CORRELATION_ID: "1"})))
    count(meter, with_headers(b"plant", request_headers(other, "1")))
    count(meter, with_headers(other, encode_headers({CORRELATION_ID: "1"})))
    assert events(meter.tick(1.0).topics) == {"plant": 1, other.decode(): 1}


def test_strangers_cannot_fill_the_memory() -> None:
    """Beyond the limit topics and publishers are counted together, and nothing is lost of the sums."""
    meter = Meter(0.0, limit=3)
    for number in range(30_000):
        count(meter, Numbering(b"\x01" + number.to_bytes(7)).next(b"topic-%d" % number))
    snapshot = meter.tick(1.0)
    assert (len(snapshot.topics), len(snapshot.publishers)) == (3, 3)
    assert snapshot.other_topics is not None
    assert snapshot.other_publishers is not None
    assert snapshot.other_topics.events == snapshot.other_publishers.events == 29_997
    assert snapshot.total.events == 30_000
    assert len(meter._plain) + len(meter._numbered) <= 10_000


def test_the_silent_make_room() -> None:
    """When there is no room, topics without an event in all remembered intervals give up their lines to new ones."""
    meter = Meter(0.0, limit=2)
    count(meter, b"old", times=7)
    now = 0.0
    for _ in range(HISTORY + 1):
        count(meter, b"busy")
        now += 1.0
        meter.tick(now)
    count(meter, b"new", times=2, now=now)
    snapshot = meter.tick(now + 1.0)
    assert events(snapshot.topics) == {"busy": HISTORY + 1, "new": 2}
    assert snapshot.other_topics is not None
    assert (snapshot.other_topics.events, snapshot.other_topics.events_per_second) == (7, 0.0)
    assert snapshot.other_topics.last_seen == now + 0.5


def test_without_need_nobody_makes_room(meter: Meter) -> None:
    """A topic that has fallen silent stays as long as there is room."""
    count(meter, b"old")
    for now in range(1, 3 * HISTORY):
        snapshot = meter.tick(float(now))
    assert events(snapshot.topics) == {"old": 1}
    assert len(snapshot.topics[0].history) == HISTORY


def test_what_is_no_message(meter: Meter) -> None:
    """Others may have seen what was malformed before it came here."""
    meter.reject(3)
    assert meter.tick(1.0).malformed == 3


@given(st.lists(st.tuples(st.binary(max_size=40), st.binary(max_size=40))))
def test_any_message(messages: list[tuple[bytes, bytes]]) -> None:
    """Whatever comes, it is counted or not, and the sums are right."""
    meter = Meter(0.0, limit=3)
    for frame, payload in messages:
        count(meter, frame, payload)
    snapshot = meter.tick(1.0)
    others = (snapshot.other_topics, snapshot.not_numbered, snapshot.other_publishers)
    assert sum(line.events for line in (*snapshot.topics, *others[:1]) if line) == snapshot.total.events
    assert sum(line.events for line in (*snapshot.publishers, *others[1:]) if line) == snapshot.total.events


@given(st.lists(st.sampled_from([b"a", b"a\0", b"ab"]), max_size=30), st.integers(1, 5))
def test_arrays_of_any_length(topics: list[bytes], length: int) -> None:
    """The count is that of the events sent, whatever the topics and the packing."""
    meter = Meter(0.0)
    meter.count((topics, [json.dumps([{}] * length).encode()] * len(topics)), 0.5)
    assert meter.tick(1.0).total.events == length * len(topics)
    assert all(is_text(line.name.encode()) for line in meter.tick(2.0).topics)
