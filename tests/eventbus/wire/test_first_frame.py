"""The first frame: what may follow the topic, read and written in one place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus.wire.first_frame import FirstFrame, Head, parse, with_headers
from eventbus.wire.numbering import Numbering

PUBLISHER = b"\xff\0{[ \n\t8"

topics = st.binary(min_size=1, max_size=20).filter(lambda topic: b"\0" not in topic)
publishers = st.binary(min_size=8, max_size=8).filter(lambda publisher: publisher[:1] != b"\0")
encoded_headers = st.binary(max_size=20).filter(lambda headers: b"\0" not in headers)
numbers = st.integers(1, 2**64 - 1)


@given(topics, encoded_headers, publishers, st.integers(1, 20_000), numbers)
def test_a_numbered_frame_reads_back(topic: bytes, headers: bytes, publisher: bytes, events: int, number: int) -> None:
    """Topic, headers, publisher, count and number are read as they were written."""
    frame = FirstFrame(topic, headers, Head(topic, publisher, events), number)
    assert parse(frame.encode()) == frame


@given(topics, encoded_headers)
def test_a_frame_without_numbers_reads_back(topic: bytes, headers: bytes) -> None:
    """Topic and headers are read as they were written."""
    frame = FirstFrame(topic, headers)
    assert parse(frame.encode()) == frame


@pytest.mark.parametrize("events", [1, 2, 300])
def test_what_a_publisher_writes_is_read(events: int) -> None:
    """A publisher's frame is the one that `encode` makes of what it says."""
    numbering = Numbering(PUBLISHER)
    numbering.taken(b"plant", 7)
    frame = numbering.next(b"plant", events)
    expected = FirstFrame(b"plant", b"", Head(b"plant", PUBLISHER, events), 7 + events)
    assert (parse(frame), expected.encode()) == (expected, frame)
    assert parse(with_headers(frame, b"{}")) == expected._replace(headers=b"{}")


@given(st.binary(max_size=60))
def test_any_bytes_have_a_topic(frame: bytes) -> None:
    """Whatever the frame, its topic is what stands before the first NUL byte."""
    assert parse(frame).topic == frame.partition(b"\0")[0]


@pytest.mark.parametrize("length", [length for length in range(40) if length not in (16, 20)])
def test_other_lengths_are_no_numbers(length: int) -> None:
    """Bytes after the topic are numbers only if they are as long as numbers are."""
    assert parse(b"plant\0" + (PUBLISHER * 5)[:length]) == FirstFrame(b"plant")


@pytest.mark.parametrize("topic", [b"", b"x" * 256])
def test_a_topic_that_no_client_sends_is_not_numbered(topic: bytes) -> None:
    """Numbers after an empty topic, or one that is too long, are ignored."""
    assert parse(Numbering(PUBLISHER).next(topic)) == FirstFrame(topic)
