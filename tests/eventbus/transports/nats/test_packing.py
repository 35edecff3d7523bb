"""Events that wait share a message, in order; everything else stays alone."""

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import from_json

from eventbus.transports.nats.outgoing import Taken
from eventbus.transports.nats.packing import Packed, packed

FEWER = settings(max_examples=100)


def taken(*messages: tuple[bytes, bytes, int]) -> Taken:
    return Taken(*zip(*messages, strict=True)) if messages else Taken((), (), ())


def test_what_is_joined() -> None:
    """Single events of one topic that follow each other."""
    waiting = [
        (b"a", b"{1}", 1),
        (b"a", b"{2}", 1),
        (b"b", b"{3}", 1),
        (b"a", b"{4}", 1),
        (b"a", b"[{5},{6}]", 2),
        (b"a", b"\x28\xb5", 1),
        (b"a\0\0{}\0", b"{7}", 1),
        (b"a", b"{8}", 1),
    ]
    assert list(packed(taken(*waiting))) == [
        Packed(b"a", b"[{1},{2}]", 2, 2),
        Packed(b"b", b"{3}", 1, 1),
        Packed(b"a", b"{4}", 1, 1),
        Packed(b"a", b"[{5},{6}]", 2, 1),
        Packed(b"a", b"\x28\xb5", 1, 1),
        Packed(b"a\0\0{}\0", b"{7}", 1, 1),
        Packed(b"a", b"{8}", 1, 1),
    ]


def test_what_stays_alone_among_events_of_one_topic() -> None:
    """Headers, several events, or a payload that is no plain event."""
    for other in ((b"a\0\0{}\0", b"{}", 1), (b"a", b"[{}]", 1), (b"a", b"{}", 2), (b"a", b"", 1)):
        assert list(packed(taken(other))) == [Packed(*other, 1)]
    assert list(packed(taken((b"a", b"{1}", 1), (b"a", b"{2}", 1)))) == [Packed(b"a", b"[{1},{2}]", 2, 2)]
    assert list(packed(taken())) == []


@FEWER
@given(st.lists(st.tuples(st.sampled_from([b"a", b"b"]), st.integers(1, 30)), max_size=30), st.integers(10, 60))
def test_order_and_size(events: list[tuple[bytes, int]], limit: int) -> None:
    """All events are there, in order, and no array is larger than allowed."""
    waiting = [(topic, b'{"a":"' + b"x" * size + b'"}', 1) for topic, size in events]
    found = []
    for message in packed(taken(*waiting), limit):
        assert message.items == message.events
        if message.events > 1:
            assert len(message.payload) <= limit
            found += [(message.first, len(one["a"])) for one in from_json(message.payload)]
        else:
            found.append((message.first, len(from_json(message.payload)["a"])))
    assert found == events
