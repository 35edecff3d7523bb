"""An estimate of the messages that wait for slow subscribers, and of those that their full queues drop. Pure.

libzmq drops a message for a subscriber whose queue is full without a sign, and does not tell how long its queues
are. The proxy knows what it has passed on, and the kernel what it has sent to each: the difference waits, or was dropped.
"""

from collections.abc import Mapping
from typing import NamedTuple

from eventbus.proxy.health import Traffic
from eventbus.proxy.tcp import Connection, TcpState


class Backlog(NamedTuple):
    """The backlog of one subscriber. Both are the truth or more: more if it is subscribed to a part of the traffic only.

    Attributes:
        bytes: the bytes that wait, or were dropped.
        dropped: the messages that its full queue has dropped since the last sample.
    """

    bytes: int
    dropped: int


class _Queue:
    __slots__ = ("dropped", "sent", "start")

    def __init__(self, state: TcpState, went_out: Traffic) -> None:
        self.start = went_out
        self.sent = state.sent
        self.dropped = 0


class Backlogs:
    """The backlogs of all subscribers, from samples that are taken one after the other.

    Args:
        hwm: how many messages the queue of a subscriber holds.
    """

    def __init__(self, hwm: int) -> None:
        self._hwm = hwm
        self._queues: dict[Connection, _Queue] = {}

    def update(self, states: Mapping[Connection, TcpState], went_out: Traffic) -> dict[Connection, Backlog]:
        """Take in a sample; return the backlog of each connection that had one at the last sample and still has.

        Args:
            states: the state of each open connection. Others are forgotten.
            went_out: what the proxy has passed on to subscribers by then; a message counts once, however many get it.
        """
        queues: dict[Connection, _Queue] = {}
        backlogs: dict[Connection, Backlog] = {}
        for connection, state in states.items():
            if not state.unsent:  # the kernel has sent all that it had, so libzmq's queue is empty, too
                continue
            queue = queues[connection] = self._queues.get(connection) or _Queue(state, went_out)
            passed = Traffic(went_out.frames - queue.start.frames, went_out.bytes - queue.start.bytes)
            waiting = passed.bytes - (state.sent - queue.sent)
            if waiting > 0:
                messages = passed.frames // 2 * waiting // passed.bytes
                new = max(0, messages - self._hwm - queue.dropped)
                queue.dropped += new
                backlogs[connection] = Backlog(waiting, new)
        self._queues = queues
        return backlogs
