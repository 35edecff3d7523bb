"""One bus of a container under test: its client, what is noted of it, and who stands in for others."""

import asyncio
from bisect import insort
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from threading import RLock, current_thread
from typing import Any, NamedTuple

from eventbus._base.printable import printable
from eventbus.client import EventBusClient
from eventbus.container.resources import AnyClient
from eventbus.errors import InvalidTopic
from eventbus.events import BaseEvent, BaseEventTopic, BaseEventType
from eventbus.handle.current import current_topic
from eventbus.handle.middleware import Delivery, HandleNext, HandleNextAsync, Middleware
from eventbus.observe.hooks import EventBusHook
from eventbus.testing._clock import HandlerCall, current_call
from eventbus.testing._transport import FaultyHub, RecordingTransport


class Emitted(NamedTuple):
    """An event that the service has emitted.

    Attributes:
        number: those that were emitted later have higher ones.
        topic: the topic's value.
        event: the event, or the bare type.
    """

    number: int
    topic: str
    event: BaseEvent[Any] | BaseEventType


class Observer(EventBusHook):
    """Notes what one client does.

    Args:
        transport: that of the client.
        errors: takes what handlers raise; all buses have the same.
    """

    def __init__(self, transport: RecordingTransport, errors: deque[BaseException]) -> None:
        self._lock = RLock()
        self._transport = transport
        self._errors = errors
        self.emissions: list[Emitted] = []
        self.calls: Counter[str] = Counter()

    def emitted(self, topic: str, events: Any, size: int) -> None:
        number = self._transport.claim_number()
        # Copies, because a service may change its event later.
        with self._lock:
            for event in events:
                insort(self.emissions, Emitted(number, topic, _copy(event)), key=_number)

    def handled(self, topic: str, event: BaseEvent[Any], handler: str, duration: float) -> None:
        with self._lock:
            self.calls[handler] += 1

    def handler_failed(self, topic: str, event: BaseEvent[Any], handler: str, duration: float, error: BaseException) -> None:
        error.add_note(f"raised by {handler}, which handled {printable(repr(event), 300)} on {topic}")
        with self._lock:
            self.calls[handler] += 1
            self._errors.append(error)

    def periodic_failed(self, name: str, duration: float, error: BaseException) -> None:
        error.add_note(f"raised by {name}, which is called periodically")
        self._errors.append(error)


class NotingCalls(Middleware):
    """The outermost middleware: lets the clock know which handler waits, also in what that has started."""

    def handle(self, delivery: Delivery, call_next: HandleNext) -> object:
        """Note the call in the context."""
        call = HandlerCall(current_thread())
        token = current_call.set(call)
        try:
            return call_next(delivery)
        finally:
            current_call.reset(token)
            call.ended = True

    async def handle_async(self, delivery: Delivery, call_next: HandleNextAsync) -> object:
        """Note the call in the context of its task."""
        task = asyncio.current_task()
        assert task is not None
        call = HandlerCall(task)
        current_call.set(call)
        try:
            return await call_next(delivery)
        finally:
            call.ended = True


class TestedBus:
    """One bus of the container, with its client as soon as that is connected."""

    def __init__(self, hub: FaultyHub, errors: deque[BaseException]) -> None:
        self.transport = RecordingTransport(hub)
        self.observer = Observer(self.transport, errors)
        self.client: AnyClient | None = None
        self.stand_in: AnyClient | None = None
        self._event_class: Any = None
        self._handlers: set[str] = set()
        self._answers: dict[BaseEventType, list[_Answer]] = {}  # the newest first

    def make(self, client_class: type[AnyClient]) -> Callable[..., AnyClient]:
        """Return what the container calls instead of the client's class."""

        def make(event_class: Any, *, hooks: Any, middleware: Any, **named: Any) -> AnyClient:
            self._event_class = event_class
            self.client = client_class(
                event_class, hooks=(*hooks, self.observer), middleware=(NotingCalls(), *middleware), **named
            )
            return self.client

        return make

    def answer(self, types: list[BaseEventType], answer: Callable[[Any], object], topic: BaseEventTopic | None) -> None:
        """Let a client that stands for another service answer requests of these types, rather than as before."""
        if self.stand_in is None:
            self.stand_in = EventBusClient[Any, Any, Any](self._event_class, transport=self.transport.sibling())
            self.stand_in.connect()
        newest = _Answer(None if topic is None else topic.value)
        for event_type in types:
            self._answers.setdefault(event_type, []).insert(0, newest)
            self.stand_in.attach_callback(
                event_type, answer, topic=topic, answers=True, where=partial(self._is_in_force, newest)
            )
        self.stand_in.subscribe(topic)
        self.stand_in.start_consumer()

    def _is_in_force(self, answer: "_Answer", event: BaseEvent[Any]) -> bool:
        topic = current_topic()
        return next(one for one in self._answers[event.type] if one.topic in (None, topic)) is answer

    def close(self) -> None:
        """Close what stands in."""
        if self.stand_in is not None:
            self.stand_in.close()

    def note_handlers(self) -> set[str]:
        """Remember the names of the handlers that are attached now, and return all that are remembered."""
        if self.client is not None:
            self._handlers |= self.client._parts.dispatcher.handler_names()
        return self._handlers

    @property
    def event_names(self) -> set[str]:
        """The names of the event classes, for people."""
        return {cls.__name__ for cls in self._event_classes}

    @property
    def _event_classes(self) -> set[type]:
        if self.client is None:
            return set()
        return {cls for enum in self.client.event_types for one in enum for cls in self.client.event_classes(one)}

    def has_events(self, what: object) -> bool:
        """Whether events may be of this class or type."""
        if isinstance(what, BaseEventType):
            return self.client is not None and type(what) in self.client.event_types
        if not isinstance(what, type):  # a union, for example
            return True
        return any(issubclass(cls, what) or issubclass(what, cls) for cls in self._event_classes)

    def has_topic(self, topic: BaseEventTopic) -> bool:
        """Whether the service may emit on this topic, or has."""
        try:
            self.check_topic(topic)
        except InvalidTopic:
            value = getattr(topic, "value", None)
            return any(one.topic == value for one in self.observer.emissions)
        return True

    def check_topic(self, topic: BaseEventTopic) -> None:
        """Raise InvalidTopic if the client does not emit on this topic."""
        assert self.client is not None
        self.client._parts.topics.frame(topic)

    def resolve(self, event: BaseEvent[Any] | BaseEventType) -> BaseEvent[Any]:
        """An event; of a bare type, that which was sent."""
        if not isinstance(event, BaseEventType):
            return event
        assert self.client is not None
        codec = self.client._parts.codec
        wrapped: BaseEvent[Any] = codec.decode_one(codec.encode(event))
        return wrapped


class _Answer:
    """What answers on a topic; None: on every one."""

    def __init__(self, topic: str | None) -> None:
        self.topic = topic


def _number(emitted: Emitted) -> int:
    return emitted.number


def _copy(event: BaseEvent[Any] | BaseEventType) -> BaseEvent[Any] | BaseEventType:
    if isinstance(event, BaseEventType):
        return event
    try:
        return event.model_copy(deep=True)
    except Exception:  # it has a lock, for example
        return event.model_copy()
