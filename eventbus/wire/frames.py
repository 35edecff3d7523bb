"""Frames: what travels between a publisher and a subscriber. Pure functions on bytes.

A message is exactly two frames, ``[topic, payload]``: the topic's value in UTF-8, and the event as JSON. Several events of
one topic may share a message; its payload is then a JSON array of events. Either payload may be compressed (see
`compression`). In the first frame a NUL byte, numbers and headers may follow the topic (see `first_frame`): subscriptions
are prefixes, so they match anyway.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import accumulate
from operator import itemgetter, lt

from eventbus.errors import InvalidTopic
from eventbus.wire.compression import FIRST_BYTES, is_compressed

# Messages, oldest first: all first frames, and as many payloads. Two lists, because loops over them stay in C.
type Batch = tuple[list[bytes], list[bytes]]

MARK = b"\0"  # ends the topic in a first frame where more follows; no topic contains it
_MARK = MARK[0]  # bytes find a number ten times as fast as other bytes

ARRAY = b"["  # how a payload of several events begins

# The bytes that JSON may begin with. No topic begins with one of them: that tells payloads from topics.
_STARTS = b"{[ \t\r\n"
PAYLOAD_STARTS = frozenset(_STARTS[index : index + 1] for index in range(len(_STARTS)))
_FIRST = itemgetter(0)

# Topics that begin with this byte, which UTF-8 never contains, are the tokens with which clients prove their path.
PRIVATE = b"\xff"
TOKEN_BYTES = 17  # a token is `PRIVATE` and a random UUID

MAX_TOPIC_BYTES = 255
MAX_PACKED_BYTES = 65_536  # no publisher makes an array of events larger than this
MAX_PACKED_EVENTS = MAX_PACKED_BYTES // 3  # an event in an array takes three bytes at least

# A payload that begins with one of these is not a single event as plain JSON, which nearly all payloads are.
NOT_ONE_EVENT = frozenset([ARRAY, *(FIRST_BYTES[index : index + 1] for index in range(len(FIRST_BYTES)))])

# A numbered first frame ends with its number (see `first_frame`); its head, which is all before that, repeats.
NUMBER_BYTES = 8
head_of = itemgetter(slice(None, -NUMBER_BYTES))

_FEW_FRAMES = 8  # different first frames of which each may be looked at


def topic_frame(topic: str) -> bytes:
    """Return the frame that carries this topic's value.

    Raises:
        InvalidTopic: the value is empty, longer than 255 bytes, starts like JSON or contains a control character.
    """
    try:
        frame = topic.encode()
    except UnicodeEncodeError:
        raise InvalidTopic(f"topic {topic!r} is no text that UTF-8 can carry") from None
    if not frame:
        raise InvalidTopic("a topic must not be empty: subscribe(None) subscribes to all topics")
    if len(frame) > MAX_TOPIC_BYTES:
        raise InvalidTopic(f"topic {topic[:40]!r}… is {len(frame)} bytes long, the limit is {MAX_TOPIC_BYTES}")
    if frame[:1] in PAYLOAD_STARTS or min(frame) < ord(" "):
        raise InvalidTopic(f"topic {topic!r} must not start with white space, '{{' or '[', nor hold control characters")
    return frame


def head_of_run(frames: list[bytes]) -> bytes | None:
    """The head of all these first frames, if it is one, and they stand in ascending order, as those of one publisher do."""
    head = head_of(frames[0])
    # What stands between two frames that begin alike begins so, too. The loop is in C.
    return head if head == head_of(frames[-1]) and all(map(lt, frames, frames[1:])) else None


def topic_of(frame: bytes) -> bytes:
    """The topic in the first frame of a message, without what follows it."""
    return frame.partition(MARK)[0]


def any_header(frames: Collection[bytes]) -> bool:
    """Whether anything follows the topic in one of these first frames."""
    return _MARK in b"".join(frames)


def is_text(frame: bytes) -> bool:
    """Whether the frame is UTF-8, as the frame of every topic is."""
    try:
        frame.decode()
    except UnicodeDecodeError:
        return False
    return True


def pack(payloads: Sequence[bytes], limit: int) -> Iterator[tuple[bytes, int]]:
    """Join the payloads of single events into JSON arrays of at most `limit` bytes, in order.

    Yields each payload with the number of events in it. An event that is alone, or larger than the limit by itself,
    travels as a plain object.
    """
    ends = list(accumulate(map(len, payloads), initial=0))
    start = 0
    while start < len(payloads):
        # How many fit: an array of n payloads has n + 1 brackets and commas. The first of these sizes is that of none.
        sizes = range(len(payloads) - start + 1)
        fitting = bisect_right(sizes, limit, key=lambda n: ends[start + n] - ends[start] + n + 1) - 1
        count = max(1, fitting)
        if count == 1:
            yield payloads[start], 1
        else:
            yield b"[" + b",".join(payloads[start : start + count]) + b"]", count
        start += count


class Prefixes:
    """Subscribed prefixes. There may be thousands of them; nearly always one of them is the whole topic."""

    def __init__(self, prefixes: Iterable[bytes]) -> None:
        self._topics = frozenset(prefixes)
        self._prefixes = tuple(self._topics)

    def match(self, frame: bytes) -> bool:
        """Whether the frame starts with one of them."""
        return frame in self._topics or topic_of(frame) in self._topics or frame.startswith(self._prefixes)


def messages(frames: list[bytes], prefixes: Prefixes) -> tuple[Batch, int]:
    """Split the frames of whole messages, read one after the other, into ``(the messages, how many were malformed)``.

    Asking ZeroMQ where a message ends costs more than receiving it, so the content tells: a message starts with a frame that
    one of the subscribed `prefixes` matches and that does not look like a payload. So a malformed message never costs its
    neighbours. One message of four frames, for example, cannot be told from two of two.
    """
    topics, payloads = frames[0::2], frames[1::2]
    if topics and _MARK in topics[0]:
        head = head_of_run(topics)
        different = _reduced(topics) if head is None or _MARK not in head else {head}
    elif topics and topics.count(topics[0]) == len(topics):
        different = {topics[0]}
    elif len(different := set(topics)) > _FEW_FRAMES and any_header(different):
        different = _reduced(different)
    # All loops are in C, except that over the few different topics.
    if len(topics) == len(payloads) and _are_payloads(payloads) and all(_may_start(topic, prefixes) for topic in different):
        return (topics, payloads), 0
    return _split(frames, prefixes)


def _reduced(frames: Collection[bytes]) -> set[bytes]:
    """These first frames without their numbers, each once; if some have none, only their topics."""
    heads = set(map(head_of, frames))
    return heads if all(_MARK in head for head in heads) else set(map(topic_of, frames))


def _are_payloads(frames: list[bytes]) -> bool:
    """Whether none of these frames can be a topic, and each begins as payloads do."""
    others = _first_bytes(frames).translate(None, _STARTS)
    return not others or (
        not others.translate(None, FIRST_BYTES)
        and all(frame[:1] in PAYLOAD_STARTS or _is_surely_compressed(frame) for frame in frames)
    )


def _is_surely_compressed(frame: bytes) -> bool:
    """Whether the frame begins as a compressed payload does and cannot be a topic, as a foreign zlib stream might."""
    if not is_compressed(frame):
        return False
    topic = topic_of(frame)
    return len(topic) > MAX_TOPIC_BYTES or min(topic) < ord(" ") or not is_text(topic)


def _first_bytes(frames: list[bytes]) -> bytes:
    try:
        return bytes(map(_FIRST, frames))
    except IndexError:  # an empty frame
        return b"\0"


def _may_start(frame: bytes, prefixes: Prefixes) -> bool:
    """Whether this frame can be the first one of a message."""
    return frame[:1] > b" " and frame[:1] not in PAYLOAD_STARTS and prefixes.match(frame)


def _split(frames: list[bytes], prefixes: Prefixes) -> tuple[Batch, int]:
    found: list[list[bytes]] = []
    for frame in frames:
        # After a whole message, a frame that a subscription matches starts another one, so that no neighbour is lost.
        whole = bool(found) and len(found[-1]) == 2
        if (
            not found
            or (whole and prefixes.match(frame))
            or (_may_start(frame, prefixes) and not _is_surely_compressed(frame))
        ):
            found.append([frame])
        else:
            found[-1].append(frame)
    good = [message for message in found if len(message) == 2]
    return ([topic for topic, _ in good], [payload for _, payload in good]), len(found) - len(good)
