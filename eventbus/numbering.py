"""Numbered messages: a publisher that numbers what it sends lets its subscribers see what never arrived.

After the mark that ends the topic's name (see `wire`), the first frame of a numbered message goes on with:

======  ====================================================================================================
bytes
======  ====================================================================================================
8       the publisher: random, another one each time that a client opens
4       how many events the message carries; left out when it is one
8       how many events the publisher has sent on the topic, this message's included
======  ====================================================================================================

Numbers are big-endian. All but the last eight bytes, the frame's head, repeats from message to message.
"""

import os
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from operator import itemgetter

from eventbus import wire

_PUBLISHER, _COUNT, _NUMBER = 8, 4, 8  # bytes

_HEAD = itemgetter(slice(None, -_NUMBER))
_HEADS = 10_000  # of which the topic is remembered


class Numbering:
    """Numbers the messages of one publisher. One thread at a time.

    A number that is used twice hides a loss at worst; one that is used up for nothing looks like a loss. So it is used up
    only by `taken`, to be called when the message was sent.

    Args:
        publisher: eight bytes that no other publisher has; None for random ones.
    """

    def __init__(self, publisher: bytes | None = None) -> None:
        self._sent: defaultdict[bytes, int] = defaultdict(int)
        self._starts = _Starts(os.urandom(_PUBLISHER) if publisher is None else publisher)

    def next(self, topic: bytes, count: int = 1) -> bytes:
        """Return the first frame of the topic's next message, which carries `count` events."""
        number = (self._sent[topic] + count).to_bytes(_NUMBER)
        if count == 1:
            return self._starts[topic] + number
        return self._starts[topic] + count.to_bytes(_COUNT) + number

    def taken(self, topic: bytes, count: int = 1) -> None:
        """Go on to the topic's next number: a message with these `count` events was sent."""
        self._sent[topic] += count


class _Starts(dict[bytes, bytes]):
    """What the frames of each topic start with."""

    def __init__(self, publisher: bytes) -> None:
        super().__init__()
        self._publisher = publisher

    def __missing__(self, topic: bytes) -> bytes:
        start = self[topic] = topic + wire.MARK + self._publisher
        return start


class Gaps:
    """Sees by the numbers how many events are missing. One thread at a time.

    Counting begins with the first message of a publisher on a topic. ZeroMQ neither reorders nor repeats what one publisher
    sends, so of each batch only the highest number and how many events have come matter. Numbers that go backwards, for
    somebody has made them up, are no loss; counting goes on from them, so the true ones soon prevail again.

    Args:
        limit: how many pairs of a topic and a publisher are remembered; the one that was silent longest is forgotten first.
    """

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._topics: dict[bytes, bytes] = {}  # of each head
        # By topic, mark and publisher: how many events it had sent. The one that was silent longest is the first.
        self._sent: OrderedDict[bytes, int] = OrderedDict()

    def read(self, frames: list[bytes], wanted: Callable[[bytes], bool]) -> tuple[list[bytes], dict[bytes, int]]:
        """Return the topics of a batch's first frames, and how many events each of them lost up to its last message.

        Args:
            frames: first frames in the order in which they came, numbered, plain or malformed.
            wanted: whether a topic is subscribed; others are not counted.
        """
        heads = list(map(_HEAD, frames))  # the loops over all messages are in C
        topics = list(map(self._topics.get, heads))
        if None in topics:
            self._learn(set(heads))
            topics = list(map(self._topics.get, heads))
            names = [topic or wire.topic_of(frame) for topic, frame in zip(topics, frames, strict=True)]
        else:
            names = topics  # type: ignore[assignment] # there is no None in it
        return names, self._count(heads, frames, wanted)

    def forget(self, topic: bytes) -> None:
        """Begin anew with this topic (with an empty one: with every topic), as if no message of it had come yet."""
        start = topic + wire.MARK
        for stream in [stream for stream in self._sent if not topic or stream.startswith(start)]:
            del self._sent[stream]

    def _learn(self, heads: set[bytes]) -> None:
        if len(self._topics) + len(heads) > _HEADS:
            self._topics.clear()
        for head in heads:
            topic, _, header = head.partition(wire.MARK)
            if 0 < len(topic) <= wire.MAX_TOPIC_BYTES and len(header) in (_PUBLISHER, _PUBLISHER + _COUNT):
                self._topics[head] = topic

    def _count(self, heads: list[bytes], frames: list[bytes], wanted: Callable[[bytes], bool]) -> dict[bytes, int]:
        last = dict(zip(heads, frames, strict=True))
        first: dict[bytes, bytes] = {}  # made when it is needed
        messages = Counter(heads) if len(last) > 1 else dict.fromkeys(heads, len(heads))
        sent = self._sent  # on the way, what it had sent before and what has come of it since
        numbers: dict[bytes, int] = {}  # the highest one of each publisher on each topic
        for head, frame in last.items():  # in the order of their first frames
            topic = self._topics.get(head)
            if topic is None or not wanted(topic):
                continue
            stream = head[: len(topic) + len(wire.MARK) + _PUBLISHER]
            count = 1 if head == stream else int.from_bytes(head[len(stream) :])
            if stream not in sent:
                first = first or dict(zip(reversed(heads), reversed(frames), strict=True))
                sent[stream] = _number(first[head]) - count
            sent[stream] += count * messages[head]
            numbers[stream] = max(_number(frame), numbers.get(stream, 0))
        lost: dict[bytes, int] = {}
        for stream, number in numbers.items():
            if (missing := number - sent[stream]) > 0:
                topic = wire.topic_of(stream)
                lost[topic] = lost.get(topic, 0) + missing
            sent[stream] = number
            sent.move_to_end(stream)
        while len(sent) > self._limit:
            sent.popitem(last=False)
        return lost


def _number(frame: bytes) -> int:
    return int.from_bytes(frame[-_NUMBER:])
