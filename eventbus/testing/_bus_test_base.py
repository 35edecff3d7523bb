"""The common part of `bus_test` and `abus_test`: all that waits for nothing but a thread."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from math import inf
from threading import current_thread
from time import monotonic
from typing import Any, Literal, overload

from dependency_injector import containers, providers

from eventbus._base.clock import clock, set_clock
from eventbus.container.resources import AnyProvider, in_force, last_resources
from eventbus.errors import InvalidEvent, InvalidHandler, NotSettled
from eventbus.events import BaseEvent, BaseEventTopic, BaseEventType
from eventbus.handle.coroutines import running_loop
from eventbus.handle.marks import callback_name
from eventbus.history.recording import Recorded, marked
from eventbus.settings import EventBusSettings
from eventbus.testing._clock import ManualClock
from eventbus.testing._tested_bus import TestedBus
from eventbus.testing._transport import FaultyHub, Message, RecordingTransport
from eventbus.wire.first_frame import with_headers
from eventbus.wire.frames import topic_frame
from eventbus.wire.headers import Headers, encode_headers
from eventbus.wire.unions import type_values

type Errors = Literal["raise", "collect"]

PATIENCE_S = 10.0  # for what is under way
_GRACE_S = 0.2  # for a handler under a time limit, which may be one that hangs on purpose
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.0005, 0.01  # between two looks


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
        self._collected: list[BaseException] = []
        self._overrides = ExitStack()
        self._buses: list[TestedBus] = []

    # Asking.

    @property
    def errors(self) -> list[BaseException]:
        """The errors of handlers, the oldest first; with ``errors="collect"``. Otherwise the test raises them."""
        self._collect()
        return self._collected

    @property
    def messages(self) -> list[Message]:
        """The messages that the service has sent, as they travel."""
        return [message for bus in self._buses for message in bus.transport.messages]

    @overload
    def emitted[Event: BaseEvent[Any]](self, what: type[Event], topic: BaseEventTopic | None = None) -> list[Event]: ...
    @overload
    def emitted(self, what: BaseEventType | None = None, topic: BaseEventTopic | None = None) -> list[BaseEvent[Any]]: ...
    def emitted(self, what: Any = None, topic: BaseEventTopic | None = None) -> Any:
        """Return the events that the service has emitted, the oldest first; not those of the test itself.

        Args:
            what: an event class or type; None: all events.
            topic: where; None: on every topic.
        """
        return [
            event
            for bus in self._buses
            for where, raw in list(bus.observer.emissions)
            if topic is None or where == topic.value
            for event in [bus.resolve(raw)]
            if what is None or (event.type == what if isinstance(what, BaseEventType) else isinstance(event, what))
        ]

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

    def answer[Event: BaseEvent[Any]](
        self,
        what: type[Event] | BaseEventType,
        answer: Callable[[Event], object] | object,
        topic: BaseEventTopic | None = None,
    ) -> None:
        """Answer the requests of the service from now on, as another service would.

        Args:
            what: the class or the type of the requests.
            answer: the answer; an exception, which the handler over there raises; or a function that makes the answer of the
                request.
            topic: only on this topic; None: on every topic.

        Raises:
            InvalidHandler: no bus of the container has such events.
        """
        types = [what] if isinstance(what, BaseEventType) else list(type_values(what))
        of_enum = [one for one in types if isinstance(one, BaseEventType)]
        enums = {type(one) for one in of_enum}
        buses = [bus for bus in self._buses if bus.client is not None and enums & bus.client.event_types]
        if not buses:
            raise InvalidHandler(f"no bus of {type(self.container).__name__} has requests of {what!r}")
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
        if isinstance(clock(), ManualClock):
            raise RuntimeError(
                "another bus_test is running in this process, and there is one clock: let other services join it by the "
                "transport RecordingTransport(t.hub)"
            )
        self._own_clock()
        self._overrides.callback(set_clock, set_clock(self.clock))
        buses = last_resources(self.container)
        if not buses:
            raise TypeError(f"{type(self.container).__name__} has no bus: declare one with event_bus(…)")
        for resource in buses:
            client = resource.client_provider
            if not isinstance(client, providers.Resource):
                raise TypeError(
                    f"the client of {type(self.container).__name__} is not made by an EventBusContainer, but by {client}"
                )
            bus = TestedBus(self.hub)
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

    def _own_clock(self) -> None:
        """Let requests of this thread and this task keep to the system's clock: they are the test's own."""
        self.clock.owner = current_thread(), None if running_loop() is None else asyncio.current_task()

    def _override(self, provider: AnyProvider, value: object) -> None:
        provider.override(providers.Object(value))
        self._overrides.callback(provider.reset_last_overriding)

    # Settling.

    def _settle(self, *, quiet: bool = False) -> None:
        """Return when nothing is under way, then raise what handlers have raised; `quiet` does not."""
        end, grace = monotonic() + self._patience, monotonic() + _GRACE_S
        pause, before = _FIRST_PAUSE_S, self.hub.activity
        while True:
            activity = self.hub.activity
            if activity != before:
                before, grace = activity, monotonic() + _GRACE_S
            under_way = list(self._under_way(limited=monotonic() < grace))
            if not under_way and activity == self.hub.activity:
                if not self.clock.fire_next(self.clock.now()):
                    break
                grace, pause = monotonic() + _GRACE_S, _FIRST_PAUSE_S
                continue
            if monotonic() > end:
                raise NotSettled(self._patience, ", ".join(sorted(under_way)) or "events")
            self.clock.pause(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        if not quiet:
            self._raise()

    def _under_way(self, *, limited: bool) -> Iterator[str]:
        """The work under way, for people.

        Args:
            limited: whether those count that wait for something else up to a time limit.
        """
        for thread in self.clock.threads_under_way():
            yield f"thread {thread.name}"
        sleeping, resting = self.clock.sleeping_threads(), self.clock.sleeping_tasks()
        if limited:
            yield from (f"thread {one.name}" for one in self.clock.limited_threads())
            yield from (f"task {one.get_name()}" for one in self.clock.limited_tasks())
        else:
            sleeping |= self.clock.limited_threads()
            resting |= self.clock.limited_tasks()
        if self.hub.is_anything_waited_for():
            yield "a message on its way"
        clients = [client for bus in self._buses for client in (bus.client, bus.stand_in) if client is not None]
        for client in clients:
            parts, transport = client._parts, client._transport
            assert isinstance(transport, RecordingTransport)
            if parts.consumer.thread not in (None, *sleeping) and not transport.is_idle():
                yield "a handler, or an event on its way to one"
            inbox = None if parts.inbox is None else parts.inbox._transport
            if isinstance(inbox, RecordingTransport) and not inbox.is_idle():
                yield "an answer on its way"
            if parts.is_about_to_ask:
                yield "a request that is about to be sent"
            if parts.buffer.is_about_to_be_read():
                yield "an event in the receive buffer, for which a thread waits"
            if calls := parts.dispatcher.calls_under_way(sleeping):
                yield f"{calls} handlers"
            if waiting := parts.dispatcher.coroutines.under_way(resting):
                yield f"{waiting} async handlers"
        for thread in self.clock.threads_under_way():  # once more: one may have gone on because a coroutine has ended
            yield f"thread {thread.name}"

    def _advance(self, seconds: float) -> None:
        if not 0 <= seconds < inf:
            raise ValueError(f"advance({seconds}): a clock moves on by seconds, 0 or more")
        self._settle(quiet=True)
        end = self.clock.now() + seconds
        while self.clock.fire_next(end):
            self._settle(quiet=True)
        self.clock.move_to(end)
        self._settle()

    def _emit(self, event: BaseEvent[Any] | BaseEventType, topic: BaseEventTopic, headers: Headers) -> None:
        frame = topic_frame(topic.value)
        if headers:
            frame = with_headers(frame, encode_headers(headers))
        self.hub.send(frame, self._encoded(event), self._patience)

    def _send(self, recorded: Recorded) -> None:
        one = marked(recorded)
        self.hub.send(with_headers(topic_frame(one.topic), encode_headers(one.headers)), one.json, self._patience)

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
        for bus in self._buses:
            self._collected += bus.observer.take_errors()

    def _raise(self) -> None:
        self._collect()
        if not self._raises or not self._collected:
            return
        errors, self._collected = self._collected, []
        if len(errors) == 1:
            raise errors[0]
        raise BaseExceptionGroup("handlers have failed", errors)


def _answering(answer: object) -> Callable[[Any], object]:
    """Return the handler that answers with this."""

    def handle(event: BaseEvent[Any]) -> object:
        if isinstance(answer, BaseException):
            raise answer
        return answer(event) if callable(answer) else answer

    return handle
