"""One bus of a container under test: its client, what is noted of it, and who stands in for others."""

from collections import Counter
from collections.abc import Callable
from threading import RLock
from typing import Any

from eventbus._base.printable import printable
from eventbus.client import EventBusClient
from eventbus.container.resources import AnyClient
from eventbus.events import BaseEvent, BaseEventTopic, BaseEventType
from eventbus.observe.hooks import EventBusHook
from eventbus.testing._transport import FaultyHub, RecordingTransport


class Observer(EventBusHook):
    """Notes what one client does."""

    def __init__(self) -> None:
        self._lock = RLock()
        self.emissions: list[tuple[str, BaseEvent[Any] | BaseEventType]] = []
        self.calls: Counter[str] = Counter()
        self.errors: list[BaseException] = []

    def emitted(self, topic: str, events: Any, size: int) -> None:
        # Copies, because a service may change its event later.
        copies = [event if isinstance(event, BaseEventType) else event.model_copy(deep=True) for event in events]
        with self._lock:
            self.emissions += [(topic, event) for event in copies]

    def handled(self, topic: str, event: BaseEvent[Any], handler: str, duration: float) -> None:
        with self._lock:
            self.calls[handler] += 1

    def handler_failed(self, topic: str, event: BaseEvent[Any], handler: str, duration: float, error: BaseException) -> None:
        with self._lock:
            self.calls[handler] += 1
            error.add_note(f"raised by {handler}, which handled {printable(repr(event), 300)} on {topic}")
            self.errors.append(error)

    def periodic_failed(self, name: str, duration: float, error: BaseException) -> None:
        with self._lock:
            error.add_note(f"raised by {name}, which is called periodically")
            self.errors.append(error)

    def take_errors(self) -> list[BaseException]:
        with self._lock:
            errors, self.errors = self.errors, []
            return errors


class TestedBus:
    """One bus of the container, with its client as soon as that is connected."""

    def __init__(self, hub: FaultyHub) -> None:
        self.transport = RecordingTransport(hub)
        self.observer = Observer()
        self.client: AnyClient | None = None
        self.stand_in: AnyClient | None = None
        self._event_class: Any = None

    def make(self, client_class: type[AnyClient]) -> Callable[..., AnyClient]:
        """Return what the container calls instead of the client's class."""

        def make(event_class: Any, *, hooks: Any, **named: Any) -> AnyClient:
            self._event_class = event_class
            self.client = client_class(event_class, hooks=(*hooks, self.observer), **named)
            return self.client

        return make

    def answer(self, types: list[BaseEventType], answer: Callable[[Any], object], topic: BaseEventTopic | None) -> None:
        """Let a client that stands for another service answer requests of these types."""
        if self.stand_in is None:
            self.stand_in = EventBusClient[Any, Any, Any](self._event_class, transport=self.transport.sibling())
            self.stand_in.connect()
        for event_type in types:
            self.stand_in.attach_callback(event_type, answer, topic=topic, answers=True)
        self.stand_in.subscribe(topic)
        self.stand_in.start_consumer()

    def close(self) -> None:
        """Close what stands in."""
        if self.stand_in is not None:
            self.stand_in.close()

    @property
    def handlers(self) -> set[str]:
        """The names of the attached handlers."""
        return set() if self.client is None else self.client._parts.dispatcher.handler_names()

    def resolve(self, event: BaseEvent[Any] | BaseEventType) -> BaseEvent[Any]:
        """An event; of a bare type, that which was sent."""
        if not isinstance(event, BaseEventType):
            return event
        assert self.client is not None
        codec = self.client._parts.codec
        wrapped: BaseEvent[Any] = codec.decode_one(codec.encode(event))
        return wrapped
