"""The dispatcher: hands each event to its handlers and to the receive buffer. No sockets."""

import inspect
import weakref
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from operator import length_hint
from threading import RLock, Thread
from typing import Any

from eventbus._base.deadline import Deadline
from eventbus._base.log import Log
from eventbus._base.printable import printable
from eventbus.events import BaseEvent, BaseEventType
from eventbus.handle.concurrent import CallsInThreads, CallsOnLoop, ConcurrentCalls
from eventbus.handle.coroutines import ClientClosing, CoroutineRunner
from eventbus.handle.current import clear_headers, handling, keeping_topic, set_headers, with_headers_of
from eventbus.handle.guarded import NOT_WANTED, GuardedHandler, Later
from eventbus.handle.handler_options import PLAIN, HandlerOptions
from eventbus.handle.marks import callback_name, is_async
from eventbus.handle.wrapped import WrappedHandler, wrapper_of
from eventbus.observe.stats import Counters, DropReason
from eventbus.receive.buffer import ReceiveBuffer
from eventbus.receive.confirmation import Confirmation
from eventbus.receive.stream import EventStream
from eventbus.wire.private_topics import PRIVATE_PREFIXES

# A callback gets the event. If it returns a coroutine, that is run on an event loop; anything else is ignored.
type Callback[EventClass] = Callable[[EventClass], object]

_MAX_LEARNED_TOPICS = 10_000
_MAX_SHOWN_CHARACTERS = 1_000  # of an event, in the log

# For one topic, the callbacks of each event type in the order in which they were attached.
type Route[EventClass] = dict[BaseEventType, tuple[Callback[EventClass], ...]]

# Makes of a topic, a callback and its options the wrapped handler that is called instead of it; or returns the callback, if
# its options are plain.
type Instrument[EventClass] = Callable[[bytes, Callback[EventClass], HandlerOptions], Callback[EventClass] | WrappedHandler]


@dataclass(frozen=True, slots=True)
class _Attached[EventClass]:
    event_type: BaseEventType
    callback: Callback[EventClass]
    topic: bytes | None
    options: HandlerOptions = field(default=PLAIN, compare=False)
    calls: ConcurrentCalls | None = field(default=None, compare=False)
    # What is called instead of the callback, by topic. Only subscribed topics, because strangers may invent others.
    instrumented: dict[bytes, Callback[EventClass]] = field(default_factory=dict, compare=False)


_NONE_LEFT: Iterator[Any] = iter(())  # through the events that follow a lone one


# BaseEvent[Any]: it is invariant in its type enum, which each service brings.
class Dispatcher[EventClass: BaseEvent[Any]]:
    """Knows the subscribed topics and the attached callbacks; hands each event to the callbacks of its topic and type.

    `attach`, `detach`, `subscribe` and `unsubscribe` may be called from any thread and from a handler: a route is replaced,
    never changed, so the event at hand is not affected. Only the consumer's thread calls `dispatch`. A callback that raises
    is logged and counted, and the others still run.

    Args:
        buffer: takes the events.
        counters: counts them.
        name: of the client, for the log.

    Attributes:
        abandoned: how often `abandon` was called.
        confirmation: of the batch at hand; None if the transport confirms nothing.
        question: a topic without events that is taken, too; None: there is none.
        routes: the callbacks of each topic that is known, by type; replaced when they change.
    """

    def __init__(self, buffer: ReceiveBuffer[EventClass], counters: Counters, name: str | None = None) -> None:
        self.coroutines = CoroutineRunner()
        self.buffer = buffer
        self._counters = counters
        self._log = Log(client_name=name)
        self._changing = RLock()  # a signal handler may interrupt a change in the same thread with another
        self._attached: list[_Attached[EventClass]] = []
        self._detached: set[ConcurrentCalls] = set()  # of handlers that were detached, of which calls may be under way
        self._topics: set[bytes] = set()
        self._later: set[bytes] = set()  # those of them that are not in force yet
        # The callbacks of each topic. Events of other topics are left out: ZeroMQ matches prefixes, so `corerl_scheduler`
        # arrives where `corerl` was subscribed.
        self.routes: dict[bytes, Route[EventClass]] = {}
        self._instrument: Instrument[EventClass] | None = None
        self._streams: tuple[weakref.ref[EventStream[EventClass]], ...] = ()
        self._everything = False  # whether all topics are subscribed; their routes are then learned as they come
        self.abandoned = 0
        self.confirmation: Confirmation | None = None
        self.question: bytes | None = None
        self._warned: set[str] = set()  # handlers whose results nobody gets
        self._running: Iterator[EventClass] = iter(())  # through the events of the last dispatch

    @property
    def topics(self) -> frozenset[bytes]:
        """The subscribed topics; an empty one stands for all."""
        return frozenset(self._topics)

    def subscribe(self, topic: bytes, *, later: bool = False) -> bool:
        """Take the events of exactly this topic (an empty one: of every topic). False if it was subscribed already.

        Args:
            topic: the topic.
            later: not before `put_in_force`. The batch at hand may have messages of it.
        """
        with self._changing:
            if topic in self._topics:
                return False
            self._topics.add(topic)
            self._later.add(topic)
            if not later:
                self.put_in_force({topic})
            return True

    def put_in_force(self, topics: Collection[bytes]) -> None:
        """Take the events of these topics, as far as they are subscribed, from now on."""
        with self._changing:
            for topic in self._later.intersection(topics):
                self._later.remove(topic)
                if topic:
                    self.routes[topic] = self._route(topic)
                else:
                    self._everything = True

    def unsubscribe(self, topic: bytes) -> bool:
        """Undo `subscribe`. False if it was not subscribed."""
        with self._changing:
            if topic not in self._topics:
                return False
            self._later.add(topic)
            self._rebuild()  # also forgets what was learned
            self._topics.remove(topic)  # last: until then a signal handler may raise, and the next call does all of it
            self._later.discard(topic)
            return True

    def attach(
        self,
        event_type: BaseEventType,
        callback: Callback[EventClass],
        topic: bytes | None,
        options: HandlerOptions = PLAIN,
    ) -> None:
        """Call the callback for events of this type, on this topic or (None) on every subscribed one.

        Args:
            event_type: the type.
            callback: gets the event.
            topic: the topic.
            options: how it is called. The same object for several types: their calls are limited together. The instrument
                takes care of answers and middleware.
        """
        with self._changing:
            self._attached.append(_Attached(event_type, callback, topic, options, self._calls_of(callback, options)))
            self._rebuild()

    def detach(self, event_type: BaseEventType, callback: Callback[EventClass], topic: bytes | None) -> None:
        """Undo every `attach` with these arguments."""
        gone = _Attached(event_type, callback, topic)
        with self._changing:
            before = self._calls()
            self._attached = [attached for attached in self._attached if attached != gone]
            self._rebuild()
            keeps_loop = any(is_async(attached.callback) for attached in self._attached)
            unused = before - self._calls()
            self._detached = {calls for calls in self._detached if not calls.is_idle} | unused
        for calls in unused:
            calls.retire()
        if not keeps_loop:
            self.coroutines.retire()

    def handler_names(self) -> set[str]:
        """The qualified names of the attached callbacks."""
        with self._changing:
            return {callback_name(attached.callback) for attached in self._attached}

    def instrument(self, instrument: Instrument[EventClass] | None) -> None:
        """Call from now on what `instrument` makes of each callback instead of it; None: the callbacks themselves."""
        with self._changing:
            self._instrument = instrument
            for attached in self._attached:
                attached.instrumented.clear()
            self._rebuild()

    def resume_calls(self) -> None:
        """Accept calls of handlers with `concurrency` again."""
        for calls in self._calls():
            calls.resume()

    def hurry(self) -> None:
        """Let nobody wait for room among the calls of handlers if it is one of these that stops the consumer."""
        for calls in self._calls() | self._detached:
            calls.hurry()
        self.coroutines.hurry()

    def stop_calls(self, deadline: Deadline) -> int:
        """Wait for the calls of handlers with `concurrency`, and drop what has not begun. Returns how many still run."""
        return sum(calls.stop(deadline) for calls in self._calls() | self._detached)

    def calls_under_way(self, resting: Collection[Thread]) -> list[Thread | None]:
        """The threads of calls of handlers with `concurrency`, without these; None for one that is about to begin."""
        return [thread for calls in self._calls() | self._detached for thread in calls.under_way(resting)]

    def abandon(self) -> None:
        """Let a running `dispatch` drop all events after the one that is being handled."""
        self.abandoned += 1

    def add_stream(self, stream: EventStream[EventClass]) -> None:
        """Feed the stream from now on, until it is closed or nobody refers to it."""
        with self._changing:
            self._streams = (*self._streams, weakref.ref(stream))
        if not self.buffer.is_open:  # another thread has just closed the client
            stream.close()

    def end(self) -> None:
        """End the waiting for events: the transport is closed, and none will come."""
        self.buffer.close()
        with self._changing:
            streams, self._streams = self._streams, ()
        for reference in streams:
            if (stream := reference()) is not None:
                stream.close()

    def takes(self, topic: bytes) -> bool:
        """Whether this topic is subscribed. Requests to historians, and answers to others, are no events."""
        if topic in self.routes or topic == self.question:
            return True
        return self._everything and not topic.startswith(PRIVATE_PREFIXES)

    def route_of(self, topic: bytes) -> Route[EventClass]:
        """The route of a subscribed topic."""
        known = self.routes.get(topic)
        if known is not None:
            return known
        with self._changing:
            route = self._route(topic)
            if len(self.routes) < _MAX_LEARNED_TOPICS:
                self.routes[topic] = route
            return route

    def routes_of(self, topics: list[bytes]) -> list[Route[EventClass]] | None:
        """The routes of these topics; None if one of them is not subscribed, or was never seen before."""
        if topics and topics.count(topics[0]) == len(topics):
            route = self.routes.get(topics[0])
            return None if route is None else [route] * len(topics)
        routes = list(map(self.routes.get, topics))
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
            abandoned: how often `abandon` had been called when the caller's thread began; None: until now.
            headers: the encoded headers of each; None if none has any.
        """
        running = self._running = iter(events) if headers is None else with_headers_of(events, headers)
        self.buffer.extend(events)
        if self._streams:
            self._feed(events, topics)
        handling.topics = topics, running
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
                    if result is None or not self._goes_on(result, callback, event, abandoned):
                        handled += 1
        self._counters.add(handled=handled, handler_errors=handler_errors)
        handling.topics = None
        if headers is not None:
            clear_headers()

    def dispatch_one(
        self, route: Route[EventClass], event: EventClass, topics: list[bytes], abandoned: int, headers: bytes = b""
    ) -> None:
        """Do as `dispatch` does, with one event and in few steps.

        At low rates each of them finds nothing of what it needs in the processor's cache, and takes up to a microsecond.
        """
        self._running = _NONE_LEFT
        self.buffer.append(event)
        if self._streams:
            self._feed([event], topics)
        if self.abandoned != abandoned:
            self._drop([route], [event], 1)
            return
        handling.topics = topics, _NONE_LEFT
        if headers:
            set_headers(headers)
        handled = handler_errors = 0
        for callback in route.get(event.type, ()):
            try:
                result = callback(event)
            except BaseException as error:  # as in `dispatch`
                handler_errors += 1
                self._report(callback, event, error)
            else:
                if result is None or not self._goes_on(result, callback, event, abandoned):
                    handled += 1
        self._counters.add(handled=handled, handler_errors=handler_errors)
        handling.topics = None
        if headers:
            clear_headers()

    def position(self) -> tuple[int, int]:
        """The number of events that came in, and of those of the last `dispatch` still to be handled. Any thread may ask.

        It changes with each event that is handled. It costs the events nothing, because their iterator knows.
        """
        return self.buffer.received, length_hint(self._running)

    def _feed(self, events: list[EventClass], topics: list[bytes]) -> None:
        for reference in self._streams:
            stream = reference()
            if stream is not None and stream.is_open:
                stream.feed(events, topics)
            else:
                with self._changing:
                    self._streams = tuple(other for other in self._streams if other is not reference)

    def _drop(self, routes: list[Route[EventClass]], events: list[EventClass], last: int) -> None:
        """Count the events, among this many last ones, that have a callback, which is not called."""
        dropped = sum(event.type in route for route, event in zip(routes[-last:], events[-last:], strict=True))
        if dropped:
            self._counters.drops.add(DropReason.STOPPED, dropped)

    def _goes_on(self, result: object, callback: Callback[EventClass], event: EventClass, abandoned: int) -> bool:
        """Take care of what a callback has returned; return whether the event is not handled by now, or not wanted."""
        if inspect.iscoroutine(result):
            outcome = _Outcome(self, callback, event)
            with keeping_topic():
                self.coroutines.submit(result, outcome.done)
            return True
        if isinstance(result, Later):
            wrapped = wrapper_of(callback)
            assert wrapped is not None, "only wrapped handlers have options"
            outcome = _Outcome(self, callback, event)
            try:
                result.calls.submit(
                    result.key, wrapped.call, event, result.context, outcome, lambda: self.abandoned != abandoned
                )
            except Exception as error:  # the key cannot be compared with others
                wrapped.fail(event, error)
                outcome.done(error, 0.0, None, told=True)
            return True
        if result is NOT_WANTED:
            return True
        self.check_result(callback, result)
        return False

    def check_result(self, callback: Callback[EventClass], result: object) -> None:
        """Warn once if a handler returns an event that nobody gets."""
        if not isinstance(result, BaseEvent):
            return
        wrapped = wrapper_of(callback)
        name = callback_name(callback) if wrapped is None else wrapped.name
        if name not in self._warned and not (wrapped is not None and wrapped.answers):
            self._warned.add(name)
            self._log.warning(
                "handler %s returns %s, which nobody gets: emit it, or mark the handler with @answers",
                name,
                type(result).__name__,
                handler=name,
                event_class=type(result).__name__,
            )

    def _calls(self) -> set[ConcurrentCalls]:
        with self._changing:
            return {attached.calls for attached in self._attached if attached.calls is not None}

    def _calls_of(self, callback: Callback[EventClass], options: HandlerOptions) -> ConcurrentCalls | None:
        """What calls this handler several times at once, for all its types and topics; None if its options do not say so."""
        if options.concurrency is None:
            return None
        for attached in self._attached:
            if attached.options is options and attached.callback == callback:
                return attached.calls
        if is_async(callback):
            return CallsOnLoop(options.concurrency, self.coroutines)
        return CallsInThreads(options.concurrency)

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
        in_force = self._topics - self._later
        self.routes = {topic: self._route(topic) for topic in in_force if topic}
        self._everything = b"" in in_force

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
            instrumented = self._instrument(topic, attached.callback, attached.options)
            if isinstance(instrumented, WrappedHandler):
                called = _guarded(instrumented, attached.options, attached.calls).call
            else:
                called = instrumented
            if topic in self._topics:
                attached.instrumented[topic] = called
        return called


def _guarded(
    handler: WrappedHandler, options: HandlerOptions, calls: ConcurrentCalls | None
) -> WrappedHandler | GuardedHandler:
    if options.where is None and calls is None:
        return handler
    return GuardedHandler(handler, options.where, calls, options.key)


class _Outcome:
    """Notes how a call has ended that goes on while the consumer does.

    Args:
        dispatcher: has made the call.
        callback: what was called.
        event: its argument.
    """

    __slots__ = ("_callback", "_confirmation", "_dispatcher", "_event", "_wrapped")

    def __init__(self, dispatcher: Dispatcher[Any], callback: Callback[Any], event: BaseEvent[Any]) -> None:
        self._dispatcher = dispatcher
        self._callback = callback
        self._event = event
        self._wrapped = wrapper_of(callback)
        self._confirmation = dispatcher.confirmation
        if self._confirmation is not None:
            self._confirmation.begin()

    def done(self, error: BaseException | None, duration: float, returned: object, *, told: bool = False) -> None:
        """It has returned or raised; `told`: hooks know it."""
        if isinstance(error, ClientClosing):
            self.dropped()
            return
        dispatcher = self._dispatcher
        if returned is not None:
            dispatcher.check_result(self._callback, returned)
        if self._wrapped is not None and not told:
            self._wrapped.tell(self._event, duration, error)
        if error is None:
            dispatcher._counters.add(handled=1)
        else:
            dispatcher._report(self._callback, self._event, error)
            dispatcher._counters.add(handler_errors=1)
        if self._confirmation is not None:
            # What was cancelled is no Exception.
            self._confirmation.end(handled=error is None or isinstance(error, Exception))

    def dropped(self) -> None:
        """It was not made, because the consumer stops."""
        self._dispatcher._counters.drops.add(DropReason.STOPPED, 1)
        if self._confirmation is not None:
            self._confirmation.end(handled=False)


def _shown(event: BaseEvent[Any]) -> str:
    """The event for a line in the log. Its repr may hold names of extra fields as others have sent them."""
    try:
        return printable(repr(event), _MAX_SHOWN_CHARACTERS)
    except Exception:  # a service's own __repr__ may raise anything
        return f"an event of {type(event).__name__} whose repr failed"
