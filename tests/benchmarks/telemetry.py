"""What telemetry costs, side by side: each contender a publisher, a proxy and a subscriber in three processes.

    uv run python -m tests.benchmarks.telemetry [--quick]

Both clients are observed alike. Spans are made and ended, and go to an exporter that drops them; metrics are never read.
"""

import argparse
import statistics
import threading
from collections.abc import Callable, Sequence
from functools import partial

from eventbus import EventBusClient
from eventbus.cli import bench
from eventbus.cli.bench import HWM, BenchEvent, BenchTopic, BenchType, Callback, Client, Contender, Send
from eventbus.policies import Metrics, Traces
from eventbus.telemetry.switch import telemetry


def observed(pub_port: int, sub_port: int, metrics: Metrics, traces: Traces, sampled: float | None) -> Client:
    """A client with what the settings would give it, and an SDK, if spans are to be sampled or anything is to be measured.

    Args:
        sampled: which part of all traces is recorded; None: there is no SDK.
    """
    if sampled is not None:
        _set_up_sdk(sampled)
    made = telemetry(metrics, traces, host="127.0.0.1", pub_port=pub_port, sub_port=sub_port)
    return EventBusClient(
        BenchEvent,
        "127.0.0.1",
        pub_port,
        sub_port,
        send_hwm=HWM,
        receive_hwm=HWM,
        hooks=made.hooks,
        middleware=made.middleware,
    )


def _set_up_sdk(sampled: float) -> None:
    from opentelemetry import metrics, trace
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

    class Dropping(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    provider = TracerProvider(ParentBasedTraceIdRatio(sampled))
    provider.add_span_processor(BatchSpanProcessor(Dropping()))
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(MeterProvider([InMemoryMetricReader()]))


def publish(pub_port: int, sub_port: int, *, metrics: Metrics, traces: Traces, sampled: float | None) -> Send:
    """`emit_event`."""
    bus = observed(pub_port, sub_port, metrics, traces, sampled)
    bus.connect()
    topic = BenchTopic.plant

    def send_many(event: BenchEvent, count: int) -> None:
        for _ in range(count):
            bus.emit_event(event, topic)

    return send_many


def subscribe(
    pub_port: int,
    sub_port: int,
    callback: Callback,
    ready: Callable[[], None],
    *,
    metrics: Metrics,
    traces: Traces,
    sampled: float | None,
) -> None:
    """`attach_callback`."""
    bus = observed(pub_port, sub_port, metrics, traces, sampled)
    bus.attach_callback(BenchType.reading, callback)
    bus.connect()
    bus.subscribe(BenchTopic.plant)
    bus.start_consumer()
    ready()
    threading.Event().wait()


KINDS: dict[str, tuple[Metrics, Traces, float | None]] = {
    "nothing": (Metrics.NONE, Traces.NONE, None),
    "Prometheus": (Metrics.PROMETHEUS, Traces.NONE, None),
    "OpenTelemetry without an SDK": (Metrics.OTEL, Traces.OTEL, None),
    "OpenTelemetry's metrics": (Metrics.OTEL, Traces.NONE, 1.0),
    "its traces, 1 % sampled": (Metrics.NONE, Traces.OTEL, 0.01),
    "its traces, all": (Metrics.NONE, Traces.OTEL, 1.0),
}


def contenders() -> list[Contender]:
    """Everything that can be switched on; the first is what the others are compared with."""
    return [
        Contender(
            name,
            partial(publish, metrics=metrics, traces=traces, sampled=sampled),
            partial(subscribe, metrics=metrics, traces=traces, sampled=sampled),
        )
        for name, (metrics, traces, sampled) in KINDS.items()
    ]


def main() -> None:
    """Run everything and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer events and two rounds: a look, not a measurement")
    rounds, events = (2, 20_000) if parser.parse_args().quick else (7, 100_000)
    group = contenders()
    print(f"{events:,} events of {len(BenchEvent().model_dump_json())} bytes in each of {rounds} rounds, through one proxy")
    print(f"{'':32}{'events/s':>12}{'× nothing':>12}{'p50 at 1,000/s':>18}", flush=True)
    rates: list[list[float]] = [[] for _ in group]
    for _ in range(rounds):
        for contender, rate in zip(group, rates, strict=True):
            rate.append(bench.throughput(contender, events))
    for contender, rate in zip(group, rates, strict=True):
        ratio = statistics.median(value / other for value, other in zip(rate, rates[0], strict=True))
        late = statistics.median(bench.latencies(contender, 300 * rounds, 1_000)) * 1e6
        print(f"{contender.name:32}{statistics.median(rate):>12,.0f}{ratio:>12.2f}{late:>15.0f} µs", flush=True)


if __name__ == "__main__":
    main()
