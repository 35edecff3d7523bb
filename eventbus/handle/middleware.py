"""Middleware: code around handling and around emitting, for timing, retries, correlation, filtering.

Derive from `Middleware`, override what you need, and give a list of them to the client (``middleware=[…]``); the first is
the outermost. `eventbus.handle.resilience` has some that are ready.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from eventbus.events import BaseEvent, BaseEventTopic, BaseEventType
from eventbus.wire.headers import NO_HEADERS, Headers


@dataclass(frozen=True, slots=True)
class Emission:
    """What one call of `emit_event` or `emit_events` is about to send. `dataclasses.replace` makes a changed one.

    Attributes:
        events: what was given, one or many.
        topic: where it goes.
        headers: texts that travel beside the events; the client sets none of its own.
        packed: whether it is a call of `emit_events`.
    """

    events: Sequence[BaseEvent[Any] | BaseEventType]
    topic: BaseEventTopic
    headers: Headers = NO_HEADERS
    packed: bool = False


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to one handler. `dataclasses.replace` makes a changed one.

    Attributes:
        event: what the handler is called with. Hooks, and the receive buffer, are given the one that came.
        topic: where it came from.
        headers: texts that came beside it. To the handler `current_headers` shows those that came.
        handler: the handler's qualified name with its module.
        emit: emits through the client that the event came to, and all of its middleware.
    """

    event: BaseEvent[Any]
    topic: str
    headers: Headers
    handler: str
    emit: Callable[[Emission], None] = field(repr=False)


type EmitNext = Callable[[Emission], None]
type HandleNext = Callable[[Delivery], object]
type HandleNextAsync = Callable[[Delivery], Awaitable[object]]


class Middleware:
    """Is called around every call of a handler, and around every call of `emit_event` and `emit_events`.

    Each method gets what is about to happen and `call_next`, which lets it happen, as often as it is called: not at all to
    filter, again to retry. This one does nothing. A client takes no ``async`` handler if one of its middleware overrides
    only `handle`, and no other if one overrides only `handle_async`: it would be passed by without a word.

    One object may be used from many threads at once. What it raises is what the handler, or the emitting call, raises.

    Attributes:
        emits_to: topics that it emits to by itself. The client checks them when it connects.
    """

    emits_to: Sequence[BaseEventTopic] = ()

    def emit(self, emission: Emission, call_next: EmitNext) -> None:
        """Around emitting, on the caller's thread; `call_next` returns when the transport has taken it, or raises."""
        call_next(emission)

    def handle(self, delivery: Delivery, call_next: HandleNext) -> object:
        """Around a handler, on the consumer's thread: while this waits, nothing else is handled."""
        return call_next(delivery)

    async def handle_async(self, delivery: Delivery, call_next: HandleNextAsync) -> object:
        """Around an ``async`` handler, on the event loop that it runs on."""
        return await call_next(delivery)


def overrides(middleware: Middleware, name: str) -> bool:
    """Whether it does something of its own in this method."""
    return getattr(type(middleware), name) is not getattr(Middleware, name)


def around[What, Next: Callable[..., object], Result](
    method: Callable[[What, Next], Result], call_next: Next
) -> Callable[[What], Result]:
    """One link of a chain: the method, with what comes next."""
    return lambda what: method(what, call_next)
