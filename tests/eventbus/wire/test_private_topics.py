"""Topics that the bus uses itself are no topics of events."""

import pytest

from eventbus.errors import InvalidTopic
from eventbus.wire.private_topics import PRIVATE_PREFIXES, event_topic_frame


@pytest.mark.parametrize("prefix", PRIVATE_PREFIXES, ids=bytes.decode)
def test_private_topics_are_refused(prefix: bytes) -> None:
    """An event there would go nowhere, and might be taken for something else."""
    with pytest.raises(InvalidTopic, match=prefix.decode()):
        event_topic_frame(prefix.decode() + "x")


@pytest.mark.parametrize("topic", ["_reply", "_replying/x", "plant/_reply/x", "_clientsx"])
def test_other_topics_are_not(topic: str) -> None:
    """Only the beginning counts, as a whole."""
    assert event_topic_frame(topic) == topic.encode()


@pytest.mark.parametrize("topic", ["", " x", "x\0"])
def test_what_is_no_topic_at_all_is_refused(topic: str) -> None:
    """As everywhere."""
    with pytest.raises(InvalidTopic):
        event_topic_frame(topic)
