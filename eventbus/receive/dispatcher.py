"""The dispatcher: hands each event to its handlers and to the receive buffer. No sockets."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from operator import length_hint
from threading import RLock
from typing import Any

from eventbus._base.log import Log
from eventbus._base.printable import printable
from eventbus.events import BaseEvent, BaseEventType
from eventbus.handle.coroutines import ClientClosing, CoroutineRunner
from eventbus.handle.current import WithHeaders, clear_headers, clear_topics, keeping_topic, set_topics
from eventbus.handle.marks import callback_name, is_async
from eventbus.handle.wrapped import wrapper_of
from eventbus.observe.stats import Counters, DropReason
from eventbus.receive.buffer import ReceiveBuffer
from eventbus.receive.confirmation import Confirmation
from eventbus.wire.requests import REPLY_PREFIX

# A callback gets the event. If it returns a coroutine, that is run on an event loop; anything else is ignored.
type Callback[EventClass] = Callable[[EventClass], object]

_MAX_LEARNED_TOPICS = 10_000
_MAX_SHOWN_CHARACTERS = 1_000  # of an event, in the log

# For one topic, the callbacks of each event type in the order in which they were attached.
type Route[EventClass] = dict[BaseEventType, tuple[Callback[EventClass], ...]]

# Makes of a topic, a callback and whether it answers the callback that is called instead of it.
type Instrument[EventClass] = Callable[[bytes, Callback[EventClass], bool], Callback[EventClass]]


@dataclass(frozen=True, slots=True)
class _Attached[EventClass]:
    event_type: BaseEventType
    callback: Callback[EventClass]
    topic: bytes | None
    answers: bool = field(default=False, compare=False)
    # What is called instead of the callback, by topic. Only subscribed topics, because strangers may invent others.
    instrumented: dict[bytes, Callback[EventClass]] = field(default_factory=dict, compare=False)


# BaseEvent[Any]: it is invariant in its type enum, which each service brings.
class Dispatcher[EventClass: BaseEvent[Any]]:
    """Knows the subscribed topics and the attached callbacks; hands each event to the callbacks of its topic and type.

    `attach`, `detach`, `subscribe` and `unsubscribe` may be called from any thread and from a handler: a route is replaced,
    never changed, so the event at hand is not affected. Only the consumer's thread calls `dispatch`. A callback that raises
    is logged and counted, and the others still run.

    Attributes:
        abandoned: how often `abandon` was called.
        confirmation: of the batch at hand; None if the transport confirms nothing.
    """

    def __init__(self, buffer: ReceiveBuffer[EventClass], counters: Counters) -> None:
        self.coroutines = CoroutineRunner()
        self.buffer = buffer
        self._counters = counters
        self._log = Log()
        self._changing = RLock()  # a signal handler may interrupt a change in the same thread with another
        self._attached: list[_Attached[EventClass]] = []
        self._topics: set[bytes] = set()
        # The callbacks of each topic. Events of other topics are left out: ZeroMQ matches prefixes, so `corerl_scheduler`
        # arrives where `corerl` was subscribed.
        self._routes: dict[bytes, Route[EventClass]] = {}
        self._instrument: Instrument[EventClass] | None = None
        self._everything = False  # whether all topics are subscribed; their routes are then learned as they come
        self.abandoned = 0
        self.confirmation: Confirmation | None = None
        self._running: Iterator[EventClass] = iter(())  # through the events of the last dispatch

    @property
    def topics(self) -> frozenset[bytes]:
        """The subscribed topics; an empty one stands for all."""
        return frozenset(self._topics)

    def subscribe(self, topic: bytes) -> bool:
        """Take the events of exactly this topic (an empty one: of every topic). False if it was subscribed already."""
        with self._changing:
            if topic in self._topics:
                return False
            self._topics.add(topic)
            if topic:
                self._routes[topic] = self._route(topic)
            else:
                self._everything = True
            return True

    def unsubscribe(self, topic: bytes) -> bool:
        """Undo `subscribe`. False if it was not subscribed."""
        with self._changing:
            if topic not in self._topics:
                return False
            self._topics.remove(topic)
            self._rebuild()  # also forgets what was learned
            return True

    def attach(
        self, event_type: BaseEventType, callback: Callback[EventClass], topic: bytes | None, *, answers: bool = False
    ) -> None:
        """Call the callback for events of this type, on this topic or (None) on every subscribed one.

        Args:
            answers: whether what it returns answers requests; the instrument takes care of that.
        """
        with self._changing:
            self._attached.append(_Attached(event_type, callback, topic, answers))
            self._rebuild()

    def detach(self, event_type: BaseEventType, callback: Callback[EventClass], topic: bytes | None) -> None:
        """Undo every `attach` with these arguments."""
        gone = _Attached(event_type, callback, topic)
        with self._changing:
            self._attached = [attached for attached in self._attached if attached != gone]
            self._rebuild()
            keeps_loop = any(is_async(attached.callback) for attached in self._attached)
        if not keeps_loop:
            self.coroutines.retire()

    def handler_names(self) -> set[str]:
        """The qualified names of the attached callbacks."""
        with self._changing:
            return {callback_name(attached.callback) for attached in self._attached}

    def instrument(self, instrument: Instrument[EventClass] | None) -> None:
        """From now on, call what `instrument` makes of each callback instead of it; None: the callbacks themselves."""
        with self._changing:
            self._instrument = instrument
            for attached in self._attached:
                attached.instrumented.clear()
            self._rebuild()

    def abandon(self) -> None:
        """Let a running `dispatch` drop all events after the one that is being handled."""
        self.abandoned += 1

    def end(self) -> None:
        """End the waiting for events: the transport is closed, and none will come."""
        self.buffer.close()

    def takes(self, topic: bytes) -> bool:
        """Whether this topic is subscribed. Answers to requests of others are not taken, because they are no events."""
        return topic in self._routes or (self._everything and not topic.startswith(REPLY_PREFIX))

    def route_of(self, topic: bytes) -> Route[EventClass]:
        """The route of a subscribed topic."""
        known = self._routes.get(topic)
        if known is not None:
            return known
        with self._changing:
            route = self._route(topic)
            if len(self._routes) < _MAX_LEARNED_TOPICS:
                self._routes[topic] = route
            return route

    def routes_of(self, topics: list[bytes]) -> list[Route[EventClass]] | None:
        """The routes of these topics; None if one of them is not subscribed, or was never seen before."""
        routes = list(map(self._routes.get, topics))
        return None if None in routes else routes  # type: ignore[return-value] # there is no None in it

    def dispatch(
        self,
        routes: list[Route[EventClass]],
        events: list[EventClass],
        topics: list[bytes],
        abandoned: int | None = None,
        headers: list[bytes] | None = None,
    ) -> None:
        """Buffer these events and call their callbacks, in order.

        Args:
            routes: the route of each event.
            events: as many.
            topics: the topic of each.
            abandoned: if these are a part of a batch, how often `abandon` had been called when that began; None: until now.
            headers: the encoded headers of each; None if none has any.
        """
        running = self._running = iter(events) if headers is None else WithHeaders(events, headers)
        self.buffer.extend(events)
        set_topics(topics, running)
        handled = handler_errors = 0
        if abandoned is None:
            abandoned = self.abandoned
        for route, event in zip(routes, running, strict=True):
            if self.abandoned != abandoned:
                self._drop(routes, events, length_hint(running) + 1)
                break
            try:
                callbacks = route[event.type]
            except KeyError:
                continue
            for callback in callbacks:
                try:
                    result = callback(event)
                except BaseException as error:  # SystemExit and CancelledError too: they must not end the consumer
                    handler_errors += 1
                    self._report(callback, event, error)
                else:
                    if result is not None and inspect.iscoroutine(result):
                        self._run(result, callback, event)
                    else:
                        handled += 1
        self._counters.add(handled=handled, handler_errors=handler_errors)
        clear_topics()
        if headers is not None:
            clear_headers()

    def position(self) -> tuple[int, int]:
        """The number of events that came in, and of those of the last `dispatch` still to be handled. Any thread may ask.

        It changes with each event that is handled. It costs the events nothing, because their iterator knows.
        """
        return self.buffer.received, length_hint(self._running)

    def _drop(self, routes: list[Route[EventClass]], events: list[EventClass], last: int) -> None:
        """Count the events, among this many last ones, that have a callback, which is not called."""
        dropped = sum(event.type in route for route, event in zip(routes[-last:], events[-last:], strict=True))
        if dropped:
            self._counters.drops.add(DropReason.STOPPED, dropped)

    def _run(self, coroutine: Any, callback: Callback[EventClass], event: EventClass) -> None:
        wrapped = wrapper_of(callback)
        confirmation = self.confirmation
        if confirmation is not None:
            confirmation.begin()

        def done(error: BaseException | None, duration: float) -> None:
            if wrapped is not None:
                wrapped.tell(event, duration, error)
            if error is None:
                self._counters.add(handled=1)
            else:
                self._counters.add(handler_errors=1)
                self._report(callback, event, error)
            if confirmation is not None:
                # What was cancelled is no Exception.
                confirmation.end(
                    handled=error is None or (isinstance(error, Exception) and not isinstance(error, ClientClosing))
                )

        with keeping_topic():
            self.coroutines.submit(coroutine, done)

    def _report(self, callback: Callback[EventClass], event: EventClass, error: BaseException) -> None:
        wrapped = wrapper_of(callback)
        name = callback_name(callback) if wrapped is None else wrapped.name
        self._log.error(
            "handler %s failed on %s",
            name,
            _shown(event),
            exc_info=error,
            handler=name,
            type=str(event.type),
            error=type(error).__name__,
        )

    def _rebuild(self) -> None:
        self._routes = {topic: self._route(topic) for topic in self._topics if topic}
        self._everything = b"" in self._topics

    def _route(self, topic: bytes) -> Route[EventClass]:
        route: Route[EventClass] = {}
        for attached in self._attached:
            if attached.topic is None or attached.topic == topic:
                route[attached.event_type] = (*route.get(attached.event_type, ()), self._called(attached, topic))
        return route

    def _called(self, attached: _Attached[EventClass], topic: bytes) -> Callback[EventClass]:
        """The callback to call for events of this topic."""
        if self._instrument is None:
            return attached.callback
        called = attached.instrumented.get(topic)
        if called is None:
            called = self._instrument(topic, attached.callback, attached.answers)
            if topic in self._topics:
                attached.instrumented[topic] = called
        return called


def _shown(event: BaseEvent[Any]) -> str:
    """The event for a line in the log. Its repr may hold names of extra fields as others have sent them."""
    try:
        return printable(repr(event), _MAX_SHOWN_CHARACTERS)
    except Exception:  # a service's own __repr__ may raise anything
        return f"an event of {type(event).__name__} whose repr failed"
