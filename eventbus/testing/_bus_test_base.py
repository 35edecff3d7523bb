"""The common part of `bus_test` and `abus_test`: all that waits for nothing but a thread."""

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from enum import StrEnum
from math import inf
from operator import attrgetter
from threading import Event, current_thread
from typing import Any, Literal, overload

from dependency_injector import containers, providers

from eventbus._base.clock import clock, set_clock
from eventbus.container.resources import AnyProvider, in_force, last_resources
from eventbus.errors import InvalidEvent, InvalidHandler, InvalidTopic, NotSettled
from eventbus.events import BaseEvent, BaseEventTopic, BaseEventType
from eventbus.handle.marks import callback_name, is_async
from eventbus.history.recording import Recorded, marked
from eventbus.settings import EventBusSettings
from eventbus.testing._clock import ManualClock
from eventbus.testing._settling import Settling
from eventbus.testing._tested_bus import TestedBus
from eventbus.testing._transport import FaultyHub, Message
from eventbus.wire.first_frame import with_headers
from eventbus.wire.frames import topic_frame
from eventbus.wire.headers import Headers, encode_headers
from eventbus.wire.unions import type_values

type Errors = Literal["raise", "collect"]

PATIENCE_S = 10.0  # for what is under way


class _State(StrEnum):
    NEW = "not begun"
    RUNNING = "begun"
    OVER = "ended"


class BusTestBase[Root: containers.Container]:
    """The common part of both kinds of test."""

    def __init__(
        self,
        container: Root,
        *,
        errors: Errors = "raise",
        settings: EventBusSettings | None = None,
        patience: float = PATIENCE_S,
    ) -> None:
        given: object = container
        if not isinstance(given, containers.Container):
            remedy = f": use {given.__name__}()" if isinstance(given, type) else ""
            raise TypeError(f"a test runs a service's container, not {given!r}{remedy}")
        if errors not in ("raise", "collect"):
            raise ValueError(f"errors={errors!r}: it is 'raise' or 'collect'")
        self.container = container
        self.clock = ManualClock()
        self.hub = FaultyHub(self.clock.call)
        self._raises = errors == "raise"
        self._settings = settings
        self._patience = patience
        self._raised: deque[BaseException] = deque()
        self._collected: list[BaseException] = []
        self._overrides = ExitStack()
        self._buses: list[TestedBus] = []
        self._settling = Settling(self.clock, self.hub, self._buses, patience)
        self._state = _State.NEW

    # Asking.

    @property
    def errors(self) -> list[BaseException]:
        """The errors of handlers, the oldest first; with ``errors="collect"``. Otherwise the test raises them."""
        self._collect()
        return self._collected

    @property
    def messages(self) -> list[Message]:
        """The messages that the service has sent, as they travel, the oldest first."""
        return sorted((message for bus in self._buses for message in list(bus.transport.messages)), key=attrgetter("number"))

    @overload
    def emitted[Event: BaseEvent[Any]](self, what: type[Event], topic: BaseEventTopic | None = None) -> list[Event]: ...
    @overload
    def emitted(self, what: BaseEventType | None = None, topic: BaseEventTopic | None = None) -> list[BaseEvent[Any]]: ...
    def emitted(self, what: Any = None, topic: BaseEventTopic | None = None) -> Any:
        """Return the events that the service has emitted, the oldest first; not those of the test itself.

        Args:
            what: an event class or type; None: all events.
            topic: where; None: on every topic.

        Raises:
            LookupError: no bus of the container has such events.
            InvalidTopic: no bus of the container has this topic.
        """
        self._check_emittable(what, topic)
        found = [(one, bus) for bus in self._buses for one in list(bus.observer.emissions)]
        return [
            event
            for one, bus in sorted(found, key=lambda pair: pair[0].number)
            if topic is None or one.topic == topic.value
            for event in [bus.resolve(one.event)]
            if what is None or (event.type == what if isinstance(what, BaseEventType) else isinstance(event, what))
        ]

    def _check_emittable(self, what: Any, topic: BaseEventTopic | None) -> None:
        """Refuse what no bus can have emitted: a test that looks for it would find nothing whatever the service does."""
        if self._state is _State.NEW:
            self._require_running()
        if topic is not None and not any(bus.has_topic(topic) for bus in self._buses):
            self._buses[0].check_topic(topic)
        if what is not None and not any(bus.has_events(what) for bus in self._buses):
            known = sorted({name for bus in self._buses for name in bus.event_names})
            raise LookupError(f"no bus of {_name(self.container)} has events of {what!r}; there are {', '.join(known)}")

    def calls(self, handler: str | Callable[..., object]) -> int:
        """Return how many events a handler was called with. What a `Retry` repeats counts once.

        Args:
            handler: the handler, or the end of its qualified name, such as ``"Mailer.on_paid"``.

        Raises:
            LookupError: no handler, or more than one, has that name.
        """
        wanted = handler if isinstance(handler, str) else callback_name(handler)
        known = set().union(*(bus.handlers | bus.observer.calls.keys() for bus in self._buses))
        found = {name for name in known if name == wanted or name.endswith("." + wanted)}
        if len(found) != 1:
            raise LookupError(
                f"{len(found) or 'no'} handlers are called {wanted}; there are {', '.join(sorted(known)) or 'none'}"
            )
        return sum(bus.observer.calls[name] for bus in self._buses for name in found)

    def forget(self) -> None:
        """Forget what was emitted, called and raised until now."""
        for bus in self._buses:
            bus.observer.emissions.clear()
            bus.observer.calls.clear()
            bus.transport.messages.clear()
        self._collect()
        self._collected.clear()

    # Standing in for others.

    @overload
    def answer[Event: BaseEvent[Any]](
        self, what: type[Event], answer: Callable[[Event], object] | object, topic: BaseEventTopic | None = None
    ) -> None: ...
    # Any: the class of the events of a type is not known here.
    @overload
    def answer(
        self, what: BaseEventType, answer: Callable[[Any], object] | object, topic: BaseEventTopic | None = None
    ) -> None: ...
    def answer(self, what: Any, answer: object, topic: BaseEventTopic | None = None) -> None:
        """Answer the requests of the service from now on, as another service would.

        Args:
            what: the class or the type of the requests.
            answer: the answer; an exception, which the handler over there raises; or a function, perhaps ``async``, that
                makes the answer of the request. It takes the place of an earlier one for the same requests.
            topic: only on this topic; None: on every topic.

        Raises:
            InvalidHandler: no bus of the container has such events.
        """
        self._require_running()
        types = [what] if isinstance(what, BaseEventType) else list(type_values(what))
        of_enum = [one for one in types if isinstance(one, BaseEventType)]
        enums = {type(one) for one in of_enum}
        buses = [bus for bus in self._buses if bus.client is not None and enums & bus.client.event_types]
        if not buses:
            raise InvalidHandler(f"no bus of {_name(self.container)} has requests of {what!r}")
        for bus in buses:
            bus.answer(of_enum, _answering(answer), topic)

    # Faults.

    def dropping(self, topic: BaseEventTopic | None = None) -> AbstractContextManager[list[Message]]:
        """Lose messages on this topic within the block; None: on every topic. The list has those."""
        return self.hub.dropping(topic)

    def delaying(self, seconds: float, topic: BaseEventTopic | None = None) -> AbstractContextManager[None]:
        """Messages sent within the block, on this topic or (None) on every one, arrive this many seconds later."""
        return self.hub.delaying(seconds, topic)

    def disconnected(self) -> AbstractContextManager[None]:
        """Make the service's client DEGRADED within the block; events emitted there arrive after it."""
        return self.hub.disconnected()

    # Starting and stopping.

    def _prepare(self) -> None:
        """Override the parts that the buses of the container are made of."""
        if self._state is not _State.NEW:
            raise RuntimeError("a bus_test runs once: make another one")
        if isinstance(clock(), ManualClock):
            raise RuntimeError(
                "another bus_test is running in this process, and there is one clock: let other services join it by the "
                "transport RecordingTransport(t.hub)"
            )
        self.clock.owner = current_thread()
        self._overrides.callback(set_clock, set_clock(self.clock))
        buses = last_resources(self.container)
        if not buses:
            raise TypeError(f"{_name(self.container)} has no bus: declare one with event_bus(…)")
        for resource in buses:
            client = resource.client_provider
            if not isinstance(client, providers.Resource):
                raise TypeError(
                    f"the client of {_name(self.container)} is not made by an EventBusContainer, but by {client}"
                )
            bus = TestedBus(self.hub, self._raised)
            parts: Mapping[str, AnyProvider] = client.kwargs
            self._overrides.callback(bus.close)
            self._override(parts["client_class"], bus.make(in_force(parts["client_class"])()))
            self._override(parts["transport"], bus.transport)
            if self._settings is not None:
                self._override(parts["settings"], self._settings)
            elif getattr(in_force(parts["settings"]), "provides", None) is EventBusSettings:
                # Not from the environment: that may name a real bus.
                self._override(parts["settings"], EventBusSettings.model_construct())
            self._buses.append(bus)
        self._state = _State.RUNNING
        self._overrides.callback(self._end)

    def _end_waiting(self) -> None:
        """Let nothing wait any longer, before the container stops, and remember the handlers, which it detaches."""
        for bus in self._buses:
            _ = bus.handlers
        self.clock.end()

    def _end(self) -> None:
        self._state = _State.OVER

    def _override(self, provider: AnyProvider, value: object) -> None:
        provider.override(providers.Object(value))
        self._overrides.callback(provider.reset_last_overriding)

    # Settling.

    def _settle(self, *, quiet: bool = False, given_up: Event | None = None) -> None:
        """Return when nothing is under way, then raise what handlers have raised; `quiet` does not.

        Args:
            quiet: see above.
            given_up: returns early when it is set, and raises nothing.
        """
        self._require_running()
        if self._settling.settle(given_up) and not quiet:
            self._raise()

    def _require_running(self) -> None:
        if self._state is not _State.RUNNING:
            raise RuntimeError(f"this test has {self._state}: it runs in the block of `with bus_test(…) as t`")

    def _advance(self, seconds: float, given_up: Event | None = None) -> None:
        if not 0 <= seconds < inf:
            raise ValueError(f"advance({seconds}): a clock moves on by seconds, 0 or more")
        self._settle(quiet=True, given_up=given_up)
        end = self.clock.now() + seconds
        while not (given_up is not None and given_up.is_set()) and self.clock.fire_next(end):
            self._settle(quiet=True, given_up=given_up)
        if given_up is not None and given_up.is_set():
            return
        self.clock.move_to(end)
        self._settle(given_up=given_up)

    def _emit(self, event: BaseEvent[Any] | BaseEventType, topic: BaseEventTopic, headers: Headers) -> None:
        self._require_running()
        if not isinstance(topic, BaseEventTopic):
            raise InvalidTopic(f"{topic!r} is no topic: use a member of an enum derived from eventbus.BaseEventTopic")
        frame = topic_frame(topic.value)
        if headers:
            frame = with_headers(frame, encode_headers(headers))
        self._pass_on(frame, self._encoded(event))

    def _send(self, recorded: Recorded) -> None:
        self._require_running()
        one = marked(recorded)
        self._pass_on(with_headers(topic_frame(one.topic), encode_headers(one.headers)), one.json)

    def _pass_on(self, frame: bytes, payload: bytes) -> None:
        if not self.hub.send(frame, payload, self._patience):
            raise NotSettled(self._patience, "as many events as the queue of the service has room for")

    def _encoded(self, event: BaseEvent[Any] | BaseEventType) -> bytes:
        refusal: InvalidEvent | None = None
        for bus in self._buses:
            assert bus.client is not None
            try:
                return bus.client._parts.codec.encode(event)
            except InvalidEvent as error:
                refusal = error
        raise refusal or InvalidEvent("the container has no bus")

    def _collect(self) -> None:
        while self._raised:
            self._collected.append(self._raised.popleft())

    def _raise(self) -> None:
        self._collect()
        if not self._raises or not self._collected:
            return
        errors, self._collected = self._collected, []
        if len(errors) == 1:
            raise errors[0]
        raise BaseExceptionGroup("handlers have failed", errors)


def _name(container: containers.Container) -> str:
    """The name of the class that the service declares; its instances are of another one."""
    declared: type = getattr(container, "declarative_parent", None) or type(container)
    return declared.__name__


def _answering(answer: object) -> Callable[[Any], object]:
    """Return the handler that answers with this."""
    if callable(answer) and is_async(answer):
        return answer

    def handle(event: BaseEvent[Any]) -> object:
        if isinstance(answer, BaseException) or (isinstance(answer, type) and issubclass(answer, BaseException)):
            raise answer
        return answer(event) if callable(answer) else answer

    return handle
