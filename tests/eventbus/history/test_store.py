"""What a historian keeps: bounds, order, queries."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus.history.store import MESSAGE_OVERHEAD_BYTES, Bounds, MemoryStore
from eventbus.wire.first_frame import with_headers
from eventbus.wire.history import InvalidQuery, Query, Span, Stored, pack, unpack
from eventbus.wire.numbering import Numbering
from eventbus.wire.requests import new_reply_topic

PUBLISHER = b"\x01234567\x07"


def everything(topic: bytes) -> bool:
    return True


def found(store: MemoryStore, query: Query, now: float = 0.0, permits: Any = everything) -> list[bytes]:
    return [message.payload for message in store.read(query, permits, now)]


def filled(bounds: Bounds, *payloads: tuple[bytes, bytes]) -> MemoryStore:
    store = MemoryStore(bounds)
    for now, (first, payload) in enumerate(payloads):
        store.add([first], [payload], float(now))
    return store


def test_it_keeps_the_newest_of_each_topic() -> None:
    """The count is that of each topic; what is asked for comes in the order in which it came, over all topics."""
    store = filled(Bounds(count=2), (b"a", b"1"), (b"b", b"2"), (b"a", b"3"), (b"a", b"4"))
    assert found(store, Query()) == [b"2", b"3", b"4"]
    assert found(store, Query((b"a",))) == [b"3", b"4"]
    assert found(store, Query(last=1)) == [b"2", b"4"]
    assert found(store, Query((b"a", b"b"), after=3)) == [b"4"]
    assert found(store, Query(until=3)) == [b"2", b"3"]
    assert found(store, Query(since=2.0)) == [b"3", b"4"]
    assert found(store, Query((b"never",))) == []
    assert found(store, Query(), permits=b"b".__eq__) == [b"2"]


def test_what_is_too_old_goes() -> None:
    """Also on a topic on which nothing comes any more, and although nothing was asked for."""
    store = filled(Bounds(age=2.0), (b"a", b"1"), (b"b", b"2"), (b"b", b"3"), (b"b", b"4"))
    assert found(store, Query(), now=3.0) == [b"2", b"3", b"4"]
    assert found(store, Query(), now=4.5) == [b"4"]
    store.add([b"c"], [b"5"], 100.0)
    assert (len(store), store.topics) == (1, [b"c"])


def test_a_busy_topic_does_not_push_out_the_last_value_of_a_quiet_one() -> None:
    """When memory is full, messages of the topic that takes most go."""
    bounds = Bounds(count=10**6, bytes=200_000)
    store = filled(bounds, (b"quiet", b"{}"))
    for number in range(2_000):
        store.add([b"busy"], [b"%0100d" % number], 1.0)
    assert store.bytes <= bounds.bytes
    assert found(store, Query((b"quiet",))) == [b"{}"]
    busy = found(store, Query((b"busy",)))
    assert busy == [b"%0100d" % number for number in range(2_000 - len(busy), 2_000)]
    assert store.dropped == 2_000 - len(busy)
    assert bounds.bytes * 0.9 < store.bytes


def test_topics_that_anybody_invents_take_no_more_than_the_bound() -> None:
    """With one message on each of many topics, those that were silent longest go, in little time for each."""
    store = MemoryStore(Bounds(bytes=64_000_000, age=100_000.0))
    for number in range(50_000):
        store.add([b"topic-%d" % number], [b"{}"], number / 1_000)
    assert store.bytes <= 64_000_000
    assert store.topics == [b"topic-%d" % number for number in range(50_000 - len(store.topics), 50_000)]
    store.add([b"last"], [b"{}"], 1_000_000.0)
    assert store.topics == [b"last"]


def test_a_large_message_does_not_push_out_last_values() -> None:
    """It may be the largest of all topics, but has nothing to give: a busy topic has."""
    store = filled(Bounds(count=10**6, bytes=1_000_000), (b"quiet", b"{}"), (b"large", b"x" * 500_000))
    for number in range(2_000):
        store.add([b"busy"], [b"%0500d" % number], 1.0)
    assert store.bytes <= 1_000_000
    assert {b"quiet", b"large"} <= set(store.topics)


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.integers(0, 3_000)), max_size=60), st.integers(1, 20_000))
def test_the_bytes_are_those_of_what_it_has(messages: list[tuple[bytes, int]], limit: int) -> None:
    """Whatever comes and goes, the sum is right, and it does not exceed the bound."""
    store = MemoryStore(Bounds(count=5, bytes=limit, age=20.0))
    for now, (topic, size) in enumerate(messages):
        store.add([topic], [b" " * size], float(now))
        assert 0 <= store.bytes <= limit
        has = list(store.read(Query(), everything, 0.0))
        messages_bytes = sum(len(m.first) + len(m.payload) + MESSAGE_OVERHEAD_BYTES for m in has)
        assert store.bytes == messages_bytes + 4_096 * len(store.topics)
        assert [m.position for m in has] == sorted(m.position for m in has)


def test_what_carries_no_event_is_skipped() -> None:
    """Answers, queries, tokens and what is no topic are not kept; their place is told."""
    frames = [b"a", new_reply_topic(b"0" * 16), b"_history/x", b"a", b"\xff" + b"1" * 16, b"", b"x" * 256, b"\xfe\xfe"]
    store = MemoryStore(Bounds())
    skipped = store.add(frames, [b"{}"] * len(frames), 0.0)
    assert [(one.place, one.position) for one in skipped] == [(1, 1), (2, 1), (4, 2), (5, 2), (6, 2), (7, 2)]
    assert len(store) == 2


def test_events_by_their_numbers() -> None:
    """Of one publisher on one topic, with headers or without, and several in one message."""
    numbering, other = Numbering(PUBLISHER), Numbering(b"\x02" + PUBLISHER[1:])
    store = MemoryStore(Bounds())

    def add(by: Numbering, count: int, headers: bytes = b"") -> None:
        first = by.next(b"a", count)
        by.taken(b"a", count)
        store.add([with_headers(first, headers) if headers else first], [b"%d" % store.position], 0.0)

    for by, count, headers in (
        (numbering, 1, b""),  # number 1
        (other, 1, b""),
        (numbering, 3, b""),  # 2 to 4
        (numbering, 1, b'{"x":"y"}'),  # 5
        (other, 1, b""),
        (numbering, 1, b""),  # 6
    ):
        add(by, count, headers)
    assert found(store, Query(spans=(Span(b"a", PUBLISHER, 1, 5),))) == [b"2", b"3"]
    assert found(store, Query(spans=(Span(b"a", PUBLISHER, 2, 3),))) == [b"2"]
    assert found(store, Query(spans=(Span(b"a", PUBLISHER, 0, 9),), after=3)) == [b"3", b"5"]
    assert found(store, Query(spans=(Span(b"a", PUBLISHER, 6, 9),))) == []
    assert found(store, Query(spans=(Span(b"b", PUBLISHER, 0, 9),))) == []
    assert found(store, Query(spans=(Span(b"a", PUBLISHER, 0, 1), Span(b"a", b"\x02" + PUBLISHER[1:], 1, 2)))) == [
        b"0",
        b"4",
    ]
    assert found(store, Query(spans=(Span(b"a", PUBLISHER, 0, 9),)), permits=b"b".__eq__) == []


@given(st.lists(st.integers(1, 4), max_size=20), st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), max_size=6))
def test_all_messages_that_have_a_wanted_number(counts: list[int], spans: list[tuple[int, int]]) -> None:
    """Whatever is asked for, each comes once."""
    numbering, store = Numbering(PUBLISHER), MemoryStore(Bounds())
    expected, number = [], 0
    for count in counts:
        store.add([numbering.next(b"a", count)], [b"%d" % number], 0.0)
        numbering.taken(b"a", count)
        numbers = range(number + 1, number + count + 1)
        if any(after < one <= after + length for after, length in spans for one in numbers):
            expected.append(b"%d" % number)
        number += count
    query = Query(spans=tuple(Span(b"a", PUBLISHER, after, after + length) for after, length in spans))
    assert not spans or found(store, query) == expected


def test_thousands_of_spans_take_one_look() -> None:
    """As a subscriber asks for that has lost every tenth event for long; others wait for their answers meanwhile."""
    numbering, store = Numbering(PUBLISHER), MemoryStore(Bounds(count=10**6))
    for _ in range(50_000):
        store.add([numbering.next(b"a")], [b""], 0.0)
        numbering.taken(b"a")
    spans = tuple(Span(b"a", PUBLISHER, number, number + 1) for number in range(0, 20_000, 10))
    assert len(found(store, Query(spans=spans))) == len(spans)


def test_it_goes_on_from_an_earlier_run() -> None:
    """Restored messages keep their positions, and new ones follow."""
    store = MemoryStore(Bounds())
    earlier = [Stored(5, 1.0, b"a", b"1"), Stored(9, 2.0, b"b", b"2")]
    store.restore(earlier)
    store.add([b"a"], [b"3"], 3.0)
    assert list(store.read(Query(), everything, 3.0)) == [*earlier, Stored(10, 3.0, b"a", b"3")]
    assert store.oldest == 5


STORED = st.builds(Stored, st.integers(0, 2**63), st.floats(allow_nan=False), st.binary(), st.binary())


@given(st.lists(STORED))
def test_parts_of_answers_are_read_as_they_were_packed(messages: list[Stored]) -> None:
    """Each field of each message comes back; a part that is cut off is refused."""
    packed = pack(messages)
    assert unpack(packed) == messages
    if messages:
        with pytest.raises(ValueError, match="cut off"):
            unpack(packed[:-1])


@given(st.binary())
def test_anything_may_come_as_a_part(payload: bytes) -> None:
    """What is none raises ValueError, and nothing else."""
    with suppress(ValueError):
        unpack(b" " + payload)
    with pytest.raises(ValueError, match="not a part"):
        unpack(b"{" + payload)


TOPICS = st.sampled_from([b"", b"a", "ä".encode(), b'"'])
QUERIES = st.builds(
    Query,
    st.none() | st.lists(TOPICS, unique=True).map(tuple),
    st.none() | st.integers(0, 2**62),
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
    st.integers(0, 2**62),
    st.none() | st.integers(0, 2**62),
    st.lists(st.builds(Span, TOPICS, st.binary(min_size=8, max_size=8), st.just(1), st.just(5))).map(tuple),
)


@given(QUERIES)
def test_queries_are_read_as_they_were_written(query: Query) -> None:
    """Each field comes back."""
    assert Query.decode(query.encode()) == query


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b'{"type":"other"}',
        b'{"type":"history","topics":1}',
        b'{"type":"history","topics":[1]}',
        b'{"type":"history","last":-1}',
        b'{"type":"history","last":true}',
        b'{"type":"history","since":"now"}',
        b'{"type":"history","since":NaN}',
        b'{"type":"history","since":Infinity}',
        b'{"type":"history","since":-1%b}' % (b"0" * 400),
        b'{"type":"history","until":1e99}',
        b'{"type":"history","spans":[["a","zz",1,2]]}',
        b'{"type":"history","spans":{}}',
        b'{"type":"history","spans":[["a","0101010101010101",2,1]]}',
        b"[" * 100_000,
        b" " * 2_000_000,
    ],
)
def test_what_is_no_query_is_refused(payload: bytes) -> None:
    """With a text for the asker."""
    with pytest.raises(InvalidQuery):
        Query.decode(payload)
