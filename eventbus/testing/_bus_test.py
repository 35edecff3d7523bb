"""`bus_test`: a service's container, running in memory, and a test that knows when nothing is under way."""

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from math import inf
from threading import RLock, current_thread
from time import monotonic
from types import TracebackType
from typing import Any, Literal, Self, overload

from dependency_injector import containers, providers

from eventbus._base.clock import clock, set_clock
from eventbus._base.printable import printable
from eventbus.client import EventBusClient
from eventbus.container.lifespans import lifespan
from eventbus.container.resources import AnyClient, AnyProvider, in_force, last_resources
from eventbus.errors import InvalidEvent, InvalidHandler, NotSettled
from eventbus.events import BaseEvent, BaseEventTopic, BaseEventType
from eventbus.handle.coroutines import running_loop
from eventbus.handle.marks import callback_name
from eventbus.history.recording import Recorded, delays, marked, read_recording
from eventbus.observe.hooks import EventBusHook
from eventbus.settings import EventBusSettings
from eventbus.testing._clock import ManualClock
from eventbus.testing._transport import FaultyHub, Message, RecordingTransport
from eventbus.wire.first_frame import with_headers
from eventbus.wire.frames import topic_frame
from eventbus.wire.headers import NO_HEADERS, Headers, encode_headers
from eventbus.wire.unions import type_values

type Errors = Literal["raise", "collect"]

_PATIENCE_S = 10.0  # for what is under way
_GRACE_S = 0.2  # for a handler under a time limit, which may be one that hangs on purpose
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.0005, 0.01  # between two looks
_PASSES = 5  # of an event loop, until what was woken on it waits again


class _Observer(EventBusHook):
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


class _Bus:
    """One bus of the container, with its client as soon as that is connected."""

    def __init__(self, hub: FaultyHub) -> None:
        self.transport = RecordingTransport(hub)
        self.observer = _Observer()
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


class _Bench[Root: containers.Container]:
    """The common part of both kinds of test."""

    def __init__(
        self,
        container: Root,
        *,
        errors: Errors = "raise",
        settings: EventBusSettings | None = None,
        patience: float = _PATIENCE_S,
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
        self._buses: list[_Bus] = []

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
            bus = _Bus(self.hub)
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


class BusTest[Root: containers.Container](_Bench[Root]):
    """A service that runs in memory, for one test. Made by `bus_test`.

    Attributes:
        container: the service's container, running.
        clock: what handlers, services and ``@every`` wait by.
        hub: connects the service with others that the test makes.
    """

    def __enter__(self) -> Self:
        if running_loop() is not None:
            raise RuntimeError("an event loop runs in this thread: use `async with abus_test(…)`")
        with ExitStack() as stack:
            stack.enter_context(self._overrides)
            self._prepare()
            stack.enter_context(lifespan(self.container))
            stack.callback(self.clock.end)  # first: nothing waits any longer
            self._settle()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._stack:
            if error is None:
                self._settle()

    def emit(
        self,
        event: BaseEvent[Any] | BaseEventType,
        topic: BaseEventTopic,
        *,
        headers: Headers = NO_HEADERS,
        settle: bool = True,
    ) -> None:
        """Emit an event as another service would, and `settle`.

        Args:
            event: an event, or a bare type.
            topic: where.
            headers: texts that travel beside it.
            settle: whether to wait; several events may be on their way at once.

        Raises:
            InvalidEvent: no bus of the container has such events.
            NotSettled: as `settle`, which raises what handlers have raised, too.
        """
        self._emit(event, topic, headers)
        if settle:
            self._settle()

    def replay(self, path: str | os.PathLike[str], *, timed: bool = False, settle: bool = True) -> int:
        """Emit the events of a recording, as `eventbus record` writes it, in its order; return how many.

        Handlers can tell by `current_delivery` that they are replayed.

        Args:
            path: the file.
            timed: whether to move the `clock` on between them, as far apart as they were recorded.
            settle: whether to wait after each of them; with `timed` it does.

        Raises:
            InvalidRecording: a line of the file is none of a recording.
            NotSettled: as `settle`, which raises what handlers have raised, too.
        """
        count, moved = 0, 0.0
        for delay, recorded in delays(read_recording(os.fspath(path)), 1.0 if timed else None):
            if delay > moved:
                self._advance(delay - moved)
                moved = delay
            self._send(recorded)
            count += 1
            if settle or timed:
                self._settle()
        return count

    def settle(self) -> None:
        """Return when nothing is under way: no event, no handler, no service but those that wait.

        A handler that waits for the `clock` counts as waiting; one that runs under a `TimeLimit`, or waits for an answer,
        after 0.2 seconds in which nothing happens.

        Raises:
            NotSettled: something did not end in time.
            BaseException: what a handler has raised, unless errors are collected; a group, if there are several.
        """
        self._settle()

    def advance(self, seconds: float) -> None:
        """Move the clock on, step by step: what is over by then ends in its order, and everything settles in between.

        It moves ``@every``, `Retry`, `TimeLimit`, `Service.pause`, restarts and timeouts of requests.

        Raises:
            ValueError: the seconds are negative, or without end.

        And as `settle`.
        """
        self._advance(seconds)


class AsyncBusTest[Root: containers.Container](_Bench[Root]):
    """Like `BusTest`, on the event loop of the test, which runs the ``async`` handlers. Made by `abus_test`."""

    async def __aenter__(self) -> Self:
        from contextlib import AsyncExitStack

        async with AsyncExitStack() as stack:
            stack.enter_context(self._overrides)
            self._prepare()
            await stack.enter_async_context(lifespan(self.container))
            stack.callback(self.clock.end)
            await self.settle()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async with self._stack:
            if error is None:
                await self.settle()

    async def emit(
        self,
        event: BaseEvent[Any] | BaseEventType,
        topic: BaseEventTopic,
        *,
        headers: Headers = NO_HEADERS,
        settle: bool = True,
    ) -> None:
        """See `BusTest.emit`."""
        self._emit(event, topic, headers)
        if settle:
            await self.settle()

    async def replay(self, path: str | os.PathLike[str], *, timed: bool = False, settle: bool = True) -> int:
        """See `BusTest.replay`."""
        count, moved = 0, 0.0
        for delay, recorded in delays(read_recording(os.fspath(path)), 1.0 if timed else None):
            if delay > moved:
                await self.advance(delay - moved)
                moved = delay
            self._send(recorded)
            count += 1
            if settle or timed:
                await self.settle()
        return count

    async def settle(self) -> None:
        """See `BusTest.settle`."""
        self._own_clock()  # the block may have begun in a task of its own, as in a fixture
        for _ in range(_PASSES):
            await asyncio.sleep(0)
        await asyncio.to_thread(self._settle)

    async def advance(self, seconds: float) -> None:
        """See `BusTest.advance`."""
        self._own_clock()
        await asyncio.to_thread(self._advance, seconds)


def _answering(answer: object) -> Callable[[Any], object]:
    """Return the handler that answers with this."""

    def handle(event: BaseEvent[Any]) -> object:
        if isinstance(answer, BaseException):
            raise answer
        return answer(event) if callable(answer) else answer

    return handle


def bus_test[Root: containers.Container](
    container: Root, *, errors: Errors = "raise", settings: EventBusSettings | None = None, patience: float = _PATIENCE_S
) -> BusTest[Root]:
    """Run a service's container in memory within a block, for a test::

        with bus_test(App()) as t:
            t.emit(Paid(amount=1), ShopTopic.shop)
            assert t.emitted(Receipt, topic=ShopTopic.mail) == [Receipt(to="a")]

    Handlers, codec, middleware and the container's resources are the real ones. The network is a hub in memory, the settings
    are the defaults whatever the environment says, and the clock stands still. One at a time in a process.

    Args:
        container: the service's container, not started. Override other providers of it before.
        errors: ``"raise"``: what a handler raises reaches the test. ``"collect"``: `BusTest.errors` has it.
        settings: instead of the defaults.
        patience: the seconds that something may be under way.

    Raises:
        TypeError: the container has no bus, or is none.
        ValueError: `errors` is neither of both.
        NotSettled: something did not end in time.
    """
    return BusTest(container, errors=errors, settings=settings, patience=patience)


def abus_test[Root: containers.Container](
    container: Root, *, errors: Errors = "raise", settings: EventBusSettings | None = None, patience: float = _PATIENCE_S
) -> AsyncBusTest[Root]:
    """Like `bus_test`, for tests that are coroutines: ``async with abus_test(App()) as t: await t.emit(…)``."""
    return AsyncBusTest(container, errors=errors, settings=settings, patience=patience)
