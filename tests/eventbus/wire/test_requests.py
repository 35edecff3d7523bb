"""What makes a message a request or an answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus.wire.first_frame import with_headers
from eventbus.wire.headers import decode_headers, encode_headers
from eventbus.wire.requests import (
    CORRELATION_ID,
    REPLY_TO,
    Request,
    answer_headers,
    is_answer,
    is_reply_topic,
    is_reply_topic_of,
    new_reply_topic,
    owner_of,
    request_headers,
)

ONE, TWO = owner_of("k" * 40), owner_of("l" * 40)
TOPIC = b"_reply/" + b"0" * 16 + b"/" + b"0123456789abcdef" * 2


def test_reply_topics_belong_to_a_key() -> None:
    """A reply topic is another one each time, and can be told to be of its owner."""
    topics = {new_reply_topic(ONE) for _ in range(10)}
    assert len(topics) == 10
    for topic in topics:
        assert is_reply_topic(topic)
        assert is_reply_topic_of(topic, ONE)
        assert not is_reply_topic_of(topic, TWO)
    assert is_reply_topic_of(new_reply_topic(owner_of(None)), b"0" * 16)


@pytest.mark.parametrize(
    "topic",
    [
        b"",
        b"_reply/",
        TOPIC[:-1],
        TOPIC + b"0",
        TOPIC[:-1] + b"g",
        TOPIC[:-1] + b"\0",
        TOPIC[:-1] + b"/",
        TOPIC.replace(b"/0123", b"0/123"),
        TOPIC.replace(b"0123", b"/123"),
        b"X" + TOPIC[1:],
        TOPIC.upper(),
    ],
)
def test_other_topics_are_none(topic: bytes) -> None:
    """What only looks like a reply topic is none: answerers would publish there."""
    assert is_reply_topic(TOPIC)
    assert not is_reply_topic(topic)
    assert Request.of({REPLY_TO: topic.decode(), CORRELATION_ID: "1"}) is None


@pytest.mark.parametrize("headers", [{}, {REPLY_TO: TOPIC.decode()}, {CORRELATION_ID: "1"}])
def test_an_ordinary_event_is_no_request(headers: dict[str, str]) -> None:
    """A request needs both headers."""
    assert Request.of(headers) is None


@pytest.mark.parametrize("correlation_id", ["", "x" * 65])
def test_correlation_ids_are_short(correlation_id: str) -> None:
    """What an answerer has to send back is bounded."""
    assert Request.of({REPLY_TO: TOPIC.decode(), CORRELATION_ID: correlation_id}) is None


def test_answers_have_a_correlation_id() -> None:
    """A proxy tells an answer by its topic and its headers."""
    headers = encode_headers({CORRELATION_ID: "1"})
    assert is_answer(with_headers(TOPIC, headers))
    assert is_answer(with_headers(TOPIC, encode_headers({"error-type": "X", CORRELATION_ID: "1"})))
    assert not is_answer(TOPIC)
    assert not is_answer(with_headers(TOPIC, encode_headers({"other": "1"})))
    assert not is_answer(with_headers(b"prices", headers))
    assert not is_answer(TOPIC + b"\0" + headers)


@given(st.binary(max_size=100) | st.binary(max_size=20).map(TOPIC.__add__))
def test_anything_may_come(frame: bytes) -> None:
    """No bytes make these functions fail."""
    is_answer(frame)
    assert is_reply_topic_of(frame, ONE) <= is_reply_topic(frame)


@given(st.dictionaries(st.sampled_from([REPLY_TO, CORRELATION_ID]), st.text() | st.just(TOPIC.decode())))
def test_any_headers_may_come(headers: dict[str, str]) -> None:
    """Nor do any headers."""
    request = Request.of(headers)
    assert request is None or is_reply_topic(request.reply_to)


def test_usual_headers_are_written_as_all_others_are() -> None:
    """A request and an answer without further headers have the same bytes, and are read, as any encoder would write them."""
    assert request_headers(TOPIC, "17") == encode_headers({REPLY_TO: TOPIC.decode(), CORRELATION_ID: "17"})
    assert Request.alone_in(request_headers(TOPIC, "17")) == Request(TOPIC, "17")
    assert answer_headers("17") == encode_headers({CORRELATION_ID: "17"})


@pytest.mark.parametrize("correlation_id", ['a"b', "a\\b", "é", "a b", ""])
def test_unusual_ids_are_left_to_json(correlation_id: str) -> None:
    """An id of an asker of another kind is quoted as JSON asks for."""
    assert answer_headers(correlation_id) is None
    assert Request.alone_in(encode_headers({REPLY_TO: TOPIC.decode(), CORRELATION_ID: correlation_id})) is None


@given(
    st.binary(max_size=60)
    | st.dictionaries(st.sampled_from([REPLY_TO, CORRELATION_ID, "x"]), st.text(max_size=70) | st.just(TOPIC.decode())).map(
        encode_headers
    )
    | st.text(max_size=70).map(lambda text: request_headers(TOPIC, text))
)
def test_what_is_read_quickly_is_read_alike(encoded: bytes) -> None:
    """The quick way finds a request only where the other one does, and the same."""
    found = Request.alone_in(encoded)
    assert found is None or found == Request.of(decode_headers(encoded))
