"""Numbered messages: a publisher that numbers what it sends lets its subscribers see what never arrived.

How numbers stand in a frame: see `first_frame`.
"""

import os
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
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
from eventbus.wire.frames import NUMBER_BYTES, head_of, topic_of

_MAX_HEADS = 10_000  # that are remembered
_MAX_REPEATED = 1_000_000  # events; no publisher sends more than these again


class Numbering:
    """Numbers the messages of one publisher. One thread at a time.

    Receivers skip a message whose number was used before, and count a number that was skipped as a loss. So `next` does not
    use a number up: `taken` does, to be called when the message was sent, or may have been.

    Args:
        publisher: eight bytes that no other publisher has, the first not NUL; None for random ones.
    """

    def __init__(self, publisher: bytes | None = None) -> None:
        self._sent: defaultdict[bytes, int] = defaultdict(int)
        self._starts = _Starts(b"\x01" + os.urandom(PUBLISHER_BYTES - 1) if publisher is None else publisher)

    def next(self, topic: bytes, count: int = 1) -> bytes:
        """Return the first frame of the topic's next message, which carries `count` events."""
        number = (self._sent[topic] + count).to_bytes(NUMBER_BYTES)
        if count == 1:
            return self._starts[topic] + number
        return self._starts[topic] + count.to_bytes(COUNT_BYTES) + number

    def taken(self, topic: bytes, count: int = 1) -> None:
        """Use up the number that `next` returned last for this topic: a message with `count` events was sent."""
        self._sent[topic] += count


class _Starts(dict[bytes, bytes]):
    """The start of each topic's frames."""

    def __init__(self, publisher: bytes) -> None:
        super().__init__()
        self._publisher = publisher

    def __missing__(self, topic: bytes) -> bytes:
        start = self[topic] = start_of(topic, self._publisher)
        return start


class Reading(NamedTuple):
    """What the first frames of a batch say.

    Attributes:
        topics: the topic in each of them.
        lost: how many events each topic has lost up to its last message.
        repeated: which of the messages had come before, as indexes in ascending order.
        headers: the encoded headers in each of the frames; None if none has any.
    """

    topics: list[bytes]
    lost: dict[bytes, int]
    repeated: list[int]
    headers: list[bytes] | None


class Gaps:
    """Sees by the numbers which events are missing and which have come before. One thread at a time.

    It begins with the first message of a publisher on a topic. On one connection ZeroMQ neither reorders nor repeats what
    a publisher sends, so of each batch only the lowest and the highest number and how many events have come matter. A
    publisher that has lost its connection sends the latest messages once more, before new ones: those have come before. A
    number that is far lower than it should be was made up: counting goes on from it.

    Args:
        limit: how many pairs of a topic and a publisher are remembered; the one that was silent longest is forgotten first.
    """

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._heads: dict[bytes, Head] = {}
        self._topics: dict[bytes, bytes] = {}  # of each head
        # By topic, mark and publisher: how many events it had sent. The one that was silent longest is the first.
        self._sent: OrderedDict[bytes, int] = OrderedDict()

    def read(self, frames: list[bytes], wanted: Callable[[bytes], bool]) -> Reading:
        """Read a batch.

        Args:
            frames: first frames in the order in which they came, numbered, plain or malformed.
            wanted: whether a topic is subscribed; others are not counted.
        """
        headers: list[bytes] | None = None
        heads = list(map(head_of, frames))  # the loops over all messages are in C
        topics = list(map(self._topics.get, heads))
        if None in topics:
            frames, headers = _without_headers(frames)  # none of the known ones has any
            heads = list(map(head_of, frames))
            self._learn(set(heads))
            topics = list(map(self._topics.get, heads))
            names = [topic or topic_of(frame) for topic, frame in zip(topics, frames, strict=True)]
        else:
            names = topics  # type: ignore[assignment] # there is no None in it
        lost = self._count(heads, frames, wanted)
        if lost is None:
            return Reading(names, *self._count_one_by_one(heads, frames, wanted), headers)
        return Reading(names, lost, [], headers)

    def forget(self, topic: bytes) -> None:
        """Begin anew with this topic (with an empty one: with every topic), as if no message of it had come yet."""
        start = start_of(topic, b"")
        for stream in [stream for stream in self._sent if not topic or stream.startswith(start)]:
            del self._sent[stream]

    def _learn(self, heads: set[bytes]) -> None:
        if len(self._topics) + len(heads) > _MAX_HEADS:
            self._heads.clear()
            self._topics.clear()
        for head in heads:
            parsed = parse_head(head)
            if parsed is not None:
                self._heads[head], self._topics[head] = parsed, parsed.topic

    def _count(self, heads: list[bytes], frames: list[bytes], wanted: Callable[[bytes], bool]) -> dict[bytes, int] | None:
        """How many events are missing; None, and nothing is counted, if it takes a look at each message to tell."""
        # Each head's frames must be different ones in ascending order.
        if len(set(frames)) < len(frames) or sorted(frames, key=head_of) != sorted(frames):
            return None
        first = dict(zip(reversed(heads), reversed(frames), strict=True))
        last = dict(zip(heads, frames, strict=True))
        messages = Counter(heads) if len(last) > 1 else dict.fromkeys(heads, len(heads))
        # Of each publisher on each topic: what it had sent before this batch, how much has come, what it has sent by now.
        before: dict[bytes, int] = {}
        came: dict[bytes, int] = {}
        after: dict[bytes, int] = {}
        for head, frame in last.items():
            found = self._stream(head, wanted)
            if found is not None:
                stream, count = found
                start = number_of(first[head]) - count
                if stream in before or start < self._sent.get(stream, start):
                    return None
                before[stream], came[stream], after[stream] = start, count * messages[head], number_of(frame)
        lost: dict[bytes, int] = {}
        for stream, number in after.items():
            self._note(stream, number, number - self._sent.get(stream, before[stream]) - came[stream], lost)
        return lost

    def _count_one_by_one(
        self, heads: list[bytes], frames: list[bytes], wanted: Callable[[bytes], bool]
    ) -> tuple[dict[bytes, int], list[int]]:
        lost: dict[bytes, int] = {}
        repeated: list[int] = []
        for index, (head, frame) in enumerate(zip(heads, frames, strict=True)):
            found = self._stream(head, wanted)
            if found is not None:
                stream, count = found
                number = number_of(frame)
                known = self._sent.get(stream, number - count)
                if known - _MAX_REPEATED < number <= known:
                    repeated.append(index)
                else:
                    self._note(stream, number, number - known - count, lost)
        return lost, repeated

    def _stream(self, head: bytes, wanted: Callable[[bytes], bool]) -> tuple[bytes, int] | None:
        """Topic, mark and publisher, and how many events each of these messages carries; None if they do not count."""
        parsed = self._heads.get(head)
        if parsed is None or not wanted(parsed.topic):
            return None
        return parsed.stream, parsed.events

    def _note(self, stream: bytes, number: int, missing: int, lost: dict[bytes, int]) -> None:
        self._sent[stream] = number
        self._sent.move_to_end(stream)
        while len(self._sent) > self._limit:
            self._sent.popitem(last=False)
        if missing > 0:
            topic = topic_of(stream)
            lost[topic] = lost.get(topic, 0) + missing


def _without_headers(frames: list[bytes]) -> tuple[list[bytes], list[bytes] | None]:
    """First frames without their headers, and the encoded headers of each; None if none has any."""
    split = list(map(split_headers, frames))
    headers = [encoded for _, encoded in split]
    return [frame for frame, _ in split], headers if any(headers) else None
