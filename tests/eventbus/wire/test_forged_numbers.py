"""Numbers that are sent in another publisher's name: they neither hide its events nor spoil the count of lost ones."""

from collections import Counter
from dataclasses import dataclass, field
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus.wire.frames import MAX_PACKED_EVENTS
from eventbus.wire.numbering import Gaps, Numbering
from eventbus.wire.sequence import Sequence

TOPIC, PUBLISHER = b"plant", b"publishr"
AHEAD = 900_000


def numbered(number: int, count: int = 1) -> bytes:
    """The first frame of a message whose last event has this number."""
    numbering = Numbering(PUBLISHER)
    numbering.taken(TOPIC, number - count)
    return numbering.next(TOPIC, count)


def numbers(start: int, end: int) -> list[bytes]:
    """First frames with these numbers, the last one included."""
    return [numbered(number) for number in range(start, end + 1)]


@dataclass
class Receiver:
    """The findings of a receiver of these frames."""

    now: float = 0.0
    came: list[bytes] = field(default_factory=list)
    lost: int = 0
    forged: int = 0

    def __post_init__(self) -> None:
        self.gaps = Gaps(clock=lambda: self.now)

    def take(self, frames: list[bytes], size: int = 1_000) -> int:
        """Take these frames in batches of this size. Returns how many were new."""
        before = len(self.came)
        for start in range(0, len(frames), size):
            batch = frames[start : start + size]
            reading = self.gaps.read(batch, TOPIC.__eq__)
            self.came += [frame for index, frame in enumerate(batch) if index not in reading.repeated]
            self.lost += sum(reading.lost.values())
            self.forged += sum(reading.forged.values())
        return len(self.came) - before


@pytest.mark.parametrize("size", [1, 7, 1_000])
@pytest.mark.parametrize("number", [AHEAD, 2**63, 2**64 - 1])
@pytest.mark.parametrize("times", [1, 5])
def test_a_number_far_ahead_hides_nothing(size: int, number: int, times: int) -> None:
    """Everything that the publisher sends after a forged number is taken, nothing is lost, and the forgery is reported."""
    receiver = Receiver()
    receiver.take(numbers(1, 6), size)
    receiver.take(numbers(number - times + 1, number), size)
    assert receiver.take(numbers(7, 1_006), size) == 1_000
    assert receiver.lost == 0
    assert receiver.forged >= 1
    assert receiver.take(numbers(500, 1_006), size) == 0, "what is sent again is known"
    assert receiver.lost == 0


def test_a_number_that_cannot_be_is_not_lost() -> None:
    """If the publisher sends no more, a number that it cannot have reached adds nothing to what is lost."""
    receiver = Receiver()
    receiver.take(numbers(1, 6))
    receiver.take(numbers(2**64 - 5, 2**64 - 1))
    assert (receiver.lost, receiver.forged) == (0, 1)
    receiver.now = 3_600.0
    receiver.take([numbered(2**63)])
    assert receiver.lost == 0


def test_a_receiver_that_stood_still_counts_what_it_lost() -> None:
    """A minute's events of a fast publisher are lost, though they are millions, from the second message after them on."""
    receiver = Receiver()
    receiver.take(numbers(1, 1_000))
    receiver.now = 60.0
    receiver.take([numbered(3_001_000)])
    assert receiver.lost == 0
    receiver.take([numbered(3_001_001)])
    assert (receiver.lost, receiver.forged) == (2_999_999, 0)


def test_a_queue_that_was_full_counts_what_it_lost() -> None:
    """Messages that waited in queues are read at once: a gap is possible however short the time since the one before it."""
    receiver = Receiver()
    receiver.take([*numbers(1, 1_000), *numbers(3_000_001, 3_001_000)])
    assert (receiver.lost, receiver.forged) == (2_999_000, 0)


def test_a_forged_loss_is_taken_back() -> None:
    """Several forged numbers look like a loss, until the publisher goes on where it was."""
    receiver = Receiver()
    receiver.take(numbers(1, 6))
    receiver.take(numbers(AHEAD, AHEAD + 9))
    assert receiver.lost == AHEAD - 7
    receiver.take(numbers(7, 7))
    assert receiver.lost == 0


def test_what_is_sent_again_fills_no_gap_that_has_closed() -> None:
    """Events of a gap that has closed are not taken any more: they would come too late, and out of order."""
    receiver = Receiver()
    receiver.take([*numbers(1, 90), *numbers(95, 120)])
    assert receiver.lost == 4
    assert receiver.take(numbers(80, 130)) == 10
    assert (receiver.lost, receiver.forged) == (4, 0)


def test_what_is_sent_again_fills_an_open_gap() -> None:
    """If few events have come after a large gap, those of the gap are taken, and those after it are repeated."""
    receiver = Receiver()
    receiver.take([*numbers(1, 90), *numbers(5_091, 5_100)])
    assert receiver.lost == 5_000
    assert receiver.take(numbers(4_091, 5_110)) == 1_000 + 10
    assert receiver.lost == 4_000


def test_what_was_sent_before_the_first_message_may_be_sent_again() -> None:
    """A receiver that joins shortly before a publisher loses its connection does not get what it has not waited for."""
    receiver = Receiver()
    receiver.take(numbers(1_000, 1_020))
    receiver.now = 7.0
    assert receiver.take(numbers(500, 1_030)) == 10
    receiver.now = 60.0
    assert receiver.take(numbers(400, 410)) == 11, "no publisher sends that again after a minute"


@pytest.mark.parametrize("count", [0, MAX_PACKED_EVENTS + 1, 2**32 - 1])
def test_no_message_carries_so_many_events(count: int) -> None:
    """A count that no message can have is no number: it claims none of the publisher's."""
    receiver = Receiver()
    receiver.take(numbers(1, 6))
    forged = TOPIC + b"\0" + PUBLISHER + count.to_bytes(4) + (2**40).to_bytes(8)
    assert receiver.take([forged]) == 1
    assert receiver.take(numbers(7, 50)) == 44
    assert (receiver.lost, receiver.forged) == (0, 0)


def test_memory_is_bounded() -> None:
    """However many numbers are made up, of each publisher only some are remembered, and its own stay known."""
    sequence = Sequence(1, 1, 0.0)
    for number in range(2, 5_000):
        sequence.take(number * 1_000_003 % 2**40 + AHEAD, 1, 0.0)
        assert not sequence.take(number, 1, 0.0).repeated
        assert sequence.take(number, 1, 0.0).repeated
    assert len(sequence._runs) <= 32


# Properties

far = st.integers(10**6, 2**64 - 1)


@given(
    sent=st.lists(st.tuples(st.integers(1, 5), st.booleans(), st.lists(far, max_size=2)), min_size=1, max_size=12),
    again=st.integers(0, 12),
    sizes=st.lists(st.integers(1, 10), min_size=1, max_size=5),
)
def test_forged_numbers_change_nothing(sent: list[tuple[int, bool, list[int]]], again: int, sizes: list[int]) -> None:
    """With forged numbers far ahead anywhere, a publisher's messages come as without them: each once, and as many are lost.

    Some of its messages are lost, and the latest are sent again.
    """
    true: list[bytes] = []
    arriving: list[tuple[bytes, list[bytes]]] = []
    number = 0
    for count, arrives, forged in sent:
        number += count
        true.append(numbered(number, count))
        if arrives or not arriving:
            arriving.append((true[-1], [numbered(one) for one in forged]))
    first = true.index(arriving[0][0])
    arriving += [(frame, []) for frame in true[max(first, len(true) - again) :]]
    arriving += [(numbered(number + 1), []), (numbered(number + 2), [])]
    with_forged, without = Receiver(), Receiver()
    for receiver, frames in (
        (without, [frame for frame, _ in arriving]),
        (with_forged, [each for frame, forged in arriving for each in (frame, *forged)]),
    ):
        for size in cycle(sizes):
            batch, frames = frames[:size], frames[size:]
            receiver.take(batch)
            if not frames:
                break
    honest = set(true) | {numbered(number + 1), numbered(number + 2)}
    assert [frame for frame in with_forged.came if frame in honest] == without.came
    assert Counter(without.came).most_common(1)[0][1] == 1
    assert with_forged.lost == without.lost


@pytest.mark.patience
@given(st.integers(1, 400), st.integers(1, 3))
def test_a_forged_number_near_ahead_hides_few(ahead: int, count: int) -> None:
    """A forged event hides a hundred others at most, and those with its own numbers."""
    receiver = Receiver()
    receiver.take([numbered(1)])
    receiver.take([numbered(1 + ahead + count, count)])
    hidden = 1_000 - receiver.take(numbers(2, 1_001))
    assert hidden == count + (ahead if ahead <= 100 * count else 0)
