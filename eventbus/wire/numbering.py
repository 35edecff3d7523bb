"""Numbered messages: a publisher that numbers what it sends lets its subscribers see what never arrived.

How numbers stand in a frame: see `first_frame`.
"""

import os
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

from eventbus.wire.first_frame import (
    COUNT_BYTES,
    PUBLISHER_BYTES,
    Head,
    number_of,
    parse_head,
    split_headers,
    start_of,
)
from eventbus.wire.frames import MARK, NUMBER_BYTES, any_header, head_of, head_of_run, topic_of
from eventbus.wire.history import Span
from eventbus.wire.private_topics import REPLY_PREFIX
from eventbus.wire.sequence import Sequence

_MAX_HEADS = 10_000  # that are remembered
_MAX_REPLY_STREAMS = 10_000  # each asker has a topic of its own: those who answer would remember all of them for ever


class Numbering:
    """Numbers the messages of one publisher. One thread at a time.

    Receivers skip a message whose number was used before, and count a number that was skipped as a loss. So `next` does not
    use a number up: `taken` does, to be called when the message was sent, or may have been.

    Args:
        publisher: eight bytes that no other publisher has, the first not NUL; None for random ones.

    Attributes:
        publisher: as given, or the random ones.
        streams: the stream of each topic. To use numbers up, or to give them back, is to change its `sent`.
    """

    def __init__(self, publisher: bytes | None = None) -> None:
        self.publisher = b"\x01" + os.urandom(PUBLISHER_BYTES - 1) if publisher is None else publisher
        self.streams: _Streams = _Streams(self.publisher)

    def next(self, topic: bytes, count: int = 1) -> bytes:
        """Return the first frame of the topic's next message, which carries `count` events."""
        stream = self.streams[topic]
        number = (stream.sent + count).to_bytes(NUMBER_BYTES)
        return stream.start + number if count == 1 else stream.start + count.to_bytes(COUNT_BYTES) + number

    def taken(self, topic: bytes, count: int = 1) -> None:
        """Use up the number that `next` returned last for this topic: a message with `count` events was sent."""
        self.streams[topic].sent += count


class Stream:
    """The messages of one publisher on one topic.

    Attributes:
        start: the bytes that all their first frames begin with.
        sent: how many events they have carried so far.
    """

    __slots__ = ("sent", "start")

    def __init__(self, start: bytes) -> None:
        self.start = start
        self.sent = 0


class _Streams(dict[bytes, Stream]):
    """The stream of each topic; of topics for answers, only those of the latest askers."""

    def __init__(self, publisher: bytes) -> None:
        super().__init__()
        self._publisher = publisher
        self._replies: deque[bytes] = deque()
        self._forgotten = 0  # the highest number that a stream had which is forgotten: none begins below it, as if anew

    def __missing__(self, topic: bytes) -> Stream:
        stream = self[topic] = Stream(start_of(topic, self._publisher))
        if topic.startswith(REPLY_PREFIX):
            self._replies.append(topic)
            if len(self._replies) > _MAX_REPLY_STREAMS:
                self._forgotten = max(self._forgotten, self.pop(self._replies.popleft()).sent)
            stream.sent = self._forgotten
        return stream


class Gap(NamedTuple):
    """Events that are missing before a message of a batch.

    Attributes:
        place: which message, counted from 0.
        span: the events.
    """

    place: int
    span: Span


class Reading(NamedTuple):
    """The content of the first frames of a batch.

    Attributes:
        topics: the topic in each of them.
        lost: the further events that each topic has lost up to its last message; negative if fewer than were told before.
        repeated: which of the messages had come before, as indexes in ascending order.
        headers: the encoded headers in each of the frames; None if none has any.
        forged: topics on which numbers show that a peer sends in the name of another publisher, and how often.
        gaps: the events that are missing, if the batch was not taken because of them.
    """

    topics: list[bytes]
    lost: dict[bytes, int]
    repeated: list[int]
    headers: list[bytes] | None
    forged: dict[bytes, int]
    gaps: list[Gap] = []  # noqa: RUF012 # nobody changes it


class Gaps:
    """Sees by the numbers which events are missing and which have come before. One thread at a time.

    It begins with the first message of a publisher on a topic. What numbers show: see `sequence`. Here is what makes that
    quick: of a batch in which each publisher's messages follow each other, only the first and the last number are read.

    Args:
        limit: the most pairs of a topic and a publisher remembered; the one that was silent longest is forgotten first.
        clock: seconds; it never goes back.
    """

    def __init__(self, limit: int = 10_000, clock: Callable[[], float] = monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._heads: dict[bytes, Head] = {}
        self._topics: dict[bytes, bytes] = {}  # of each head
        # By topic, mark and publisher. The one that was silent longest is the first.
        self._sequences: OrderedDict[bytes, Sequence] = OrderedDict()

    def read(self, frames: list[bytes], wanted: Callable[[bytes], bool], *, unless_gaps: bool = False) -> Reading:
        """Read a batch.

        Args:
            frames: first frames in the order in which they came, numbered, plain or malformed.
            wanted: whether a topic is subscribed; others are not counted.
            unless_gaps: if events are missing, only tell which, and take nothing.
        """
        headers: list[bytes] | None = None
        if len(frames) == 1:
            topic, encoded = split_headers(frames[0])
            if encoded and MARK not in topic:  # as requests and answers are: not numbered
                return Reading([topic], {}, [], [encoded], {})
        if frames and (run := self._take_run(frames, wanted)) is not None:
            return Reading([run.topic] * len(frames), {}, [], None, {})
        heads = list(map(head_of, frames))  # the loops over all messages are in C
        topics = list(map(self._topics.get, heads))
        if None in topics:
            frames, headers = _without_headers(frames)  # none of the known ones has any
            if not any_header(frames):
                return Reading(frames, {}, [], headers, {})
            heads = list(map(head_of, frames))
            self._learn(set(heads))
            topics = list(map(self._topics.get, heads))
            names = [topic or topic_of(frame) for topic, frame in zip(topics, frames, strict=True)]
        else:
            names = topics  # type: ignore[assignment] # there is no None in it
        if self._take_all(heads, frames, wanted):
            return Reading(names, {}, [], headers, {})
        if unless_gaps and (gaps := self._missing(heads, frames, wanted)):
            return Reading(names, {}, [], headers, {}, gaps)
        lost, repeated, forged = self._take_each(heads, frames, wanted)
        return Reading(names, lost, repeated, headers, forged)

    def forget(self, topic: bytes) -> None:
        """Begin anew with this topic (with an empty one: with every topic), as if no message of it had come yet."""
        start = start_of(topic, b"")
        for stream in [stream for stream in self._sequences if not topic or stream.startswith(start)]:
            del self._sequences[stream]

    def _learn(self, heads: set[bytes]) -> None:
        if len(self._topics) + len(heads) > _MAX_HEADS:
            self._heads.clear()
            self._topics.clear()
        for head in heads:
            parsed = parse_head(head)
            if parsed is not None:
                self._heads[head], self._topics[head] = parsed, parsed.topic

    def _take_run(self, frames: list[bytes], wanted: Callable[[bytes], bool]) -> Head | None:
        """Take a batch of one publisher on one topic in which all messages follow each other; None, if it is another one."""
        bare = head_of_run(frames)
        head = None if bare is None or len(set(map(len, frames))) > 1 else self._head(bare, wanted)
        if head is None:
            return None
        start, end = number_of(frames[0]) - head.events, number_of(frames[-1])
        if end - start != head.events * len(frames):
            return None
        sequence = self._sequences.get(stream := head.stream)
        if sequence is None:
            self._begin(stream, Sequence(end, end - start, self._clock()))
        elif sequence.follows(start, end):
            sequence.extend(end, len(frames))
            self._sequences.move_to_end(stream)
        else:
            return None
        return head

    def _take_all(self, heads: list[bytes], frames: list[bytes], wanted: Callable[[bytes], bool]) -> bool:
        """Take a batch in which each publisher's messages follow each other. False, and nothing is taken, if they do not."""
        # Each head's frames must be different ones in ascending order.
        if len(set(frames)) < len(frames) or sorted(frames, key=head_of) != sorted(frames):
            return False
        first = dict(zip(reversed(heads), reversed(frames), strict=True))
        last = dict(zip(heads, frames, strict=True))
        messages = Counter(heads) if len(last) > 1 else dict.fromkeys(heads, len(heads))
        found: dict[bytes, tuple[int, int, int]] = {}  # of each stream: the number before, the last one, how many messages
        for head, frame in last.items():
            parsed = self._head(head, wanted)
            if parsed is not None:
                start, end = number_of(first[head]) - parsed.events, number_of(frame)
                sequence = self._sequences.get(stream := parsed.stream)
                if (
                    end - start != parsed.events * messages[head]
                    or stream in found
                    or (sequence is not None and not sequence.follows(start, end))
                ):
                    return False
                found[stream] = start, end, messages[head]
        for stream, (start, end, count) in found.items():
            sequence = self._sequences.get(stream)
            if sequence is None:
                self._begin(stream, Sequence(end, end - start, self._clock()))
            else:
                sequence.extend(end, count)
                self._sequences.move_to_end(stream)
        return True

    def _missing(self, heads: list[bytes], frames: list[bytes], wanted: Callable[[bytes], bool]) -> list[Gap]:
        """The gaps that a batch would show. Nothing is taken."""
        ends: dict[bytes, int] = {}
        gaps: list[Gap] = []
        of_heads = {head: self._head(head, wanted) for head in set(heads)}
        for place, (head, frame) in enumerate(zip(heads, frames, strict=True)):
            parsed = of_heads[head]
            if parsed is None:
                continue
            number = number_of(frame)
            end = ends.get(stream := parsed.stream)
            if end is None:
                sequence = self._sequences.get(stream)
                end = number if sequence is None else sequence.position
            if number - parsed.events > end:
                gaps.append(Gap(place, Span(parsed.topic, parsed.publisher, end, number - parsed.events)))
            ends[stream] = max(end, number)
        return gaps

    def _take_each(
        self, heads: list[bytes], frames: list[bytes], wanted: Callable[[bytes], bool]
    ) -> tuple[dict[bytes, int], list[int], dict[bytes, int]]:
        """Take a batch message by message. Returns what is lost, the indexes of repeated messages, and what is forged."""
        lost: Counter[bytes] = Counter()
        forged: Counter[bytes] = Counter()
        repeated: list[int] = []
        now = self._clock()
        of_heads = {head: self._head(head, wanted) for head in set(heads)}
        for index, (head, frame) in enumerate(zip(heads, frames, strict=True)):
            parsed = of_heads[head]
            if parsed is None:
                continue
            number, events = number_of(frame), parsed.events
            sequence = self._sequences.get(stream := parsed.stream)
            if sequence is None:
                self._begin(stream, Sequence(number, events, now))
            elif sequence.follows(number - events, number):
                sequence.extend(number, 1)
            else:
                self._sequences.move_to_end(stream)
                taken = sequence.take(number, events, now)
                lost[parsed.topic] += taken.lost
                forged[parsed.topic] += taken.forged
                if taken.repeated:
                    repeated.append(index)
        return {topic: count for topic, count in lost.items() if count}, repeated, dict(+forged)

    def _head(self, head: bytes, wanted: Callable[[bytes], bool]) -> Head | None:
        """The parsed form of a known head; None if it is of no numbered frame, or of a topic that is not counted."""
        parsed = self._heads.get(head)
        return parsed if parsed is not None and wanted(parsed.topic) else None

    def _begin(self, stream: bytes, sequence: Sequence) -> None:
        self._sequences[stream] = sequence
        while len(self._sequences) > self._limit:
            self._sequences.popitem(last=False)


def _without_headers(frames: list[bytes]) -> tuple[list[bytes], list[bytes] | None]:
    """First frames without their headers, and the encoded headers of each; None if none has any."""
    split = list(map(split_headers, frames))
    headers = [encoded for _, encoded in split]
    return [frame for frame, _ in split], headers if any(headers) else None
