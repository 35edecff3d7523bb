"""Messages under way to a stream: what is acknowledged leaves, what is missing is sent again, the oldest first."""

from hypothesis import given, settings
from hypothesis import strategies as st

from eventbus.transports.nats.window import UnderWay, Window

FEWER = settings(max_examples=100)


def message(number: int, subject: bytes = b"eb.t") -> UnderWay:
    return UnderWay(number, b"%d;" % number, subject, 2, 1)


def filled(count: int, limit: int = 256) -> Window:
    window = Window(limit)
    for number in range(1, count + 1):
        window.add(message(number), 0.0)
    return window


def test_acknowledged_messages_leave() -> None:
    """In any number; an acknowledgement that comes twice changes nothing."""
    window = filled(3)
    assert (len(window), window.events, window.items) == (3, 6, 3)
    for number in (1, 1, 2, 3, 3, 7):
        window.acknowledged(number, 0.1)
    assert (len(window), window.events, window.items) == (0, 0, 0)
    assert window.look(100.0) == float("inf")
    assert window.resend(100.0) == b""


def test_a_message_is_added_once() -> None:
    """A signal handler may have raised just behind that, and then it is added again."""
    window = filled(2)
    window.add(message(2), 0.0)
    assert (len(window), window.events, window.items, window.last) == (2, 4, 2, 2)


def test_it_is_roomy_while_half_of_it_is_free() -> None:
    """In messages and in bytes, and while nothing is to be sent again."""
    assert filled(3, limit=8).is_roomy
    assert not filled(4, limit=8).is_roomy
    large = Window(max_bytes=8)
    large.add(UnderWay(1, b"abc", b"eb.t", 1, 1), 0.0)
    assert large.is_roomy
    large.add(UnderWay(2, b"d", b"eb.t", 1, 1), 0.0)
    assert not large.is_roomy
    late = filled(1)
    late.connection_lost()
    assert not late.is_roomy


def test_a_missing_acknowledgement_sends_all_after_it_again() -> None:
    """In an election some of several messages may be lost: go back N, with the same numbers; the first one alone."""
    window = filled(5)
    for number in (1, 3):
        window.acknowledged(number, 0.1)
    assert not window.has_room
    assert window.resend(0.2) == b"2;"
    window.acknowledged(4, 0.3)  # changes nothing: the oldest is still missing
    assert window.resend(0.3) == b""
    assert not window.has_room
    window.acknowledged(2, 0.4)
    assert window.resend(0.4) == b"5;"
    assert window.has_room


def test_a_refusal_for_now_is_tried_again_soon() -> None:
    """There is no leader: the oldest is sent again ten times a second, and nothing new meanwhile."""
    window = filled(3)
    window.not_stored(2, 5.0)
    window.not_stored(9, 5.0)  # has left
    assert not window.has_room
    for now in (5.1, 5.2):
        assert window.look(now) == now
        assert window.resend(now) == b"1;"
        window.not_stored(1, now)
        assert window.resend(now) == b""
    window.acknowledged(1, 5.3)
    assert window.resend(5.3) == b"2;3;"
    assert window.has_room


def test_what_is_not_acknowledged_in_time_is_sent_again() -> None:
    """The leader may have moved, and the acknowledgement with it, while our own connection stays."""
    window = filled(2)
    due = window.look(0.5)
    assert due == 1.0
    assert window.resend(0.5) == b""
    assert window.look(due) == due
    assert window.resend(due) == b"1;"
    assert window.look(due) == due + 2.0
    assert window.look(due + 2.0) == due + 2.0
    assert window.resend(due + 2.0) == b"1;"
    assert window.look(due + 2.0) == due + 4.0
    window.acknowledged(1, due)
    assert window.look(due) == due + 1.0
    assert window.resend(due) == b"2;"


def test_a_lost_connection_sends_all_again() -> None:
    """Nothing that was sent on it is acknowledged any more."""
    window = filled(2)
    window.connection_lost()
    assert window.resend(5.0) == b"1;"
    window.acknowledged(1, 5.0)
    assert window.resend(5.0) == b"2;"
    empty = Window()
    empty.connection_lost()
    assert empty.resend(5.0) == b""


def test_the_window_is_bounded() -> None:
    """By messages and by bytes."""
    assert not filled(2, limit=2).has_room
    window = Window(limit=10, max_bytes=3)
    window.add(message(1), 0.0)
    assert window.has_room
    window.add(message(2), 0.0)
    assert not window.has_room


def test_what_is_refused_is_given_up() -> None:
    """One message that is too large, or all on a subject that is not permitted."""
    window = filled(2)
    window.add(message(3, b"eb.secret"), 0.0)
    window.add(message(4, b"eb.secret"), 0.0)
    assert window.refused(1) == message(1)
    assert window.refused(1) is None
    assert window.refused_where(lambda one: one.subject == b"eb.secret") == 4
    assert window.refused_where(lambda _: False) == 0
    assert window.resend(0.0) == b""
    window.connection_lost()
    assert window.resend(0.0) == b"2;"
    window.add(message(5), 0.0)
    window.refused(2)
    assert window.resend(0.0) == b"5;"
    assert window.has_room


@FEWER
@given(st.lists(st.tuples(st.integers(1, 30), st.booleans())))
def test_nothing_is_forgotten(acknowledgements: list[tuple[int, bool]]) -> None:
    """Whatever is acknowledged when: what is not is sent again, in order."""
    window = filled(30)
    left = set(range(1, 31))
    for number, lost in acknowledgements:
        window.acknowledged(number, 1.0)
        left.discard(number)
        if lost:
            window.connection_lost()
            assert window.resend(2.0) == b"".join(b"%d;" % one for one in sorted(left)[:1])
    assert len(window) == len(left)
    window.connection_lost()
    for _ in range(2):
        if left:
            window.resend(3.0)
            window.acknowledged(min(left), 3.0)
            left.remove(min(left))
            assert window.resend(3.0) == b"".join(b"%d;" % one for one in sorted(left))
            assert window.has_room
            window.connection_lost()
