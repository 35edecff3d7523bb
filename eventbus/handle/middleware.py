"""Middleware: code around handling and around emitting, for timing, retries, correlation, filtering.

Derive from `Middleware`, override what you need, and give a list of them to the client (``middleware=[…]``); the first is
the outermost. Ready to use are `eventbus.Retry`, `eventbus.DeadLetter` and `eventbus.TimeLimit`.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from eventbus.events import BaseEvent, BaseEventTopic, BaseEventType
from eventbus.exports import public
from eventbus.wire.headers import NO_HEADERS, Headers


@public
@dataclass(frozen=True, slots=True)
class Emission:
    """One call of `emit_event` or `emit_events`, about to be sent. `dataclasses.replace` makes a changed copy.

    Attributes:
        events: the arguments of the call, one or many.
        topic: where they are sent.
        headers: texts that travel beside the events; the client itself sets none.
        packed: whether this is a call of `emit_events`.
    """

    events: Sequence[BaseEvent[Any] | BaseEventType]
    topic: BaseEventTopic
    headers: Headers = NO_HEADERS
    packed: bool = False


@public
@dataclass(frozen=True, slots=True)
class Delivery:
    """One event that is about to be handled by one handler. `dataclasses.replace` makes a changed copy.

    Attributes:
        event: the argument of the handler. Hooks and the receive buffer get the event as it was received.
        topic: where it was received.
        headers: texts that came beside it. A handler that calls `current_headers` gets them as they were received.
        handler: the handler's qualified name with its module.
        emit: emits through the client that received the event, and through all its middleware.
    """

    event: BaseEvent[Any]
    topic: str
    headers: Headers
    handler: str
    emit: Callable[[Emission], None] = field(repr=False)


type EmitNext = Callable[[Emission], None]
type HandleNext = Callable[[Delivery], object]
type HandleNextAsync = Callable[[Delivery], Awaitable[object]]


@public
class Middleware:
    """Is called around every call of a handler, and around every call of `emit_event` and `emit_events`.

    Each method gets the emission or delivery, and `call_next`, which goes on with it. A middleware that filters does not
    call `call_next`; one that retries calls it again. This base class only goes on. A client refuses ``async`` handlers if
    one of its middleware overrides only `handle`, and other handlers if one overrides only `handle_async`, because that
    middleware would be skipped silently.

    Several threads may use one object at the same time. What a middleware raises, the handler or the emitting call raises.

    Attributes:
        emits_to: the topics that this middleware itself emits to. The client checks them when it connects.
    """

    emits_to: Sequence[BaseEventTopic] = ()

    def emit(self, emission: Emission, call_next: EmitNext) -> None:
        """Wrap emitting, on the caller's thread; `call_next` returns when the transport has accepted them, or raises."""
        call_next(emission)

    def request(self, topic: str) -> AbstractContextManager[object]:
        """Return what is entered around a whole request, from emitting it to reading its answers.

        It is entered and left in the thread or task that asks. `emit` is called inside of it, for the request.
        """
        return nullcontext()

    def handle(self, delivery: Delivery, call_next: HandleNext) -> object:
        """Wrap a handler, on the consumer thread: while this waits, no other event is handled."""
        return call_next(delivery)

    async def handle_async(self, delivery: Delivery, call_next: HandleNextAsync) -> object:
        """Wrap an ``async`` handler, on the event loop that runs it."""
        return await call_next(delivery)


class Measuring(Middleware):
    """A middleware that times and counts emitting, and needs no emission for it. Where it is the only one, none is made.

    A derived class overrides `measure`; one that overrides `emit` is called with each emission, as others are.
    """

    def measure[**Arguments](
        self, topic: str, count: int, send: Callable[Arguments, None], *arguments: Arguments.args, **named: Arguments.kwargs
    ) -> None:
        """Call ``send(*arguments, **named)``, which sends `count` events to a topic, or raises."""
        send(*arguments, **named)

    def emit(self, emission: Emission, call_next: EmitNext) -> None:
        """Measure the rest of emitting."""
        self.measure(emission.topic, len(emission.events), call_next, emission)


class Choosing(Middleware):
    """A middleware that has nothing to do with most events, and knows it before an emission or a delivery is made for one.

    None is made then if it is the only middleware, or if measuring is all that is within it. Where others are, it is called
    with everything, as they are; so is a class that overrides `emit`, `handle` or `handle_async` of one that chooses.
    """

    def chooses_emission(self) -> bool:
        """Whether `emit_chosen` is to wrap the call of `emit_event` or `emit_events` that has just begun. Asked once."""
        return True

    def chooses_delivery(self, encoded_headers: bytes) -> bool:
        """Whether `handle` and `handle_async` have anything to do with an event that has these headers."""
        return True

    def emit_chosen(self, emission: Emission, call_next: EmitNext) -> None:
        """Wrap emitting."""
        call_next(emission)

    def emit(self, emission: Emission, call_next: EmitNext) -> None:
        """Wrap emitting, if it is chosen."""
        if self.chooses_emission():
            self.emit_chosen(emission, call_next)
        else:
            call_next(emission)


def speaks_for(middleware: Choosing, chooses: str, *names: str) -> bool:
    """Whether what a middleware says by the method `chooses` holds for these: no class derived later overrides them."""
    cls = type(middleware)
    said_by = next(one for one in cls.__mro__ if chooses in vars(one))
    return all(getattr(cls, name) is getattr(said_by, name) for name in names)


def overrides(middleware: Middleware, name: str) -> bool:
    """Whether the middleware overrides this method."""
    return getattr(type(middleware), name) is not getattr(Middleware, name)


def around[Step, Next: Callable[..., object], Result](
    method: Callable[[Step, Next], Result], call_next: Next
) -> Callable[[Step], Result]:
    """One link of a chain: the method, bound to the next link."""
    return lambda step: method(step, call_next)
