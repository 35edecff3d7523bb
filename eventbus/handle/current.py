"""Questions that a handler can ask about the event that it is called with."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from operator import length_hint
from threading import local
from typing import Any

from eventbus.exports import public
from eventbus.wire.headers import Headers, decode_headers
from eventbus.wire.history import REPLAYED


class _Handling(local):
    """What this thread handles. Not in the context, which other threads may copy: there it would name events to come.

    Attributes:
        topics: the topics of the events that are dispatched, and the iterator through those: it knows which one is being
            handled, so that nothing has to be set for each event. None: no event. Any: of whatever class the events are.
    """

    topics: tuple[list[bytes], Iterator[Any]] | None = None


handling = _Handling()

# The topic of a coroutine, or of a call in a pool of threads.
_topic: ContextVar[str | None] = ContextVar("eventbus_topic", default=None)

_replayed: ContextVar[bool] = ContextVar("eventbus_replayed", default=False)

_encoded_headers: ContextVar[bytes] = ContextVar("eventbus_headers", default=b"")


@public
def current_headers() -> Headers:
    """Return the headers that came with the event that the calling handler handles; none outside of handlers.

    Works in ``async`` handlers too, and in what they await. Names and values are what others have sent.
    """
    return decode_headers(_encoded_headers.get())


def current_encoded_headers() -> bytes:
    """Return the same as they stand in the frame; empty if there are none."""
    return _encoded_headers.get()


@public
@dataclass(frozen=True, slots=True)
class CurrentDelivery:
    """What can be said of the event that a handler handles.

    Attributes:
        topic: the topic on which it was received.
        headers: the headers that came with it.
        replayed: whether it was stored: a historian, JetStream or a recording has given it, and it is not new.
    """

    topic: str
    headers: Headers
    replayed: bool


@public
def current_delivery() -> CurrentDelivery | None:
    """Return what can be said of the event that the calling handler handles; None outside of handlers.

    Works in ``async`` handlers too, and in what they await.
    """
    topic = current_topic()
    return (
        None
        if topic is None
        else CurrentDelivery(topic, headers := current_headers(), _replayed.get() or REPLAYED in headers)
    )


@public
def current_topic() -> str | None:
    """Return the topic of the event that the calling handler handles; None outside of handlers.

    Works in ``async`` handlers too, and in what they await.
    """
    topic, handled = _topic.get(), handling.topics
    if topic is not None or handled is None:
        return topic
    names, events = handled
    return names[len(names) - length_hint(events) - 1].decode(errors="replace")


@contextmanager
def replaying() -> Iterator[None]:
    """Let events that this thread handles within the block count as replayed."""
    token = _replayed.set(True)
    try:
        yield
    finally:
        _replayed.reset(token)


@contextmanager
def keeping_topic() -> Iterator[None]:
    """Let a coroutine that is started within the block keep the topic of the event at hand."""
    token = _topic.set(current_topic())
    try:
        yield
    finally:
        _topic.reset(token)


def with_headers_of[Event](events: list[Event], headers: list[bytes]) -> Iterator[Event]:
    """Iterate over events, each with its encoded headers, and make those the current headers of this thread.

    The caller calls `clear_headers` at the end.
    """
    if len(events) == 1:
        _encoded_headers.set(headers[0])
        return iter(events)
    return _WithHeaders(events, headers)


class _WithHeaders[Event](Iterator[Event]):
    def __init__(self, events: list[Event], headers: list[bytes]) -> None:
        self._events = iter(events)
        self._headers = iter(headers)

    def __next__(self) -> Event:
        _encoded_headers.set(next(self._headers, b""))
        return next(self._events)

    def __length_hint__(self) -> int:
        return length_hint(self._events)


set_headers: Callable[[bytes], object] = _encoded_headers.set
"""Takes encoded headers: makes these the current ones of this thread, until `clear_headers`."""


def clear_headers() -> None:
    """Leave this thread without current headers."""
    _encoded_headers.set(b"")
