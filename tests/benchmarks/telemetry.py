"""The cost of telemetry, side by side: each contender a publisher, a proxy and a subscriber in three processes.

    uv run python -m tests.benchmarks.telemetry [--quick] [NAME …]

Both clients are observed alike. Spans are made and ended, and go to an exporter that drops them; metrics are read once a
second. Contenders take turns in each round; a ratio is the median of the rounds' ratios. CPU is the user and system time of
all three processes together: it tells more than events per second where the machine has other work.
"""

import argparse
import statistics
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from eventbus import EventBusClient
from eventbus.cli import bench
from eventbus.cli.bench import HWM, BenchEvent, BenchTopic, BenchType, Callback, Client, Contender, Send
from eventbus.policies import Metrics, Timed, Traces
from eventbus.telemetry.switch import telemetry
from tests.benchmarks.cpu import CpuMeter

READING_INTERVAL_S = 1.0


@dataclass(frozen=True)
class Kind:
    """The telemetry that is switched on.

    Attributes:
        metrics: which library counts.
        traces: whether there are spans.
        sampled: which part of all traces is recorded; None: there is no SDK of OpenTelemetry.
        timed: which durations OpenTelemetry records.
        begun: which part of the traces begins at all.
    """

    metrics: Metrics = Metrics.NONE
    traces: Traces = Traces.NONE
    sampled: float | None = None
    timed: Timed = "auto"
    begun: float = 1.0


KINDS = {
    "nothing": Kind(),
    "Prometheus": Kind(Metrics.PROMETHEUS),
    "OpenTelemetry without an SDK": Kind(Metrics.OTEL, Traces.OTEL),
    "OpenTelemetry's metrics": Kind(Metrics.OTEL, sampled=1.0),
    "the same, all timed": Kind(Metrics.OTEL, sampled=1.0, timed=1.0),
    "the same, 1 % timed": Kind(Metrics.OTEL, sampled=1.0, timed=0.01),
    "its traces, 1 % sampled": Kind(traces=Traces.OTEL, sampled=1.0, begun=0.01),
    "the same, by the SDK": Kind(traces=Traces.OTEL, sampled=0.01),
    "its traces, all": Kind(traces=Traces.OTEL, sampled=1.0),
}


def observed(pub_port: int, sub_port: int, kind: Kind) -> Client:
    """A client with what the settings would give it."""
    if kind.sampled is not None:
        _read_regularly(_set_up_sdk(kind.sampled))
    if kind.metrics is Metrics.PROMETHEUS:
        from prometheus_client import generate_latest

        _read_regularly(generate_latest)
    made = telemetry(
        kind.metrics,
        kind.traces,
        host="127.0.0.1",
        pub_port=pub_port,
        sub_port=sub_port,
        timed=kind.timed,
        sampled=kind.begun,
    )
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


def _set_up_sdk(sampled: float) -> Callable[[], object]:
    """Set up OpenTelemetry's SDK; return what reads its metrics."""
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
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    return reader.get_metrics_data


def _read_regularly(read: Callable[[], object]) -> None:
    def read_on() -> None:
        while not threading.Event().wait(READING_INTERVAL_S):
            read()

    threading.Thread(target=read_on, daemon=True).start()


def publish(pub_port: int, sub_port: int, *, kind: Kind) -> Send:
    """`emit_event`."""
    bus = observed(pub_port, sub_port, kind)
    bus.connect()
    topic = BenchTopic.plant

    def send_many(event: BenchEvent, count: int) -> None:
        for _ in range(count):
            bus.emit_event(event, topic)

    return send_many


def subscribe(pub_port: int, sub_port: int, callback: Callback, ready: Callable[[], None], *, kind: Kind) -> None:
    """`attach_callback`."""
    bus = observed(pub_port, sub_port, kind)
    bus.attach_callback(BenchType.reading, callback)
    bus.connect()
    bus.subscribe(BenchTopic.plant)
    bus.start_consumer()
    ready()
    threading.Event().wait()


def contenders(names: Sequence[str] = ()) -> list[Contender]:
    """Everything that can be switched on, or what has these words in its name; the first is compared with the others."""
    return [
        Contender(name, partial(publish, kind=kind), partial(subscribe, kind=kind))
        for name, kind in KINDS.items()
        if not names or name == "nothing" or any(word in name for word in names)
    ]


def main() -> None:
    """Run everything and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="half of the events and two rounds: a look, not a measurement")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a part of what is to be measured, such as Prometheus")
    arguments = parser.parse_args()
    rounds, events = (2, 100_000) if arguments.quick else (7, 200_000)
    group = contenders(arguments.names)
    print(f"{events:,} events of {len(BenchEvent().model_dump_json())} bytes in each of {rounds} rounds, through one proxy")
    head = ("events/s", "× nothing", "CPU per event", "nothing's × it", "p50 at 1,000/s")
    print(f"{'':32}" + "".join(f"{text:>16}" for text in head), flush=True)
    rates: list[list[float]] = [[] for _ in group]
    costs: list[list[float]] = [[] for _ in group]
    for _ in range(rounds):
        for contender, rate, cost in zip(group, rates, costs, strict=True):
            meter = CpuMeter()
            rate.append(bench.throughput(contender, events, meter))
            cost.append(meter.per_event() * 1e6)
    for contender, rate, cost in zip(group, rates, costs, strict=True):
        late = statistics.median(bench.latencies(contender, 300 * rounds, 1_000)) * 1e6
        cells = (
            f"{statistics.median(rate):,.0f}",
            f"{_median_ratio(rate, rates[0]):.2f}",
            f"{statistics.median(cost):.1f} µs",
            f"{_median_ratio(costs[0], cost):.2f}",
            f"{late:.0f} µs",
        )
        print(f"{contender.name:32}" + "".join(f"{cell:>16}" for cell in cells), flush=True)


def _median_ratio(values: Sequence[float], others: Sequence[float]) -> float:
    return statistics.median(value / other for value, other in zip(values, others, strict=True))


if __name__ == "__main__":
    main()
