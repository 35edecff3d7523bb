"""Repairing gaps, without a bus: what is asked for, what is put in, and when nobody is asked any more."""

from collections.abc import Iterator

import pytest

from eventbus.errors import HistorianMissing
from eventbus.receive.repair import Repairer
from eventbus.receive.unpacking import Unpacker
from eventbus.wire.history import Query, Span, Stored
from eventbus.wire.numbering import Numbering
from eventbus.wire.rejects import Reject
from tests.support import PATIENCE

TOPIC = b"plant"
PUBLISHER = b"\x01234567\x07"


class Historian:
    """Has some messages, and notes what it is asked for."""

    def __init__(self, messages: list[Stored]) -> None:
        self.messages = messages
        self.asked: list[tuple[Span, ...]] = []
        self.is_there = True

    def ask(self, query: Query, timeout: float) -> Iterator[list[Stored]]:
        self.asked.append(query.spans)
        if not self.is_there:
            raise HistorianMissing("here", timeout)
        yield self.messages


class Report:
    """Counts what is lost and repaired."""

    def __init__(self) -> None:
        self.counts = {"lost": 0, "repaired": 0}

    def lost(self, topic: bytes, count: int) -> None:
        self.counts["lost"] += count

    def repaired(self, topic: bytes, count: int) -> None:
        self.counts["repaired"] += count

    def forged(self, topic: bytes, count: int) -> None:
        raise AssertionError

    def repeated(self, count: int) -> None:
        raise AssertionError

    def rejected(self, topic: bytes, reject: Reject) -> None:
        raise AssertionError


@pytest.fixture
def sent() -> list[Stored]:
    """Twelve messages of one publisher, the fifth with three events."""
    numbering = Numbering(PUBLISHER)
    found = []
    for number in range(12):
        count = 3 if number == 4 else 1
        found.append(Stored(number, 0.0, numbering.next(TOPIC, count), b"%d" % number))
        numbering.taken(TOPIC, count)
    return found


def unpacker_of(historian: Historian, report: Report, clock: list[float]) -> Unpacker:
    unpacker = Unpacker(lambda topic: topic == TOPIC, report, None)
    unpacker.repair_with(Repairer(historian.ask, report.repaired, 0.0, "here", clock=lambda: clock[0]))
    return unpacker


def read(unpacker: Unpacker, messages: list[Stored]) -> list[bytes]:
    frames, payloads = [message.first for message in messages], [message.payload for message in messages]
    return unpacker.read_numbers(frames, payloads).payloads


def test_what_is_missing_is_put_in_before_what_came_after(sent: list[Stored]) -> None:
    """Several gaps of a batch are asked for at once; a message on another topic, or without a number, is none."""
    historian, report = Historian(sent), Report()
    unpacker = unpacker_of(historian, report, [0.0])
    assert read(unpacker, sent[:2]) == [b"0", b"1"]
    plain = Stored(0, 0.0, TOPIC, b"plain")
    assert read(unpacker, [sent[3], plain, sent[5]]) == [b"2", b"3", b"plain", b"4", b"5"]
    assert historian.asked == [(Span(TOPIC, PUBLISHER, 2, 3), Span(TOPIC, PUBLISHER, 4, 7))]
    assert report.counts == {"lost": 0, "repaired": 4}
    assert read(unpacker, sent[6:8]) == [b"6", b"7"]
    assert len(historian.asked) == 1


def test_what_the_historian_does_not_have_is_lost(sent: list[Stored]) -> None:
    """Of a publisher of which it had nothing, it is not asked again at once."""
    historian, report, clock = Historian(sent[:1] + sent[7:]), Report(), [0.0]
    unpacker = unpacker_of(historian, report, clock)
    read(unpacker, sent[:1])
    assert read(unpacker, sent[3:4]) == [b"3"]
    assert report.counts == {"lost": 2, "repaired": 0}
    assert read(unpacker, sent[8:9]) == [b"8"]
    assert (len(historian.asked), report.counts["lost"]) == (1, 8)
    clock[0] = 2.0
    assert read(unpacker, sent[11:]) == [b"9", b"10", b"11"]
    assert report.counts == {"lost": 8, "repaired": 2}


def test_without_a_historian_nobody_waits_again_and_again(sent: list[Stored]) -> None:
    """What is lost is counted, and it is looked for again after a while."""
    historian, report, clock = Historian(sent), Report(), [0.0]
    historian.is_there = False
    unpacker = unpacker_of(historian, report, clock)
    read(unpacker, sent[:1])
    assert read(unpacker, sent[2:3]) == [b"2"]
    assert read(unpacker, sent[5:6]) == [b"5"]
    assert (len(historian.asked), report.counts) == (1, {"lost": 5, "repaired": 0})
    historian.is_there, clock[0] = True, 20.0
    assert read(unpacker, sent[7:8]) == [b"6", b"7"]
    assert report.counts == {"lost": 5, "repaired": 1}


def test_no_more_is_put_in_than_fits(sent: list[Stored], monkeypatch: pytest.MonkeyPatch) -> None:
    """A historian that sends more than was asked for, or too much, costs a bounded number of messages."""
    monkeypatch.setattr("eventbus.receive.repair.MAX_EVENTS", 1)
    historian, report = Historian(sent), Report()

    def ask(query: Query, timeout: float) -> Iterator[list[Stored]]:
        yield [sent[1], sent[11], Stored(0, 0.0, b"other", b"{}")]
        yield [sent[2]]

    historian.ask = ask  # type: ignore[method-assign] # another answer
    unpacker = unpacker_of(historian, report, [0.0])
    read(unpacker, sent[:1])
    assert read(unpacker, sent[3:4]) == [b"1", b"3"]
    assert report.counts == {"lost": 1, "repaired": 1}


def test_a_connection_that_is_lost_meanwhile_costs_nothing(sent: list[Stored]) -> None:
    """As long as it is not ready it is waited for; what came of the answer is not asked for again."""
    report, ready = Report(), [True, False, True]
    queries: list[int] = []

    def ask(query: Query, timeout: float) -> Iterator[list[Stored]]:
        queries.append(query.after)
        if len(queries) == 1:
            yield sent[1:3]
            raise HistorianMissing("here", timeout)
        yield sent[3:5]

    unpacker = Unpacker(lambda topic: topic == TOPIC, report, None)
    unpacker.repair_with(Repairer(ask, report.repaired, PATIENCE, "here", lambda deadline: ready.pop(0)))
    read(unpacker, sent[:1])
    assert read(unpacker, sent[5:6]) == [b"1", b"2", b"3", b"4", b"5"]
    assert queries == [0, 2]
    assert report.counts == {"lost": 0, "repaired": 6}


def test_who_is_stopped_does_not_wait(sent: list[Stored]) -> None:
    """Not for a connection either. That says nothing of the historian: who is started again asks it again."""
    historian, report, clock, stopped = Historian(sent), Report(), [0.0], [True]
    historian.is_there = False
    unpacker = Unpacker(lambda topic: topic == TOPIC, report, None)
    unpacker.repair_with(
        Repairer(
            historian.ask,
            report.repaired,
            PATIENCE,
            "here",
            lambda _: not stopped[0],
            lambda: stopped[0],
            clock=lambda: clock[0],
        )
    )
    read(unpacker, sent[:1])
    assert read(unpacker, sent[3:4]) == [b"3"]
    assert (len(historian.asked), report.counts) == (1, {"lost": 2, "repaired": 0})
    historian.is_there, stopped[0], clock[0] = True, False, 2.0
    assert read(unpacker, sent[7:8]) == [b"4", b"5", b"6", b"7"]


def test_an_answer_that_was_lost_with_the_connection(sent: list[Stored]) -> None:
    """The connection is back before the time is up: it is asked once more."""
    report, connections = Report(), [1]

    def ask(query: Query, timeout: float) -> Iterator[list[Stored]]:
        connections[0] += 1
        if connections[0] == 2:
            raise HistorianMissing("here", timeout)
        yield sent[1:3]

    unpacker = Unpacker(lambda topic: topic == TOPIC, report, None)
    repairer = Repairer(ask, report.repaired, 0.1, "here", connections=lambda: connections[0])
    unpacker.repair_with(repairer)
    read(unpacker, sent[:1])
    assert read(unpacker, sent[3:4]) == [b"1", b"2", b"3"]
    assert report.counts == {"lost": 0, "repaired": 2}
