"""What belongs to the queries of historians, and gaps that are told instead of taken."""

import pytest

from eventbus.wire.history import UNTIL, Span, is_history_topic, is_history_topic_of, is_of_history, new_history_topic
from eventbus.wire.numbering import Gap, Gaps, Numbering
from eventbus.wire.requests import new_reply_topic, owner_of

OWNER, OTHER = owner_of("a" * 40), owner_of("b" * 40)
PUBLISHER = b"\x01234567\x07"


def test_topics_of_queries_belong_to_a_key() -> None:
    """No two are the same, and none is one of another key, or a reply topic."""
    topic = new_history_topic(OWNER)
    assert topic != new_history_topic(OWNER)
    assert is_history_topic_of(topic, OWNER)
    assert not is_history_topic_of(topic, OTHER)
    for other in (new_reply_topic(OWNER), topic[:-1], topic + b"0", b"_history/", b"plant"):
        assert not is_history_topic(other)


@pytest.mark.parametrize(
    ("topic", "headers", "expected"),
    [
        (new_history_topic(OWNER), b"", True),
        (new_reply_topic(OWNER), b'{"%s":"3"}' % UNTIL.encode(), True),
        (new_reply_topic(OWNER), b"{}", False),
        (b"plant", b'{"%s":"3"}' % UNTIL.encode(), False),
    ],
    ids=["a query", "a part of an answer", "another answer", "an event"],
)
def test_queries_and_their_answers_are_told_from_events(topic: bytes, headers: bytes, expected: bool) -> None:
    """By the topic, and the headers of an answer."""
    assert is_of_history(topic, headers) is expected


def test_gaps_can_be_told_before_a_batch_is_taken() -> None:
    """Then nothing has been taken; without a gap the batch has."""
    numbering, gaps = Numbering(PUBLISHER), Gaps()
    frames = []
    for _ in range(6):
        frames.append(numbering.next(b"plant"))
        numbering.taken(b"plant")

    def read(*batch: bytes) -> list[Gap]:
        return gaps.read(list(batch), b"plant".__eq__, unless_gaps=True).gaps

    assert read(frames[0]) == []
    for _ in range(2):
        assert read(b"plant", frames[3], frames[5]) == [
            Gap(1, Span(b"plant", PUBLISHER, 1, 3)),
            Gap(2, Span(b"plant", PUBLISHER, 4, 5)),
        ]
    assert read(frames[1], frames[0], frames[2]) == []
    assert gaps.read([frames[3]], b"plant".__eq__).lost == {}
