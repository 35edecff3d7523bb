"""The names of all metrics: those of Prometheus as its own checker wants them, those of OpenTelemetry by its conventions."""

from collections.abc import Callable, Mapping

import pytest
from opentelemetry.sdk.metrics.export import HistogramDataPoint, Metric, NumberDataPoint
from prometheus_client import CollectorRegistry, Counter, Gauge

from eventbus import ClientState, DropReason, EventBusHealth, RejectReason, StateChange
from eventbus.handle.middleware import Emission
from eventbus.telemetry import names
from eventbus.telemetry.labels import LIMIT
from eventbus.telemetry.otel import OpenTelemetryMetrics
from eventbus.telemetry.prometheus import PrometheusHook
from tests.eventbus.telemetry.conftest import Meters
from tests.eventbus.telemetry.names import complaints
from tests.support import MyEventTopic, event

type Make = Callable[[CollectorRegistry], object]

# The first four are the conventions'; units of all are written as the conventions want them.
OF_OPENTELEMETRY = {
    "messaging.client.sent.messages": "{message}",
    "messaging.client.consumed.messages": "{message}",
    "messaging.client.operation.duration": "s",
    "messaging.process.duration": "s",
    "eventbus.client.io": "By",
    "eventbus.client.rejected.messages": "{message}",
    "eventbus.client.dropped.messages": "{message}",
    "eventbus.client.lost.messages": "{message}",
    "eventbus.client.repaired.messages": "{message}",
    "eventbus.client.count": "{client}",
    "eventbus.client.state.changes": "{change}",
    "eventbus.client.echo.round_trip": "s",
    "eventbus.client.consumer.busy": "s",
}
ATTRIBUTES = {
    "messaging.system",
    "messaging.operation.name",
    "messaging.operation.type",
    "messaging.destination.name",
    "messaging.client.id",
    "error.type",
    "server.address",
    "server.port",
    "network.io.direction",
    "eventbus.client.state",
    "eventbus.reason",
}
OF_PROMETHEUS = {
    "eventbus_emitted_events_total",
    "eventbus_emitted_bytes_total",
    "eventbus_received_events_total",
    "eventbus_received_bytes_total",
    "eventbus_handler_duration_seconds",
    "eventbus_handler_errors_total",
    "eventbus_rejected_messages_total",
    "eventbus_dropped_events_total",
    "eventbus_lost_events_total",
    "eventbus_repaired_events_total",
    "eventbus_clients",
    "eventbus_named_clients",
    "eventbus_state_changes_total",
    "eventbus_echo_round_trip_seconds",
    "eventbus_consumer_busy_seconds",
}


def flood(hook: PrometheusHook | OpenTelemetryMetrics) -> None:
    """Tell of everything that a client can tell of, with ever new names for what others can name."""
    for number in range(1_000):
        topic, error = f"invented\n{number}", type(f"Error{number}", (Exception,), {})()
        hook.emitted(topic, [event()], 10)
        hook.received(topic, [event()], 10)
        hook.handled(topic, event(), f"app.<lambda at {number}>", 0.1)
        hook.handler_failed(topic, event(), f"app.<lambda at {number}>", 0.1, error)
        hook.lost(topic, 1)
        hook.repaired(topic, 1)
    for reject in RejectReason:
        hook.rejected(reject, 1)
    for drop in set(DropReason) - {DropReason.UNREAD}:
        hook.dropped(drop, 1)
    for before in ClientState:
        for state in ClientState:
            hook.state_changed(StateChange(before, state, "a test"))


class Watched:
    """Something that has a health, as a client has."""

    def health(self) -> EventBusHealth:
        return EventBusHealth(
            ready=True,
            live=True,
            state=ClientState.READY,
            round_trip=0.5,
            echo_age=1.0,
            consuming=True,
            busy_for=0.25,
            name="plant",
        )


def attributes_of(point: object) -> Mapping[str, object]:
    assert isinstance(point, NumberDataPoint | HistogramDataPoint)
    return point.attributes or {}


def test_prometheus_has_good_names(registry: CollectorRegistry) -> None:
    """Every metric has a help text, a unit and bounded labels, whatever strangers invent; every name is as it should be."""
    flood(PrometheusHook(registry))
    assert complaints(registry) == []


def test_prometheus_has_these_names(registry: CollectorRegistry) -> None:
    """These metrics, and no other, are there; each has its name in the module of names."""
    PrometheusHook(registry)
    families = {f"{family.name}_total" if family.type == "counter" else family.name for family in registry.collect()}
    assert families == OF_PROMETHEUS
    constants = {value for name, value in vars(names).items() if name.isupper() and str(value).startswith("eventbus_")}
    assert constants == OF_PROMETHEUS


def gauge(name: str, unit: str, text: str = "A test.") -> Make:
    return lambda registry: Gauge(name, text, unit=unit, registry=registry)


def counter(label: str, *values: str) -> Make:
    def make(registry: CollectorRegistry) -> None:
        made = Counter("eventbus_some_events", "A test.", [label], unit="events", registry=registry)
        for value in values:
            made.labels(value)

    return make


BAD = {
    "is not in snake case": gauge("eventbus_roundTrip_seconds", "seconds"),
    "lacks the prefix": gauge("round_trip_seconds", "seconds"),
    "has a suffix": gauge("eventbus_events_count", "count"),
    "has its type": gauge("eventbus_gauge_seconds", "seconds"),
    "is no sentence": gauge("eventbus_round_trip_seconds", "seconds", "seconds"),
    "has no unit": gauge("eventbus_round_trip", ""),
    "is no base unit": gauge("eventbus_round_trip_minutes", "minutes"),
    "label aB is not": counter("aB", "a"),
    "label job is reserved": counter("job", "a"),
    "does not print": counter("topic", "a\nb"),
    "has 300 values": counter("topic", *map(str, range(300))),
}


@pytest.mark.parametrize(("expected", "make"), BAD.items(), ids=BAD.keys())
def test_a_bad_name_is_found(registry: CollectorRegistry, expected: str, make: Make) -> None:
    """The check finds each kind of mistake."""
    make(registry)
    assert any(expected in complaint for complaint in complaints(registry))


def test_opentelemetry_has_good_names(meters: Meters) -> None:
    """These instruments, and no other, are there, with their units and texts; attributes are these, and have few values."""
    metrics = OpenTelemetryMetrics("plant-1", 5559, 5560, meter_provider=meters.provider)
    flood(metrics)
    metrics.emit(Emission([event()], MyEventTopic.my_service), lambda _: None)
    watched = Watched()
    metrics.watch(watched)
    read = meters.read()
    assert {name: metric.unit for name, metric in read.items()} == OF_OPENTELEMETRY
    for metric in read.values():
        assert metric.description
        seen = [(name, value) for point in metric.data.data_points for name, value in attributes_of(point).items()]
        assert {name for name, _ in seen} <= ATTRIBUTES
        assert len(set(seen)) <= 2 * (LIMIT + 1) + 20  # topics, errors, and few values of each of the others
    constants = {value for name, value in vars(names).items() if name.isupper() and isinstance(value, str) and "." in value}
    assert constants == OF_OPENTELEMETRY.keys() | ATTRIBUTES | {"messaging.batch.message_count", "code.function.name"}


def total_of(metric: Metric, attributes: Mapping[str, object]) -> float:
    """The sum of a metric's data points that have these attributes; histograms count their values."""
    return sum(
        point.count if isinstance(point, HistogramDataPoint) else point.value
        for point in metric.data.data_points
        if isinstance(point, HistogramDataPoint | NumberDataPoint) and attributes.items() <= attributes_of(point).items()
    )


# Which data points of OpenTelemetry's metric have the fact of Prometheus' metric, where not all have.
ONLY: dict[str, dict[str, object]] = {
    names.EMITTED_BYTES: {"network.io.direction": "transmit"},
    names.RECEIVED_BYTES: {"network.io.direction": "receive"},
}


def test_both_export_the_same(registry: CollectorRegistry, meters: Meters) -> None:
    """OpenTelemetry exports each fact that Prometheus exports, with the same value."""
    prometheus, otel = PrometheusHook(registry), OpenTelemetryMetrics(meter_provider=meters.provider)
    watched = Watched()
    for hook in (prometheus, otel):
        hook.watch(watched)
        hook.emitted("plant", [event(1), event(2)], 300)
        hook.received("plant", [event(3)], 70)
        hook.handled("plant", event(), "app.handle", 0.5)
        hook.handler_failed("plant", event(), "app.handle", 0.5, ValueError("no"))
        hook.rejected(RejectReason.JSON, 5)
        hook.dropped(DropReason.SEND_BUFFER, 7)
        hook.lost("plant", 11)
        hook.repaired("plant", 12)
        hook.state_changed(StateChange(ClientState.CLOSED, ClientState.CONNECTING, "a test"))
        hook.state_changed(StateChange(ClientState.CONNECTING, ClientState.READY, "a test"))
    otel.emit(Emission([event(1), event(2)], MyEventTopic.my_service), lambda _: None)  # where it counts events
    read = meters.read()
    assert names.OTEL_OF_PROMETHEUS.keys() == OF_PROMETHEUS
    assert read.keys() == set(names.OTEL_OF_PROMETHEUS.values()) | {"messaging.client.operation.duration"}
    values: dict[str, float] = {}
    for family in registry.collect():
        total = f"{family.name}_total" if family.type == "counter" else family.name
        wanted = f"{family.name}_count" if family.type == "histogram" else total
        values[total] = sum(sample.value for sample in family.samples if sample.name == wanted)
    values[names.HANDLER_ERRORS] = 2  # OpenTelemetry has them as calls with an `error.type`
    assert values == {name: total_of(read[same], ONLY.get(name, {})) for name, same in names.OTEL_OF_PROMETHEUS.items()}
    failed = total_of(read[names.PROCESS_DURATION], {"error.type": "ValueError"})
    assert failed == registry.get_sample_value(names.HANDLER_ERRORS, {"handler": "app.handle", "error_type": "ValueError"})
