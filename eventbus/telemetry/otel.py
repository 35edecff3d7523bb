"""OpenTelemetry: metrics and traces by its messaging conventions.

It needs the API only. Without an SDK the API's own objects do nothing, and events get no header.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from threading import Lock
from time import perf_counter
from typing import Any
from weakref import WeakKeyDictionary

from opentelemetry import baggage as baggages
from opentelemetry import context, propagate, trace
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation, get_meter, get_meter_provider
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, TracerProvider, get_tracer

from eventbus._base.printable import printable
from eventbus.errors import InvalidHeaders
from eventbus.events import BaseEvent, BaseEventType
from eventbus.handle.middleware import Delivery, Emission, EmitNext, HandleNext, HandleNextAsync, Middleware
from eventbus.observe.hooks import EventBusHook
from eventbus.observe.state import StateChange
from eventbus.observe.stats import DropReason
from eventbus.telemetry.clients import HasHealth, OpenClients, WatchedClients
from eventbus.telemetry.labels import Bounded, error_type
from eventbus.telemetry.names import (
    BATCH_MESSAGE_COUNT,
    CLIENT_COUNT,
    CLIENT_IO,
    CLIENT_STATE,
    CLIENT_STATE_CHANGES,
    CODE_FUNCTION_NAME,
    CONSUMED_MESSAGES,
    CONSUMER_BUSY,
    DESTINATION_NAME,
    DROPPED_MESSAGES,
    ECHO_ROUND_TRIP,
    ERROR_TYPE,
    IO_DIRECTION,
    LOST_MESSAGES,
    OPERATION_DURATION,
    OPERATION_NAME,
    OPERATION_TYPE,
    PROCESS_DURATION,
    REASON,
    REJECTED_MESSAGES,
    SENT_MESSAGES,
    SERVER_ADDRESS,
    SERVER_PORT,
    SYSTEM,
)
from eventbus.wire.codec import RejectReason
from eventbus.wire.frames import MAX_TOPIC_BYTES
from eventbus.wire.headers import Headers, encode_headers

SCOPE = "eventbus"  # the instrumentation scope of the meter and the tracer

# Values of attributes
ZEROMQ = "zeromq"
SEND, RECEIVE, PROCESS = "send", "receive", "process"  # operations; their names and their types are the same
TRANSMITTED, RECEIVED = "transmit", "receive"  # directions

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)  # seconds, by the conventions

MAX_ERROR_TYPES = 20  # of each topic

BAGGAGE = "baggage"  # the header of W3C Baggage

type Attributes = dict[str, str | int]


def _operation(name: str, host: str | None, port: int | None) -> Attributes:
    """Return the attributes of all spans and measurements of one operation."""
    return {OPERATION_NAME: name, OPERATION_TYPE: name, **_server(host, port)}


def _server(host: str | None, port: int | None) -> Attributes:
    """Return the attributes that say which bus it is."""
    attributes: Attributes = {SYSTEM: ZEROMQ}
    if host is not None:
        attributes[SERVER_ADDRESS] = host
        if port is not None:
            attributes[SERVER_PORT] = port
    return attributes


class _Outcomes:
    """The attributes of an operation's measurements, by topic, and by topic and error."""

    def __init__(self, name: str, host: str | None, port: int | None) -> None:
        every = _operation(name, host, port)
        self.succeeded: Bounded[Attributes] = Bounded(lambda topic: every | {DESTINATION_NAME: topic})
        self._failed: Bounded[Bounded[Attributes]] = Bounded(
            lambda topic: Bounded(lambda error: every | {DESTINATION_NAME: topic, ERROR_TYPE: error}, MAX_ERROR_TYPES)
        )
        self._error_types = Bounded(str)

    def failed(self, topic: str, error: BaseException) -> Attributes:
        return self._failed[topic][self._error_types[error_type(error)]]


class OpenTelemetryMetrics(EventBusHook, Middleware):
    """Counts and times what a client does. Give it to the client both as a hook and as a middleware.

    Attributes have a hundred topics at most; later ones count as ``_OTHER``.

    Args:
        host: where the proxy runs; None without a proxy.
        pub_port: the proxy's port for publishers.
        sub_port: the proxy's port for subscribers.
        meter_provider: None for OpenTelemetry's global one.
    """

    def __init__(
        self,
        host: str | None = None,
        pub_port: int | None = None,
        sub_port: int | None = None,
        *,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        meter = get_meter(SCOPE, meter_provider=meter_provider)
        self._sent = meter.create_counter(SENT_MESSAGES, "{message}", "Events that were emitted, or were to be.")
        self._consumed = meter.create_counter(CONSUMED_MESSAGES, "{message}", "Events that have arrived and were decoded.")
        self._sending = meter.create_histogram(
            OPERATION_DURATION, "s", "How long emitting took.", explicit_bucket_boundaries_advisory=BUCKETS
        )
        self._processing = meter.create_histogram(
            PROCESS_DURATION,
            "s",
            "How long calls of handlers took, with the middleware around them.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )
        self._send = _Outcomes(SEND, host, pub_port)
        self._receive = _Outcomes(RECEIVE, host, sub_port).succeeded
        self._process = _Outcomes(PROCESS, host, sub_port)

        # Below the conventions have no metrics. A client has one identity here: its publishing side's.
        self._io = meter.create_counter(
            CLIENT_IO, "By", "JSON of emitted events before compression; payloads as they arrived."
        )
        self._rejected = meter.create_counter(
            REJECTED_MESSAGES, "{message}", "Messages, or elements of packed messages, that were no event."
        )
        self._dropped = meter.create_counter(DROPPED_MESSAGES, "{message}", "Events that were dropped.")
        self._lost = meter.create_counter(
            LOST_MESSAGES, "{message}", "Events of numbering publishers that have never arrived."
        )
        self._clients = meter.create_up_down_counter(CLIENT_COUNT, "{client}", "Clients that are not closed.")
        self._state_changes = meter.create_counter(CLIENT_STATE_CHANGES, "{change}", "Changes of clients to a state.")
        self._open = OpenClients()
        self._client = _server(host, pub_port)
        self._transmitted: Bounded[Attributes] = Bounded(lambda topic: self._of_topic(topic) | {IO_DIRECTION: TRANSMITTED})
        self._arrived: Bounded[Attributes] = Bounded(lambda topic: self._of_topic(topic) | {IO_DIRECTION: RECEIVED})
        self._of_topics = Bounded(self._of_topic)
        self._watched = _watched_with(meter, meter_provider)

    def watch(self, client: HasHealth) -> None:
        """Read the echo's round trip and the consumer's progress from this client's health at each export.

        The clients of one proxy are exported together, as the worst of them. They are kept weakly.
        """
        self._watched.add(client, tuple(self._client.items()))

    def emit(self, emission: Emission, call_next: EmitNext) -> None:
        """Count the events, and record the duration, whether the call succeeds or fails."""
        topic = str(emission.topic)
        start = perf_counter()
        try:
            call_next(emission)
        except BaseException as error:
            attributes = self._send.failed(topic, error)
            raise
        else:
            attributes = self._send.succeeded[topic]
        finally:
            self._sending.record(perf_counter() - start, attributes)
            self._sent.add(len(emission.events), attributes)

    # BaseEvent[Any]: as in `EventBusHook`.
    def emitted(self, topic: str, events: Sequence[BaseEvent[Any] | BaseEventType], size: int) -> None:
        """Count the bytes; `emit` counts the events."""
        self._io.add(size, self._transmitted[topic])

    def received(self, topic: str, events: Sequence[BaseEvent[Any]], size: int) -> None:
        """Count events and bytes."""
        self._consumed.add(len(events), self._receive[topic])
        self._io.add(size, self._arrived[topic])

    def handled(self, topic: str, event: BaseEvent[Any], handler: str, duration: float) -> None:
        """Record the duration."""
        self._processing.record(duration, self._process.succeeded[topic])

    def handler_failed(self, topic: str, event: BaseEvent[Any], handler: str, duration: float, error: BaseException) -> None:
        """Record the duration, with the error."""
        self._processing.record(duration, self._process.failed(topic, error))

    def rejected(self, reason: RejectReason, count: int) -> None:
        """Count."""
        self._rejected.add(count, {**self._client, REASON: str(reason)})

    def dropped(self, reason: DropReason, count: int) -> None:
        """Count."""
        self._dropped.add(count, {**self._client, REASON: str(reason)})

    def lost(self, topic: str, count: int) -> None:
        """Count."""
        self._lost.add(count, self._of_topics[topic])

    def state_changed(self, change: StateChange) -> None:
        """Count the change, and move the client from its old state to the new one; CLOSED clients are not counted."""
        self._state_changes.add(1, {**self._client, CLIENT_STATE: str(change.state)})
        left, entered = self._open.move(change)
        if left is not None:
            self._clients.add(-1, {**self._client, CLIENT_STATE: str(left)})
        if entered is not None:
            self._clients.add(1, {**self._client, CLIENT_STATE: str(entered)})

    def _of_topic(self, topic: str) -> Attributes:
        return {**self._client, DESTINATION_NAME: topic}


type _Group = tuple[tuple[str, str | int], ...]  # the attributes of a client

# A meter accepts the callbacks of an observable instrument once, so all clients of a provider share them.
_watched_of: WeakKeyDictionary[MeterProvider, WatchedClients[_Group]] = WeakKeyDictionary()
_watched_globally: WatchedClients[_Group] = WatchedClients()
_sharing = Lock()


def _watched_with(meter: Meter, provider: MeterProvider | None) -> WatchedClients[_Group]:
    """Return the clients that the gauges of the provider observe; None is the global provider, also one to come."""
    if provider is None or provider is get_meter_provider():
        watched = _watched_globally
    else:
        with _sharing:
            watched = _watched_of.setdefault(provider, WatchedClients())

    def round_trips(_: CallbackOptions) -> Iterable[Observation]:
        for group, worst in watched.worst().items():
            if worst.round_trip is not None:
                yield Observation(worst.round_trip, dict(group))

    def busy(_: CallbackOptions) -> Iterable[Observation]:
        for group, worst in watched.worst().items():
            if worst.busy_for is not None:
                yield Observation(worst.busy_for, dict(group))

    meter.create_observable_gauge(ECHO_ROUND_TRIP, [round_trips], "s", "How long the last echo through the proxy took.")
    meter.create_observable_gauge(
        CONSUMER_BUSY, [busy], "s", "How long ago the consumer last made progress; 0 while it waits."
    )
    return watched


class OpenTelemetryTraces(Middleware):
    """Makes a span of each call that emits and of each call of a handler; the trace context travels with the event.

    The span of a handler is a child of the span of the emitting call, so a trace shows everything that an event leads to,
    including events that handlers emit. The conventions ask for a link, because a span may be about many messages, and allow
    a parent if it is about one. Here it is about one, and has both.

    OpenTelemetry's global propagator writes and reads the context: W3C Trace Context, unless ``OTEL_PROPAGATORS`` says
    otherwise. A malformed context counts as none. Baggage does not travel unless `baggage` is set: everybody who may publish
    could otherwise put values into the context of every handler, and handlers would hand them on to all that they call.

    Args:
        host: where the proxy runs; None without a proxy.
        pub_port: the proxy's port for publishers.
        sub_port: the proxy's port for subscribers.
        baggage: whether the caller's baggage travels with events, and handlers get the baggage that came with theirs.
        tracer_provider: None for OpenTelemetry's global one.
    """

    def __init__(
        self,
        host: str | None = None,
        pub_port: int | None = None,
        sub_port: int | None = None,
        *,
        baggage: bool = False,
        tracer_provider: TracerProvider | None = None,
    ) -> None:
        self._baggage = baggage
        self._tracer = get_tracer(SCOPE, tracer_provider=tracer_provider)
        self._send = _operation(SEND, host, pub_port)
        self._process = _operation(PROCESS, host, sub_port)
        # Attributes of spans may have any number of values; their names should be few.
        self._send_names = Bounded(lambda topic: f"{SEND} {topic}")
        self._process_names = Bounded(lambda topic: f"{PROCESS} {topic}")

    def emit(self, emission: Emission, call_next: EmitNext) -> None:
        """Make a span, and send its context with the events.

        An emission that has a context of its own keeps it, and the span links to that.
        """
        topic = str(emission.topic)
        attributes: Attributes = {**self._send, DESTINATION_NAME: topic}
        if emission.packed:
            attributes[BATCH_MESSAGE_COUNT] = len(emission.events)
        brought = _links(self._extract(emission.headers)) is not None
        span = self._tracer.start_span(
            self._send_names[topic],
            kind=SpanKind.PRODUCER,
            attributes=attributes,
            links=_links(self._extract(emission.headers)) if brought else None,
        )
        with _inside(span, trace.set_span_in_context(span)):
            headers = emission.headers if brought else self._inject(emission.headers)
            call_next(emission if headers is emission.headers else replace(emission, headers=headers))

    def handle(self, delivery: Delivery, call_next: HandleNext) -> object:
        """Make a span in the context that came with the event."""
        with self._span_of(delivery):
            return call_next(self._admit(delivery))

    async def handle_async(self, delivery: Delivery, call_next: HandleNextAsync) -> object:
        """Make a span in the context that came with the event."""
        with self._span_of(delivery):
            return await call_next(self._admit(delivery))

    @contextmanager
    def _span_of(self, delivery: Delivery) -> Iterator[None]:
        came = self._extract(delivery.headers)
        span = self._tracer.start_span(
            self._process_names[delivery.topic],
            context=came,
            kind=SpanKind.CONSUMER,
            attributes={
                **self._process,
                DESTINATION_NAME: printable(delivery.topic, MAX_TOPIC_BYTES),
                CODE_FUNCTION_NAME: delivery.handler,
            },
            links=_links(came),
        )
        with _inside(span, trace.set_span_in_context(span, came)):
            yield

    def _admit(self, delivery: Delivery) -> Delivery:
        """Return the delivery without baggage, unless it may travel: middleware such as `DeadLetter` sends headers on."""
        if self._baggage or BAGGAGE not in delivery.headers:
            return delivery
        return replace(delivery, headers={name: value for name, value in delivery.headers.items() if name != BAGGAGE})

    def _extract(self, headers: Headers) -> Context:
        """Return the context in these headers, without anything of the calling thread's context."""
        extracted = Context()
        if headers:
            # No malformed header and no propagator's defect may keep the event from its handler.
            with suppress(Exception):
                extracted = propagate.extract(headers, extracted)
        return extracted if self._baggage else baggages.clear(extracted)

    def _inject(self, headers: Headers) -> Headers:
        """Return these headers with the current context, as far as they have room for it."""
        current = context.get_current()
        injected: dict[str, str] = {}
        with suppress(Exception):  # no propagator's defect may keep the event from being sent
            propagate.inject(injected, current if self._baggage else baggages.clear(current))
        for name, value in injected.items():
            more = {name: value, **headers}
            if _fits(more):  # else the event travels without it
                headers = more
        return headers


@contextmanager
def _inside(span: Span, inner: Context) -> Iterator[None]:
    """Run the block in a context that has the span, and end the span with the error that the block raises."""
    token = context.attach(inner)
    try:
        yield
    except BaseException as error:  # SystemExit and CancelledError too: the handler has failed
        if span.is_recording():
            _fail(span, error)
        raise
    finally:
        context.detach(token)
        span.end()


def _fail(span: Span, error: BaseException) -> None:
    name = error_type(error)
    span.set_attribute(ERROR_TYPE, name)
    try:
        text = f"{name}: {error}"
        span.record_exception(error)
    except Exception:  # __str__ of a service's error may raise anything
        text = name
    span.set_status(Status(StatusCode.ERROR, text))


def _links(came: Context) -> list[Link] | None:
    remote = trace.get_current_span(came).get_span_context()
    return [Link(remote)] if remote.is_valid else None


def _fits(headers: Headers) -> bool:
    try:
        encode_headers(headers)
    except InvalidHeaders:
        return False
    return True
