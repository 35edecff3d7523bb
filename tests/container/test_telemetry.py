"""Telemetry in a service: switched on by variables, without code."""

import json
import sys
from pathlib import Path

import pytest
from dependency_injector import providers
from prometheus_client import REGISTRY

from eventbus import EventBusProxy, on
from eventbus.container import lifespan
from eventbus.errors import ExtraMissing
from eventbus.transports.memory import MemoryHub, MemoryTransport
from eventbus.wire.first_frame import with_headers
from tests.container.support import OTHER, TOPIC, UPDATED, App, Listener, leaving_nothing
from tests.nats import running
from tests.support import MyEvent, RawPeers, event, eventually, json_of, run_script

ROOT = Path(__file__).parents[2]
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
HEADERS = json.dumps({"traceparent": TRACEPARENT}, separators=(",", ":")).encode()


def value(name: str, **labels: str) -> float:
    """The values in prometheus-client's default registry now; other tests have counted there too."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


@pytest.mark.parametrize("in_memory", [False, True], ids=["zeromq", "memory"])
def test_prometheus(at_proxy: EventBusProxy, monkeypatch: pytest.MonkeyPatch, in_memory: bool) -> None:
    """EVENTBUS_METRICS=prometheus is all that a service needs: what it does is in the default registry, its state too."""
    monkeypatch.setenv("EVENTBUS_METRICS", "prometheus")
    handler = {"handler": f"{Listener.__module__}.Listener.keep", "outcome": "success"}

    def counts() -> tuple[float, float, float]:
        return (
            value("eventbus_emitted_events_total", topic="my_service"),
            value("eventbus_received_events_total", topic="my_service"),
            value("eventbus_handler_duration_seconds_count", **handler),
        )

    before = counts()
    app = App()
    if in_memory:
        app.bus.transport.override(providers.Object(MemoryTransport(MemoryHub())))
    with lifespan(app):
        app.bus.client().emit_event(event(1), TOPIC)
        eventually(lambda: counts() == tuple(count + 1 for count in before))
        eventually(lambda: value("eventbus_clients", state="ready") == 1, what="the client is told of")
        if not in_memory:
            assert value("eventbus_echo_round_trip_seconds") > 0
    eventually(lambda: value("eventbus_clients", state="ready") == 0, what="the closed client is gone")


class PassingOn(Listener):
    """A service that passes on to others what it gets."""

    @on(UPDATED, topic=TOPIC)
    def keep(self, event: MyEvent) -> None:
        self.bus.emit_event(event, OTHER)


def test_traces(at_proxy: EventBusProxy, raw: RawPeers, monkeypatch: pytest.MonkeyPatch) -> None:
    """With EVENTBUS_TRACES=otel the trace of what a handler handles travels with what it emits, even without an SDK."""
    monkeypatch.setenv("EVENTBUS_TRACES", "otel")
    subscriber = raw.subscriber(b"other")
    app = App()
    app.listener.override(providers.Singleton(PassingOn, bus=app.bus.client))
    with lifespan(app):
        raw.publisher(b"my_service").send_multipart([with_headers(b"my_service", HEADERS), json_of(1)])
        assert subscriber.recv_multipart() == [with_headers(b"other", HEADERS), json_of(1)]


def test_nothing_is_added_by_itself(at_proxy: EventBusProxy, raw: RawPeers) -> None:
    """Without the variables events travel as they always did, and nothing is counted."""
    before = value("eventbus_emitted_events_total", topic="my_service")
    subscriber = raw.subscriber(b"my_service")
    with lifespan(App()) as app:
        app.bus.client().emit_event(event(1), TOPIC)
        assert subscriber.recv_multipart() == [b"my_service", json_of(1)]
    assert value("eventbus_emitted_events_total", topic="my_service") == before


SERVICE = """
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from eventbus.container import lifespan
from tests.container.support import TOPIC, App
from tests.support import event, eventually

reader, exporter = InMemoryMetricReader(), InMemorySpanExporter()
systems = set()
metrics.set_meter_provider(MeterProvider([reader]))
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
with lifespan(App()) as app:
    app.bus.client().emit_event(event(1), TOPIC)
    eventually(lambda: app.listener().values == [1])
    name = app.bus.client().name
for scope in reader.get_metrics_data().resource_metrics[0].scope_metrics:
    for metric in scope.metrics:
        if metric.name.startswith("messaging."):
            print(metric.name, metric.data.data_points[0].attributes["server.port"])
            systems.add(metric.data.data_points[0].attributes["messaging.system"])
for span in exporter.get_finished_spans():
    print(span.name, span.attributes["server.port"])
    assert span.attributes["messaging.client.id"] == name
    systems.add(span.attributes["messaging.system"])
print(*systems)
"""


@pytest.mark.process
def test_opentelemetry(at_proxy: EventBusProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """With both variables set to otel, what the service's SDK exports has the bus in it, at the proxy's ports.

    The client has the name there that it has everywhere, whatever the variable holds.
    """
    monkeypatch.setenv("EVENTBUS_METRICS", "otel")
    monkeypatch.setenv("EVENTBUS_TRACES", "otel")
    monkeypatch.setenv("EVENTBUS_NAME", "a\nb \udcff" + 200 * "c")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    done = run_script(SERVICE)
    assert sorted(done.stdout.splitlines()) == [
        f"messaging.client.consumed.messages {at_proxy.sub_port}",
        f"messaging.client.operation.duration {at_proxy.pub_port}",
        f"messaging.client.sent.messages {at_proxy.pub_port}",
        f"messaging.process.duration {at_proxy.sub_port}",
        f"process my_service {at_proxy.sub_port}",
        f"send my_service {at_proxy.pub_port}",
        "zeromq",
    ]


@pytest.mark.process
@pytest.mark.parametrize("kind", ["nats", "jetstream"])
def test_opentelemetry_over_nats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """The same over NATS: the system is another one, and all has the port of the server."""
    for name, value in {"METRICS": "otel", "TRACES": "otel", "TRANSPORT": kind}.items():
        monkeypatch.setenv(f"EVENTBUS_{name}", value)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with running(tmp_path) as server:
        monkeypatch.setenv("EVENTBUS_URL", server.url)
        done = run_script(SERVICE)
    assert sorted(done.stdout.splitlines()) == [
        f"messaging.client.consumed.messages {server.port}",
        f"messaging.client.operation.duration {server.port}",
        f"messaging.client.sent.messages {server.port}",
        f"messaging.process.duration {server.port}",
        "nats",
        f"process my_service {server.port}",
        f"send my_service {server.port}",
    ]


@pytest.mark.process
def test_opentelemetry_without_durations(at_proxy: EventBusProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """EVENTBUS_METRICS_TIMED=0 records no duration of what succeeds, and EVENTBUS_TRACES_SAMPLED=0 begins no trace."""
    for name, value in {"METRICS": "otel", "METRICS_TIMED": "0", "TRACES": "otel", "TRACES_SAMPLED": "0"}.items():
        monkeypatch.setenv(f"EVENTBUS_{name}", value)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    done = run_script(SERVICE)
    assert sorted(done.stdout.splitlines()) == [
        f"messaging.client.consumed.messages {at_proxy.sub_port}",
        f"messaging.client.sent.messages {at_proxy.pub_port}",
        "zeromq",
    ]


@pytest.mark.parametrize(
    ("variable", "choice", "library", "extra"),
    [
        ("EVENTBUS_METRICS", "prometheus", "prometheus_client", "prometheus"),
        ("EVENTBUS_METRICS", "otel", "opentelemetry", "otel"),
        ("EVENTBUS_TRACES", "otel", "opentelemetry", "otel"),
    ],
)
def test_a_missing_library(
    at_proxy: EventBusProxy, monkeypatch: pytest.MonkeyPatch, variable: str, choice: str, library: str, extra: str
) -> None:
    """Without the library the service does not start and the error says what to install; a disabled one needs none."""
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.setitem(sys.modules, name, None)
    for name in [
        name for name in sys.modules if name.startswith(("eventbus.telemetry.prometheus", "eventbus.telemetry.otel"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setenv(variable, choice)
    with leaving_nothing(), pytest.raises(ExtraMissing, match=rf"'eventbus\[{extra}\]' \({variable}\)"), lifespan(App()):
        raise AssertionError("it must not start")
    monkeypatch.setenv("EVENTBUS_ENABLED", "false")
    with lifespan(App()) as app:
        app.bus.client().emit_event(event(1), TOPIC)
