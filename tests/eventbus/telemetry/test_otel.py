"""`OpenTelemetryMetrics` and `OpenTelemetryTraces` with the real SDK: what they tell, and what travels with an event."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import baggage, context, propagate, trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from opentelemetry.sdk.metrics.export import HistogramDataPoint, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from eventbus import ClientState, DeadLetter, DropReason, RejectReason, StateChange
from eventbus.errors import InvalidSettings, InvalidTopic, RequestFailed, SendBufferFull
from eventbus.handle.middleware import Delivery, Emission
from eventbus.telemetry.labels import LIMIT, OTHER
from eventbus.telemetry.otel import OpenTelemetryMetrics, OpenTelemetryTraces
from eventbus.telemetry.otel_metrics import MAX_ERROR_TYPES
from eventbus.wire.headers import MAX_HEADER_BYTES, NO_HEADERS, Headers, encode_headers
from tests.eventbus.telemetry.conftest import Meters, Spans
from tests.eventbus.telemetry.test_prometheus import Patient
from tests.support import PATIENCE, Bus, MyEventTopic, MyEventType, event, run_script, run_threads

TOPIC = MyEventTopic.my_service
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE_ID, SPAN_ID = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331

type Emit = Callable[[Emission], None]


def emission(count: int = 1, headers: Headers = NO_HEADERS, *, packed: bool = False) -> Emission:
    return Emission([event(number) for number in range(count)], TOPIC, headers, packed=packed)


def emit_nothing(emission: Emission) -> None:
    raise AssertionError("no handler of these emits")


def delivery(headers: Headers = NO_HEADERS, topic: str = "my_service") -> Delivery:
    return Delivery(event(), topic, headers, "app.Tank.fill", emit_nothing)


class Sent:
    """Takes emissions, as a transport would."""

    def __init__(self) -> None:
        self.emissions: list[Emission] = []

    def __call__(self, emission: Emission) -> None:
        self.emissions.append(emission)

    @property
    def headers(self) -> Headers:
        """The headers of the last emission."""
        return self.emissions[-1].headers


@pytest.fixture
def sent() -> Sent:
    return Sent()


@pytest.fixture
def metrics(meters: Meters) -> OpenTelemetryMetrics:
    return OpenTelemetryMetrics("plant-1", 5559, 5560, meter_provider=meters.provider)


@pytest.fixture
def traces(spans: Spans) -> OpenTelemetryTraces:
    return OpenTelemetryTraces("plant-1", 5559, 5560, tracer_provider=spans.provider)


@pytest.fixture(autouse=True)
def _context_is_left() -> Iterator[None]:
    """Whatever happens, a call leaves the caller's context as it was."""
    before = context.get_current()
    yield
    assert context.get_current() == before


def failing(error: BaseException) -> Callable[[object], None]:
    def fail(_: object) -> None:
        raise error

    return fail


def counted(meters: Meters, name: str) -> dict[tuple[str, str | None], int | float]:
    """The counts of a counter by topic and error."""
    found = {}
    for point in meters.read()[name].data.data_points:
        assert isinstance(point, NumberDataPoint)
        assert point.attributes is not None
        found[str(point.attributes["messaging.destination.name"]), _error(point.attributes)] = point.value
    return found


def timed(meters: Meters, name: str) -> dict[tuple[str, str | None], HistogramDataPoint]:
    """The points of a histogram by topic and error."""
    found = {}
    for point in meters.read()[name].data.data_points:
        assert isinstance(point, HistogramDataPoint)
        assert point.attributes is not None
        found[str(point.attributes["messaging.destination.name"]), _error(point.attributes)] = point
    return found


def _error(attributes: Mapping[str, object]) -> str | None:
    error = attributes.get("error.type")
    return None if error is None else str(error)


def context_of(span: ReadableSpan) -> tuple[int, int]:
    """The trace that a span belongs to, and its own number there."""
    own = span.get_span_context()
    assert own is not None
    return own.trace_id, own.span_id


def traceparent_of(headers: Headers) -> tuple[int, int, bool]:
    """The trace and the span in a header, and whether it is sampled."""
    version, trace_id, span_id, flags = headers["traceparent"].split("-")
    assert version == "00"
    return int(trace_id, 16), int(span_id, 16), bool(int(flags, 16) & 1)


def remote_parent(span: ReadableSpan) -> tuple[int, int]:
    """The trace and the span that a span continues, from another process."""
    assert span.parent is not None
    assert span.parent.is_remote
    return span.parent.trace_id, span.parent.span_id


# Metrics


def test_sending_is_counted_and_timed(metrics: OpenTelemetryMetrics, meters: Meters, sent: Sent) -> None:
    """Each event of an emission counts; the call's duration is one value, in seconds; the emission goes on as it was."""
    given = emission(3, packed=True)
    metrics.emit(given, sent)
    metrics.emit(emission(), sent)
    assert sent.emissions[0] is given
    assert counted(meters, "messaging.client.sent.messages") == {("my_service", None): 4}
    point = timed(meters, "messaging.client.operation.duration")["my_service", None]
    assert point.count == 2
    assert 0 < point.sum < PATIENCE


def test_failed_sending_has_its_error(metrics: OpenTelemetryMetrics, meters: Meters) -> None:
    """An emission that fails counts apart, with its error, which is raised on."""
    with pytest.raises(SendBufferFull):
        metrics.emit(emission(), failing(SendBufferFull("here", 1)))
    key = ("my_service", "eventbus.SendBufferFull")
    assert counted(meters, "messaging.client.sent.messages") == {key: 1}
    assert timed(meters, "messaging.client.operation.duration")[key].count == 1


def test_what_arrives_is_counted(metrics: OpenTelemetryMetrics, meters: Meters) -> None:
    """Events that arrive are counted, those of packed messages one by one."""
    metrics.received("plant", [event(1), event(2)], 300)
    metrics.received("plant", [event(3)], 150)
    assert counted(meters, "messaging.client.consumed.messages") == {("plant", None): 3}


def test_handling_is_timed(metrics: OpenTelemetryMetrics, meters: Meters) -> None:
    """The duration of handling is recorded by topic, that of a failure with its error."""
    metrics.handled("plant", event(), "app.Tank.fill", 0.25)
    metrics.handler_failed("plant", event(), "app.Tank.fill", 0.5, ValueError("no"))
    points = timed(meters, "messaging.process.duration")
    assert points["plant", None].sum == 0.25
    assert points["plant", "ValueError"].sum == 0.5


def test_attributes_say_where(metrics: OpenTelemetryMetrics, meters: Meters, sent: Sent) -> None:
    """Every value has the conventions' attributes: the system, the operation, the topic and the proxy's port for it."""
    metrics.emit(emission(), sent)
    metrics.received("my_service", [event()], 150)
    metrics.handled("my_service", event(), "app.Tank.fill", 0.25)
    operations = {
        "messaging.client.sent.messages": ("send", 5559),
        "messaging.client.operation.duration": ("send", 5559),
        "messaging.client.consumed.messages": ("receive", 5560),
        "messaging.process.duration": ("process", 5560),
    }
    read = meters.read()
    for name, (operation, port) in operations.items():
        [point] = read[name].data.data_points
        assert point.attributes == {
            "messaging.system": "zeromq",
            "messaging.operation.name": operation,
            "messaging.operation.type": operation,
            "messaging.destination.name": "my_service",
            "server.address": "plant-1",
            "server.port": port,
        }


def test_without_a_proxy_there_is_no_server(meters: Meters, sent: Sent) -> None:
    """Without a known host, such as in memory, no attribute names one."""
    OpenTelemetryMetrics(meter_provider=meters.provider).emit(emission(), sent)
    [point] = meters.read()["messaging.client.sent.messages"].data.data_points
    assert point.attributes is not None
    assert not {name for name in point.attributes if name.startswith("server.")}


def test_invented_topics_count_together(metrics: OpenTelemetryMetrics, meters: Meters) -> None:
    """After a hundred topics all others count as one, and so do errors of a topic after a limit."""
    for number in range(3 * LIMIT):
        metrics.received(f"invented\n{number}", [event()], 10)
        metrics.handled(f"invented\n{number}", event(), "app.handle", 0.1)
        metrics.handler_failed("plant", event(), "app.handle", 0.1, type(f"Error{number}", (Exception,), {})())
    for found in (counted(meters, "messaging.client.consumed.messages"), timed(meters, "messaging.process.duration")):
        topics = {topic for topic, error in found if error is None}
        assert len(topics) == LIMIT + 1
        assert OTHER in topics
        assert all(topic.isprintable() for topic in topics)
    errors = {error for _, error in timed(meters, "messaging.process.duration")} - {None}
    assert len(errors) == MAX_ERROR_TYPES + 1


def counts_of(meters: Meters, name: str, attribute: str) -> dict[str, float]:
    """The counts of a metric, by one of its attributes."""
    found: dict[str, float] = {}
    for point in meters.read()[name].data.data_points:
        assert isinstance(point, NumberDataPoint)
        assert point.attributes is not None
        found[str(point.attributes[attribute])] = point.value
    return found


def test_what_is_missing_is_counted(metrics: OpenTelemetryMetrics, meters: Meters) -> None:
    """Rejects and drops are counted by their reason, losses by topic, and they say which bus it is."""
    metrics.rejected(RejectReason.SCHEMA, 3)
    metrics.dropped(DropReason.SEND_BUFFER, 4)
    metrics.dropped(DropReason.CLOSED, 1)
    metrics.lost("plant", 5)
    assert counts_of(meters, "eventbus.client.rejected.messages", "eventbus.reason") == {"schema": 3}
    assert counts_of(meters, "eventbus.client.dropped.messages", "eventbus.reason") == {"send_buffer": 4, "closed": 1}
    assert counts_of(meters, "eventbus.client.lost.messages", "messaging.destination.name") == {"plant": 5}
    assert counts_of(meters, "eventbus.client.lost.messages", "server.address") == {"plant-1": 5}


def test_states_are_counted(metrics: OpenTelemetryMetrics, meters: Meters) -> None:
    """An open client counts in the state that it is in, and in no other, a closed one in none. Changes are counted."""
    closed, connecting, ready = ClientState.CLOSED, ClientState.CONNECTING, ClientState.READY
    for before, state in ((closed, connecting), (connecting, ready)):
        metrics.state_changed(StateChange(before, state, "a test"))
    states = "eventbus.client.state"
    assert counts_of(meters, "eventbus.client.count", states) == {"connecting": 0, "ready": 1}
    metrics.state_changed(StateChange(ready, closed, "a test"))
    assert counts_of(meters, "eventbus.client.count", states) == {"connecting": 0, "ready": 0}
    changes = counts_of(meters, "eventbus.client.state.changes", states)
    assert changes == {"connecting": 1, "ready": 1, "closed": 1}


def test_clients_of_one_provider_share_gauges(meters: Meters, caplog: pytest.LogCaptureFixture) -> None:
    """The worst client of each proxy is observed, those of other proxies apart; closed and collected clients are not."""
    here, there = (OpenTelemetryMetrics(host, 5559, 5560, meter_provider=meters.provider) for host in ("here", "there"))
    quick, slow, closed = Patient(round_trip=0.25), Patient(round_trip=0.5, busy_for=3.0), Patient(state=ClientState.CLOSED)
    for metrics, client in ((here, quick), (here, slow), (here, closed), (there, quick_there := Patient(round_trip=0.125))):
        metrics.watch(client)
    round_trip, busy = "eventbus.client.echo.round_trip", "eventbus.client.consumer.busy"
    assert counts_of(meters, round_trip, "server.address") == {"here": 0.5, "there": 0.125}
    assert counts_of(meters, busy, "server.address") == {"here": 3.0, "there": 0.0}
    del slow, client, quick_there
    gc.collect()
    assert counts_of(meters, round_trip, "server.address") == {"here": 0.25}
    assert caplog.messages == []  # the SDK warns of instruments that are in conflict


def test_clients_of_one_bus_count_together(meters: Meters, sent: Sent) -> None:
    """The counts of several clients of a bus are added up, from several threads too; another bus has values of its own."""
    clients = [OpenTelemetryMetrics("plant-1", 5559, 5560, meter_provider=meters.provider) for _ in range(4)]
    elsewhere = OpenTelemetryMetrics("plant-2", 5559, 5560, meter_provider=meters.provider)

    def work(number: int) -> None:
        for _ in range(300):
            clients[number].received("plant", [event(1), event(2)], 30)
            clients[number].emit(emission(2, packed=True), lambda _: None)

    run_threads(4, work)
    elsewhere.received("plant", [event(1)], 10)
    assert counts_of(meters, "messaging.client.consumed.messages", "server.address") == {"plant-1": 2_400, "plant-2": 1}
    assert counts_of(meters, "messaging.client.sent.messages", "messaging.destination.name") == {"my_service": 2_400}
    assert counts_of(meters, "eventbus.client.io", "server.address") == {"plant-1": 36_000, "plant-2": 10}
    clients[0].received("plant", [event(1)], 10)  # what was read goes on
    assert counts_of(meters, "messaging.client.consumed.messages", "server.address") == {"plant-1": 2_401, "plant-2": 1}


@pytest.mark.parametrize(("timed", "least", "most"), [(0.0, 0, 0), (0.5, 350, 650), (1.0, 1_000, 1_000)])
def test_a_part_of_the_calls_is_timed(meters: Meters, sent: Sent, timed: float, least: int, most: int) -> None:
    """With `timed` a part of the calls that succeed is in the histograms; failures are all there, and events all count."""
    metrics = OpenTelemetryMetrics(meter_provider=meters.provider, timed=timed)
    add_duration = metrics.handling("my_service", "app.Tank.fill")
    for _ in range(1_000):
        metrics.emit(emission(), sent)
        add_duration(0.25)
    for _ in range(10):
        metrics.handler_failed("my_service", event(), "app.Tank.fill", 0.25, ValueError("no"))
        with pytest.raises(ValueError, match="no"):
            metrics.emit(emission(), failing(ValueError("no")))
    for name in ("messaging.client.operation.duration", "messaging.process.duration"):
        points = timed_points(meters, name)
        assert least <= points.get(("my_service", None), 0) <= most
        assert points["my_service", "ValueError"] == 10
    counted_events = counted(meters, "messaging.client.sent.messages")
    assert counted_events == {("my_service", None): 1_000, ("my_service", "ValueError"): 10}


@pytest.mark.parametrize("share", ["0.1", 1.5, -0.1, float("nan"), None])
def test_what_is_no_share_is_refused(share: Any) -> None:
    """A share that is none is refused with its name, and not by the first event."""
    with pytest.raises(InvalidSettings, match=r"^timed=.*: it must be a number from 0 to 1$"):
        OpenTelemetryMetrics(timed=share)
    with pytest.raises(InvalidSettings, match=r"^sampled=.*: it must be a number from 0 to 1$"):
        OpenTelemetryTraces(sampled=share)


def test_a_fast_series_is_timed_in_part(meters: Meters, sent: Sent) -> None:
    """By default the first calls of a burst are all in the histograms, and few of the others; failures are all there."""
    metrics = OpenTelemetryMetrics(meter_provider=meters.provider)
    add_duration = metrics.handling("my_service", "app.Tank.fill")
    for _ in range(20_000):
        metrics.emit(emission(), sent)
        add_duration(0.0)
    for _ in range(10):
        metrics.handler_failed("my_service", event(), "app.Tank.fill", 0.25, ValueError("no"))
        with pytest.raises(ValueError, match="no"):
            metrics.emit(emission(), failing(ValueError("no")))
    for name in ("messaging.client.operation.duration", "messaging.process.duration"):
        points = timed_points(meters, name)
        assert 1_024 <= points["my_service", None] < 20_000
        assert points["my_service", "ValueError"] == 10
    assert counted(meters, "messaging.client.sent.messages")["my_service", None] == 20_000


def timed_points(meters: Meters, name: str) -> dict[tuple[str, str | None], int]:
    """The number of values that a histogram has, by topic and error."""
    return {key: point.count for key, point in timed(meters, name).items()}


@pytest.mark.process
def test_what_is_counted_before_an_sdk_is_not_lost() -> None:
    """Counts from before the service set up its SDK are exported by it, as its own program shows."""
    assert run_script(BEFORE_THE_SDK).stdout.split() == ["3", "3"]


BEFORE_THE_SDK = """
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from eventbus.telemetry.otel import OpenTelemetryMetrics

hook = OpenTelemetryMetrics("plant-1", 5559, 5560)
hook.received("plant", [object(), object()], 10)
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
hook.received("plant", [object()], 10)
for provider in (None, metrics.get_meter_provider()):
    OpenTelemetryMetrics("plant-1", 5559, 5560, meter_provider=provider)
    [metric] = [
        metric
        for metric in reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
        if metric.name == "messaging.client.consumed.messages"
    ]
    print(sum(point.value for point in metric.data.data_points))
"""


# Spans of emitting


def test_emitting_is_a_span(traces: OpenTelemetryTraces, spans: Spans, sent: Sent) -> None:
    """An emitting call is a PRODUCER span with the conventions' attributes; its context is in the headers."""
    traces.emit(emission(), sent)
    [span] = spans.wait_for(1)
    assert (span.name, span.kind, span.status.status_code) == ("send my_service", SpanKind.PRODUCER, StatusCode.UNSET)
    assert span.attributes == {
        "messaging.system": "zeromq",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": "my_service",
        "server.address": "plant-1",
        "server.port": 5559,
    }
    assert sent.headers.keys() == {"traceparent"}
    assert traceparent_of(sent.headers) == (*context_of(span), True)


@pytest.mark.parametrize("count", [1, 3])
def test_a_call_of_emit_events_says_how_many(traces: OpenTelemetryTraces, spans: Spans, sent: Sent, count: int) -> None:
    """emit_events is one span, which says how many events it was for, as batching calls do."""
    traces.emit(emission(count, packed=True), sent)
    [span] = spans.wait_for(1)
    assert span.attributes is not None
    assert span.attributes["messaging.batch.message_count"] == count


def test_what_calls_is_the_parent(traces: OpenTelemetryTraces, spans: Spans, sent: Sent) -> None:
    """Emitting inside of a span continues its trace."""
    with spans.provider.get_tracer("test").start_as_current_span("around"):
        traces.emit(emission(), sent)
    inner, outer = spans.wait_for(2)
    assert inner.parent == outer.get_span_context()


def test_inside_the_span(traces: OpenTelemetryTraces, spans: Spans) -> None:
    """Anything inside of it, such as another middleware, finds the span as the current one."""
    seen: list[int] = []
    traces.emit(emission(), lambda _: seen.append(trace.get_current_span().get_span_context().span_id))
    [span] = spans.wait_for(1)
    assert seen == [context_of(span)[1]]


def test_failed_emitting(traces: OpenTelemetryTraces, spans: Spans) -> None:
    """A call that raises is an error of its span, with its type and its text."""
    with pytest.raises(InvalidTopic):
        traces.emit(emission(), failing(InvalidTopic("no such topic")))
    [span] = spans.wait_for(1)
    _assert_failed(span, "eventbus.InvalidTopic", "no such topic")


def test_other_headers_stay(traces: OpenTelemetryTraces, sent: Sent) -> None:
    """Headers that an emission brings are kept beside the context."""
    traces.emit(emission(headers={"correlation": "7"}), sent)
    assert sent.headers["correlation"] == "7"
    assert sent.headers.keys() == {"correlation", "traceparent"}


def test_a_context_that_is_brought_stays(traces: OpenTelemetryTraces, spans: Spans, sent: Sent) -> None:
    """An emission that has a context, such as one that was stored, keeps it; the span links to it."""
    given = emission(headers={"traceparent": TRACEPARENT})
    traces.emit(given, sent)
    assert sent.emissions == [given]
    [span] = spans.wait_for(1)
    [link] = span.links
    assert (link.context.trace_id, link.context.span_id) == (TRACE_ID, SPAN_ID)
    assert span.parent is None


def test_baggage_alone_is_no_context(traces: OpenTelemetryTraces, spans: Spans, sent: Sent) -> None:
    """An emission that has only baggage keeps it, and gets the context that it lacks."""
    traces.emit(emission(headers={"baggage": "key=own"}), sent)
    [span] = spans.wait_for(1)
    assert sent.headers["baggage"] == "key=own"
    assert f"{span.context.trace_id:032x}" in sent.headers["traceparent"]


def test_a_context_that_is_too_long_stays_behind(spans: Spans, sent: Sent) -> None:
    """If baggage would make the headers too long, the event goes without it, and the trace goes on."""
    traces = OpenTelemetryTraces(baggage=True, tracer_provider=spans.provider)
    token = context.attach(baggage.set_baggage("much", "x" * 4_000, baggage.set_baggage("more", "y" * 4_000)))
    traces.emit(emission(headers={"own": "z" * 1_000}), sent)
    context.detach(token)
    assert sent.headers.keys() == {"own", "traceparent"}
    full = {"own": "z" * (MAX_HEADER_BYTES - len(encode_headers({"own": ""})))}
    traces.emit(emission(headers=full), sent)
    assert sent.headers == full


def test_without_an_sdk_nothing_travels(sent: Sent) -> None:
    """With the API alone no header is added, and the emission goes on as it is."""
    given = emission()
    OpenTelemetryTraces().emit(given, sent)
    OpenTelemetryMetrics().emit(given, sent)
    assert [taken is given for taken in sent.emissions] == [True, True]


def test_what_is_not_sampled_travels_as_such(sent: Sent) -> None:
    """The start of a trace decides whether it is recorded: the context of one that is not tells the following services."""
    provider = TracerProvider(ALWAYS_OFF, shutdown_on_exit=False)
    OpenTelemetryTraces(tracer_provider=provider).emit(emission(), sent)
    *_, sampled = traceparent_of(sent.headers)
    assert not sampled


@pytest.mark.parametrize(("sampled", "least", "most"), [(0.0, 0, 0), (0.5, 350, 650), (1.0, 1_000, 1_000)])
def test_a_part_of_the_traces_begins(spans: Spans, sent: Sent, sampled: float, least: int, most: int) -> None:
    """With `sampled` a part of the emissions begins a trace, with a span and a context; the others go on as they are."""
    traces = OpenTelemetryTraces(tracer_provider=spans.provider, sampled=sampled)
    given = emission()
    for _ in range(1_000):
        traces.emit(given, sent)
    begun = [taken for taken in sent.emissions if taken is not given]
    assert least <= len(begun) == len(spans.exporter.get_finished_spans()) <= most
    assert all(taken.headers.keys() == {"traceparent"} for taken in begun)
    assert len(sent.emissions) == 1_000


@pytest.mark.parametrize("is_sampled", [True, False])
def test_a_trace_that_has_begun_goes_on(sent: Sent, spans: Spans, is_sampled: bool) -> None:
    """Chance decides about the beginning of a trace only: within a span its context travels, sampled or not."""
    provider = spans.provider if is_sampled else TracerProvider(ALWAYS_OFF, shutdown_on_exit=False)
    traces = OpenTelemetryTraces(tracer_provider=provider, sampled=0.0)
    with provider.get_tracer("test").start_as_current_span("around") as around:
        traces.emit(emission(), sent)
        with traces.request("my_service"):
            pass
    trace_id, _, sampled = traceparent_of(sent.headers)
    assert (trace_id, sampled) == (around.get_span_context().trace_id, is_sampled)
    assert len(spans.exporter.get_finished_spans()) == (3 if is_sampled else 0)


def test_a_request_may_begin_no_trace(spans: Spans) -> None:
    """A request outside of a span is left out as an emission is."""
    with OpenTelemetryTraces(tracer_provider=spans.provider, sampled=0.0).request("my_service"):
        assert not trace.get_current_span().get_span_context().is_valid
    assert not spans.exporter.get_finished_spans()


def test_chance_decides_once_about_a_request(spans: Spans, sent: Sent) -> None:
    """What a request emits belongs to its trace, or to none."""
    traces = OpenTelemetryTraces(tracer_provider=spans.provider, sampled=0.5)
    for _ in range(300):
        with traces.request("my_service"):
            traces.emit(emission(), sent)
    finished = spans.exporter.get_finished_spans()
    asked = {span.context.span_id for span in finished if span.kind is SpanKind.CLIENT and span.context}
    parents = [span.parent and span.parent.span_id for span in finished if span.kind is SpanKind.PRODUCER]
    assert set(parents) == asked
    assert 50 < len(asked) < 250
    with traces.request("my_service"):
        pass
    assert 50 < sum(traces.chooses_emission() for _ in range(300)) < 250  # it holds for a request only


# Spans of handling


def test_handling_is_a_span(traces: OpenTelemetryTraces, spans: Spans) -> None:
    """A handler's call is a CONSUMER span: its parent is the span that came with the event, to which it links too."""
    given = delivery({"traceparent": TRACEPARENT, "tracestate": "vendor=1"})
    assert traces.handle(given, lambda passed: ("returned", passed)) == ("returned", given)
    [span] = spans.wait_for(1)
    assert (span.name, span.kind) == ("process my_service", SpanKind.CONSUMER)
    assert span.attributes == {
        "messaging.system": "zeromq",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "my_service",
        "server.address": "plant-1",
        "server.port": 5560,
        "code.function.name": "app.Tank.fill",
    }
    assert remote_parent(span) == (TRACE_ID, SPAN_ID)
    [link] = span.links
    assert link.context == span.parent
    assert link.context.trace_state["vendor"] == "1"


def test_emitting_inside_a_handler_continues_the_trace(traces: OpenTelemetryTraces, spans: Spans, sent: Sent) -> None:
    """An event that a handler emits belongs to the trace of the event that it handles."""
    traces.handle(delivery({"traceparent": TRACEPARENT}), lambda _: traces.emit(emission(), sent))
    emitted, handled = spans.wait_for(2)
    assert emitted.parent == handled.get_span_context()
    assert traceparent_of(sent.headers) == (TRACE_ID, context_of(emitted)[1], True)


@pytest.mark.parametrize("loop", [False, True], ids=["thread", "loop"])
def test_a_request_and_its_answer_are_one_trace(
    connected: Callable[..., Bus], traces: OpenTelemetryTraces, spans: Spans, loop: bool
) -> None:
    """The span of a request lasts until the answer, and has those of emitting and of the answering handler in it."""
    service, bus = connected(middleware=[traces]), connected(middleware=[traces])
    service.subscribe(TOPIC)
    service.attach_callback(MyEventType.updated, lambda event: event.value, answers=True)
    service.attach_callback(MyEventType.stopped, failing(ValueError("no")), answers=True)
    service.start_consumer()
    if loop:
        assert asyncio.run(bus.arequest(event(3), TOPIC, float, PATIENCE)) == 3
    else:
        assert bus.request(event(3), TOPIC, float, PATIENCE) == 3
    spans.wait_for(3)
    asked, sent, handled = (spans.named(f"{operation} my_service") for operation in ("request", "send", "process"))
    assert asked.parent is None
    assert asked.kind is SpanKind.CLIENT
    assert sent.parent == asked.get_span_context()
    assert remote_parent(handled) == context_of(sent)
    assert asked.end_time is not None
    assert handled.start_time is not None
    assert asked.end_time > handled.start_time
    spans.exporter.clear()
    with pytest.raises(RequestFailed):
        bus.request(event(event_type=MyEventType.stopped), TOPIC, float, PATIENCE)
    spans.wait_for(3)
    assert spans.named("request my_service").status.status_code is StatusCode.ERROR


def test_a_context_goes_through_without_an_sdk(sent: Sent) -> None:
    """A service without an SDK hands the context on that came to it: the trace goes on behind it."""
    traces = OpenTelemetryTraces()
    traces.handle(delivery({"traceparent": TRACEPARENT}), lambda _: traces.emit(emission(), sent))
    assert sent.headers == {"traceparent": TRACEPARENT}


def test_without_headers_a_trace_begins(traces: OpenTelemetryTraces, spans: Spans) -> None:
    """Handling an event that came without a context begins a trace, whatever the calling thread is in the midst of."""
    with spans.provider.get_tracer("test").start_as_current_span("around"):
        traces.handle(delivery(), lambda _: None)
    handled, _ = spans.wait_for(2)
    assert handled.parent is None
    assert handled.links == ()


MALFORMED = [
    "",
    "nonsense",
    TRACEPARENT[:-1],
    TRACEPARENT + "-more",
    TRACEPARENT.upper(),
    "ff" + TRACEPARENT[2:],
    "00-" + "0" * 32 + "-b7ad6b7169203331-01",
    "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
    "0" * 8_000,
    "\ud800",
]


@pytest.mark.parametrize("value", MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_context_counts_as_none(traces: OpenTelemetryTraces, spans: Spans, value: str) -> None:
    """A traceparent that is none is ignored: the handler is called, and its span begins a trace."""
    seen: list[Delivery] = []
    traces.handle(delivery({"traceparent": value, "tracestate": value, "baggage": value}), seen.append)
    assert len(seen) == 1
    [span] = spans.wait_for(1)
    assert span.parent is None


@given(headers=st.dictionaries(st.sampled_from(["traceparent", "tracestate", "baggage"]) | st.text(), st.text()))
def test_any_headers_reach_the_handler(headers: dict[str, str]) -> None:
    """Whatever headers others send, the handler is called."""
    seen: list[Delivery] = []
    OpenTelemetryTraces().handle(delivery({"traceparent": TRACEPARENT} | headers), seen.append)
    assert len(seen) == 1


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), asyncio.CancelledError("stopped")])
def test_a_failing_handler(traces: OpenTelemetryTraces, spans: Spans, error: BaseException) -> None:
    """A handler's exception goes on, and is an error of its span: status, type, and the exception with its traceback."""
    with pytest.raises(type(error)):
        traces.handle(delivery(), failing(error))
    [span] = spans.wait_for(1)
    name = type(error).__qualname__
    _assert_failed(span, name if type(error).__module__ == "builtins" else f"{type(error).__module__}.{name}", str(error))


def test_an_error_that_cannot_be_told(traces: OpenTelemetryTraces, spans: Spans) -> None:
    """An exception whose text raises is still the one that the handler has raised, and an error of the span."""

    class UnspeakableError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("not even this")

    with pytest.raises(UnspeakableError):
        traces.handle(delivery(), failing(UnspeakableError()))
    [span] = spans.wait_for(1)
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes is not None
    assert str(span.attributes["error.type"]).endswith("UnspeakableError")


def test_async_handlers(traces: OpenTelemetryTraces, spans: Spans, sent: Sent) -> None:
    """Async handlers have their own contexts: those that run at once do not get into each other's traces."""
    others = f"00-{'1' * 32}-{'2' * 16}-01"

    async def emit_later(_: Delivery) -> str:
        await asyncio.sleep(0)
        traces.emit(emission(), sent)
        return "returned"

    async def main() -> list[object]:
        return await asyncio.gather(
            *(traces.handle_async(delivery({"traceparent": parent}), emit_later) for parent in (TRACEPARENT, others))
        )

    assert asyncio.run(main()) == ["returned", "returned"]
    ended = spans.wait_for(4)
    for trace_id in (TRACE_ID, int("1" * 32, 16)):
        mine = {span.name: span for span in ended if context_of(span)[0] == trace_id}
        assert mine["send my_service"].parent == mine["process my_service"].get_span_context()


@pytest.mark.parametrize("headers", [{}, {"own": "z"}, {"traceparent": TRACEPARENT}])
@pytest.mark.parametrize("is_async", [False, True])
def test_handling_what_began_no_trace(spans: Spans, headers: dict[str, str], is_async: bool) -> None:
    """Where only a part of the traces begins, an event without a context makes no span, and one with a context does."""
    traces = OpenTelemetryTraces(tracer_provider=spans.provider, sampled=0.0)
    given = delivery(headers)

    async def handle(passed: Delivery) -> Delivery:
        return passed

    returned = asyncio.run(_awaited(traces, given, handle)) if is_async else traces.handle(given, lambda passed: passed)
    assert returned is given
    assert [span.name for span in spans.exporter.get_finished_spans()] == ["process my_service"] * ("traceparent" in headers)


def test_a_failing_async_handler(traces: OpenTelemetryTraces, spans: Spans) -> None:
    """An async handler's exception goes on, and is an error of its span."""

    async def fail(_: Delivery) -> object:
        await asyncio.sleep(0)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        asyncio.run(_awaited(traces, delivery(), fail))
    [span] = spans.wait_for(1)
    _assert_failed(span, "ValueError", "no")


async def _awaited(traces: OpenTelemetryTraces, given: Delivery, handler: Callable[[Delivery], object]) -> object:
    return await traces.handle_async(given, handler)  # type: ignore[arg-type] # what it returns is awaitable


def test_invented_topics_make_few_names(traces: OpenTelemetryTraces, spans: Spans) -> None:
    """Span names are few, whatever topics strangers invent; the attribute has the topic, printable."""
    for number in range(LIMIT + 10):
        traces.handle(delivery(topic=f"invented\n{number}"), lambda _: None)
    ended = spans.wait_for(LIMIT + 10)
    assert len({span.name for span in ended}) == LIMIT + 1
    last = ended[-1]
    assert last.name == f"process {OTHER}"
    assert last.attributes is not None
    assert last.attributes["messaging.destination.name"] == f"invented\\n{LIMIT + 9}"


def test_a_broken_propagator(traces: OpenTelemetryTraces, sent: Sent) -> None:
    """A global propagator that fails, on what others sent or by itself, costs no event its way."""

    class Broken(TextMapPropagator):
        def inject(
            self, carrier: CarrierT, context: Context | None = None, setter: Setter[CarrierT] = default_setter
        ) -> None:
            raise RuntimeError("broken")

        def extract(
            self, carrier: CarrierT, context: Context | None = None, getter: Getter[CarrierT] = default_getter
        ) -> Context:
            raise RuntimeError("broken")

        @property
        def fields(self) -> set[str]:
            return {"x-broken"}

    before = propagate.get_global_textmap()
    propagate.set_global_textmap(Broken())
    try:
        given = emission()
        traces.emit(given, sent)
        assert sent.emissions == [given]
        seen: list[Delivery] = []
        traces.handle(delivery({"x-broken": "7"}), seen.append)
        assert len(seen) == 1
    finally:
        propagate.set_global_textmap(before)


# Baggage


def handled_with_baggage(traces: OpenTelemetryTraces, *, is_async: bool) -> tuple[Mapping[str, object], Headers]:
    """The baggage in a handler's context, and in the headers that its middleware gets, if baggage came with its event."""
    given = delivery({"traceparent": TRACEPARENT, "baggage": "plant=north", "own": "7"})
    found: list[tuple[Mapping[str, object], Headers]] = []

    def note(passed: Delivery) -> object:
        found.append((baggage.get_all(), passed.headers))
        return None

    async def note_later(passed: Delivery) -> object:
        return note(passed)

    if is_async:
        asyncio.run(_handled(traces, given, note_later))
    else:
        traces.handle(given, note)
    return found[0]


async def _handled(traces: OpenTelemetryTraces, given: Delivery, handler: Callable[[Delivery], Awaitable[object]]) -> object:
    return await traces.handle_async(given, handler)


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_foreign_baggage_reaches_no_handler(traces: OpenTelemetryTraces, is_async: bool) -> None:
    """Without the option a handler's context has no baggage from other processes, and no middleware can send it on."""
    found, headers = handled_with_baggage(traces, is_async=is_async)
    assert found == {}
    assert headers == {"traceparent": TRACEPARENT, "own": "7"}


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_foreign_baggage_with_the_option(spans: Spans, is_async: bool) -> None:
    """With the option handlers get the baggage that came with their event."""
    traces = OpenTelemetryTraces(baggage=True, tracer_provider=spans.provider)
    found, headers = handled_with_baggage(traces, is_async=is_async)
    assert found == {"plant": "north"}
    assert headers["baggage"] == "plant=north"


@pytest.mark.parametrize("allowed", [False, True])
def test_baggage_goes_on_with_the_option_only(spans: Spans, sent: Sent, allowed: bool) -> None:
    """A handler's emissions carry the baggage that came, and a caller's carry the caller's, if the option is set."""
    traces = OpenTelemetryTraces(baggage=allowed, tracer_provider=spans.provider)
    headers = {"traceparent": TRACEPARENT, "baggage": "plant=north"}
    traces.handle(delivery(headers), lambda _: traces.emit(emission(), sent))
    assert sent.headers.get("baggage") == ("plant=north" if allowed else None)
    token = context.attach(baggage.set_baggage("plant", "south"))
    traces.emit(emission(), sent)
    context.detach(token)
    assert sent.headers.get("baggage") == ("plant=south" if allowed else None)
    assert "traceparent" in sent.headers


def test_a_dead_letter_has_no_foreign_baggage(traces: OpenTelemetryTraces, sent: Sent) -> None:
    """An event that DeadLetter puts aside inside of the tracing middleware goes without the baggage that came."""
    letters = DeadLetter(MyEventTopic.other)
    given = Delivery(event(), "my_service", {"baggage": "plant=north", "own": "7"}, "app.Tank.fill", sent)
    with pytest.raises(ValueError, match="no"):
        traces.handle(given, lambda passed: letters.handle(passed, failing(ValueError("no"))))
    assert sent.headers["own"] == "7"
    assert "baggage" not in sent.headers


def _assert_failed(span: ReadableSpan, error: str, text: str) -> None:
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == f"{error}: {text}"
    assert span.attributes is not None
    assert span.attributes["error.type"] == error
    [recorded] = span.events
    assert recorded.name == "exception"
    assert recorded.attributes is not None
    assert recorded.attributes["exception.message"] == text
    assert "Traceback" in str(recorded.attributes["exception.stacktrace"])


def test_spans_have_the_name_of_the_client(spans: Spans) -> None:
    """The name is an attribute of each span, if there is one."""
    traces = OpenTelemetryTraces(tracer_provider=spans.provider, name="shop")
    traces.emit(emission(), lambda _: None)
    traces.handle(delivery({}), lambda _: None)
    with traces.request("plant"):
        pass
    assert [span.attributes and span.attributes["messaging.client.id"] for span in spans.wait_for(3)] == ["shop"] * 3
