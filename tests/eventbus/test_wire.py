"""Frames, as pure functions on bytes."""

from itertools import pairwise

import pytest

from eventbus import InvalidTopic, wire

GOOD = [b"topic", b'{"a":1}']


def test_topic_frame_is_utf8() -> None:
    """A topic travels as its value in UTF-8."""
    assert wire.topic_frame("plånt") == "plånt".encode()


@pytest.mark.parametrize(
    "topic",
    ["", "{a", "[a", " a", "\ta", "a\0b", "a\nb", "x" * 256, "ä" * 128, "\udcff"],
    ids=["empty", "brace", "bracket", "space", "tab", "nul", "newline", "too-long", "too-long-in-bytes", "surrogate"],
)
def test_topic_frame_refuses_what_cannot_travel(topic: str) -> None:
    """A value that could be taken for a payload, or for no topic at all, raises InvalidTopic."""
    with pytest.raises(InvalidTopic):
        wire.topic_frame(topic)


def test_topic_frame_takes_the_longest_topic() -> None:
    """The limit is 255 bytes, inclusive."""
    assert len(wire.topic_frame("x" * wire.MAX_TOPIC_BYTES)) == 255


@pytest.mark.parametrize(("frame", "text"), [(b"topic", True), ("ä".encode(), True), (b"", True), (b"\xff", False)])
def test_is_text(frame: bytes, text: bool) -> None:
    """A frame is text when it is UTF-8."""
    assert wire.is_text(frame) is text


def test_pack_joins_into_arrays_with_counts() -> None:
    """Payloads that fit together travel as one JSON array, with the number of events in it."""
    assert list(wire.pack([b"{1}", b"{2}", b"{3}"], 100)) == [(b"[{1},{2},{3}]", 3)]


def test_pack_leaves_a_single_event_alone() -> None:
    """An event that is alone travels as a plain object."""
    assert list(wire.pack([b"{1}"], 100)) == [(b"{1}", 1)]


def test_pack_of_nothing_is_nothing() -> None:
    """No events make no message."""
    assert list(wire.pack([], 100)) == []


def test_pack_sends_a_large_event_by_itself() -> None:
    """An event over the limit is a message by itself, as a plain object, and its neighbours keep their order."""
    large = b"{" + b"x" * 50 + b"}"
    assert list(wire.pack([b"{1}", large, b"{2}", b"{3}"], 20)) == [(b"{1}", 1), (large, 1), (b"[{2},{3}]", 2)]


@pytest.mark.parametrize("limit", range(1, 60))
def test_pack_stays_within_the_limit_and_keeps_all(limit: int) -> None:
    """No array is over the limit, as many as possible share it, and nothing is lost or reordered."""
    payloads = [b"{%d}" % number for number in range(20)]
    packed = list(wire.pack(payloads, limit))
    assert all(len(payload) <= limit for payload, count in packed if count > 1)
    assert sum(count for _, count in packed) == 20
    assert b",".join(payload.strip(b"[]") for payload, _ in packed) == b",".join(payloads)
    for (payload, _), (following, _) in pairwise(packed):
        first_of_next = following.strip(b"[]").split(b",")[0]
        assert len(payload.strip(b"[]")) + len(first_of_next) + 3 > limit


@pytest.mark.parametrize("prefixes", [(b"top",), (b"a", b"topic"), (b"",)])
def test_messages_pairs_whole_messages(prefixes: tuple[bytes, ...]) -> None:
    """Frames of whole messages come back as topics and payloads, and none is malformed."""
    assert wire.messages([b"topic", b"{1}", b"topic2", b"[2]", b"topic", b" {3}"], wire.Prefixes(prefixes)) == (
        ([b"topic", b"topic2", b"topic"], [b"{1}", b"[2]", b" {3}"]),
        0,
    )


def test_messages_of_nothing() -> None:
    """No frames are no messages."""
    assert wire.messages([], wire.Prefixes([b"topic"])) == (([], []), 0)


@pytest.mark.parametrize(
    "malformed",
    [[b"topic"], [b"topic", b"{1}", b"{2}"], [b"topic", b"{1}", b"x"], [b"topic", b"", b""], [b"topic", *[b"{}"] * 999]],
    ids=["one-frame", "three", "three-with-text", "three-empty", "thousand"],
)
def test_messages_drops_exactly_the_malformed_one(malformed: list[bytes]) -> None:
    """A message of another number of frames is no event, counts as one, and costs no neighbour."""
    assert wire.messages([*GOOD, *malformed, *GOOD], wire.Prefixes([b"topic"])) == (([GOOD[0]] * 2, [GOOD[1]] * 2), 1)


@pytest.mark.parametrize(
    "malformed",
    [[b"x"], [b"{1}"], [b"{1}", b"{2}"], [b"x", b"y"], [b"x", b"y", b"z"], [b"\x00"]],
    ids=["one-frame", "payload-only", "two-payloads", "two-topics", "three-topics", "control"],
)
def test_messages_subscribed_to_everything(malformed: list[bytes]) -> None:
    """Where any frame may start a message, a malformed one still costs no neighbour."""
    (topics, payloads), count = wire.messages([*GOOD, *malformed, *GOOD], wire.Prefixes([b""]))
    received = list(zip(topics, payloads, strict=True))
    assert (received[0], received[-1]) == (tuple(GOOD), tuple(GOOD))
    assert count or len(received) > 2
