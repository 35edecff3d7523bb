"""`Outbox` and `ResendBuffer`: what a publisher keeps beside its socket, without a socket."""

from hypothesis import given
from hypothesis import strategies as st

from eventbus.transports.zeromq.outbox import Outbox, ResendBuffer


def payloads_again(buffer: ResendBuffer, now: float = 0.0) -> list[bytes]:
    """Send again all that is to be sent again; return it in order."""
    found = []
    while buffer.has_more:
        found.append(buffer.oldest()[2])
        buffer.sent_again(now)
    return found


# The outbox


def test_messages_wait_in_order() -> None:
    """Messages come out as they were put in, and are there until they are removed."""
    outbox = Outbox(10)
    assert not outbox
    for number in range(3):
        assert outbox.put(b"t", b"%d" % number, 1)
    for number in range(3):
        assert outbox.oldest() == outbox.oldest() == (b"t", b"%d" % number, 1)
        outbox.remove_oldest()
    assert not outbox


def test_a_full_outbox_takes_nothing() -> None:
    """At its limit a message is refused and nothing changes; when one has left there is room for one."""
    outbox = Outbox(2)
    assert [outbox.put(b"t", b"{}", 1) for _ in range(4)] == [True, True, False, False]
    outbox.remove_oldest()
    assert [outbox.put(b"t", b"{}", 1) for _ in range(2)] == [True, False]
    assert outbox.events == 2


def test_events_are_counted_not_messages() -> None:
    """`events` follows what is put in and removed, and is 0 after clear()."""
    outbox = Outbox(10)
    outbox.put(b"t", b"[]", 10)
    outbox.put(b"t", b"{}", 1)
    assert outbox.events == 11
    outbox.remove_oldest()
    assert outbox.events == 1
    outbox.clear()
    assert (outbox.events, bool(outbox)) == (0, False)


# Sending again


def test_recent_messages_are_sent_again() -> None:
    """After a lost connection all messages of the period come again, in order, with their numbers; older ones do not."""
    buffer = ResendBuffer(limit=100, period=7.0)
    for number in range(10):
        buffer.sent(float(number), b"t%d" % number, b"%d" % number)
    assert not buffer.has_more
    buffer.connection_lost()
    assert buffer.oldest()[1] == b"t2"
    assert payloads_again(buffer) == [b"%d" % number for number in range(2, 10)]


def test_only_the_newest_are_kept() -> None:
    """Of more messages than the limit the newest are kept."""
    buffer = ResendBuffer(limit=3, period=7.0)
    for number in range(10):
        buffer.sent(0.0, b"t", b"%d" % number)
    buffer.connection_lost()
    assert payloads_again(buffer) == [b"7", b"8", b"9"]


def test_a_connection_that_is_lost_again_in_between() -> None:
    """What was sent again is recent again: it comes before what was still to be sent again, and with its new time."""
    buffer = ResendBuffer(limit=100, period=7.0)
    for number in range(4):
        buffer.sent(0.0, b"t", b"%d" % number)
    buffer.connection_lost()
    buffer.sent_again(100.0)
    buffer.sent_again(100.0)
    buffer.forget_before(99.0)
    buffer.connection_lost()
    assert payloads_again(buffer) == [b"0", b"1", b"2", b"3"]


def test_what_has_arrived_is_forgotten() -> None:
    """forget_before() forgets recent messages, and none that is to be sent again."""
    buffer = ResendBuffer(limit=100, period=7.0)
    buffer.sent(0.0, b"t", b"old")
    buffer.connection_lost()
    buffer.sent(1.0, b"t", b"recent")
    buffer.forget_before(5.0)
    buffer.connection_lost()
    assert payloads_again(buffer) == [b"old"]


@given(st.lists(st.sampled_from(["send", "lose", "again"]), max_size=60))
def test_nothing_is_lost_or_reordered(story: list[str]) -> None:
    """However often connections are lost while messages are sent and sent again: all come, each the first time in order."""
    buffer = ResendBuffer(limit=1_000, period=7.0)
    sent: list[int] = []
    number = 0
    for what in [*story, "lose"]:
        if what == "send" and not buffer.has_more:  # new messages wait until all are sent again
            buffer.sent(0.0, b"t", b"%d" % number)
            sent.append(number)
            number += 1
        elif what == "lose":
            buffer.connection_lost()
        elif what == "again" and buffer.has_more:
            sent.append(int(buffer.oldest()[2]))
            buffer.sent_again(0.0)
    assert payloads_again(buffer) == [b"%d" % value for value in range(number)]
    assert list(dict.fromkeys(sent)) == list(range(number))
