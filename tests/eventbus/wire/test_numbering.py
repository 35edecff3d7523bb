"""Numbers on frames, and the gaps between them."""

from collections import Counter
from dataclasses import dataclass
from itertools import cycle, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus.wire.numbering import Gaps, Numbering

TOPIC, OTHER = b"my_service", b"my_service_scheduler"
PUBLISHER = b"\xff\0{[ \n\t8"  # any eight bytes will do that do not begin with NUL


def wanted(topic: bytes) -> bool:
    return True


def frames_of(count: int, numbering: Numbering, topic: bytes = TOPIC) -> list[bytes]:
    """The first frames of `count` messages of one event each, all of them sent."""
    return [sent(numbering, topic) for _ in range(count)]


def sent(numbering: Numbering, topic: bytes = TOPIC, count: int = 1) -> bytes:
    """The first frame of a message that was sent."""
    frame = numbering.next(topic, count)
    numbering.taken(topic, count)
    return frame


def lost(gaps: Gaps, *frames: bytes) -> dict[bytes, int]:
    """The losses, by topic, when these come as one batch."""
    return gaps.read(list(frames), wanted)[1]


# Numbering


def test_a_frame_goes_on_after_the_topic() -> None:
    """The topic, a NUL byte, the publisher, and how many events it has sent on the topic, this one included."""
    numbering = Numbering(PUBLISHER)
    assert sent(numbering) == TOPIC + b"\0" + PUBLISHER + b"\0\0\0\0\0\0\0\1"
    assert sent(numbering) == TOPIC + b"\0" + PUBLISHER + b"\0\0\0\0\0\0\0\2"


def test_a_frame_of_several_events_carries_their_count() -> None:
    """If a message carries several events, their count stands before the number, which counts each of them."""
    numbering = Numbering(PUBLISHER)
    sent(numbering)
    assert sent(numbering, count=300) == TOPIC + b"\0" + PUBLISHER + b"\0\0\1\x2c" + b"\0\0\0\0\0\0\1\x2d"
    assert sent(numbering)[-8:] == b"\0\0\0\0\0\0\1\x2e"


def test_a_number_is_used_up_when_its_message_was_sent() -> None:
    """The next frame stays the same one until `taken`."""
    numbering = Numbering()
    first = numbering.next(TOPIC)
    assert numbering.next(TOPIC) == first
    numbering.taken(TOPIC)
    assert numbering.next(TOPIC) != first


def test_topics_are_numbered_apart() -> None:
    """Each topic has numbers of its own."""
    numbering = Numbering(PUBLISHER)
    frames_of(5, numbering)
    assert sent(numbering, OTHER) == OTHER + b"\0" + PUBLISHER + b"\0\0\0\0\0\0\0\1"


def test_askers_are_forgotten() -> None:
    """Who answers ever new askers does not remember them for ever; one that comes back is not told what it had already."""
    numbering, gaps = Numbering(PUBLISHER), Gaps()
    first = b"_reply/first"
    gaps.read(frames_of(3, numbering, first), wanted)
    for number in range(20_000):
        sent(numbering, b"_reply/%d" % number)
    assert first not in numbering.streams
    assert len(numbering.streams) <= 10_000
    assert gaps.read([sent(numbering, first)], wanted).repeated == []


def test_publishers_differ() -> None:
    """Two publishers never have the same name, unless they are given one."""
    assert Numbering().next(TOPIC) != Numbering().next(TOPIC)


# Gaps


def test_nothing_is_lost_where_numbers_follow_each_other() -> None:
    """Without a gap nothing is lost, within a batch or between two."""
    numbering, gaps = Numbering(), Gaps()
    assert lost(gaps, *frames_of(3, numbering)) == {}
    assert lost(gaps, sent(numbering, count=7), *frames_of(3, numbering)) == {}


def test_a_gap_within_a_batch_is_seen() -> None:
    """The events of messages that are missing between two of a batch are lost."""
    numbering, gaps = Numbering(), Gaps()
    before = sent(numbering)
    frames_of(3, numbering)
    assert lost(gaps, before, sent(numbering)) == {TOPIC: 3}


def test_a_gap_between_batches_is_seen() -> None:
    """Events missing between two batches are lost, too, once."""
    numbering, gaps = Numbering(), Gaps()
    lost(gaps, sent(numbering))
    frames_of(3, numbering)
    assert lost(gaps, sent(numbering)) == {TOPIC: 3}
    assert lost(gaps, sent(numbering)) == {}


def test_all_events_of_a_packed_message_are_lost() -> None:
    """A packed message that is missing counts with all its events."""
    numbering, gaps = Numbering(), Gaps()
    lost(gaps, sent(numbering, count=2))
    sent(numbering, count=40)
    assert lost(gaps, sent(numbering, count=2)) == {TOPIC: 40}


def test_single_and_packed_messages_take_turns() -> None:
    """Messages of one and of several events of one publisher are numbered together, also within a batch."""
    numbering, gaps = Numbering(), Gaps()
    frames = [sent(numbering, count=count) for count in (1, 5, 1, 3, 5, 2, 5, 1)]
    assert lost(gaps, *frames[:3]) == {}
    assert lost(gaps, frames[3], frames[4], frames[6]) == {TOPIC: 2}
    assert lost(gaps, frames[7]) == {}


def test_what_was_sent_before_the_first_message_is_not_lost() -> None:
    """Counting begins with the first message that comes, whatever its number and however many events it carries."""
    numbering, gaps = Numbering(), Gaps()
    frames_of(1_000, numbering)
    assert lost(gaps, sent(numbering, count=9)) == {}


def test_a_publisher_that_opens_again_is_another_one() -> None:
    """Its numbers begin again, and that is no loss."""
    gaps = Gaps()
    lost(gaps, *frames_of(5, Numbering()))
    assert lost(gaps, *frames_of(5, Numbering())) == {}


def test_losses_are_told_by_topic() -> None:
    """Each topic has its own count, of all publishers together."""
    one, two, gaps = Numbering(), Numbering(), Gaps()
    lost(gaps, sent(one), sent(two), sent(one, OTHER))
    frames_of(1, one), frames_of(2, two), frames_of(4, one, OTHER)
    assert lost(gaps, sent(one), sent(one, OTHER), sent(two)) == {TOPIC: 3, OTHER: 4}


def test_topics_without_numbers_pass() -> None:
    """Plain frames come back as they are, among numbered ones too, and cost those nothing."""
    numbering, gaps = Numbering(), Gaps()
    frames = [TOPIC, sent(numbering), b"x", OTHER, sent(numbering, OTHER), "ä".encode()]
    assert gaps.read(frames, wanted)[:3] == ([TOPIC, TOPIC, b"x", OTHER, OTHER, "ä".encode()], {}, [])


@pytest.mark.parametrize("length", [length for length in range(40) if length not in (16, 20)])
def test_a_malformed_header_is_no_number(length: int) -> None:
    """A header of any other length is skipped: the message is one of its topic, and the true numbers go on."""
    numbering, gaps = Numbering(PUBLISHER), Gaps()
    lost(gaps, sent(numbering))
    malformed = TOPIC + b"\0" + (PUBLISHER * 5)[:length]
    assert gaps.read([malformed, sent(numbering), malformed], wanted)[:3] == ([TOPIC] * 3, {}, [])


@pytest.mark.parametrize("topic", [b"", b"x" * 256])
def test_what_no_client_sends_is_not_remembered(topic: bytes) -> None:
    """Numbers on an empty topic, or on one that is too long, are not looked at: those would fill the memory."""
    numbering, gaps = Numbering(), Gaps()
    frames = frames_of(3, numbering, topic)
    assert gaps.read([frames[0], frames[2]], wanted)[:3] == ([topic] * 2, {}, [])
    assert not gaps._topics


def test_what_comes_again_is_told() -> None:
    """A message that has come before is named by its index, within a batch and after it, and is no loss; new ones go on."""
    numbering, gaps = Numbering(), Gaps()
    frames = [sent(numbering, count=1 + number % 2) for number in range(9)]
    assert gaps.read([*frames[:4], frames[3], frames[3]], wanted)[1:3] == ({}, [4, 5])
    assert gaps.read([frames[3]], wanted)[1:3] == ({}, [0])
    assert gaps.read([frames[1]], wanted)[1:3] == ({}, [0])
    assert gaps.read(frames[2:5], wanted)[1:3] == ({}, [0, 1])
    assert gaps.read([frames[6]], wanted)[1:3] == ({TOPIC: 2}, [])


def test_what_comes_again_hides_no_loss() -> None:
    """Losses are seen even if one batch has as many repetitions."""
    numbering, gaps = Numbering(), Gaps()
    frames = frames_of(9, numbering)
    lost(gaps, *frames[:3])
    assert gaps.read([*frames[1:5], frames[7]], wanted)[1:3] == ({TOPIC: 2}, [0, 1])
    again = frames_of(9, numbering)
    assert gaps.read([frames[8], *again[:2], again[1], again[3]], wanted)[1:3] == ({TOPIC: 1}, [3])


def test_a_forged_number_does_not_blind() -> None:
    """After the highest number that there can be, the next true ones count again."""
    numbering, gaps = Numbering(PUBLISHER), Gaps()
    lost(gaps, sent(numbering))
    lost(gaps, TOPIC + b"\0" + PUBLISHER + b"\xff" * 8)
    assert lost(gaps, sent(numbering)) == {}
    sent(numbering)
    assert lost(gaps, sent(numbering)) == {TOPIC: 1}


def test_only_wanted_topics_count() -> None:
    """Events of topics that only begin like a subscribed one are not counted."""
    numbering, gaps = Numbering(), Gaps()
    for _ in range(2):
        frames = [sent(numbering), sent(numbering, OTHER)]
        assert gaps.read(frames, TOPIC.__eq__)[:3] == ([TOPIC, OTHER], {}, [])
        sent(numbering, OTHER)
    assert lost(gaps, sent(numbering), sent(numbering, OTHER)) == {}


def test_a_forgotten_topic_begins_anew() -> None:
    """Events missing while a topic is not subscribed are not lost; other topics go on, also one that begins like it."""
    numbering, gaps = Numbering(), Gaps()
    lost(gaps, sent(numbering), sent(numbering, OTHER))
    sent(numbering), sent(numbering, OTHER)
    gaps.forget(TOPIC)
    assert lost(gaps, sent(numbering), sent(numbering, OTHER)) == {OTHER: 1}
    sent(numbering)
    assert lost(gaps, sent(numbering)) == {TOPIC: 1}, "counting has begun again"


def test_all_topics_can_be_forgotten() -> None:
    """An empty topic stands for every one."""
    numbering, gaps = Numbering(), Gaps()
    lost(gaps, sent(numbering), sent(numbering, OTHER))
    sent(numbering), sent(numbering, OTHER)
    gaps.forget(b"")
    assert lost(gaps, sent(numbering), sent(numbering, OTHER)) == {}


def test_the_longest_silent_is_forgotten_first() -> None:
    """Beyond the limit, counting begins anew for the publisher that was silent longest, and for no other."""
    one, two, three = Numbering(), Numbering(), Numbering()
    gaps = Gaps(limit=2)
    for numbering in (one, two, one, three):  # two is silent longest
        lost(gaps, sent(numbering))
    for numbering in (one, two, three):
        sent(numbering)
    assert lost(gaps, sent(one)) == {TOPIC: 1}
    assert lost(gaps, sent(three)) == {TOPIC: 1}
    assert lost(gaps, sent(two)) == {}


def test_a_flood_of_publishers_takes_bounded_memory() -> None:
    """However many publishers there are, no more than the limit are remembered, and their frames hardly longer."""
    gaps = Gaps(limit=100)
    late = Numbering()
    for _ in range(100):
        lost(gaps, *(sent(Numbering(), count=2) for _ in range(200)), sent(late))
        sent(late)
    assert len(gaps._sequences) == 100
    assert len(gaps._topics) <= 10_000
    assert lost(gaps, sent(late)) == {TOPIC: 1}


# Properties


@dataclass(frozen=True)
class Message:
    """Messages that are sent, and whether each arrives."""

    publisher: int
    topic: bytes
    count: int
    arrives: bool
    last_of_batch: bool


TOPICS = [b"a", b"ab", b"something longer than a header"]

sendings = st.lists(
    st.builds(
        Message,
        publisher=st.integers(0, 2),
        topic=st.sampled_from(TOPICS),
        count=st.integers(1, 3) | st.integers(1, 150),
        arrives=st.booleans(),
        last_of_batch=st.sampled_from([False, False, False, True]),
    ),
    max_size=60,
)


def batches_of(sending: list[Message], publishers: list[Numbering | None]) -> list[tuple[list[bytes], list[bytes]]]:
    """The batches of what arrives, each as first frames and topics. A publisher that is None does not number."""
    batches: list[tuple[list[bytes], list[bytes]]] = [([], [])]
    for message in sending:
        numbering = publishers[message.publisher]
        frame = message.topic if numbering is None else sent(numbering, message.topic, message.count)
        if message.arrives:
            batches[-1][0].append(frame)
            batches[-1][1].append(message.topic)
        if message.last_of_batch:
            batches.append(([], []))
    return batches


@given(sendings)
def test_lost_and_delivered_are_sent(sending: list[Message]) -> None:
    """Whatever is sent and lost, and however it is cut into batches: lost events are those between two that came.

    One of the publishers does not number its messages: what it loses is not seen, and disturbs nobody.
    """
    expected: Counter[bytes] = Counter()
    for publisher in (0, 1):
        for topic in TOPICS:
            of_stream = [message for message in sending if (message.publisher, message.topic) == (publisher, topic)]
            arrived = [index for index, message in enumerate(of_stream) if message.arrives]
            for one, following in pairwise(arrived):
                expected[topic] += sum(message.count for message in of_stream[one + 1 : following])
    gaps, found = Gaps(), Counter[bytes]()
    for frames, topics in batches_of(sending, [Numbering(), Numbering(), None]):
        names, missing, *_ = gaps.read(frames, wanted)
        assert names == topics
        found.update(missing)
    assert found == +expected


headers = st.builds(
    lambda topic, publisher, rest: topic + b"\0" + publisher + rest,
    st.sampled_from([b"", *TOPICS]),
    st.sampled_from([b"", bytes(8), PUBLISHER, b"\0{}\0", b"\0{}\0" + PUBLISHER]),
    st.binary(max_size=20),
)


@pytest.mark.patience
@given(st.lists(st.lists(headers | st.binary(), max_size=20), max_size=8))
def test_any_bytes_do(batches: list[list[bytes]]) -> None:
    """Whatever the frames are, each has its topic, which is all before a NUL byte; what is lost, is lost on one of them."""
    gaps = Gaps(limit=3)
    for frames in batches:
        names, missing, *_ = gaps.read(frames, wanted)
        assert names == [frame.split(b"\0")[0] for frame in frames]
        assert 0 not in missing.values()
        assert set(missing) <= set(names)


@given(
    st.lists(st.tuples(st.integers(1, 3), st.booleans()), min_size=1, max_size=30),
    st.integers(0, 30),
    st.integers(0, 3),
    st.lists(st.integers(1, 10), min_size=1, max_size=10),
)
def test_what_is_sent_again_comes_once(sending: list[tuple[int, bool]], again: int, new: int, sizes: list[int]) -> None:
    """A publisher sends the latest messages again and goes on: each message counts as come or as lost, and comes once."""
    numbering, gaps = Numbering(), Gaps()
    counts = [count for count, _ in sending]
    frames = [sent(numbering, count=count) for count in counts]
    arriving = [frame for frame, (_, arrives) in zip(frames, sending, strict=True) if arrives]
    arriving += frames[max(0, len(frames) - again) :]
    arriving += [sent(numbering) for _ in range(new)]
    came: list[bytes] = []
    missing = 0
    for size in cycle(sizes):
        batch, arriving = arriving[:size], arriving[size:]
        if not batch:
            break
        _, lost, repeated, *_ = gaps.read(batch, wanted)
        came += [frame for index, frame in enumerate(batch) if index not in repeated]
        missing += sum(lost.values())
    assert came == sorted(set(came), key=number_of)
    if came:
        events = dict(zip(frames, counts, strict=True))
        total = sum(events.get(frame, 1) for frame in came)
        assert total + missing == number_of(came[-1]) - number_of(came[0]) + events.get(came[0], 1)


def number_of(frame: bytes) -> int:
    return int.from_bytes(frame[-8:])
