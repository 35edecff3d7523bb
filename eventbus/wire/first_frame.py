"""The first frame of a message: the topic, and what may follow it. Pure, and light enough for the proxy's process.

=====================================  ====================================================================
frame
=====================================  ====================================================================
``topic``                              plain
``topic NUL numbers``                  numbered (see `numbering`)
``topic NUL NUL headers NUL``          with headers (see `headers`)
``topic NUL NUL headers NUL numbers``  both
``topic NUL``                          plain, as a proxy with rules passes it on (see proxy/authorizer.py)
=====================================  ====================================================================

Subscriptions are prefixes, so all of them match a subscription to the topic. The numbers are big-endian:

======  ====================================================================================================
bytes
======  ====================================================================================================
8       the publisher: random, another one each time that a client opens; not beginning with NUL
4       how many events the message carries; left out when it is one
8       how many events the publisher has sent on the topic, this message's included
======  ====================================================================================================

All but the last eight bytes, the frame's head, repeats from message to message.
"""

from typing import NamedTuple

from eventbus.wire.frames import MARK, MAX_PACKED_EVENTS, MAX_TOPIC_BYTES, NUMBER_BYTES, head_of

PUBLISHER_BYTES = 8
COUNT_BYTES = 4

_HEADERS = 2 * MARK  # how headers begin: no numbers do, because a publisher's first byte is not NUL


class Head(NamedTuple):
    """The head of a numbered frame, parsed.

    Attributes:
        topic: the topic.
        publisher: the publisher's eight bytes.
        events: the number of events that the message carries.
    """

    topic: bytes
    publisher: bytes
    events: int

    @property
    def stream(self) -> bytes:
        """Names what one publisher sends on one topic: the bytes that all these frames begin with."""
        return start_of(self.topic, self.publisher)


class FirstFrame(NamedTuple):
    """A first frame, parsed.

    Attributes:
        topic: the topic; empty or too long if a peer is not a client of this bus.
        headers: the encoded headers; empty if there are none.
        head: the publisher and the count; None if the frame is not numbered.
        number: the number of events that the publisher has sent on the topic; 0 if the frame is not numbered.
    """

    topic: bytes
    headers: bytes = b""
    head: Head | None = None
    number: int = 0

    def encode(self) -> bytes:
        """Return the frame that says this."""
        frame = self.topic
        if self.head is not None:
            count = b"" if self.head.events == 1 else self.head.events.to_bytes(COUNT_BYTES)
            frame = self.head.stream + count + self.number.to_bytes(NUMBER_BYTES)
        return with_headers(frame, self.headers) if self.headers else frame


def parse(frame: bytes) -> FirstFrame:
    """Read a first frame, which may hold anything. What follows the topic and is neither headers nor numbers is ignored."""
    bare, headers = split_headers(frame)
    head = parse_head(head_of(bare))
    if head is None:
        return FirstFrame(bare.partition(MARK)[0], headers)
    return FirstFrame(head.topic, headers, head, number_of(bare))


def parse_head(head: bytes) -> Head | None:
    """Read the head of a frame without headers; None if it is not one that a publisher writes."""
    topic, _, rest = head.partition(MARK)
    publisher, count = rest[:PUBLISHER_BYTES], rest[PUBLISHER_BYTES:]
    if len(publisher) < PUBLISHER_BYTES or publisher[:1] == MARK or not 0 < len(topic) <= MAX_TOPIC_BYTES:
        return None
    if not count:
        return Head(topic, publisher, 1)
    events = int.from_bytes(count)
    return Head(topic, publisher, events) if len(count) == COUNT_BYTES and 0 < events <= MAX_PACKED_EVENTS else None


def number_of(frame: bytes) -> int:
    """The number in a numbered frame without headers."""
    return int.from_bytes(frame[-NUMBER_BYTES:])


def start_of(topic: bytes, publisher: bytes) -> bytes:
    """The bytes that all numbered frames of this publisher on this topic begin with."""
    return topic + MARK + publisher


def with_headers(frame: bytes, encoded: bytes) -> bytes:
    """Put encoded headers into a first frame that has none, a plain or a numbered one."""
    topic, _, numbers = frame.partition(MARK)
    return b"".join((topic, _HEADERS, encoded, MARK, numbers))


def split_headers(frame: bytes) -> tuple[bytes, bytes]:
    """The first frame without headers, and the encoded headers; empty if it has none."""
    topic, _, rest = frame.partition(MARK)
    if rest[:1] != MARK:
        return frame, b""
    encoded, _, numbers = rest[1:].partition(MARK)
    return (topic + MARK + numbers if numbers else topic), encoded
