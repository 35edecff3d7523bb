"""An estimate of the messages that wait for slow subscribers, and of those that their full queues drop. Pure.

libzmq drops a message for a subscriber whose queue is full without a sign, and does not tell how long its queues are. The
proxy knows what it has passed on, and the kernel what libzmq has written for each subscriber. While a subscriber keeps up,
this tells its share of the traffic; when it does not, the rest of its share waits, or was dropped.
"""

from collections.abc import Mapping
from typing import NamedTuple

from eventbus.proxy.health import Traffic
from eventbus.proxy.tcp import Connection, TcpState

_HEADER_BYTES = 2  # that ZeroMQ adds to a short frame
_UNCERTAINTY = 0.02  # of what has passed: the kernel's counts and the proxy's are not of the same moment


class Backlog(NamedTuple):
    """The backlog of one subscriber.

    Attributes:
        bytes: the bytes that wait, or were dropped, since it kept up last.
        dropped: the messages that its full queue has dropped since the last sample.
    """

    bytes: int
    dropped: int


class _Subscriber:
    """What is known of a subscriber since it kept up last, or was seen first.

    Attributes:
        written: the bytes that libzmq had written by then.
        passed: what the proxy had passed on by then.
        share: of what is passed on, the part that is written for it, in bytes; None: it has not kept up yet.
        dropped: the messages that count as dropped since then.
    """

    __slots__ = ("_of", "_out", "dropped", "passed", "share", "written")

    def __init__(self, written: int, passed: Traffic) -> None:
        self.written = written
        self.passed = passed
        self.share: float | None = None
        self.dropped = 0
        self._out = self._of = 0.0

    def learn(self, out: int, of: int) -> None:
        """Take in that of so many bytes so many were written; what was long ago counts less and less."""
        self._out, self._of = self._out / 2 + out, self._of / 2 + of
        self.share = self._out / self._of

    def keeps_up(self, written: int, passed: Traffic) -> None:
        """Begin anew."""
        self.written, self.passed, self.dropped = written, passed, 0


class Backlogs:
    """The backlogs of all subscribers, from samples that are taken one after the other.

    The messages that were dropped for one subscriber are exact, to some per cent, when it has read all that waited. Until
    then some are missing, because its queue is taken to hold `hwm` messages, and may hold half as many. Its messages are
    taken to be as large as the average, and its share of the traffic to be as when it kept up; all of it, if it never has.

    Args:
        hwm: how many messages the queue of a subscriber holds.
    """

    def __init__(self, hwm: int) -> None:
        self._hwm = hwm
        self._subscribers: dict[Connection, _Subscriber] = {}

    def update(
        self, states: Mapping[Connection, TcpState], went_out: Traffic, *, may_be_full: bool = True
    ) -> dict[Connection, Backlog]:
        """Take in a sample; return the backlog of each connection that has one, or had one with losses and has none now.

        Args:
            states: the state of each open connection. Others are forgotten.
            went_out: what the proxy has passed on to subscribers by then; a message counts once, however many get it.
            may_be_full: whether the proxy has as much memory as a full queue takes; else nothing was dropped.
        """
        subscribers: dict[Connection, _Subscriber] = {}
        backlogs: dict[Connection, Backlog] = {}
        for connection, state in states.items():
            written = state.sent + state.unacknowledged
            known = self._subscribers.get(connection)
            if known is None:
                subscribers[connection] = _Subscriber(written, went_out)
                continue
            subscribers[connection] = known
            passed = Traffic(went_out.frames - known.passed.frames, went_out.bytes - known.passed.bytes)
            if not passed.bytes:
                continue
            out = written - known.written
            missing = _missing(known.share, out, passed)
            if state.unsent:
                sure = missing.messages - self._hwm - round(_UNCERTAINTY * missing.of_messages)
                new = max(0, sure - known.dropped) if may_be_full else 0
                known.dropped += new
                if missing.bytes > 0:
                    backlogs[connection] = Backlog(missing.bytes, new)
            else:  # the kernel has sent all that it had, so libzmq's queue is empty, too
                if known.dropped:
                    backlogs[connection] = Backlog(0, max(0, missing.messages - known.dropped))
                else:
                    known.learn(out, passed.bytes)
                known.keeps_up(written, went_out)
        self._subscribers = subscribers
        return backlogs


class _Missing(NamedTuple):
    """The bytes and the messages of a subscriber's share of the traffic that were not written, of how many messages."""

    bytes: int
    messages: int
    of_messages: int


def _missing(share: float | None, out: int, passed: Traffic) -> _Missing:
    of_messages = passed.frames // 2
    if share is None:
        share = 1.0
    else:
        of_messages = round(of_messages * min(1.0, share / (1 + _HEADER_BYTES * passed.frames / passed.bytes)))
    all_of_it = share * passed.bytes
    if out >= all_of_it:  # perhaps it gets more than before, as after another subscription
        return _Missing(0, 0, of_messages)
    return _Missing(round(all_of_it - out), round(of_messages * (1 - out / all_of_it)), of_messages)
