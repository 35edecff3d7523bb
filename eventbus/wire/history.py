"""What is asked of a historian, and what it answers: topics, queries and stored messages as bytes. Pure, without pydantic.

A query is a request (see `requests`) on a topic of the asker's own, ``_history/OWNER/RANDOM``; a historian subscribes to all
topics. Its payload is a JSON object. The answer is a page of stored messages, in several parts; each part is a space, which
tells it from a topic, and entries that follow each other, with big-endian numbers:

======  =================================================================================
bytes
======  =================================================================================
8       the position of the message: those that came later have higher ones
8       when the historian got it, in seconds since 1970, as a double
4       the length of the first frame
4       the length of the payload
...     the first frame and the payload, as they came
======  =================================================================================

The asker subscribes to that topic, too, if it wants to know where in its own stream of messages the query has passed the
proxy: the historian has kept all that passed before, and nothing that passed after.
"""

import json
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

from eventbus.wire.first_frame import PUBLISHER_BYTES
from eventbus.wire.private_topics import HISTORY_PREFIX, REPLY_PREFIX
from eventbus.wire.requests import is_reply_topic, new_reply_topic

UNTIL, NEXT, PART = "history-until", "history-next", "history-part"
"""Headers of an answer: the position of the last message that was kept when the query came; if there are more than
one page holds, the position after which the next page begins; and which part it is, counted from 0."""

STATUS = "history-status"
"""A header of the answer to a query for nothing: what the historian keeps, as a `Kept` in JSON."""

REPLAYED = "replayed"
"""A header of events that are emitted again, from a recording."""

QUERY_TYPE = "history"  # the type of a query as an event, for errors and for those who watch the bus

_ENTRY = struct.Struct(">QdII")
_START_OF_PART = b" "
_MAX_QUERY_BYTES = 1_048_576
_MAX_POSITION = 2**63
_MAX_S = sys.float_info.max  # JSON may have larger whole numbers, which no calculation with floats takes


def new_history_topic(owner: bytes) -> bytes:
    """Return a topic for queries that nobody can guess; `owner` depends on the asker's public key, see `owner_of`."""
    return HISTORY_PREFIX + new_reply_topic(owner)[len(REPLY_PREFIX) :]


def is_history_topic(topic: bytes) -> bool:
    """Whether this is a topic for queries, of whatever client."""
    return topic.startswith(HISTORY_PREFIX) and is_reply_topic(REPLY_PREFIX + topic[len(HISTORY_PREFIX) :])


def is_history_topic_of(topic: bytes, owner: bytes) -> bool:
    """Whether this is a topic for queries of the client with this owner part."""
    return is_history_topic(topic) and topic.startswith(HISTORY_PREFIX + owner + b"/")


def is_of_history(topic: bytes, headers: bytes) -> bool:
    """Whether a message is a query to a historian or a part of its answer, by its topic and its encoded headers."""
    return topic.startswith(HISTORY_PREFIX) or (topic.startswith(REPLY_PREFIX) and UNTIL.encode() in headers)


class Stored(NamedTuple):
    """A message that a historian has kept.

    Attributes:
        position: those that came later have higher ones, those of another topic, too.
        time: when it got the message, in seconds since 1970.
        first: the first frame, as it came.
        payload: the second one.
    """

    position: int
    time: float
    first: bytes
    payload: bytes


class Portion(NamedTuple):
    """A part of the answer to a query.

    Attributes:
        messages: oldest first.
        until: up to which position the whole answer goes: that of the last message, on any topic, that the historian had
            kept when it got the query, unless the query says another one.
    """

    messages: list[Stored]
    until: int


class Kept(NamedTuple):
    """The state of a historian.

    Attributes:
        messages: how many it has now.
        topics: of how many topics.
        bytes: the memory that they take.
        dropped: how many had to go because memory was full, since it was started.
        queries: how many queries it has answered.
        unwritten: how many could not be written to its file.
        behind: how many have passed the proxy, and it does not have them: they wait for it, or were dropped because too many
            waited. Only the proxy's own historian knows.
    """

    messages: int = 0
    topics: int = 0
    bytes: int = 0
    dropped: int = 0
    queries: int = 0
    unwritten: int = 0
    behind: int = 0

    def encode(self) -> str:
        """Return it as JSON."""
        return json.dumps(self._asdict())

    @classmethod
    def decode(cls, text: str) -> Self:
        """Read what `encode` has made. Anything may come.

        Raises:
            ValueError: it is something else.
        """
        try:
            said = json.loads(text)
        except RecursionError:
            said = None
        if not isinstance(said, dict) or not all(type(value) is int for value in said.values()):
            raise ValueError("not the state of a historian")
        return cls(**{name: said[name] for name in cls._fields if name in said})


class Span(NamedTuple):
    """The events of one publisher on one topic with the numbers after `after` up to `until`.

    Attributes:
        topic: the topic.
        publisher: the publisher's eight bytes.
        after: the number before the first.
        until: the last number.
    """

    topic: bytes
    publisher: bytes
    after: int
    until: int


class InvalidQuery(ValueError):
    """A payload is no query; the text says why. It becomes the text of the failure that the asker is told."""


@dataclass(frozen=True, slots=True)
class Query:
    """A question to a historian.

    Attributes:
        topics: the topics; None: all.
        last: the newest messages of each topic, this many at most; None: all of them.
        since: only messages that came at this time or later, in seconds since 1970.
        after: only messages after this position.
        until: only messages up to this position; None: all that were kept before the query came.
        spans: instead, events by their numbers.
    """

    topics: tuple[bytes, ...] | None = None
    last: int | None = None
    since: float | None = None
    after: int = 0
    until: int | None = None
    spans: tuple[Span, ...] = ()

    @property
    def wants_nothing(self) -> bool:
        """Whether only the state of the historian is asked for."""
        return self.topics == () and not self.spans

    def following(self, after: int, until: int) -> Self:
        """The query for the next page: what it asks for after a position, up to the one that held for the first page."""
        return replace(self, after=after, until=until)

    def encode(self) -> bytes:
        """Return the payload of the request."""
        said: dict[str, object] = {"type": QUERY_TYPE}
        if self.topics is not None:
            said["topics"] = [topic.decode() for topic in self.topics]
        for name in ("last", "since", "after", "until"):
            if (value := getattr(self, name)) is not None:
                said[name] = value
        if self.spans:
            said["spans"] = [[one.topic.decode(), one.publisher.hex(), one.after, one.until] for one in self.spans]
        return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Read the payload of a request. Anything may come.

        Raises:
            InvalidQuery: it is no query.
        """
        if len(payload) > _MAX_QUERY_BYTES:
            raise InvalidQuery(f"a query of {len(payload)} bytes, the limit is {_MAX_QUERY_BYTES}")
        try:
            said = json.loads(payload)
        except (ValueError, RecursionError):
            raise InvalidQuery("a query must be JSON") from None
        if not isinstance(said, dict) or said.get("type") != QUERY_TYPE:
            raise InvalidQuery(f"a query must be a JSON object of type {QUERY_TYPE!r}")
        topics, spans = said.get("topics"), said.get("spans", [])
        if not (topics is None or (isinstance(topics, list) and all(isinstance(topic, str) for topic in topics))):
            raise InvalidQuery("topics must be a list of texts")
        if not isinstance(spans, list):
            raise InvalidQuery("spans must be a list")
        since = said.get("since")
        if since is not None and (isinstance(since, bool) or not isinstance(since, int | float) or not abs(since) <= _MAX_S):
            raise InvalidQuery("since must be a number of seconds")
        return cls(
            None if topics is None else tuple(dict.fromkeys(map(_bytes, topics))),
            _number(said, "last"),
            since,
            _number(said, "after") or 0,
            _number(said, "until"),
            tuple(map(_span, spans)),
        )


def pack(messages: Iterable[Stored]) -> bytes:
    """Return a part of an answer."""
    parts = [_START_OF_PART]
    for position, time, first, payload in messages:
        parts += (_ENTRY.pack(position, time, len(first), len(payload)), first, payload)
    return b"".join(parts)


def packed_size(message: Stored) -> int:
    """The bytes that a message takes in a part of an answer."""
    return _ENTRY.size + len(message.first) + len(message.payload)


def unpack(part: bytes) -> list[Stored]:
    """Read a part of an answer. Anything may come.

    Raises:
        ValueError: it is none.
    """
    if part[:1] != _START_OF_PART:
        raise ValueError("not a part of an answer")
    found: list[Stored] = []
    offset, end, size = 1, len(part), _ENTRY.size
    entry = _ENTRY.unpack_from
    while offset < end:
        try:
            position, time, first, payload = entry(part, offset)
        except struct.error:
            raise ValueError("a part of an answer is cut off") from None
        start = offset + size
        middle = start + first
        offset = middle + payload
        if offset > end:
            raise ValueError("a part of an answer is cut off")
        found.append(Stored(position, time, part[start:middle], part[middle:offset]))
    return found


def _number(said: dict[str, object], name: str) -> int | None:
    value = said.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MAX_POSITION:
        raise InvalidQuery(f"{name} must be a whole number")
    return value


def _span(said: object) -> Span:
    match said:
        case [str(topic), str(publisher), int(after), int(until)] if 0 <= after <= until < _MAX_POSITION:
            with_publisher = publisher.encode(errors="replace")
            if len(with_publisher) == 2 * PUBLISHER_BYTES and not with_publisher.strip(b"0123456789abcdef"):
                return Span(_bytes(topic), bytes.fromhex(publisher), after, until)
    raise InvalidQuery("a span must be a topic, a publisher, and the numbers before its first and of its last event")


def _bytes(topic: str) -> bytes:
    return topic.encode(errors="replace")
