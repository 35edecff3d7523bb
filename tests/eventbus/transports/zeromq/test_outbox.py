"""`Outbox` and `ResendBuffer`: what a publisher keeps beside its socket, without a socket."""

from collections import deque
from collections.abc import Iterator

import pytest
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


def remove_oldest(outbox: Outbox, messages: int = 1) -> None:
    (oldest,) = outbox.oldest()
    assert outbox.remove(oldest, messages)
    assert not outbox.remove(oldest, messages)  # that one is not there any more


# The outbox


def test_messages_wait_in_order() -> None:
    """Messages come out as they were put in, and are there until they are removed."""
    outbox = Outbox(10)
    assert not outbox
    for number in range(3):
        assert outbox.put(b"t", b"%d" % number, 1)
    for number in range(3):
        assert outbox.oldest() == outbox.oldest() == [(b"t", b"%d" % number, 1)]
        remove_oldest(outbox)
    assert not outbox


class Changing(deque[object]):
    """Messages among which another one appears just when they are looked at, as from a signal handler."""

    def __iter__(self) -> Iterator[object]:
        messages = super().__iter__()
        if len(self) == 1:
            self.append((b"t", b"new", 1))
        return messages


def test_the_oldest_are_read_while_others_come() -> None:
    """A message that is put in at that very moment does no harm."""
    outbox = Outbox(10)
    outbox._messages = Changing([(b"t", b"old", 1)])  # type: ignore[assignment] # no signal comes when it is wanted
    assert outbox.oldest(5) == [(b"t", b"old", 1), (b"t", b"new", 1)]


def test_what_has_left_is_not_removed_again() -> None:
    """The caller hears that the message was gone; the one that is oldest now stays."""
    outbox = Outbox(10)
    assert outbox.put(b"t", b"one", 1)
    (oldest,) = outbox.oldest()
    outbox.clear()
    assert outbox.put(b"t", b"one", 1)
    assert not outbox.remove(oldest)
    assert len(outbox) == 1


class Interrupted(deque[object]):
    """Messages of which a signal handler interrupts each change as soon as it is made."""

    def append(self, message: object) -> None:
        super().append(message)
        raise KeyboardInterrupt

    def popleft(self) -> object:
        super().popleft()
        raise KeyboardInterrupt


def test_an_interrupted_change_is_counted() -> None:
    """When a signal handler raises as soon as a message has come or has left, the count of events is right."""
    outbox = Outbox(10)
    outbox._messages = Interrupted()  # type: ignore[assignment] # no signal comes when it is wanted
    with pytest.raises(KeyboardInterrupt):
        outbox.put(b"t", b"[]", 3)
    assert (len(outbox), outbox.events) == (1, 3)
    with pytest.raises(KeyboardInterrupt):
        remove_oldest(outbox)
    assert (len(outbox), outbox.events) == (0, 0)


def test_a_full_outbox_takes_nothing() -> None:
    """At its limit a message is refused and nothing changes; when one has left there is room for one."""
    outbox = Outbox(2)
    assert [outbox.put(b"t", b"{}", 1) for _ in range(4)] == [True, True, False, False]
    remove_oldest(outbox)
    assert [outbox.put(b"t", b"{}", 1) for _ in range(2)] == [True, False]
    assert outbox.events == 2


def test_events_are_counted_not_messages() -> None:
    """`events` follows what is put in and removed, and is 0 after clear()."""
    outbox = Outbox(10)
    outbox.put(b"t", b"[]", 10)
    outbox.put(b"t", b"{}", 1)
    assert outbox.events == 11
    remove_oldest(outbox)
    assert outbox.events == 1
    outbox.clear()
    assert (outbox.events, bool(outbox)) == (0, False)


def test_a_limit_may_count_events() -> None:
    """What waits to share messages is limited by its events; a message that begins below the limit is taken whole."""
    outbox = Outbox(5, in_events=True)
    taken = [outbox.put(b"t", b"[]", 2) for _ in range(4)]
    assert (taken, outbox.events) == ([True, True, True, False], 6)


def test_messages_leave_together() -> None:
    """Several messages of one event each are removed at once, those behind them stay."""
    outbox = Outbox(10)
    for number in range(5):
        outbox.append((b"t", b"%d" % number, 1))
    assert outbox.oldest(3) == [(b"t", b"%d" % number, 1) for number in range(3)]
    remove_oldest(outbox, 3)
    assert [payload for _, payload, _ in outbox.oldest(10)] == [b"3", b"4"]
    assert outbox.events == 2


# Sending again


def test_recent_messages_are_sent_again() -> None:
    """After a lost connection all recent messages come again, in order, with their numbers; forgotten ones do not."""
    buffer = ResendBuffer(1_000_000)
    for number in range(10):
        buffer.sent(float(number), b"t%d" % number, b"%d" % number)
    buffer.forget_before(2.0)
    assert not buffer.has_more
    buffer.connection_lost()
    assert buffer.oldest()[1] == b"t2"
    assert payloads_again(buffer) == [b"%d" % number for number in range(2, 10)]


def test_the_oldest_can_be_left_out() -> None:
    """A message that is not to be sent again does not hold up those after it."""
    buffer = ResendBuffer(1_000_000)
    for number in range(3):
        buffer.sent(0.0, b"t", b"%d" % number)
    buffer.connection_lost()
    buffer.remove_oldest()
    assert payloads_again(buffer) == [b"1", b"2"]


def test_a_connection_that_is_lost_again_in_between() -> None:
    """A message that was sent again is recent again: it comes before those still to be sent, and with its new time."""
    buffer = ResendBuffer(1_000_000)
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
    buffer = ResendBuffer(1_000_000)
    buffer.sent(0.0, b"t", b"old")
    buffer.connection_lost()
    buffer.sent(1.0, b"t", b"recent")
    buffer.forget_before(5.0)
    buffer.connection_lost()
    assert payloads_again(buffer) == [b"old"]


@given(st.lists(st.sampled_from(["send", "lose", "again"]), max_size=60))
def test_nothing_is_lost_or_reordered(story: list[str]) -> None:
    """However often connections are lost while messages are sent and sent again: all come, each the first time in order."""
    buffer = ResendBuffer(1_000_000)
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


def test_bytes_are_bounded() -> None:
    """When there are more bytes than the bound, the newest are kept; a payload larger than the bound is not kept at all."""
    buffer = ResendBuffer(1_000)
    for number in range(5):
        buffer.sent(0.0, b"t", b"%0100d" % number)
    assert buffer.recent_bytes == 2 * (100 + 256)
    buffer.connection_lost()
    assert buffer.recent_bytes == 0
    assert payloads_again(buffer) == [b"%0100d" % 3, b"%0100d" % 4]
    assert buffer.recent_bytes == 2 * (100 + 256)
    buffer.sent(0.0, b"t", b"x" * 745)
    assert buffer.recent_bytes == 0


def test_bytes_of_messages_that_are_dated_together_are_bounded() -> None:
    """Half of them go until the rest fits."""
    buffer = ResendBuffer(1_000)
    for number in range(8):
        buffer.keep((b"t", b"%0100d" % number))
    buffer.date(0.0)
    assert buffer.recent_bytes == 100 + 256
    buffer.connection_lost()
    assert payloads_again(buffer) == [b"%0100d" % 7]


def test_old_messages_are_freed() -> None:
    """forget_before() frees what is older, also if nothing is sent any more."""
    buffer = ResendBuffer(1_000)
    buffer.sent(0.0, b"t", b"old")
    buffer.sent(5.0, b"t", b"recent")
    buffer.forget_before(1.0)
    assert buffer.recent_bytes == len(b"recent") + 256


# A message that the proxy refuses


def buffer_of(*sizes: int) -> ResendBuffer:
    """A buffer whose connection was lost after messages of these sizes."""
    buffer = ResendBuffer(1_000_000)
    for index, size in enumerate(sizes):
        buffer.sent(0.0, b"t%d" % index, b"x" * size)
    buffer.connection_lost()
    return buffer


def lose_again(buffer: ResendBuffer) -> None:
    payloads_again(buffer)
    buffer.connection_lost()


def test_the_largest_is_given_up_after_two_connections() -> None:
    """The largest message that two connections were given is given up; the others are sent again, in order."""
    buffer = buffer_of(10, 5_000, 20)
    assert buffer.refused(at_least=1_024) is None
    lose_again(buffer)
    refused = buffer.refused(at_least=1_024)
    assert refused is not None
    assert (refused[1], len(refused[2])) == (b"t1", 5_000)
    assert [len(payload) for payload in payloads_again(buffer)] == [10, 20]


def test_each_refused_message_is_given_up() -> None:
    """Several messages that are too large are given up one after the other, from the largest on."""
    buffer = buffer_of(10, 5_000, 7_000, 20, 6_000)
    given_up = []
    for _ in range(6):
        refused = buffer.refused(at_least=1_024)
        if refused is not None:
            given_up.append(len(refused[2]))
        lose_again(buffer)
    assert given_up == [7_000, 6_000, 5_000]
    assert [len(payload) for payload in payloads_again(buffer)] == [10, 20]


def test_what_was_not_sent_is_not_blamed() -> None:
    """A message that the connection was not given cannot have ended it."""
    buffer = buffer_of(10, 5_000)
    for _ in range(5):
        buffer.sent_again(0.0)  # the small one
        buffer.connection_lost()
        assert buffer.refused(at_least=1_024) is None


def test_small_messages_are_never_given_up() -> None:
    """Sizes that every proxy accepts are no reason, nor sizes of which a message has passed."""
    buffer = buffer_of(10, 1_024)
    for _ in range(5):
        assert buffer.refused(at_least=1_024) is None
        lose_again(buffer)
    buffer = ResendBuffer(1_000_000)
    buffer.sent(0.0, b"t0", b"x" * 5_000)
    buffer.forget_before(1.0)  # it has passed
    buffer.sent(100.0, b"t1", b"x" * 5_000)
    buffer.connection_lost()
    for _ in range(5):
        assert buffer.refused(at_least=1_024) is None
        lose_again(buffer)


def test_another_proxy_begins_anew() -> None:
    """The refusals at one proxy do not count at another one."""
    buffer = buffer_of(5_000)
    for _ in range(5):
        assert buffer.refused(at_least=1_024) is None
        buffer.proxy_replaced()
        lose_again(buffer)


def test_a_loss_that_is_told_twice() -> None:
    """A second replacement of the socket, because none could be made, changes nothing."""
    buffer = buffer_of(5_000)
    assert buffer.refused(at_least=1_024) is None
    payloads_again(buffer)
    buffer.connection_lost()
    buffer.connection_lost()
    assert buffer.refused(at_least=1_024) is not None
