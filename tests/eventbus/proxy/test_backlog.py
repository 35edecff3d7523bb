"""Estimates of what waits for slow subscribers, and of what their queues drop."""

import pytest

from eventbus.proxy.backlog import Backlog, Backlogs
from eventbus.proxy.health import Traffic
from eventbus.proxy.tcp import Connection, TcpState

ONE, TWO = Connection(10, ("192.0.2.1", 4_001)), Connection(11, ("192.0.2.1", 4_002))


def passed(messages: int, size: int = 100) -> Traffic:
    return Traffic(2 * messages, messages * size)


def kept_up(sent: int) -> TcpState:
    return TcpState(sent, 0, 0)


def slow(sent: int) -> TcpState:
    """A state in which the kernel's buffer is full with 40 bytes of what was written."""
    return TcpState(sent - 40, 0, 20, 40)


def test_who_keeps_up_has_no_backlog() -> None:
    """As long as all is written, nothing waits; at high rates there may be something unsent at each sample."""
    backlogs = Backlogs(hwm=10)
    for messages in range(0, 1_000, 100):
        states = {ONE: kept_up(100 * messages), TWO: slow(100 * messages)}
        assert backlogs.update(states, passed(messages)) == {}


def test_a_full_queue_drops() -> None:
    """Beyond what the queue holds, each message that is passed on and not written counts as dropped, once."""
    backlogs = Backlogs(hwm=10)
    assert backlogs.update({ONE: kept_up(0)}, passed(0)) == {}
    assert backlogs.update({ONE: slow(200)}, passed(7)) == {ONE: Backlog(500, 0)}
    assert backlogs.update({ONE: slow(200)}, passed(20)) == {ONE: Backlog(1_800, 8)}
    assert backlogs.update({ONE: slow(200)}, passed(25)) == {ONE: Backlog(2_300, 5)}
    assert backlogs.update({ONE: slow(1_200)}, passed(30)) == {ONE: Backlog(1_800, 0)}


def test_the_count_is_exact_when_all_is_written() -> None:
    """What was never written when the queue is empty was dropped, also if the queue had room for a part of it."""
    backlogs = Backlogs(hwm=10)
    backlogs.update({ONE: kept_up(0)}, passed(0))
    assert backlogs.update({ONE: slow(0)}, passed(50)) == {ONE: Backlog(5_000, 39)}
    assert backlogs.update({ONE: kept_up(1_200)}, passed(60)) == {ONE: Backlog(0, 9)}  # 48 of 60 have not come
    assert backlogs.update({ONE: kept_up(2_200)}, passed(70)) == {}
    assert backlogs.update({ONE: slow(2_200)}, passed(81)) == {ONE: Backlog(1_100, 1)}
    assert backlogs.update({ONE: kept_up(3_300)}, passed(81)) == {ONE: Backlog(0, 0)}


@pytest.mark.parametrize("part", [1, 4])
def test_the_share_is_learnt_while_a_subscriber_keeps_up(part: int) -> None:
    """A subscriber of a part of the traffic misses nothing of the rest, whatever ZeroMQ or encryption adds to its bytes."""
    backlogs = Backlogs(hwm=10)
    written = 0
    for messages in range(0, 1_000, 100):
        written = 104 * messages // part
        assert backlogs.update({ONE: kept_up(written)}, passed(messages)) == {}
    [backlog] = backlogs.update({ONE: slow(written)}, passed(1_900)).values()
    assert backlog == Backlog(104_000 // part, 1_000 // part - 10 - 20 // part)
    [backlog] = backlogs.update({ONE: kept_up(written + 1_040)}, passed(1_900)).values()
    assert backlog == Backlog(0, 20 // part)  # all but the ten in the queue


def test_a_share_may_grow() -> None:
    """A subscriber that gets more than before, because it has subscribed to more, has no backlog."""
    backlogs = Backlogs(hwm=10)
    backlogs.update({ONE: kept_up(0)}, passed(0))
    backlogs.update({ONE: kept_up(1_000)}, passed(100))
    assert backlogs.update({ONE: slow(6_000)}, passed(200)) == {}


def test_nothing_is_dropped_that_memory_cannot_hold() -> None:
    """While the proxy has less memory than a full queue takes, no queue is full."""
    backlogs = Backlogs(hwm=10)
    backlogs.update({ONE: kept_up(0)}, passed(0))
    assert backlogs.update({ONE: slow(0)}, passed(50), may_be_full=False) == {ONE: Backlog(5_000, 0)}
    assert backlogs.update({ONE: kept_up(0)}, passed(50)) == {}


def test_a_connection_that_ends_is_forgotten() -> None:
    """Another connection with the same descriptor is another one."""
    backlogs = Backlogs(hwm=10)
    backlogs.update({ONE: kept_up(0)}, passed(0))
    backlogs.update({TWO: kept_up(0)}, passed(50))
    assert backlogs.update({ONE: slow(0)}, passed(100)) == {}
