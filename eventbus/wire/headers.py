"""Headers: texts that travel beside an event, such as a trace context, and that no receiver has to know.

A first frame with headers is ``topic NUL NUL {"name":"value"} NUL``, and then what follows the topic's mark in a numbered
frame (see `numbering`), if it is one. So what knows no headers still finds the topic before the first NUL: subscriptions are
prefixes, and the original client looks at the payload only.
"""

from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from operator import length_hint
from types import MappingProxyType

from pydantic_core import from_json, to_json

from eventbus.errors import InvalidHeaders
from eventbus.wire.frames import MARK

type Headers = Mapping[str, str]

MAX_HEADER_BYTES = 8_192

NO_HEADERS: Headers = MappingProxyType({})

_START = 2 * MARK  # no numbered frame begins so: its publisher's first byte is not NUL

_current: ContextVar[bytes] = ContextVar("eventbus_headers", default=b"")


def current_headers() -> Headers:
    """The headers that came with the event that the calling handler handles; empty outside of handlers.

    Works in ``async`` handlers too, and in what they await. Names and values are what others have sent.
    """
    return decode_headers(_current.get())


class WithHeaders[Event](Iterator[Event]):
    """Iterates over events, each with its encoded headers, and makes those the current ones of this thread.

    At the end there are none. To be used up, or closed by `clear_headers`.
    """

    def __init__(self, events: list[Event], headers: list[bytes]) -> None:
        self._events = iter(events)
        self._headers = iter(headers)

    def __next__(self) -> Event:
        _current.set(next(self._headers, b""))
        return next(self._events)

    def __length_hint__(self) -> int:
        return length_hint(self._events)


def clear_headers() -> None:
    """Let there be no current headers in this thread."""
    _current.set(b"")


def encode_headers(headers: Headers) -> bytes:
    """Return headers as they stand in a frame.

    Raises:
        InvalidHeaders: a name or a value is no text, or all together are longer than 8,192 bytes.
    """
    if not all(isinstance(text, str) for item in headers.items() for text in item):
        raise InvalidHeaders(f"names and values of headers must be texts, not {dict(headers)!r}")
    try:
        encoded = to_json(dict(headers))
    except ValueError:  # lone surrogates
        raise InvalidHeaders(f"headers {dict(headers)!r} are no text that UTF-8 can carry") from None
    if len(encoded) > MAX_HEADER_BYTES:
        raise InvalidHeaders(f"the headers {', '.join(headers)} have {len(encoded)} bytes, the limit is {MAX_HEADER_BYTES}")
    return encoded


def decode_headers(encoded: bytes) -> Headers:
    """Return the headers that `encode_headers` has encoded; none if these bytes are something else. Anything may come."""
    if not encoded or len(encoded) > MAX_HEADER_BYTES:
        return NO_HEADERS
    try:
        headers = from_json(encoded)
    except ValueError:
        return NO_HEADERS
    if not isinstance(headers, dict):
        return NO_HEADERS
    return MappingProxyType({name: value for name, value in headers.items() if isinstance(value, str)})


def with_headers(frame: bytes, encoded: bytes) -> bytes:
    """Put encoded headers into a first frame that has none, a plain or a numbered one."""
    topic, _, numbers = frame.partition(MARK)
    return b"".join((topic, _START, encoded, MARK, numbers))


def split_headers(frame: bytes) -> tuple[bytes, bytes]:
    """The first frame without headers, and the encoded headers; empty if it has none."""
    topic, _, rest = frame.partition(MARK)
    if rest[:1] != MARK:
        return frame, b""
    encoded, _, numbers = rest[1:].partition(MARK)
    return (topic + MARK + numbers if numbers else topic), encoded
