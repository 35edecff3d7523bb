"""PINGs of a connection, without one: when one is due, and what is known while its PONG has not come."""

from math import inf
from threading import Event

from eventbus.transports.nats.pings import Pings, Proof


def test_what_was_written_is_proven() -> None:
    """Not twice, not while an answer is awaited, and not more often than every 0.1 s, unless it is needed at once."""
    pings = Pings(inf)
    pings.begin(0, 10.0)
    assert pings.next(0, 10.0, at_once=True) is None
    assert pings.due(0, 10.0) == inf
    first = pings.next(5, 10.0, at_once=False)
    assert first == Proof(mark=5)
    assert pings.proves(5)
    pings.written([first], 10.0)
    assert pings.awaited_since() == 10.0
    assert pings.next(6, 10.2, at_once=True) is None
    assert pings.due(6, 10.2) > 10.2
    assert pings.answered() is first
    assert pings.next(6, 10.05, at_once=False) is None
    assert pings.due(6, 10.05) == 10.1
    assert pings.next(6, 10.05, at_once=True) == Proof(mark=6)


def test_the_path_is_proven_at_intervals() -> None:
    """Also if nothing is written, and while an answer is awaited."""
    pings = Pings(2.0)
    pings.begin(7, 10.0)
    assert pings.due(7, 10.0) == 12.0
    assert pings.next(7, 11.9, at_once=True) is None
    found = pings.next(7, 12.0, at_once=False)
    assert found is not None
    pings.written([found], 12.0)
    assert pings.due(7, 12.0) == 14.0
    assert pings.next(7, 14.0, at_once=False) == Proof(mark=7)


def test_answers_come_in_the_order_of_the_pings_or_never() -> None:
    """The end of the connection wakes all who wait."""
    pings = Pings(inf)
    assert not pings
    assert (pings.answered(), pings.awaited_since()) == (None, None)
    one, other = Proof(Event()), Proof()
    pings.written([one, other], 1.0)
    assert pings
    assert pings.answered() is one
    assert one.done is not None
    assert not one.done.is_set()
    pings.written([one], 2.0)
    pings.end()
    assert one.done.is_set()
    assert not one.good
    assert not pings
