"""The ids of publishers under rules: each key has its own."""

from hypothesis import given
from hypothesis import strategies as st

from eventbus.proxy.publisher_ids import PublisherIds
from eventbus.wire.first_frame import FirstFrame, Head, parse
from eventbus.wire.frames import MAX_PACKED_EVENTS
from tests.keys import pair

ANN, BOB = pair("ann").public, pair("bob").public
SECRET = pair("proxy").secret

_topics = st.binary(min_size=1, max_size=20).filter(lambda topic: b"\0" not in topic)
_publishers = st.binary(min_size=8, max_size=8).filter(lambda publisher: publisher[:1] != b"\0")
_headers = st.sampled_from([b"", b'{"a":"b"}'])


def seen(frame: bytes, key: str = ANN, secret: str = SECRET) -> FirstFrame:
    """The frame as receivers see it."""
    return parse(PublisherIds(secret).replace(key, frame))


@given(_topics, _publishers, _headers, st.integers(1, MAX_PACKED_EVENTS), st.integers(0, 2**64 - 1))
def test_only_the_id_changes(topic: bytes, publisher: bytes, headers: bytes, count: int, number: int) -> None:
    """Topic, headers, count and number stay; the id is another one that depends on the key and on the proxy's secret."""
    frame = FirstFrame(topic, headers, Head(topic, publisher, count), number).encode()
    ids = []
    for after in (seen(frame), seen(frame, BOB), seen(frame, ANN, pair("other").secret)):
        assert after.head is not None
        assert after == FirstFrame(topic, headers, Head(topic, after.head.publisher, count), number)
        ids.append(after.head.publisher)
    assert len({publisher, *ids}) == 4
    assert seen(frame) == seen(frame)


@given(_topics, _topics, _publishers, st.integers(1, 10), st.integers(0, 10))
def test_a_publisher_has_one_id(topic: bytes, other: bytes, publisher: bytes, count: int, number: int) -> None:
    """A publisher has the same id on all topics, however many events a message carries, with headers or without."""
    first = seen(FirstFrame(topic, b"", Head(topic, publisher, 1), 1).encode())
    second = seen(FirstFrame(other, b"{}", Head(other, publisher, count), number).encode())
    assert first.head is not None
    assert second.head is not None
    assert first.head.publisher == second.head.publisher


@given(st.one_of(st.binary(max_size=60), _topics.map(lambda topic: topic + b"\0"), _topics))
def test_other_frames_stay(frame: bytes) -> None:
    """A frame that receivers do not take for a numbered one is not changed; of any frame the topic stays."""
    after = PublisherIds(SECRET).replace(ANN, frame)
    assert parse(after).topic == parse(frame).topic
    assert len(after) == len(frame)
    if parse(frame).head is None:
        assert after == frame
