"""What a handler can ask about the event that it is called with."""

from collections.abc import Iterator
from contextvars import ContextVar
from operator import length_hint

from eventbus.wire.headers import Headers, decode_headers

_encoded_headers: ContextVar[bytes] = ContextVar("eventbus_headers", default=b"")


def current_headers() -> Headers:
    """Return the headers that came with the event that the calling handler handles; none outside of handlers.

    Works in ``async`` handlers too, and in what they await. Names and values are what others have sent.
    """
    return decode_headers(_encoded_headers.get())


class WithHeaders[Event](Iterator[Event]):
    """Iterates over events, each with its encoded headers, and makes those the current headers of this thread.

    At the end there are none. The caller uses it up, or calls `clear_headers` when it stops earlier.
    """

    def __init__(self, events: list[Event], headers: list[bytes]) -> None:
        self._events = iter(events)
        self._headers = iter(headers)

    def __next__(self) -> Event:
        _encoded_headers.set(next(self._headers, b""))
        return next(self._events)

    def __length_hint__(self) -> int:
        return length_hint(self._events)


def clear_headers() -> None:
    """Leave this thread without current headers."""
    _encoded_headers.set(b"")
