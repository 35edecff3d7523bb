"""Frames: what travels between a publisher and a subscriber. Pure functions on bytes.

A message is exactly two frames, ``[topic, payload]``: the topic's value in UTF-8, and the event as JSON. Several events of
one topic may share a message; its payload is then a JSON array of events.
"""

from collections.abc import Iterable, Iterator
from operator import itemgetter

from eventbus.errors import InvalidTopic

# Messages, oldest first: all topic frames, and as many payload frames. Two lists, for that is how they are fastest handled.
type Batch = tuple[list[bytes], list[bytes]]

ARRAY = b"["  # how a payload of several events begins

# The bytes that a payload may begin with. No topic begins with one of them, which is how a reader tells the two apart.
_STARTS = b"{[ \t\r\n"
PAYLOAD_STARTS = frozenset(_STARTS)
_FIRST = itemgetter(0)

# Topics that begin with this byte, which UTF-8 never contains, are the clients' own (see transports/zeromq.py).
PRIVATE = b"\xff"

MAX_TOPIC_BYTES = 255


def topic_frame(topic: str) -> bytes:
    """Return the frame that carries this topic's value.

    Raises:
        InvalidTopic: the value is empty, longer than 255 bytes, starts like JSON or contains a control character.
    """
    frame = topic.encode()
    if not frame:
        raise InvalidTopic("a topic must not be empty: subscribe(None) subscribes to all topics")
    if len(frame) > MAX_TOPIC_BYTES:
        raise InvalidTopic(f"topic {topic[:40]!r}… is {len(frame)} bytes long, the limit is {MAX_TOPIC_BYTES}")
    if frame[0] in PAYLOAD_STARTS or min(frame) < ord(" "):
        raise InvalidTopic(f"topic {topic!r} must not start with white space, '{{' or '[', nor hold control characters")
    return frame


def is_text(frame: bytes) -> bool:
    """Whether the frame is UTF-8, as the frame of every topic is."""
    try:
        frame.decode()
    except UnicodeDecodeError:
        return False
    return True


def pack(payloads: Iterable[bytes], limit: int) -> Iterator[tuple[bytes, int]]:
    """Join the payloads of single events into JSON arrays of at most `limit` bytes, in order.

    Yields each payload with the number of events in it. An event that is alone, or larger than the limit by itself, travels
    as a plain object.
    """
    chunk: list[bytes] = []
    size = 0
    for payload in payloads:
        if chunk and size + len(payload) + 2 > limit:
            yield _join(chunk)
            chunk, size = [], 0
        chunk.append(payload)
        size += len(payload) + 1
    if chunk:
        yield _join(chunk)


def _join(chunk: list[bytes]) -> tuple[bytes, int]:
    if len(chunk) == 1:
        return chunk[0], 1
    return b"[" + b",".join(chunk) + b"]", len(chunk)


def read_aligned(frames: list[bytes]) -> tuple[Batch, int]:
    """Pair the frames of whole messages, read one after the other, into ``(the messages, how many malformed were skipped)``.

    Asking ZeroMQ where a message ends costs more than receiving it, so the ends are told by content: a payload starts with
    one of `PAYLOAD_STARTS`, a topic never does. A frame in a payload's place that looks like a topic is taken for the start
    of the next message, so a malformed message never costs its neighbours.
    """
    topics, payloads = frames[0::2], frames[1::2]
    if len(topics) == len(payloads) and not _first_bytes(payloads).translate(None, _STARTS):
        return (topics, payloads), 0
    return _realign(frames)


def _first_bytes(frames: list[bytes]) -> bytes:
    try:
        return bytes(map(_FIRST, frames))
    except IndexError:  # an empty frame
        return b"\0"


def _realign(frames: list[bytes]) -> tuple[Batch, int]:
    topics: list[bytes] = []
    payloads: list[bytes] = []
    skipped = 0
    topic: bytes | None = None
    for frame in frames:
        if topic is None:
            topic = frame
        elif frame and frame[0] in PAYLOAD_STARTS:
            topics.append(topic)
            payloads.append(frame)
            topic = None
        else:
            skipped += 1
            topic = frame
    # A queue never ends inside a message: a first frame without a second one was a message by itself.
    return (topics, payloads), skipped + (topic is not None)
