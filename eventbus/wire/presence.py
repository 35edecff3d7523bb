"""Who is there: the question that `eventbus ps` asks all clients, and what a client answers. Pure.

The question is a request (see `requests`) on a topic of its own, to which clients subscribe that want to be listed. The
answer is a JSON object.
"""

import json
from dataclasses import asdict, dataclass

from eventbus._base.printable import printable
from eventbus.wire.headers import decode_headers
from eventbus.wire.private_topics import PRESENCE_TOPIC
from eventbus.wire.requests import Request

QUESTION = b'{"type":"who"}'
QUESTION_TYPE = "who"  # of the question as an event, for errors and for those who watch the bus

MAX_TOPICS = 1_000
_MAX_ASKERS = 100  # whose answers are recognised
_MAX_TEXT_CHARACTERS = 255
_MAX_NUMBER = 2**53  # which every reader of JSON takes
_TEXTS = ("id", "name", "host", "state")
_NUMBERS = ("pid", "emitted", "received", "handled", "handler_errors", "dropped")


@dataclass(frozen=True, slots=True)
class Presence:
    """What a client says of itself.

    Attributes:
        id: a random one, as long as the client exists.
        name: what people call it.
        host: the name of its machine.
        pid: the number of its process.
        uptime: seconds since the client was made.
        state: that of its connection.
        topics: what it is subscribed to; an empty one stands for all. At most 1,000.
        emits: the topics on which it has emitted. At most 1,000.
        publisher: its id in the numbers of its messages, in hexadecimal digits; empty if it does not number them.
        emitted: events since it was made, as are the others.
        received: as `emitted`.
        handled: calls of handlers.
        handler_errors: calls of handlers that have raised.
        dropped: as `emitted`.
    """

    id: str
    name: str
    host: str
    pid: int
    uptime: float
    state: str
    topics: tuple[str, ...]
    emitted: int
    received: int
    handled: int
    handler_errors: int
    dropped: int
    emits: tuple[str, ...] = ()
    publisher: str = ""

    def encode(self) -> bytes:
        """Return the payload of the answer."""
        return json.dumps(asdict(self), ensure_ascii=False).encode(errors="replace")

    @classmethod
    def decode(cls, payload: bytes) -> "Presence | None":
        """Read an answer; None if it is none. Anything may come: texts are made printable, and numbers are checked."""
        try:
            found = json.loads(payload)
            numbers = {name: int(found[name]) for name in _NUMBERS}
            texts = {name: printable(str(found[name]), _MAX_TEXT_CHARACTERS) for name in _TEXTS}
            topics, emits = (
                tuple(printable(str(topic), _MAX_TEXT_CHARACTERS) for topic in found.get(name, ())[:MAX_TOPICS])
                for name in ("topics", "emits")
            )
            publisher = printable(str(found.get("publisher", "")), _MAX_TEXT_CHARACTERS)
            uptime = float(found["uptime"])
            if not all(0 <= number <= _MAX_NUMBER for number in (uptime, *numbers.values())):  # NaN is not
                return None
            return cls(uptime=uptime, topics=topics, emits=emits, publisher=publisher, **numbers, **texts)  # type: ignore[arg-type] # by name
        except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
            return None


@dataclass(frozen=True, slots=True)
class Seen:
    """A client, and how fast it is.

    Attributes:
        client: its last answer.
        emitted_per_second: events, as is the other; None if it has answered only once.
        received_per_second: as the other.
    """

    client: Presence
    emitted_per_second: float | None
    received_per_second: float | None


def compare(before: list[Presence], now: list[Presence]) -> list[Seen]:
    """Return the clients of the second look, by name, with their rates since the first."""
    earlier = {client.id: client for client in before}
    return [
        Seen(
            client,
            _rate(client, earlier.get(client.id), "emitted"),
            _rate(client, earlier.get(client.id), "received"),
        )
        for client in sorted({client.id: client for client in now}.values(), key=lambda one: (one.name, one.host, one.pid))
    ]


def _rate(now: Presence, before: Presence | None, name: str) -> float | None:
    if before is None or now.uptime <= before.uptime:
        return None
    change: int = getattr(now, name) - getattr(before, name)
    return max(0.0, change / (now.uptime - before.uptime))


class PresenceTraffic:
    """Recognises the questions who is there and their answers, for who watches what services do."""

    def __init__(self) -> None:
        self._reply_topics: dict[bytes, None] = {}  # the newest last

    def has(self, topic: bytes, headers: bytes) -> bool:
        """Whether a message with these encoded headers is one of them. An answer comes after its question."""
        if topic != PRESENCE_TOPIC:
            return topic in self._reply_topics
        request = Request.of(decode_headers(headers))
        if request is not None:
            self._reply_topics.pop(request.reply_to, None)
            self._reply_topics[request.reply_to] = None
            if len(self._reply_topics) > _MAX_ASKERS:
                del self._reply_topics[next(iter(self._reply_topics))]
        return True
