"""Frames, as pure functions on bytes."""

import json
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus import Compression, InvalidTopic
from eventbus.wire.compression import Compressor, is_compressed
from eventbus.wire.frames import (
    ARRAY,
    MARK,
    MAX_TOPIC_BYTES,
    PAYLOAD_STARTS,
    Prefixes,
    any_header,
    head_of_run,
    is_text,
    messages,
    pack,
    topic_frame,
    topic_of,
)

GOOD = [b"topic", b'{"a":1}']
HEADER = b"\0publishr" + bytes(8)

COMPRESSED = [
    *(Compressor(compression, 1).shrink(b'{"a":1}' * 99) for compression in Compression if compression != "none"),
    *(zlib.compress(bytes(number % 251 for number in range(999)), level) for level in (1, 3, 6, 9)),
]


def test_topic_frame_is_utf8() -> None:
    """A topic travels as its value in UTF-8."""
    assert topic_frame("plånt") == "plånt".encode()


@pytest.mark.parametrize(
    "topic",
    ["", "{a", "[a", " a", "\ta", "a\0b", "a\nb", "x" * 256, "ä" * 128, "\udcff"],
    ids=["empty", "brace", "bracket", "space", "tab", "nul", "newline", "too-long", "too-long-in-bytes", "surrogate"],
)
def test_topic_frame_refuses_what_cannot_travel(topic: str) -> None:
    """A value that could be taken for a payload, or for no topic at all, raises InvalidTopic."""
    with pytest.raises(InvalidTopic):
        topic_frame(topic)


def test_topic_frame_takes_the_longest_topic() -> None:
    """The limit is 255 bytes, inclusive."""
    assert len(topic_frame("x" * MAX_TOPIC_BYTES)) == 255


@pytest.mark.parametrize("frame", [b"topic", b"topic\0", b"topic" + HEADER, b"topic\0\0\xff"])
def test_topic_of_ends_at_the_header(frame: bytes) -> None:
    """The topic is all before the first NUL byte, if there is one."""
    assert topic_of(frame) == b"topic"


def test_any_header() -> None:
    """One header among many frames is seen, an empty one too; without any there is none."""
    assert not any_header([])
    assert not any_header([b"topic", "ä".encode(), b""])
    assert any_header([b"topic", b"topic\0"])


@pytest.mark.parametrize(("frame", "text"), [(b"topic", True), ("ä".encode(), True), (b"", True), (b"\xff", False)])
def test_is_text(frame: bytes, text: bool) -> None:
    """A frame is text when it is UTF-8."""
    assert is_text(frame) is text


def test_pack_joins_into_arrays_with_counts() -> None:
    """Payloads that fit together travel as one JSON array, with the number of events in it."""
    assert list(pack([b"{1}", b"{2}", b"{3}"], 100)) == [(b"[{1},{2},{3}]", 3)]


def test_pack_leaves_a_single_event_alone() -> None:
    """An event that is alone travels as a plain object."""
    assert list(pack([b"{1}"], 100)) == [(b"{1}", 1)]


def test_pack_of_nothing_is_nothing() -> None:
    """No events make no message."""
    assert list(pack([], 100)) == []


def test_pack_sends_a_large_event_by_itself() -> None:
    """An event over the limit is a message by itself, as a plain object, and its neighbours keep their order."""
    large = b"{" + b"x" * 50 + b"}"
    assert list(pack([b"{1}", large, b"{2}", b"{3}"], 20)) == [(b"{1}", 1), (large, 1), (b"[{2},{3}]", 2)]


@pytest.mark.parametrize("limit", range(1, 60))
def test_pack_stays_within_the_limit_and_keeps_all(limit: int) -> None:
    """No array is over the limit, as many as possible share it, and nothing is lost or reordered."""
    payloads = [b"{%d}" % number for number in range(20)]
    packed = list(pack(payloads, limit))
    assert all(len(payload) <= limit for payload, count in packed if count > 1)
    assert sum(count for _, count in packed) == 20
    assert b",".join(payload.strip(b"[]") for payload, _ in packed) == b",".join(payloads)
    for (payload, _), (following, _) in pairwise(packed):
        first_of_next = following.strip(b"[]").split(b",")[0]
        assert len(payload.strip(b"[]")) + len(first_of_next) + 3 > limit


@pytest.mark.parametrize("others", [0, 5_000])
def test_prefixes_match_by_topic(others: int) -> None:
    """A frame with a header matches where its topic does, and a header never makes a match; so among thousands of topics."""
    prefixes = Prefixes([b"plant", *(b"other-%d" % number for number in range(others))])
    assert prefixes.match(b"plant" + HEADER)
    assert prefixes.match(b"plant-2" + HEADER)
    assert not prefixes.match(b"plan" + HEADER)
    assert not prefixes.match(b"plan\0t")
    assert not prefixes.match(HEADER + b"plant")


@pytest.mark.parametrize("prefixes", [(b"top",), (b"a", b"topic"), (b"",)])
def test_messages_pairs_whole_messages(prefixes: tuple[bytes, ...]) -> None:
    """Frames of whole messages come back as topics and payloads, and none is malformed."""
    assert messages([b"topic", b"{1}", b"topic2", b"[2]", b"topic", b" {3}"], Prefixes(prefixes)) == (
        ([b"topic", b"topic2", b"topic"], [b"{1}", b"[2]", b" {3}"]),
        0,
    )


def test_messages_of_nothing() -> None:
    """No frames are no messages."""
    assert messages([], Prefixes([b"topic"])) == (([], []), 0)


@pytest.mark.parametrize(
    "malformed",
    [[b"topic"], [b"topic", b"{1}", b"{2}"], [b"topic", b"{1}", b"x"], [b"topic", b"", b""], [b"topic", *[b"{}"] * 999]],
    ids=["one-frame", "three", "three-with-text", "three-empty", "thousand"],
)
def test_messages_drops_exactly_the_malformed_one(malformed: list[bytes]) -> None:
    """A message of another number of frames is no event, counts as one, and costs no neighbour."""
    assert messages([*GOOD, *malformed, *GOOD], Prefixes([b"topic"])) == (([GOOD[0]] * 2, [GOOD[1]] * 2), 1)


@pytest.mark.parametrize(
    "malformed",
    [[b"x"], [b"{1}"], [b"{1}", b"{2}"], [b"x", b"y"], [b"x", b"y", b"z"], [b"\x00"]],
    ids=["one-frame", "payload-only", "two-payloads", "two-topics", "three-topics", "control"],
)
def test_messages_subscribed_to_everything(malformed: list[bytes]) -> None:
    """If any frame may start a message, a malformed one still costs no neighbour."""
    (topics, payloads), count = messages([*GOOD, *malformed, *GOOD], Prefixes([b""]))
    received = list(zip(topics, payloads, strict=True))
    assert (received[0], received[-1]) == (tuple(GOOD), tuple(GOOD))
    assert count or len(received) > 2


@pytest.mark.parametrize("plain", [0, 1, 40], ids=["all-numbered", "one-plain", "half-plain"])
@pytest.mark.parametrize("plain_first", [True, False])
def test_messages_with_headers(plain: int, plain_first: bool) -> None:
    """First frames keep their headers, however many different ones there are and whether plain ones are among them."""
    numbered = [b"topic" + HEADER[:-1] + bytes([number]) for number in range(40)]
    topics = [*[b"topic"] * plain, *numbered] if plain_first else [*numbered, *[b"topic"] * plain]
    frames = [frame for topic in topics for frame in (topic, b"{}")]
    assert messages(frames, Prefixes([b"topic"])) == ((topics, [b"{}"] * len(topics)), 0)
    assert messages([*frames, b"topic", *frames], Prefixes([b"topic"]))[1] == 1


# Compressed payloads


@pytest.mark.parametrize("payload", COMPRESSED, ids=["zlib", "zstd", "lz4", "zlib-1", "zlib-3", "zlib-6", "zlib-9"])
@pytest.mark.parametrize("prefixes", [(b"topic",), (b"topic", b"x"), (b"",)], ids=["topic", "x", "everything"])
def test_messages_with_compressed_payloads(payload: bytes, prefixes: tuple[bytes, ...]) -> None:
    """Payloads may be compressed, all or some of them, and malformed neighbours cost none of them."""
    subscribed = Prefixes(prefixes)
    compressed = [b"topic", payload]
    assert messages(compressed * 3, subscribed) == (([b"topic"] * 3, [payload] * 3), 0)
    assert messages([*GOOD, *compressed, *GOOD], subscribed)[0][1] == [GOOD[1], payload, GOOD[1]]
    for malformed in ([b"topic"], [b"topic", payload, payload, payload], [b"topic", b"{}", payload]):
        (topics, payloads), wrong = messages([*compressed, *malformed, *compressed, *GOOD], subscribed)
        received = list(zip(topics, payloads, strict=True))
        assert received[0] == tuple(compressed)
        assert received[-2:] == [tuple(compressed), tuple(GOOD)]
        assert wrong or len(received) > 3


@pytest.mark.parametrize("topic", ["x", "x^", "x^y", "xÚ", "x\u06ab", "(", "(x", "x\x7f"])
def test_topics_that_begin_like_compressed_payloads(topic: str) -> None:
    """A topic may begin as a zlib stream does, or nearly; whatever is malformed, its messages come, plain or numbered."""
    frame = topic_frame(topic)
    for prefixes in ([frame], [b""]):
        for first in (frame, frame + HEADER):
            for payload in (b"{}", COMPRESSED[0]):
                good = [first, payload]
                received, wrong = messages([*good, first, *good, *good], Prefixes(prefixes))
                assert (received, wrong) == (([first] * 3, [payload] * 3), 1)


def test_what_might_be_a_topic_is_told_by_the_subscriptions() -> None:
    """A payload that might be text is one all the same, unless a subscription matches it."""
    payload = b"x^like text"
    assert messages([b"topic", payload], Prefixes([b"topic"])) == (([b"topic"], [payload]), 0)
    assert messages([b"topic", payload], Prefixes([b"topic", b"x"])) == (([], []), 2)


# Properties

texts = st.text(st.characters(codec="utf-8", min_codepoint=32), max_size=12)
topics = st.builds(str.__add__, st.sampled_from(["", "", "", "x", "x^", "(", "x\u06ab"]), texts).filter(
    lambda text: text[:1] not in ("", " ", "[", "{")
)
subscriptions = st.lists(topics.map(topic_frame) | st.just(b""), min_size=1, max_size=4)
payloads = st.sampled_from([b"{}", b"[1]", b' {"a": 1}', b"\r\n[{},{}] ", b"{\xff\0", b"[", *COMPRESSED])
headers = st.binary(max_size=20).map(lambda rest: MARK + rest) | st.binary(min_size=16, max_size=16).map(
    lambda rest: MARK + rest
)


@st.composite
def well_formed(draw: st.DrawFn, prefixes: list[bytes]) -> list[bytes]:
    """A message of a subscribed topic, as ZeroMQ delivers it."""
    prefix = draw(st.sampled_from(prefixes))
    topic = topic_frame(prefix.decode() + draw(topics if not prefix else st.just("") | topics))
    return [topic + draw(headers | st.just(b"")), draw(payloads)]


@st.composite
def malformed(draw: st.DrawFn, prefixes: list[bytes]) -> list[bytes]:
    """A message that is not a topic and a payload. ZeroMQ delivers what begins like a subscribed topic, and nothing else."""
    first = draw(st.sampled_from(prefixes)) + draw(st.binary(max_size=3) | headers)
    others = st.lists(payloads | st.sampled_from(prefixes) | st.binary(max_size=3), max_size=4)
    return [first, *draw(others.filter(lambda frames: len(frames) != 1 or not is_payload(frames[0])))]


def is_payload(frame: bytes) -> bool:
    """Whether a message of two frames is well-formed with it."""
    return frame[:1] in PAYLOAD_STARTS or is_compressed(frame)


type Traffic = tuple[list[bytes], list[list[bytes]], list[list[bytes]]]


@st.composite
def traffic(draw: st.DrawFn, *, disturbed: bool) -> Traffic:
    """Subscribed prefixes, messages in the order in which they come, and those of them that are well-formed."""
    prefixes = draw(subscriptions)
    sent, good = [], []
    for disturbance in draw(st.lists(st.booleans() if disturbed else st.just(False), max_size=25)):
        message = draw(malformed(prefixes) if disturbance else well_formed(prefixes))
        sent.append(message)
        if not disturbance:
            good.append(message)
    return prefixes, sent, good


@pytest.mark.patience
@given(traffic(disturbed=False))
def test_messages_returns_all_that_are_well_formed(received: Traffic) -> None:
    """Whatever is subscribed, numbered or plain: of well-formed messages each comes back as it is, and none is malformed."""
    prefixes, sent, _ = received
    frames = [frame for message in sent for frame in message]
    assert messages(frames, Prefixes(prefixes)) == ((frames[0::2], frames[1::2]), 0)


@pytest.mark.patience
@given(traffic(disturbed=True))
def test_messages_loses_none_that_is_well_formed(received: Traffic) -> None:
    """Whatever malformed messages come between them, every well-formed one is there, in order."""
    prefixes, sent, good = received
    (topics, payloads), _ = messages([frame for message in sent for frame in message], Prefixes(prefixes))
    found = iter([list(message) for message in zip(topics, payloads, strict=True)])
    assert all(message in found for message in good), "`in` looks behind what it found last"


@given(st.lists(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=30), max_size=3)), st.integers(1, 300))
def test_what_is_packed_can_be_unpacked(events: list[dict[str, object]], limit: int) -> None:
    """The arrays and single objects hold exactly the events, in order, and as many in each as stated."""
    unpacked: list[object] = []
    for payload, count in pack([json.dumps(event).encode() for event in events], limit):
        found = json.loads(payload) if payload.startswith(ARRAY) else [json.loads(payload)]
        assert len(found) == count
        unpacked += found
    assert unpacked == events


@given(
    st.lists(st.binary(max_size=4).map(b"t\0publishr".__add__), min_size=1, max_size=5)
    | st.lists(st.binary(max_size=12), min_size=1, max_size=4)
)
def test_the_head_of_a_run_is_that_of_all(frames: list[bytes]) -> None:
    """If frames stand in ascending order, and the first and the last begin alike, so do all between them."""
    for order in (frames, sorted(frames), sorted(set(frames))):
        head = head_of_run(order)
        assert head is None or (all(frame.startswith(head) for frame in order) and order == sorted(set(order)))


def test_what_is_a_run() -> None:
    """Numbered frames of one publisher on one topic, in their order."""
    one, two, three = (b"t\0publishr" + number.to_bytes(8) for number in range(1, 4))
    assert head_of_run([one, two, three]) == head_of_run([one, three]) == head_of_run([one]) == b"t\0publishr"
    assert head_of_run([two, one]) is None
    assert head_of_run([one, one]) is None
    assert head_of_run([one, b"u\0publishr" + bytes(8)]) is None
