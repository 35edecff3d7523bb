"""OpenTelemetry's spans of emitting, handling and asking, and the context that travels with an event."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import replace
from random import random
from types import TracebackType

from opentelemetry import baggage as baggages
from opentelemetry import context, propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, TracerProvider, get_tracer

from eventbus._base.printable import printable
from eventbus.errors import InvalidHeaders
from eventbus.handle.middleware import Choosing, Delivery, Emission, EmitNext, HandleNext, HandleNextAsync
from eventbus.telemetry.labels import Bounded, error_type
from eventbus.telemetry.names import (
    BATCH_MESSAGE_COUNT,
    CLIENT_ID,
    CODE_FUNCTION_NAME,
    DESTINATION_NAME,
    ERROR_TYPE,
    OPERATION_NAME,
)
from eventbus.telemetry.otel_attributes import PROCESS, REQUEST, SCOPE, SEND, ZEROMQ, Attributes, operation, server
from eventbus.telemetry.thinning import check_share
from eventbus.wire.frames import MAX_TOPIC_BYTES
from eventbus.wire.headers import Headers, encode_headers

BAGGAGE = "baggage"  # the header of W3C Baggage

_NO_SPAN: AbstractContextManager[None] = nullcontext()

# Whether this is within a request that begins no trace: then its emission begins none either.
_request_left_out: ContextVar[bool] = ContextVar("eventbus_request_left_out", default=False)


class OpenTelemetryTraces(Choosing):
    """Makes a span of each call that emits, of each call of a handler and of each request; the context travels with events.

    The span of a handler is a child of the span of the emitting call, so a trace shows everything that an event leads to,
    including events that handlers emit. The conventions ask for a link, because a span may be about many messages, and allow
    a parent if it is about one. Here it is about one, and has both.

    OpenTelemetry's global propagator writes and reads the context: W3C Trace Context, unless ``OTEL_PROPAGATORS`` says
    otherwise. A malformed context counts as none. Baggage does not travel unless `baggage` is set: everybody who may publish
    could otherwise put values into the context of every handler, and handlers would hand them on to all that they call.

    Args:
        host: where the proxy runs, or a NATS server; None without either.
        pub_port: the port for publishers.
        sub_port: the port for subscribers.
        baggage: whether the caller's baggage travels with events, and handlers get the baggage that came with theirs.
        tracer_provider: None for OpenTelemetry's global one.
        sampled: which part of the emissions and requests outside of a span begin a trace, between 0 and 1; these are chosen
            at random. The others make no span, and neither a context nor baggage travels with their events. Below 1,
            handlers make no span for an event that came without a context. This costs a fraction of what the SDK takes to
            leave a span out; its own sampler decides about the rest.
        name: of the client, an attribute of all spans; empty: none.
        messaging_system: what carries the events, by the conventions: ``zeromq`` or ``nats``.

    Attributes:
        sampled: as given.

    Raises:
        InvalidSettings: `sampled` is no number from 0 to 1.
    """

    def __init__(
        self,
        host: str | None = None,
        pub_port: int | None = None,
        sub_port: int | None = None,
        *,
        baggage: bool = False,
        tracer_provider: TracerProvider | None = None,
        sampled: float = 1.0,
        name: str = "",
        messaging_system: str = ZEROMQ,
    ) -> None:
        check_share("sampled", sampled)
        named: Attributes = {CLIENT_ID: name} if name else {}
        self._baggage = baggage
        self.sampled = sampled
        self._tracer = get_tracer(SCOPE, tracer_provider=tracer_provider)
        self._send = operation(SEND, host, pub_port, messaging_system) | named
        self._process = operation(PROCESS, host, sub_port, messaging_system) | named
        # Without a type of operation: the conventions have none for it.
        self._request = {OPERATION_NAME: REQUEST, **server(host, pub_port, messaging_system), **named}
        # Attributes of spans may have any number of values; their names should be few.
        self._send_names = Bounded(lambda topic: f"{SEND} {topic}")
        self._process_names = Bounded(lambda topic: f"{PROCESS} {topic}")
        self._request_names = Bounded(lambda topic: f"{REQUEST} {topic}")

    def chooses_emission(self) -> bool:
        """Whether it makes a span: one around it goes on, or chance has it begin."""
        return not (self.sampled < 1 and self._is_left_out())

    def chooses_delivery(self, encoded_headers: bytes) -> bool:
        """Whether handling may have a span: if not all traces begin, an event without a context has none."""
        return bool(encoded_headers) or self.sampled >= 1

    def emit_chosen(self, emission: Emission, call_next: EmitNext) -> None:
        """Make a span, and send its context with the events.

        An emission that has a context of its own keeps it, and the span links to that.
        """
        topic = emission.topic.value
        attributes: Attributes = {**self._send, DESTINATION_NAME: topic}
        if emission.packed:
            attributes[BATCH_MESSAGE_COUNT] = len(emission.events)
        brought = _links(self._extract(emission.headers)) if emission.headers else None
        span = self._tracer.start_span(self._send_names[topic], kind=SpanKind.PRODUCER, attributes=attributes, links=brought)
        if not self._baggage and not span.get_span_context().is_valid:  # without an SDK there is nothing to send
            call_next(emission)
            return
        inner = trace.set_span_in_context(span)
        with _Inside(span, inner):
            if not brought and (headers := self._inject(emission.headers, inner)) is not emission.headers:
                # A third of what `replace` takes.
                emission = Emission(emission.events, emission.topic, headers, emission.packed)
            call_next(emission)

    def request(self, topic: str) -> AbstractContextManager[None]:
        """Make a span from the request to its answer, around that of emitting: the answering handler's span is within it."""
        if self.sampled < 1 and self._is_left_out():
            return _leaving_out()
        attributes: Attributes = {**self._request, DESTINATION_NAME: topic}
        span = self._tracer.start_span(self._request_names[topic], kind=SpanKind.CLIENT, attributes=attributes)
        return _Inside(span, trace.set_span_in_context(span))

    def handle(self, delivery: Delivery, call_next: HandleNext) -> object:
        """Make a span in the context that came with the event."""
        if self.sampled < 1 and not delivery.headers:  # as most events then
            return call_next(delivery)
        with self._span_of(delivery):
            return call_next(self._admit(delivery))

    async def handle_async(self, delivery: Delivery, call_next: HandleNextAsync) -> object:
        """Make a span in the context that came with the event."""
        with self._span_of(delivery):
            return await call_next(self._admit(delivery))

    def _is_left_out(self) -> bool:
        """Whether a call makes no span: there is none around it, and chance has it so."""
        left_out = random() >= self.sampled or _request_left_out.get()
        return left_out and not trace.get_current_span().get_span_context().is_valid

    def _span_of(self, delivery: Delivery) -> AbstractContextManager[None]:
        came = self._extract(delivery.headers)
        links = _links(came) if came else None
        if links is None and self.sampled < 1:
            return _NO_SPAN
        span = self._tracer.start_span(
            self._process_names[delivery.topic],
            context=came,
            kind=SpanKind.CONSUMER,
            attributes={
                **self._process,
                DESTINATION_NAME: printable(delivery.topic, MAX_TOPIC_BYTES),
                CODE_FUNCTION_NAME: delivery.handler,
            },
            links=links,
        )
        return _Inside(span, trace.set_span_in_context(span, came))

    def _admit(self, delivery: Delivery) -> Delivery:
        """Return the delivery without baggage, unless it may travel: middleware such as `DeadLetter` sends headers on."""
        if self._baggage or BAGGAGE not in delivery.headers:
            return delivery
        return replace(delivery, headers={name: value for name, value in delivery.headers.items() if name != BAGGAGE})

    def _extract(self, headers: Headers) -> Context:
        """Return the context in these headers, without anything of the calling thread's context."""
        if not headers:
            return Context()
        try:
            extracted = propagate.extract(headers, Context())
        except Exception:  # no malformed header and no propagator's defect may keep the event from its handler
            return Context()
        return extracted if self._baggage else baggages.clear(extracted)

    def _inject(self, headers: Headers, current: Context) -> Headers:
        """Return these headers with the context, as far as they have room for it."""
        injected: dict[str, str] = {}
        with suppress(Exception):  # no propagator's defect may keep the event from being sent
            propagate.inject(injected, current if self._baggage else baggages.clear(current))
        for name, value in injected.items():
            more = {name: value, **headers}
            if _fits(more):  # else the event travels without it
                headers = more
        return headers


@contextmanager
def _leaving_out() -> Iterator[None]:
    token = _request_left_out.set(True)
    try:
        yield
    finally:
        _request_left_out.reset(token)


class _Inside:
    """Runs a block in a context that has the span, and ends the span with the error that the block raises."""

    __slots__ = ("_inner", "_span", "_token")

    def __init__(self, span: Span, inner: Context) -> None:
        self._span = span
        self._inner = inner

    def __enter__(self) -> None:
        self._token = context.attach(self._inner)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        # SystemExit and CancelledError too: the handler has failed.
        if error is not None and self._span.is_recording():
            _fail(self._span, error)
        context.detach(self._token)
        self._span.end()


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
