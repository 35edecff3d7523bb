"""The messages that a historian keeps, in memory and within bounds. Pure, one thread at a time."""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from heapq import heapify, heappop, heappush, merge
from itertools import islice, repeat
from operator import attrgetter, call
from typing import NamedTuple, Self

from eventbus.wire.first_frame import parse
from eventbus.wire.frames import MARK, MAX_TOPIC_BYTES, NUMBER_BYTES, PRIVATE, is_text, topic_of
from eventbus.wire.history import Query, Span, Stored
from eventbus.wire.private_topics import PRIVATE_PREFIXES

MESSAGE_OVERHEAD_BYTES = 168
"""The memory that a message takes beside its bytes: two objects with a header, a position, and four places."""
_TOPIC_OVERHEAD_BYTES = 4_096  # four deques, which take a block each, and what points to them
_SPARE = 64  # when it is full, one part in so many is freed at once: finding the largest topic takes a look at each
_EXPIRY_INTERVAL_S = 1.0  # from one look for messages of silent topics that are too old to the next
_MAX_CACHED_HEADS = 10_000

_POSITION = attrgetter("position")


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept. The oldest messages of a topic go first.

    Attributes:
        count: messages of each topic.
        bytes: memory for all topics together. If it is full, messages of the topic that has most go: a topic on which little
            is sent keeps its last one longest.
        age: seconds that a message is kept; 0: no limit.
    """

    count: int = 1_000
    bytes: int = 268_435_456
    age: float = 0.0


class Skipped(NamedTuple):
    """A message that was not kept, because it carries no event.

    Attributes:
        place: which of the batch, counted from 0.
        position: the last position before it.
    """

    place: int
    position: int


class _Topic:
    """The messages of one topic, oldest first, in parallel: so they take half the memory of a tuple for each."""

    __slots__ = ("bytes", "firsts", "name", "payloads", "positions", "times")

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.bytes = _TOPIC_OVERHEAD_BYTES
        self.firsts: deque[bytes] = deque()
        self.payloads: deque[bytes] = deque()
        self.positions: deque[int] = deque()
        self.times: deque[float] = deque()

    def drop_oldest(self) -> int:
        """Drop the oldest message; return how many bytes are free then."""
        freed = len(self.firsts.popleft()) + len(self.payloads.popleft()) + MESSAGE_OVERHEAD_BYTES
        self.positions.popleft()
        self.times.popleft()
        self.bytes -= freed
        return freed

    def drop(self, count: int) -> None:
        """Drop this many of the oldest messages; all loops are in C."""
        if count > 0:
            self.bytes -= count * MESSAGE_OVERHEAD_BYTES
            for column in (self.firsts, self.payloads):
                self.bytes -= sum(map(len, map(call, repeat(column.popleft, count))))
            for numbers in (self.positions, self.times):
                deque(map(call, repeat(numbers.popleft, count)), maxlen=0)

    def read(self, start: int, stop: int) -> Iterator[Stored]:
        """The messages with these indexes."""
        columns = (self.positions, self.times, self.firsts, self.payloads)
        return map(Stored, *(islice(column, start, stop) for column in columns))


class _Wanted(NamedTuple):
    """The numbers that are wanted of one publisher. Spans may overlap, because anything may be asked for.

    Attributes:
        afters: the number before each span, the lowest first.
        untils: the highest last number of it and of all spans before it.
    """

    afters: list[int]
    untils: list[int]

    @classmethod
    def of(cls, spans: Iterable[Span]) -> dict[bytes, Self]:
        """By publisher."""
        wanted: dict[bytes, Self] = {}
        for span in sorted(spans, key=lambda span: span.after):
            afters, untils = wanted.setdefault(span.publisher, cls([], []))
            afters.append(span.after)
            untils.append(max(span.until, untils[-1] if untils else 0))
        return wanted

    def has(self, after: int, until: int) -> bool:
        """Whether one of the numbers after one and up to another is wanted."""
        return (place := bisect_left(self.afters, until)) > 0 and self.untils[place - 1] > after


class MemoryStore:
    """Keeps the newest messages of each topic.

    Args:
        bounds: how much is kept.

    Attributes:
        position: that of the last message; each has the next one.
        bytes: the memory that those take which it has now.
        dropped: how many messages had to go because of `Bounds.bytes`.
    """

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.position = 0
        self.bytes = 0
        self.dropped = 0
        self._topics: dict[bytes, _Topic] = {}
        self._known: dict[bytes, _Topic] = {}  # by a plain first frame, or by the head of a numbered one, which has a NUL
        self._next_expiry = 0.0

    def __len__(self) -> int:
        """The number of messages it has now."""
        return sum(len(topic.payloads) for topic in list(self._topics.values()))

    @property
    def topics(self) -> list[bytes]:
        """The topics of which it has messages."""
        return list(self._topics)

    @property
    def oldest(self) -> int:
        """The lowest position that it has; one more than the highest if it has none."""
        return min((topic.positions[0] for topic in self._topics.values() if topic.positions), default=self.position + 1)

    def oldest_positions(self) -> dict[bytes, int]:
        """The lowest position of each topic. Any thread may ask; what changes meanwhile may be missing."""
        found: dict[bytes, int] = {}
        for name in list(self._topics):
            topic = self._topics.get(name)
            if topic is not None:
                with suppress(IndexError):  # just emptied
                    found[name] = topic.positions[0]
        return found

    def add(self, frames: list[bytes], payloads: list[bytes], now: float) -> list[Skipped]:
        """Keep the messages of a batch. Returns those that carry no event.

        Args:
            frames: first frames; they may hold anything.
            payloads: as many.
            now: the time, in seconds since 1970.
        """
        known, count = self._known, self.bounds.count
        if frames and frames.count(frames[0]) == len(frames) and (topic := known.get(frames[0])) is not None:
            self._add_run(topic, payloads, now)
            self._keep_bounds(now)
            return []
        position, added = self.position, 0
        skipped: list[Skipped] = []
        for index, (first, payload) in enumerate(zip(frames, payloads, strict=True)):
            topic = known.get(first)
            if topic is not None:
                first = topic.name  # one object for all messages without numbers and headers
            else:
                topic = known.get(first[:-NUMBER_BYTES]) or self._find(first)
                if topic is None:
                    skipped.append(Skipped(index, position))
                    continue
            position += 1
            size = len(first) + len(payload) + MESSAGE_OVERHEAD_BYTES
            topic.firsts.append(first)
            topic.payloads.append(payload)
            topic.positions.append(position)
            topic.times.append(now)
            topic.bytes += size
            added += size
            if len(topic.payloads) > count:
                added -= topic.drop_oldest()
        self.position = position
        self.bytes += added
        self._keep_bounds(now)
        return skipped

    def _add_run(self, topic: _Topic, payloads: list[bytes], now: float) -> None:
        """Keep messages of one topic without numbers and headers; all loops are in C."""
        count, before = len(payloads), topic.bytes
        self.position += count
        kept = payloads[-self.bounds.count :]
        topic.drop(len(topic.payloads) + len(kept) - self.bounds.count)
        topic.firsts.extend(repeat(topic.name, len(kept)))
        topic.payloads.extend(kept)
        topic.positions.extend(range(self.position - len(kept) + 1, self.position + 1))
        topic.times.extend(repeat(now, len(kept)))
        topic.bytes += sum(map(len, kept)) + len(kept) * (len(topic.name) + MESSAGE_OVERHEAD_BYTES)
        self.bytes += topic.bytes - before

    def _keep_bounds(self, now: float) -> None:
        if self.bytes > self.bounds.bytes:
            self._make_room()
        if self.bounds.age and now >= self._next_expiry:
            self._next_expiry = now + _EXPIRY_INTERVAL_S
            self._expire(now - self.bounds.age)

    def restore(self, messages: Iterable[Stored]) -> None:
        """Take messages of an earlier run, oldest first, with their positions. To be called before `add`."""
        for message in messages:
            self.position = max(self.position, message.position - 1)  # `add` counts on by one
            self.add([message.first], [message.payload], message.time)

    def read(self, query: Query, permits: Callable[[bytes], bool], now: float) -> Iterator[Stored]:
        """The messages that a query asks for, in the order in which they came.

        Args:
            query: what is asked for.
            permits: whether the asker may have a topic.
            now: the time, in seconds since 1970.
        """
        if query.spans:
            by_topic: dict[bytes, list[Span]] = {}
            for span in query.spans:
                by_topic.setdefault(span.topic, []).append(span)
            found_by_topic = (self._spans(name, spans, query.after) for name, spans in by_topic.items() if permits(name))
            return merge(*found_by_topic, key=_POSITION)
        names = self._topics if query.topics is None else query.topics
        found = [self._topics[name] for name in names if name in self._topics and permits(name)]
        since = query.since
        if self.bounds.age:
            since = max(now - self.bounds.age, since or 0.0)
        parts = [self._part(topic, query, since) for topic in found]
        return parts[0] if len(parts) == 1 else merge(*parts, key=_POSITION)

    def _part(self, topic: _Topic, query: Query, since: float | None) -> Iterator[Stored]:
        until = self.position if query.until is None else query.until
        stop = bisect_right(topic.positions, until)
        start = bisect_right(topic.positions, query.after) if query.after else 0
        if query.last is not None:
            start = max(start, stop - query.last)
        if since is not None:
            start = max(start, bisect_left(topic.times, since))
        return topic.read(start, stop)

    def _spans(self, name: bytes, spans: list[Span], after: int) -> Iterator[Stored]:
        """The messages of a topic with events of its publishers by their numbers.

        The newest are looked at first, and no more than are needed; once for all spans, because there may be thousands.
        """
        topic = self._topics.get(name)
        found: list[Stored] = []
        if topic is not None:
            start = topic.name + MARK
            wanted = _Wanted.of(spans)
            rows = zip(*(reversed(c) for c in (topic.positions, topic.times, topic.firsts, topic.payloads)), strict=True)
            for position, time, first, payload in rows:
                if position <= after or not wanted:
                    break
                if not first.startswith(start):
                    continue
                head, number = (parsed := parse(first)).head, parsed.number
                if head is None or (of_publisher := wanted.get(head.publisher)) is None:
                    continue
                if number <= of_publisher.afters[0]:
                    del wanted[head.publisher]
                elif of_publisher.has(number - head.events, number):
                    found.append(Stored(position, time, first, payload))
        return reversed(found)

    def _find(self, first: bytes) -> _Topic | None:
        """The topic of a first frame that is not known yet; None if it carries no event."""
        name = topic_of(first)
        topic = self._topics.get(name)
        if topic is None:
            if not 0 < len(name) <= MAX_TOPIC_BYTES or name.startswith((*PRIVATE_PREFIXES, PRIVATE)) or not is_text(name):
                return None
            topic = self._topics[name] = _Topic(name)
            self.bytes += topic.bytes
        if len(self._known) >= _MAX_CACHED_HEADS:
            self._known.clear()
        if len(first) - len(name) <= len(MARK):  # plain, or marked by a proxy with rules
            self._known[first] = topic
        elif parse(first).head is not None and first[len(name) + 1 : len(name) + 2] != MARK:  # headers seldom repeat
            self._known[first[:-NUMBER_BYTES]] = topic
        return topic

    def _make_room(self) -> None:
        """There may be very many topics, which anybody makes: look at all of them once, not once for each that has to go."""
        limit = self.bounds.bytes - self.bounds.bytes // _SPARE
        largest = [(-topic.bytes, name, topic) for name, topic in self._topics.items() if len(topic.payloads) > 1]
        heapify(largest)
        while self.bytes > limit and largest:
            _, name, topic = heappop(largest)
            goal = max(limit, self.bytes - topic.bytes // 2)
            while self.bytes > goal and len(topic.payloads) > 1:
                self.bytes -= topic.drop_oldest()
                self.dropped += 1
            if len(topic.payloads) > 1:
                heappush(largest, (-topic.bytes, name, topic))
        if self.bytes > limit:  # no topic has more than one: those that were silent longest go
            gone: list[_Topic] = []
            excess = self.bytes - limit
            for topic in sorted(self._topics.values(), key=lambda topic: topic.positions[-1]):
                if excess <= 0:
                    break
                excess -= topic.bytes
                gone.append(topic)
            self.dropped += len(gone)
            self._forget(gone)

    def _expire(self, before: float) -> None:
        for topic in self._topics.values():
            while topic.times and topic.times[0] < before:
                self.bytes -= topic.drop_oldest()
        self._forget([topic for topic in self._topics.values() if not topic.times])

    def _forget(self, gone: list[_Topic]) -> None:
        for topic in gone:
            del self._topics[topic.name]
            self.bytes -= topic.bytes
        if gone:
            self._known = {key: topic for key, topic in self._known.items() if topic.name in self._topics}
