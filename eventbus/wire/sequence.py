"""The numbers of one publisher on one topic: what is missing, what was sent again, and what another peer has made up. Pure.

A publisher numbers its events without gaps, and on one connection ZeroMQ neither reorders nor repeats. After it has lost its
connection, it sends its latest messages again with the same numbers, before new ones. Nothing proves the sender of a number,
so every rule here is chosen for the case that a peer sends numbers in another publisher's name:

- Only numbers that have come before are repeated. One that is forged far ahead of the true ones hides none of those.
- What lies between two numbers is lost, as long as the later one is the position. If numbers go on below a gap after all,
  the position goes back, and the gap is not lost any more.
- A gap closes once one event has come above it for every hundred that are missing. What arrives of it later is too late, and
  counts as repeated, so that events keep their order. So a forged event hides no more than a hundred true ones.
"""

from bisect import bisect_left
from itertools import pairwise
from math import inf
from operator import attrgetter
from typing import NamedTuple

# More events than these are not lost in one gap until a second message follows: one forged number is not enough.
_LARGE_GAP_EVENTS = 10_000
_HIDDEN_EVENTS_BY_ONE = 100  # of a gap
_MAX_EVENTS_PER_S = 5_000_000  # that a publisher can send
_GRACE_S = 10.0  # how long it may have sent at that speed before its first message came
# Events from before the first one that came, which a publisher sends again: no more than these, and not later than this.
_MAX_RESENT_EVENTS = 1_000_000
_MAX_RESENT_S = 30.0
_MAX_RUNS = 32

_START = attrgetter("start")


class _Run:
    """Events that have come, with numbers that follow each other, or with closed gaps between them.

    Attributes:
        start: the number before the first.
        end: the last number.
        received: the number of events that have come.
        messages: in how many messages.
        missing: the number of events of the gap below this run that are counted as lost.
    """

    __slots__ = ("end", "messages", "missing", "received", "start")

    def __init__(self, start: int, end: int) -> None:
        self.start = start
        self.end = end
        self.received = end - start
        self.messages = 1
        self.missing = 0


class Taken(NamedTuple):
    """The finding from the number of a message.

    Attributes:
        repeated: whether the message has come before.
        lost: the number of further events that are lost now; negative if fewer are.
        forged: whether this number, or an earlier one, cannot be the publisher's own.
    """

    repeated: bool
    lost: int
    forged: bool


class Sequence:
    """The numbers received of one publisher on one topic. One thread at a time. Times are seconds on a monotonic clock.

    Args:
        number: that of the first message.
        count: the number of its events.
        now: when it came.
    """

    __slots__ = ("_began", "_ceiling", "_current", "_first", "_runs")

    def __init__(self, number: int, count: int, now: float) -> None:
        self._first = number - count
        self._began = now
        self._current = _Run(number - count, number)
        self._runs = [self._current]  # in ascending order; they do not overlap
        self._ceiling = inf  # where the next run above the current one starts

    @property
    def position(self) -> int:
        """The number that the publisher's next event comes after, as it seems."""
        return self._current.end

    def follows(self, start: int, end: int) -> bool:
        """Whether the events after `start` up to `end` follow the last one, and show nothing but that."""
        return start == self._current.end and end < self._ceiling and self._current.messages > 1

    def extend(self, end: int, messages: int) -> None:
        """Take messages for which `follows` is true."""
        run = self._current
        run.received += end - run.end
        run.messages += messages
        run.end = end
        if len(self._runs) > 1:
            self._close_gaps()

    def take(self, number: int, count: int, now: float) -> Taken:
        """Take one message.

        Args:
            number: that of its last event.
            count: the number of its events.
            now: when it came.
        """
        runs = self._runs
        index = bisect_left(runs, number, key=_START) - 1  # the last run that starts below the number
        if index >= 0 and number <= runs[index].end:
            lost = 0
            if runs[index].start > self._current.start:
                lost = self._go_to(runs[index], now)
                self._look_up()
            return Taken(True, lost, False)
        if index < 0 and self._is_resent(number, now):
            return Taken(True, 0, False)
        forged = number <= self._current.start  # they went on below a gap
        if index >= 0 and number - count <= runs[index].end:
            run = runs[index]
            run.received += number - run.end
            run.messages += 1
            run.end = number
        else:
            index += 1
            run = _Run(number - count, number)
            runs.insert(index, run)
            forged = forged or not self._is_possible(run.start, now)
        lost = self._go_to(run, now)
        if index + 1 < len(runs) and run.end == runs[index + 1].start:
            self._join(index + 1)
        self._close_gaps()
        if len(runs) > _MAX_RUNS:
            lowest = 1 if runs[0] is self._current else 0
            del runs[lowest]
            runs[0].missing = 0
        self._look_up()
        return Taken(False, lost, forged)

    def _go_to(self, run: _Run, now: float) -> int:
        """Make this run the position. Returns how many more events are lost then: those in the gaps below it."""
        self._current = run
        change = 0
        for below, above in pairwise(self._runs):
            gap = above.start - below.end
            counts = (
                above.start <= run.start
                and (gap <= _LARGE_GAP_EVENTS or above.messages > 1)
                and self._is_possible(above.start, now)
            )
            missing = gap if counts else 0
            change += missing - above.missing
            above.missing = missing
        return change

    def _look_up(self) -> None:
        above = self._runs.index(self._current) + 1
        self._ceiling = self._runs[above].start if above < len(self._runs) else inf

    def _close_gaps(self) -> None:
        """Join runs below the position where the gap between them has closed."""
        received = 0
        for index in range(self._runs.index(self._current), 0, -1):
            received += self._runs[index].received
            if _HIDDEN_EVENTS_BY_ONE * received >= self._runs[index].start - self._runs[index - 1].end:
                received -= self._runs[index].received
                self._join(index)

    def _join(self, index: int) -> None:
        """Join a run with the one below it. What is counted as lost between them stays counted."""
        above = self._runs.pop(index)
        below = self._runs[index - 1]
        below.end = above.end
        below.received += above.received
        below.messages += above.messages
        if self._current is above:
            self._current = below

    def _is_resent(self, number: int, now: float) -> bool:
        """Whether this can be from before the first message, sent again after the publisher has lost its connection."""
        return self._first - _MAX_RESENT_EVENTS < number <= self._first and now - self._began < _MAX_RESENT_S

    def _is_possible(self, number: int, now: float) -> bool:
        """Whether the publisher can have sent this many events by now."""
        return number - self._first <= _MAX_EVENTS_PER_S * (now - self._began + _GRACE_S)
