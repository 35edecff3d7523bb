"""Clients that are observed, over real sockets: their metrics, and traces from one process to another."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import HistogramDataPoint, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind
from prometheus_client import CollectorRegistry

from eventbus import Compression, EventBusProxy, EventTooLarge, Packing, SendPolicy, current_headers
from eventbus.telemetry.otel import OpenTelemetryMetrics, OpenTelemetryTraces
from eventbus.telemetry.prometheus import PrometheusHook
from eventbus.wire.first_frame import with_headers
from tests.commands import output
from tests.eventbus.telemetry.conftest import Meters, Spans
from tests.eventbus.telemetry.names import complaints
from tests.security import Guarded
from tests.support import (
    Bus,
    MyEvent,
    MyEventTopic,
    MyEventType,
    RawPeers,
    Recorder,
    event,
    eventually,
    json_of,
)

TOPIC, OTHER = MyEventTopic.my_service, MyEventTopic.other
UPDATED = MyEventType.updated


@pytest.fixture
def traces(spans: Spans) -> OpenTelemetryTraces:
    return OpenTelemetryTraces("127.0.0.1", 5559, 5560, tracer_provider=spans.provider)


@pytest.fixture
def receiver(connected: Callable[..., Bus], traces: OpenTelemetryTraces) -> Bus:
    """A client that traces and is subscribed to `my_service`."""
    return connected(middleware=[traces], topics=[TOPIC])


def record(client: Bus) -> Recorder:
    recorder = Recorder()
    client.attach_callback(UPDATED, recorder)
    client.start_consumer()
    return recorder


def of_kind(spans: list[ReadableSpan], kind: SpanKind) -> list[ReadableSpan]:
    return [span for span in spans if span.kind is kind]


def is_caused_by(handled: ReadableSpan, emitted: ReadableSpan) -> bool:
    """Whether a handler's span has that of an emitting call as its parent, and both are of one trace."""
    parent, own = handled.parent, emitted.get_span_context()
    assert parent is not None
    assert own is not None
    return (parent.trace_id, parent.span_id, parent.is_remote) == (own.trace_id, own.span_id, True)


# Traces


SENDERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "numbered": {"numbered": True},
    "compressed": {"compression": Compression.ZLIB, "compression_threshold": 1},
    "unpacked": {"packing": Packing.NONE},
    "packed": {"packing": Packing.ALL},
    "all": {"numbered": True, "compression": Compression.ZLIB, "compression_threshold": 1},
}


@pytest.mark.parametrize("options", SENDERS.values(), ids=SENDERS.keys())
def test_a_trace_goes_from_emitting_to_handling(
    receiver: Bus, connected: Callable[..., Bus], traces: OpenTelemetryTraces, spans: Spans, options: dict[str, Any]
) -> None:
    """However events are sent, one by one and many at once, each handler's span continues that of the call that emitted."""
    recorder = record(receiver)
    sender = connected(middleware=[traces], **options)
    sender.emit_event(event(1), TOPIC)
    sender.emit_events([event(2), event(3)], TOPIC)
    assert recorder.wait_for(3) == [1, 2, 3]
    ended = spans.wait_for(5)
    emitted, handled = of_kind(ended, SpanKind.PRODUCER), of_kind(ended, SpanKind.CONSUMER)
    causes = [[is_caused_by(span, cause) for cause in emitted] for span in handled]
    assert causes == [[True, False], [False, True], [False, True]]
    assert [(span.attributes or {}).get("messaging.batch.message_count") for span in emitted] == [None, 2]
    assert (receiver.stats().rejected, receiver.stats().lost) == (0, 0)


def test_with_rules(tmp_path: Path, traces: OpenTelemetryTraces, spans: Spans) -> None:
    """A proxy with rules lets events that carry a trace through by their topic, and nothing else."""
    with Guarded(tmp_path) as guarded:
        keys = guarded.admit("traced", publish=["my_service"], subscribe=["my_service"])
        receiver = guarded.connected(keys, middleware=[traces], topics=[TOPIC])
        recorder = record(receiver)
        receiver.emit_event(event(-1), OTHER)
        receiver.emit_event(event(1), TOPIC)
        assert recorder.wait_for(1) == [1]
        ended = spans.wait_for(3)
        [handled] = of_kind(ended, SpanKind.CONSUMER)
        assert [is_caused_by(handled, cause) for cause in of_kind(ended, SpanKind.PRODUCER)] == [False, True]


def test_strangers_see_no_difference(raw: RawPeers, connected: Callable[..., Bus], traces: OpenTelemetryTraces) -> None:
    """A plain subscriber, as the original client is, gets the topic as the start of one frame, and the same JSON as ever."""
    subscriber = raw.subscriber(b"my_service")
    sender = connected(middleware=[traces])
    sender.emit_event(event(1), TOPIC)
    topic, payload = subscriber.recv_multipart()
    assert topic.startswith(b"my_service\0")
    assert payload == json_of(1)


def test_a_client_that_does_not_trace_gets_the_event(
    bus: Bus, connected: Callable[..., Bus], traces: OpenTelemetryTraces
) -> None:
    """A client without telemetry handles an event that carries a trace like any other, and can see the header."""
    seen: list[set[str]] = []
    bus.attach_callback(UPDATED, lambda _: seen.append(set(current_headers())))
    recorder = record(bus)
    connected(middleware=[traces], numbered=True).emit_event(event(1), TOPIC)
    assert recorder.wait_for(1) == [1]
    assert seen == [{"traceparent"}]
    assert (bus.stats().rejected, bus.stats().lost) == (0, 0)


def test_strangers_headers(receiver: Bus, raw: RawPeers, spans: Spans) -> None:
    """Events of a client without traces, or with invented headers, are handled; each begins a trace of its own."""
    recorder = record(receiver)
    publisher = raw.publisher(b"my_service")
    frames = [b"my_service"]
    frames += [with_headers(b"my_service", headers) for headers in (b'{"traceparent":"nonsense"}', b"\xff{", b'{"a":1}')]
    for number, frame in enumerate(frames):
        publisher.send_multipart([frame, json_of(number)])
    assert recorder.wait_for(4) == [0, 1, 2, 3]
    ended = spans.wait_for(4)
    assert [span.parent for span in ended] == [None] * 4
    assert len({span.context.trace_id for span in ended if span.context is not None}) == 4


def test_a_trace_goes_on_through_handlers(
    receiver: Bus, connected: Callable[..., Bus], traces: OpenTelemetryTraces, spans: Spans
) -> None:
    """An event that a handler emits, an async one too, belongs to the trace of what it handles: the chain is one trace."""

    async def pass_on(received: MyEvent) -> None:
        await asyncio.sleep(0)
        receiver.emit_event(event(received.value + 1), OTHER)

    receiver.attach_callback(UPDATED, pass_on)
    receiver.start_consumer()
    last = connected(middleware=[traces], topics=[OTHER])
    recorder = record(last)
    last.emit_event(event(1), TOPIC)
    assert recorder.wait_for(1) == [2]
    ended = spans.wait_for(4)
    assert len({span.context.trace_id for span in ended if span.context is not None}) == 1
    names = {span.context.span_id: span.name for span in ended if span.context is not None}
    parents = {span.name: names.get(span.parent.span_id) if span.parent else None for span in ended}
    assert parents == {
        "send my_service": None,
        "process my_service": "send my_service",
        "send other": "process my_service",
        "process other": "send other",
    }


# A service of its own, with the SDK as OpenTelemetry's global provider, as it is set up in a program.
SERVICE = """
import json, sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from eventbus.policies import Traces
from eventbus.telemetry.switch import telemetry
from tests.support import Bus, MyEvent, MyEventTopic, MyEventType, event

role, pub_port, sub_port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
made = telemetry(traces=Traces.OTEL, host="127.0.0.1", pub_port=pub_port, sub_port=sub_port)
exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)  # after the client's middleware was made
with Bus(MyEvent, "127.0.0.1", pub_port, sub_port, connect_timeout=20, middleware=made.middleware) as bus:
    if role == "receiver":
        bus.subscribe(MyEventTopic.my_service)
        bus.attach_callback(MyEventType.updated, lambda event: None)
        bus.start_consumer()
        print("ready", flush=True)
        bus.recv_event(20)
    else:
        with trace.get_tracer("service").start_as_current_span("request"):
            bus.emit_event(event(1), MyEventTopic.my_service)
spans = exporter.get_finished_spans()
print("[" + ",".join(span.to_json(indent=None) for span in spans) + "]", flush=True)
"""


@pytest.fixture
def start_service(proxy: EventBusProxy) -> Iterator[Callable[[str], "subprocess.Popen[str]"]]:
    """Starts a service in a process of its own; ends it with the test."""
    processes: list[subprocess.Popen[str]] = []

    def start(role: str) -> "subprocess.Popen[str]":
        arguments = [sys.executable, "-c", SERVICE, role, str(proxy.pub_port), str(proxy.sub_port)]
        processes.append(subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True))
        return processes[-1]

    yield start
    for process in processes:
        with process:
            process.kill()


@pytest.mark.process
def test_from_one_process_to_another(start_service: Callable[[str], "subprocess.Popen[str]"]) -> None:
    """The handler's span in one process has the emitting call's in the other as its parent, in the same trace."""
    receiver = start_service("receiver")
    assert output(receiver).readline() == "ready\n"
    sender = start_service("sender")
    emitted, request = json.loads(output(sender).readline())
    [handled] = json.loads(output(receiver).readline())
    assert (emitted["name"], emitted["kind"]) == ("send my_service", "SpanKind.PRODUCER")
    assert (handled["name"], handled["kind"]) == ("process my_service", "SpanKind.CONSUMER")
    assert handled["context"]["trace_id"] == emitted["context"]["trace_id"] == request["context"]["trace_id"]
    assert handled["parent_id"] == emitted["context"]["span_id"]
    assert emitted["parent_id"] == request["context"]["span_id"]
    assert handled["attributes"]["server.address"] == "127.0.0.1"


# Metrics


def test_prometheus(raw: RawPeers, connected: Callable[..., Bus], registry: CollectorRegistry) -> None:
    """The traffic of two clients of a process is in the registry: events, bytes, handlers, errors, rejects, state."""

    def value(name: str, **labels: str) -> float:
        return registry.get_sample_value(name, labels) or 0.0

    def fail(event: MyEvent) -> None:
        raise ValueError("no")

    sender, receiver = connected(hooks=[PrometheusHook(registry)]), connected(hooks=[hook := PrometheusHook(registry)])
    hook.watch(receiver)
    receiver.subscribe(TOPIC)
    receiver.attach_callback(MyEventType.stopped, fail)
    recorder = record(receiver)
    sender.emit_events([event(1), event(2)], TOPIC)
    sender.emit_event(event(3, MyEventType.stopped), TOPIC)
    raw.publisher(b"my_service").send_multipart([b"my_service", b"nonsense"])
    recorder.wait_for(2)
    error = {"handler": f"{__name__}.{fail.__qualname__}", "error_type": "ValueError"}
    eventually(lambda: value("eventbus_rejected_messages_total", reason="json") == 1)
    eventually(lambda: value("eventbus_handler_errors_total", **error) == 1)
    assert value("eventbus_emitted_events_total", topic="my_service") == 3
    assert value("eventbus_emitted_bytes_total", topic="my_service") == 2 * len(json_of(1)) + len(json_of(3, "stopped"))
    assert value("eventbus_received_events_total", topic="my_service") == 3
    eventually(lambda: value("eventbus_clients", state="ready") == 2, what="both clients are told of")
    eventually(lambda: value("eventbus_echo_round_trip_seconds") == receiver.health().round_trip)
    assert complaints(registry) == []
    sender.close()
    eventually(lambda: value("eventbus_clients", state="ready") == 1, what="the closed client is gone")


@pytest.mark.parametrize("compression", list(Compression))
def test_emitted_bytes_are_those_of_the_json(
    connected: Callable[..., Bus], registry: CollectorRegistry, compression: Compression
) -> None:
    """Each way to emit counts events once, and the bytes of their JSON, whether it travels compressed or not."""
    client = connected(hooks=[PrometheusHook(registry)], compression=compression, compression_threshold=500)
    large = MyEvent(type=UPDATED, time="x" * 2_000)
    client.emit_event(event(1), TOPIC)  # the first of its class
    for _ in range(2):
        client.emit_event(event(1), TOPIC)
        client.emit_event(large, TOPIC)
    client.emit_events([event(1), large], TOPIC)
    assert registry.get_sample_value("eventbus_emitted_events_total", {"topic": "my_service"}) == 7
    size = 4 * len(json_of(1)) + 3 * len(large.model_dump_json())
    assert registry.get_sample_value("eventbus_emitted_bytes_total", {"topic": "my_service"}) == size


def test_what_is_dropped_is_not_emitted(dead_ports: tuple[int, int], registry: CollectorRegistry) -> None:
    """Events that the transport drops or refuses are not counted as emitted, however they are emitted."""
    client = Bus(
        MyEvent,
        "127.0.0.1",
        *dead_ports,
        hooks=[PrometheusHook(registry)],
        connect_required=False,
        send_policy=SendPolicy.DROP,
        send_hwm=3,
        linger=0,
        max_event_bytes=1_000,
        compression=Compression.ZLIB,
        compression_threshold=200,
    )
    with client:
        for value in range(3):
            client.emit_event(event(value), TOPIC)
        for dropped in (event(3), MyEvent(type=UPDATED, time="x" * 500)):
            client.emit_event(dropped, TOPIC)
        with pytest.raises(EventTooLarge):
            client.emit_event(MyEvent(type=UPDATED, time="x" * 2_000), TOPIC)
        client.emit_events([event(4), event(5)], TOPIC)
    assert registry.get_sample_value("eventbus_emitted_events_total", {"topic": "my_service"}) == 3
    assert registry.get_sample_value("eventbus_emitted_bytes_total", {"topic": "my_service"}) == 3 * len(json_of(1))


def number_of(point: object) -> float:
    """The value of a counter, or the number of values of a histogram."""
    assert isinstance(point, NumberDataPoint | HistogramDataPoint)
    return point.value if isinstance(point, NumberDataPoint) else point.count


def test_opentelemetry_metrics(raw: RawPeers, connected: Callable[..., Bus], meters: Meters) -> None:
    """The traffic of a client is in OpenTelemetry's metrics: events, bytes, durations, rejects, states, the echo."""
    metrics = OpenTelemetryMetrics("127.0.0.1", 5559, 5560, meter_provider=meters.provider)
    client = connected(hooks=[metrics], middleware=[metrics], topics=[TOPIC])
    metrics.watch(client)
    recorder = record(client)
    raw.publisher(b"my_service").send_multipart([b"my_service", b"nonsense"])
    eventually(lambda: client.stats().rejected == 1)
    eventually(lambda: client.health().round_trip)
    assert "eventbus.client.echo.round_trip" in meters.read()
    client.emit_events([event(1), event(2)], TOPIC)
    client.emit_event(event(3), TOPIC)
    recorder.wait_for(3)
    client.close()

    def counts() -> dict[str, float]:
        return {name: sum(number_of(point) for point in metric.data.data_points) for name, metric in meters.read().items()}

    eventually(lambda: counts()["eventbus.client.state.changes"] == 3, what="the thread of states has told all")
    assert counts() == {
        "messaging.client.sent.messages": 3,
        "messaging.client.operation.duration": 2,
        "messaging.client.consumed.messages": 3,
        "messaging.process.duration": 3,
        "eventbus.client.io": sum(len(json_of(number)) for number in (1, 2, 3)) * 2 + len("[,]"),
        "eventbus.client.rejected.messages": 1,
        "eventbus.client.state.changes": 3,
        "eventbus.client.count": 0,
    }
