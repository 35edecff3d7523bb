"""`Joiner`: which events that wait share a message."""

import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus.wire.frames import MAX_PACKED_BYTES
from eventbus.wire.joining import Joined, Joiner, Waiting


def single(number: int, topic: bytes = b"t") -> Waiting:
    return topic, b'{"n":%d}' % number, 1


def all_of(joiner: Joiner, waiting: list[Waiting], accepted: int | None = None) -> list[Joined]:
    """The messages that take the place of all of these."""
    messages = []
    while waiting:
        messages.append(joiner.join(waiting, accepted))
        waiting = waiting[messages[-1][3] :]
    return messages


def test_neighbours_share_a_message() -> None:
    """Events of one topic become one array, in order; one that is alone stays a plain object."""
    assert Joiner().join([single(1)]) == (b"t", b'{"n":1}', 1, 1)
    assert Joiner().join([single(1), single(2), single(3)]) == (b"t", b'[{"n":1},{"n":2},{"n":3}]', 3, 3)


@pytest.mark.parametrize(
    "other",
    [
        (b"u", b"{}", 1),
        (b"t\0\0{}\0", b"{}", 1),  # headers
        (b"t", b"[{},{}]", 2),
        (b"t", zlib.compress(b"{}"), 1),
    ],
    ids=["topic", "headers", "batch", "compressed"],
)
def test_what_differs_travels_by_itself(other: Waiting) -> None:
    """Another topic, headers, a batch or a compressed event ends the message before it, and stays as it is."""
    waiting = [single(1), single(2), other, single(3), single(4)]
    one, two = b'[{"n":1},{"n":2}]', b'[{"n":3},{"n":4}]'
    assert all_of(Joiner(), waiting) == [(b"t", one, 2, 2), (*other, 1), (b"t", two, 2, 2)]


def test_an_empty_payload_joins_nothing() -> None:
    """An empty payload, which is no event, is part of no array."""
    assert [payload for _, payload, _, _ in all_of(Joiner(), [single(1), (b"t", b"", 1), single(2)])][1] == b""


@given(
    st.lists(st.tuples(st.sampled_from([b"a", b"b"]), st.integers(0, 200), st.booleans()), min_size=1, max_size=40),
    st.integers(20, 400),
    st.sampled_from([None, 50, 1_000, 100_000]),
)
def test_every_event_once_in_order(story: list[tuple[bytes, int, bool]], limit: int, accepted: int | None) -> None:
    """Whatever waits, each event comes once, in order and on its topic; no array is larger than its limits."""
    waiting: list[Waiting] = []
    for number, (topic, size, batch) in enumerate(story):
        event = json.dumps({"n": number, "x": "x" * size}).encode()
        waiting.append((topic, b"[" + event + b"]", 1 + 1) if batch else (topic, event, 1))
    found = []
    for topic, payload, events, messages in all_of(Joiner(limit), waiting, accepted):
        content = json.loads(payload)
        found += [(topic, event["n"]) for event in (content if isinstance(content, list) else [content])]
        if messages > 1:
            assert len(payload) <= min(limit, MAX_PACKED_BYTES if accepted is None else accepted)
            assert events == messages == len(content)
    assert found == [(topic, number) for number, (topic, _, _) in enumerate(story)]


def test_an_array_is_no_larger_than_receivers_take() -> None:
    """However large events may be, an array has at most 64 KiB; a larger event stays alone."""
    large = (b"t", b'{"x":"' + b"x" * 40_000 + b'"}', 1)
    assert [count for *_, count in all_of(Joiner(1_000_000), [large, large, single(1)])] == [1, 2]


def test_an_array_is_made_smaller() -> None:
    """What is joined is given to `shrink`; what stays alone was given to it before."""
    joiner = Joiner(shrink=lambda payload: b"<%d>" % len(payload))
    assert joiner.join([single(1), single(2)]) == (b"t", b"<17>", 2, 2)
    assert joiner.join([single(1)]) == (b"t", b'{"n":1}', 1, 1)
