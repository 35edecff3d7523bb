"""Topics that begin with stored messages, without a bus: what is held, left out and handed on."""

from collections.abc import Iterator

from eventbus.policies import Start
from eventbus.receive.from_historian import FromHistorian
from eventbus.wire.history import Portion, Query, Stored
from eventbus.wire.starts import From

MARK = b"_history/mark"


def test_a_topic_that_begins_while_its_messages_are_at_hand() -> None:
    """They came because another topic is a prefix of it, before the query was sent: what is stored has them already."""
    replayed: list[Stored] = []

    def read(query: Query, topic: bytes | None) -> Iterator[Portion]:
        yield Portion([Stored(1, 0.0, b"plant-1", b"{}")], 1)

    beginnings = FromHistorian(
        read, lambda topic: None, lambda topic: None, lambda: MARK, lambda batch: None, replayed.extend, "here"
    )

    def is_stopped() -> bool:
        if not replayed:  # another thread subscribes at this moment
            beginnings.register(b"plant-1", From(Start.ALL))
            beginnings.begin(b"plant-1")
        return False

    frames, _ = beginnings.take(([b"plant-1", b"plant"], [b"{}", b"{}"]), is_stopped)
    assert frames == [b"plant"]
    assert [message.first for message in replayed] == [b"plant-1"]
    frames, _ = beginnings.take(([b"plant-1", MARK, b"plant-1"], [b"{}", b"", b"{}"]), lambda: False)
    assert frames == [b"plant-1"]
    assert beginnings.is_idle
