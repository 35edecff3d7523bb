"""Counting what passes, for `eventbus top` and `eventbus ui`: events and bytes by topic and publisher. Pure.

It decodes only what it must, so that it keeps up, and its memory is bounded whatever peers send.
"""

from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass

from pydantic_core import from_json

from eventbus.errors import CompressionMissing, PayloadDamaged, PayloadTooLarge
from eventbus.wire.compression import inflate, is_compressed
from eventbus.wire.first_frame import FirstFrame, parse
from eventbus.wire.frames import ARRAY, MARK, MAX_PACKED_BYTES, MAX_TOPIC_BYTES, Batch, head_of, is_text
from eventbus.wire.presence import PresenceTraffic

HISTORY = 30  # intervals in a trend
_MAX_ROWS = 1_000  # topics, and as many publishers
_MAX_CACHED_FRAMES = 10_000  # first frames whose rows are looked up in one step


@dataclass(frozen=True, slots=True)
class Line:
    """The figures of one topic or publisher.

    Attributes:
        name: the topic, or the publisher's id in hexadecimal digits; empty for several together.
        events_per_second: in the last interval.
        bytes_per_second: in the last interval; the bytes of both frames as they travel.
        events: since the start.
        bytes: since the start.
        last_seen: seconds since the last event; None: there was none.
        history: events per second in the last intervals, oldest first.
        label: the name that people call the publisher; empty: unknown.
    """

    name: str
    events_per_second: float
    bytes_per_second: float
    events: int
    bytes: int
    last_seen: float | None
    history: tuple[float, ...]
    label: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All figures at the end of an interval. Topics and publishers are sorted, the fastest first.

    Attributes:
        interval: the length of the last interval, in seconds.
        total: all topics together.
        topics: one line for each topic, up to the limit.
        other_topics: the topics beyond the limit; None if there are none.
        publishers: one line for each publisher that numbers its messages, up to the limit.
        not_numbered: the publishers without numbers, which cannot be told apart; None if they have sent nothing.
        other_publishers: the publishers beyond the limit; None if there are none.
        malformed: messages since the start that were no events.
        pairs: one line for each pair of a publisher and a topic, if they are counted: the name is the publisher's id (empty
            for those without numbers), a space, and the topic.
    """

    interval: float
    total: Line
    topics: tuple[Line, ...]
    other_topics: Line | None
    publishers: tuple[Line, ...]
    not_numbered: Line | None
    other_publishers: Line | None
    malformed: int
    pairs: tuple[Line, ...] = ()


class Meter:
    """Counts messages. Only one thread may call it at a time. Times are seconds on a monotonic clock.

    Args:
        now: the start of the first interval.
        wanted: the topics to count; empty: all.
        limit: the largest number of topics, and of publishers, with a line of their own. Those that were silent in all
            intervals of a trend make room for new ones.
        pairs: whether to count also who sends on which topic.
    """

    def __init__(self, now: float, wanted: Collection[bytes] = (), limit: int = _MAX_ROWS, *, pairs: bool = False) -> None:
        self._wanted = frozenset(wanted)
        self._ticked = now
        self._malformed = 0
        self._total = _Row()
        self._topics, self._publishers = _Rows(limit), _Rows(limit)
        self._pairs = _Rows(limit) if pairs else None
        self._not_numbered = _Row()
        self._presence = PresenceTraffic()
        # The rows of each first frame, by the whole of a plain one and by all but the number of a numbered one.
        self._plain: dict[bytes, _Stream] = {}
        self._numbered: dict[bytes, _Stream] = {}

    def count(self, batch: Batch, now: float) -> None:
        """Count a batch that has just been received."""
        plain, numbered = self._plain, self._numbered
        for frame, payload in zip(*batch, strict=True):
            stream = plain.get(frame) or numbered.get(head_of(frame)) or self._stream(frame)
            if stream is None:
                continue
            events = 1 if payload[:1] == b"{" else self._events_in(payload)
            if events:
                size = len(frame) + len(payload)
                for row in stream:
                    row.events += events
                    row.bytes += size
                    row.last_seen = now

    def reject(self, count: int) -> None:
        """Count messages that the transport has refused as malformed."""
        self._malformed += count

    def tick(self, now: float) -> Snapshot:
        """End an interval and begin the next."""
        interval, self._ticked = max(now - self._ticked, 1e-9), now
        self._total.tick(interval)
        self._not_numbered.tick(interval)
        for rows in (self._topics, self._publishers, self._pairs):
            if rows is not None and rows.tick(interval):
                self._plain.clear()
                self._numbered.clear()
        return Snapshot(
            interval=interval,
            total=self._total.line("", now),
            topics=self._topics.lines(bytes.decode, now),
            other_topics=self._topics.others.line_if_any(now),
            publishers=self._publishers.lines(bytes.hex, now),
            not_numbered=self._not_numbered.line_if_any(now),
            other_publishers=self._publishers.others.line_if_any(now),
            malformed=self._malformed,
            pairs=() if self._pairs is None else self._pairs.lines(bytes.decode, now),
        )

    def _stream(self, frame: bytes) -> "_Stream | None":
        """The rows of a first frame that is not cached; None if it does not count."""
        topic, headers, head, number = parse(frame)
        if not 0 < len(topic) <= MAX_TOPIC_BYTES or not is_text(topic):
            self._malformed += 1
            return None
        # Who watches asks who is there: that does not count, unless it was asked for.
        if topic not in self._wanted if self._wanted else self._presence.has(topic, headers):
            return None
        # Without its headers, the head repeats.
        known_by = None if head is None else head_of(FirstFrame(topic, b"", head, number).encode())
        if known_by is not None and headers and (known := self._numbered.get(known_by)):
            return known
        publisher = self._not_numbered if head is None else self._publishers.row(head.publisher)
        stream: _Stream = (self._topics.row(topic), publisher, self._total)
        if self._pairs is not None:
            stream += (self._pairs.row(b"%s %s" % (b"" if head is None else head.publisher.hex().encode(), topic)),)
        if len(self._plain) + len(self._numbered) >= _MAX_CACHED_FRAMES:
            self._plain.clear()
            self._numbered.clear()
        if known_by is not None:
            self._numbered[known_by] = stream
        elif len(frame) <= len(topic) + len(MARK):  # longer ones may be any size
            self._plain[frame] = stream
        return stream

    def _events_in(self, payload: bytes) -> int:
        """The number of events in a payload that does not begin like a single one; 0 if it is malformed.

        Clients never make an array longer than the limit, so that a longer one counts as one event.
        """
        if is_compressed(payload):
            try:
                payload = inflate(payload, MAX_PACKED_BYTES)
            except (PayloadTooLarge, CompressionMissing):  # others may be able to inflate it
                return 1
            except PayloadDamaged:
                self._malformed += 1
                return 0
        payload = payload.lstrip()
        if payload[:1] == b"{" or (payload[:1] == ARRAY and len(payload) > MAX_PACKED_BYTES):
            return 1
        try:
            content = from_json(payload)
        except ValueError:
            content = None
        if not isinstance(content, list):
            self._malformed += 1
            return 0
        return len(content)


class _Row:
    """The counts of one topic or publisher, or of several together."""

    __slots__ = ("_rates", "_ticked", "bytes", "events", "history", "last_seen")

    def __init__(self) -> None:
        self.events = 0
        self.bytes = 0
        self.last_seen: float | None = None
        self.history: deque[float] = deque(maxlen=HISTORY)
        self._ticked = 0, 0  # events and bytes at the last tick
        self._rates = 0.0, 0.0

    def tick(self, interval: float) -> None:
        events, size = self._ticked
        self._ticked = self.events, self.bytes
        self._rates = (self.events - events) / interval, (self.bytes - size) / interval
        self.history.append(self._rates[0])

    def is_silent(self) -> bool:
        """Whether there was no event in any interval of its history."""
        return len(self.history) == HISTORY and not any(self.history)

    def absorb(self, other: "_Row") -> None:
        """Add the counts of a row that is silent."""
        self.events += other.events
        self.bytes += other.bytes
        self._ticked = self._ticked[0] + other.events, self._ticked[1] + other.bytes
        self.last_seen = max((seen for seen in (self.last_seen, other.last_seen) if seen is not None), default=None)

    def line(self, name: str, now: float) -> Line:
        age = None if self.last_seen is None else max(0.0, now - self.last_seen)
        return Line(name, *self._rates, self.events, self.bytes, age, tuple(self.history))

    def line_if_any(self, now: float) -> Line | None:
        return self.line("", now) if self.events else None


type _Stream = tuple[_Row, ...]  # the rows of the topic, of the publisher, of all, and of the pair if pairs are counted


class _Rows:
    """Rows by name, up to a limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rows: dict[bytes, _Row] = {}
        self.others = _Row()

    def row(self, name: bytes) -> _Row:
        """The row of this name; beyond the limit, the row of all others."""
        row = self._rows.get(name)
        if row is None:
            if len(self._rows) >= self._limit:
                return self.others
            row = self._rows[name] = _Row()
        return row

    def tick(self, interval: float) -> bool:
        """End an interval. Return whether silent rows were removed to make room."""
        for row in (*self._rows.values(), self.others):
            row.tick(interval)
        if len(self._rows) < self._limit:
            return False
        silent = [name for name, row in self._rows.items() if row.is_silent()]
        for name in silent:
            self.others.absorb(self._rows.pop(name))
        return bool(silent)

    def lines(self, as_text: Callable[[bytes], str], now: float) -> tuple[Line, ...]:
        """All rows, the fastest first; equally fast ones by name."""
        lines = (row.line(as_text(name), now) for name, row in self._rows.items() if row.events)
        return tuple(sorted(lines, key=lambda line: (-line.events_per_second, line.name)))
