"""The names of all metrics: those of Prometheus as its own checker wants them, those of OpenTelemetry by its conventions."""

from collections.abc import Callable, Mapping

import pytest
from opentelemetry.sdk.metrics.export import HistogramDataPoint, NumberDataPoint
from prometheus_client import CollectorRegistry, Counter, Gauge

from eventbus import ClientState, DropReason, RejectReason, StateChange
from eventbus.handle.middleware import Emission
from eventbus.telemetry import otel, prometheus
from eventbus.telemetry.labels import LIMIT
from eventbus.telemetry.otel import OpenTelemetryMetrics
from eventbus.telemetry.prometheus import PrometheusHook
from tests.eventbus.telemetry.conftest import Meters
from tests.eventbus.telemetry.names import complaints
from tests.support import MyEventTopic, event

type Make = Callable[[CollectorRegistry], object]

# What shared/users.md lists; the conventions' units.
OF_OPENTELEMETRY = {
    "messaging.client.sent.messages": "{message}",
    "messaging.client.consumed.messages": "{message}",
    "messaging.client.operation.duration": "s",
    "messaging.process.duration": "s",
}
ATTRIBUTES = {
    "messaging.system",
    "messaging.operation.name",
    "messaging.operation.type",
    "messaging.destination.name",
    "error.type",
    "server.address",
    "server.port",
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
    "eventbus_clients",
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
    for reject in RejectReason:
        hook.rejected(reject, 1)
    for drop in set(DropReason) - {DropReason.UNREAD}:
        hook.dropped(drop, 1)
    for before in ClientState:
        for state in ClientState:
            hook.state_changed(StateChange(before, state, "a test"))


def attributes_of(point: object) -> Mapping[str, object]:
    assert isinstance(point, NumberDataPoint | HistogramDataPoint)
    return point.attributes or {}


def test_prometheus_has_good_names(registry: CollectorRegistry) -> None:
    """Every metric has a help text, a unit and bounded labels, whatever strangers invent; every name is as it should be."""
    flood(PrometheusHook(registry))
    assert complaints(registry) == []


def test_prometheus_has_these_names(registry: CollectorRegistry) -> None:
    """These metrics, and no other, are there; each has its name in the module that makes them."""
    PrometheusHook(registry)
    families = {f"{family.name}_total" if family.type == "counter" else family.name for family in registry.collect()}
    assert families == OF_PROMETHEUS
    constants = {value for value in vars(prometheus).values() if isinstance(value, str) and value.startswith("eventbus_")}
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


def test_opentelemetry_has_the_conventions_names(meters: Meters) -> None:
    """Every instrument is one of the conventions', has its unit and a text; so has every attribute, and few values."""
    metrics = OpenTelemetryMetrics("plant-1", 5559, 5560, meter_provider=meters.provider)
    flood(metrics)
    metrics.emit(Emission([event()], MyEventTopic.my_service), lambda _: None)
    read = meters.read()
    assert {name: metric.unit for name, metric in read.items()} == OF_OPENTELEMETRY
    for metric in read.values():
        assert metric.description
        seen = [(name, value) for point in metric.data.data_points for name, value in attributes_of(point).items()]
        assert {name for name, _ in seen} <= ATTRIBUTES
        assert len(set(seen)) <= 2 * (LIMIT + 1) + len(ATTRIBUTES)  # topics, errors, and one value of each of the others
    constants = {value for value in vars(otel).values() if isinstance(value, str) and value.startswith("messaging.")}
    assert constants == OF_OPENTELEMETRY.keys() | {name for name in ATTRIBUTES if name.startswith("messaging.")} | {
        "messaging.batch.message_count"
    }
