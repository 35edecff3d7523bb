"""Repairing gaps: what numbers show to be missing is had from a historian, before what came after is handled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import monotonic, sleep

from eventbus._base.deadline import Deadline
from eventbus._base.log import Log
from eventbus._base.log_throttle import LogThrottle, more
from eventbus.errors import EventBusError, ProxyUnreachable
from eventbus.wire.first_frame import parse
from eventbus.wire.history import Query, Span, Stored
from eventbus.wire.numbering import Gap

MAX_EVENTS = 100_000  # that are had for one batch
_LONGEST = 10  # times the timeout, for one batch: while messages come, and while the connection is made anew
_RETRY_INTERVAL_S = 0.05  # while a historian that was there before does not answer: it may be reconnecting, as we were
_PAUSE_S = 10.0  # without another attempt, after there was no historian
_POINTLESS_PAUSE_S = 1.0  # without another attempt for one publisher on one topic, after the historian had nothing
_MAX_POINTLESS = 1_000

type Ask = Callable[[Query, float], Iterator[list[Stored]]]
"""Asks a historian, with the seconds that each portion may take."""


class Repairer:
    """Fetches what is missing in a batch. One thread at a time.

    Args:
        ask: asks the historian.
        repaired: called with a topic, and how many of its events were put in.
        timeout: how many seconds the historian may send nothing. One batch may take ten times as long, with reconnections.
        endpoints: for the log.
        is_ready: waits until the historian can be asked, up to a deadline; returns whether it can be at once.
        is_stopped: whether nobody waits for the messages any more.
        connections: how often the client has connected: what is under way is lost if it does so again.
        clock: seconds; it never goes back.
    """

    def __init__(
        self,
        ask: Ask,
        repaired: Callable[[bytes, int], None],
        timeout: float,
        endpoints: str,
        is_ready: Callable[[Deadline], bool] = lambda deadline: True,
        is_stopped: Callable[[], bool] = lambda: False,
        connections: Callable[[], int] = lambda: 0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._ask = ask
        self._repaired = repaired
        self._timeout = timeout
        self._is_ready = is_ready
        self._is_stopped = is_stopped
        self._connections = connections
        self._clock = clock
        self._log = Log(endpoints=endpoints)
        self._throttle = LogThrottle()
        self._was_there = False
        self._paused_until = 0.0
        self._pointless: dict[tuple[bytes, bytes], float] = {}  # until when

    def mend(self, gaps: list[Gap], frames: list[bytes], payloads: list[bytes]) -> None:
        """Put into the batch what is missing, as far as the historian has it.

        Args:
            gaps: what is missing, in the order of the batch.
            frames: the first frames of the batch.
            payloads: as many.
        """
        now = self._clock()
        if now < self._paused_until:
            return
        wanted = [gap for gap in gaps if self._pointless.get((gap.span.topic, gap.span.publisher), 0.0) <= now]
        if not wanted:
            return
        found = self._fetch(tuple(gap.span for gap in wanted))
        if found is None:
            self._paused_until = self._clock() + _PAUSE_S
            return
        for gap in reversed(wanted):  # so that places before stay right
            messages = found.get(gap.span, [])
            frames[gap.place : gap.place] = [message.first for message in messages]
            payloads[gap.place : gap.place] = [message.payload for message in messages]
            if messages:
                self._repaired(gap.span.topic, sum(map(_events_in, messages)))
            else:
                self._note_pointless(gap.span)

    def _fetch(self, spans: tuple[Span, ...]) -> dict[Span, list[Stored]] | None:
        """The messages of each span; None if there is no historian."""
        found: dict[Span, list[Stored]] = {span: [] for span in spans}
        longest, deadline = Deadline(_LONGEST * self._timeout), Deadline(self._timeout)
        left, position = MAX_EVENTS, 0
        while True:
            if not self._is_ready(longest):  # what a reconnection takes is no sign of a missing historian
                deadline = Deadline(self._timeout)
            connections = self._connections()
            try:
                for portion in self._ask(Query(spans=spans, after=position), self._timeout):
                    for message in portion:
                        span = _span_of(message, spans)
                        if span is not None:
                            found[span].append(message)
                        position = message.position
                    left -= len(portion)
                    if left <= 0 or longest.passed():
                        break
            except EventBusError as error:
                is_cut_off = (
                    isinstance(error, ProxyUnreachable)
                    or not self._is_ready(Deadline(0.0))
                    or self._connections() != connections
                )
                again = (is_cut_off and not longest.passed()) or (self._was_there and not deadline.passed())
                if again and not self._is_stopped():
                    sleep(_RETRY_INTERVAL_S)
                    continue
                if (held_back := self._throttle.admit("missing")) is not None and self._was_there:
                    self._log.warning(
                        "events are missing and could not be had from the historian: %s%s",
                        error,
                        more(held_back, "more times"),
                        error=type(error).__name__,
                        held_back=held_back,
                    )
                return found if position or self._is_stopped() else None
            self._was_there = True
            return found

    def _note_pointless(self, span: Span) -> None:
        if len(self._pointless) >= _MAX_POINTLESS:
            self._pointless.clear()
        self._pointless[span.topic, span.publisher] = self._clock() + _POINTLESS_PAUSE_S


def _events_in(message: Stored) -> int:
    head = parse(message.first).head
    return 1 if head is None else head.events


def _span_of(message: Stored, spans: tuple[Span, ...]) -> Span | None:
    """The span that a message belongs to."""
    first = parse(message.first)
    if first.head is None:
        return None
    for span in spans:
        is_stream = (span.topic, span.publisher) == (first.topic, first.head.publisher)
        if is_stream and span.after < first.number and first.number - first.head.events < span.until:
            return span
    return None
