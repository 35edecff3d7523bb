"""Estimates of what waits for slow subscribers, and of what their queues drop."""

from eventbus.proxy.backlog import Backlog, Backlogs
from eventbus.proxy.health import Traffic
from eventbus.proxy.tcp import Connection, TcpState

ONE, TWO = Connection(10, ("192.0.2.1", 4_001)), Connection(11, ("192.0.2.1", 4_002))


def passed(messages: int, size: int = 100) -> Traffic:
    return Traffic(2 * messages, messages * size)


def test_who_keeps_up_has_no_backlog() -> None:
    """As long as the kernel sends all that it has, nothing waits; at high rates there may be something at each sample."""
    backlogs = Backlogs(hwm=10)
    for messages in range(0, 1_000, 100):
        states = {ONE: TcpState(100 * messages, 0, 0), TWO: TcpState(100 * messages, 0, 50)}
        assert backlogs.update(states, passed(messages)) == {}


def test_a_full_queue_drops() -> None:
    """Beyond what the queue holds, each message that is passed on and not sent counts as dropped, once."""
    backlogs = Backlogs(hwm=10)
    assert backlogs.update({ONE: TcpState(0, 0, 50)}, passed(100)) == {}
    assert backlogs.update({ONE: TcpState(200, 0, 50)}, passed(107)) == {ONE: Backlog(500, 0)}
    assert backlogs.update({ONE: TcpState(200, 0, 50)}, passed(120)) == {ONE: Backlog(1_800, 8)}
    assert backlogs.update({ONE: TcpState(200, 0, 50)}, passed(125)) == {ONE: Backlog(2_300, 5)}
    assert backlogs.update({ONE: TcpState(1_200, 0, 50)}, passed(130)) == {ONE: Backlog(1_800, 0)}


def test_a_backlog_ends_when_all_is_sent() -> None:
    """An empty buffer of the kernel means an empty queue; the next backlog begins at nothing."""
    backlogs = Backlogs(hwm=10)
    slow, idle = {ONE: TcpState(0, 0, 50)}, {ONE: TcpState(0, 0, 0)}
    backlogs.update(slow, passed(0))
    assert backlogs.update(slow, passed(50)) == {ONE: Backlog(5_000, 40)}
    assert backlogs.update(idle, passed(60)) == {}
    assert backlogs.update(slow, passed(70)) == {}
    assert backlogs.update(slow, passed(81)) == {ONE: Backlog(1_100, 1)}


def test_a_connection_that_ends_is_forgotten() -> None:
    """Another connection with the same descriptor is another one."""
    backlogs = Backlogs(hwm=10)
    backlogs.update({ONE: TcpState(0, 0, 50)}, passed(0))
    backlogs.update({TWO: TcpState(0, 0, 50)}, passed(50))
    assert backlogs.update({ONE: TcpState(0, 0, 50)}, passed(100)) == {}
