"""First frames travel as subjects and headers of NATS, and come back: topic, headers, numbers."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbus.errors import InvalidHeaders
from eventbus.transports.nats.first_frames import NUMBER, PROBE, Carried, block_of
from eventbus.transports.nats.protocol import header_block, parse_headers
from eventbus.wire.first_frame import FirstFrame, Head, parse, with_headers
from eventbus.wire.frames import topic_frame
from eventbus.wire.headers import MAX_HEADER_BYTES, decode_headers, encode_headers

FEWER = settings(max_examples=100)

CARRIED = Carried("eb")
surrogate_free = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def there_and_back(first: bytes, carried: Carried = CARRIED) -> bytes:
    subject, lines = CARRIED.outward(first)
    return carried.inward(subject, block_of(lines))


@FEWER
@given(
    st.dictionaries(
        surrogate_free.filter(lambda name: name and not name.lower().startswith("nats-")), surrogate_free, max_size=4
    ),
    st.none() | st.integers(1, 2**40),
)
def test_first_frames_come_back(headers: dict[str, str], number: int | None) -> None:
    """Whatever the headers are, and with the number of a numbering publisher."""
    head = None if number is None else Head(b"plant", b"\x01publishr"[:8], 1)
    encoded = encode_headers(headers) if headers else b""
    first = FirstFrame(b"plant", encoded, head, number or 0).encode()
    back = parse(there_and_back(first))
    assert (back.topic, back.head, back.number) == (b"plant", head, number or 0)
    assert decode_headers(back.headers) == headers


def test_a_plain_topic_has_no_headers() -> None:
    """So it costs nothing."""
    assert CARRIED.outward(b"plant") == (b"eb.plant", [])
    assert CARRIED.inward(b"eb.plant", b"") == b"plant"
    assert CARRIED.subject(b"") == b"eb.>"
    assert CARRIED.topic(b"eb.a%20b") == b"a b"


def test_a_trace_is_a_header_that_tools_know() -> None:
    """The names and values that tools look at are written as they are."""
    first = with_headers(topic_frame("plant"), encode_headers({"traceparent": "00-0af7651916cd43dd8448eb211c80319c-01"}))
    assert CARRIED.outward(first)[1] == [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-01")]


@pytest.mark.parametrize("name", ["Nats-Msg-Id", "nats-rollup", NUMBER, PROBE])
def test_names_of_the_servers_are_refused(name: str) -> None:
    """They would make the server do something."""
    with pytest.raises(InvalidHeaders, match=name):
        CARRIED.outward(with_headers(b"plant", encode_headers({name: "1"})))


def test_members_of_a_group_see_no_numbers() -> None:
    """They would show what the others got as lost."""
    first = FirstFrame(b"plant", b"", Head(b"plant", b"\x01publish", 1), 7).encode()
    assert there_and_back(first, Carried("eb", numbered=False)) == b"plant"


def test_more_topics_than_are_remembered() -> None:
    """Topics and subjects that repeat are remembered; whoever uses very many of them gets the same as before."""
    carried = Carried("eb")
    for number in (*range(5_000), *range(10)):
        topic, subject = b"plant.%d" % number, b"eb.plant.%d" % number
        assert (carried.subject(topic), carried.topic(subject)) == (subject, topic)


def test_a_probe_is_no_event() -> None:
    """It only shows whether anybody subscribes."""
    assert CARRIED.inward(b"eb.a", header_block([(PROBE, "1")])) == b""


def test_strange_headers_do_no_harm() -> None:
    """A number that is none, the server's own headers, headers that are too long."""
    assert parse(CARRIED.inward(b"eb.a", header_block([(NUMBER, "xyz")]))).topic == b"a"
    assert CARRIED.inward(b"eb.a", header_block([("Nats-Stream", "eb")])) == b"a"
    assert CARRIED.inward(b"eb.a", header_block([("long", "x" * MAX_HEADER_BYTES)])) == b"a"


@FEWER
@given(st.binary(max_size=100), st.binary(max_size=100))
def test_anything_may_come(subject: bytes, block: bytes) -> None:
    """Nothing is raised, and what comes out can be read."""
    parse(CARRIED.inward(b"eb." + subject, b"NATS/1.0\r\n" + block))
    assert parse_headers(block) is not None
