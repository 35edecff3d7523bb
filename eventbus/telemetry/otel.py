"""OpenTelemetry: metrics and traces by its messaging conventions.

It needs the API only. Without an SDK the API's own objects do nothing, and events get no header.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from time import perf_counter
from typing import Any

from opentelemetry import context, propagate, trace
from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider, get_meter
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, TracerProvider, get_tracer

from eventbus._base.printable import printable
from eventbus.errors import InvalidHeaders
from eventbus.events import BaseEvent
from eventbus.handle.middleware import Delivery, Emission, EmitNext, HandleNext, HandleNextAsync, Middleware
from eventbus.observe.hooks import EventBusHook
from eventbus.telemetry.labels import Bounded, error_type
from eventbus.wire.frames import MAX_TOPIC_BYTES
from eventbus.wire.headers import Headers, encode_headers

SCOPE = "eventbus"  # the instrumentation scope of the meter and the tracer

# Metrics
SENT_MESSAGES = "messaging.client.sent.messages"
CONSUMED_MESSAGES = "messaging.client.consumed.messages"
OPERATION_DURATION = "messaging.client.operation.duration"
PROCESS_DURATION = "messaging.process.duration"

# Attributes
SYSTEM = "messaging.system"
OPERATION_NAME = "messaging.operation.name"
OPERATION_TYPE = "messaging.operation.type"
DESTINATION_NAME = "messaging.destination.name"
BATCH_MESSAGE_COUNT = "messaging.batch.message_count"
ERROR_TYPE = "error.type"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
CODE_FUNCTION_NAME = "code.function.name"

# Their values
ZEROMQ = "zeromq"
SEND, RECEIVE, PROCESS = "send", "receive", "process"  # operations; their names and their types are the same

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)  # seconds, by the conventions

MAX_ERROR_TYPES = 20  # of each topic

type Attributes = dict[str, str | int]


def _operation(name: str, host: str | None, port: int | None) -> Attributes:
    """Return the attributes of all spans and measurements of one operation."""
    attributes: Attributes = {SYSTEM: ZEROMQ, OPERATION_NAME: name, OPERATION_TYPE: name}
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
    def received(self, topic: str, events: Sequence[BaseEvent[Any]], size: int) -> None:
        """Count the events."""
        self._consumed.add(len(events), self._receive[topic])

    def handled(self, topic: str, event: BaseEvent[Any], handler: str, duration: float) -> None:
        """Record the duration."""
        self._processing.record(duration, self._process.succeeded[topic])

    def handler_failed(self, topic: str, event: BaseEvent[Any], handler: str, duration: float, error: BaseException) -> None:
        """Record the duration, with the error."""
        self._processing.record(duration, self._process.failed(topic, error))


class OpenTelemetryTraces(Middleware):
    """Makes a span of each call that emits and of each call of a handler; the trace context travels with the event.

    The span of a handler is a child of the span of the emitting call, so a trace shows everything that an event leads to,
    including events that handlers emit. The conventions ask for a link, because a span may be about many messages, and allow
    a parent if it is about one. Here it is about one, and has both.

    What is propagated, and how, is OpenTelemetry's global propagator's: W3C Trace Context and Baggage, unless
    ``OTEL_PROPAGATORS`` has it otherwise. A context that is malformed counts as none.

    Args:
        host: where the proxy runs; None without a proxy.
        pub_port: the proxy's port for publishers.
        sub_port: the proxy's port for subscribers.
        tracer_provider: None for OpenTelemetry's global one.
    """

    def __init__(
        self,
        host: str | None = None,
        pub_port: int | None = None,
        sub_port: int | None = None,
        *,
        tracer_provider: TracerProvider | None = None,
    ) -> None:
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
        brought = _brings_context(emission.headers)
        span = self._tracer.start_span(
            self._send_names[topic],
            kind=SpanKind.PRODUCER,
            attributes=attributes,
            links=_links(_extract(emission.headers)) if brought else None,
        )
        with _inside(span, trace.set_span_in_context(span)):
            headers = emission.headers if brought else _inject(emission.headers)
            call_next(emission if headers is emission.headers else replace(emission, headers=headers))

    def handle(self, delivery: Delivery, call_next: HandleNext) -> object:
        """Make a span in the context that came with the event."""
        with self._span_of(delivery):
            return call_next(delivery)

    async def handle_async(self, delivery: Delivery, call_next: HandleNextAsync) -> object:
        """Make a span in the context that came with the event."""
        with self._span_of(delivery):
            return await call_next(delivery)

    @contextmanager
    def _span_of(self, delivery: Delivery) -> Iterator[None]:
        came = _extract(delivery.headers)
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


def _brings_context(headers: Headers) -> bool:
    return bool(headers) and _links(_extract(headers)) is not None


def _extract(headers: Headers) -> Context:
    """Return the context in these headers, without anything of the calling thread's context."""
    empty = Context()
    if headers:
        # No malformed header and no propagator's defect may keep the event from its handler.
        with suppress(Exception):
            return propagate.extract(headers, empty)
    return empty


def _inject(headers: Headers) -> Headers:
    """Return these headers with the current context, as far as they have room for it."""
    injected: dict[str, str] = {}
    with suppress(Exception):  # no propagator's defect may keep the event from being sent
        propagate.inject(injected)
    for name, value in injected.items():
        more = {name: value, **headers}
        if _fits(more):  # else the event travels without it
            headers = more
    return headers


def _fits(headers: Headers) -> bool:
    try:
        encode_headers(headers)
    except InvalidHeaders:
        return False
    return True
