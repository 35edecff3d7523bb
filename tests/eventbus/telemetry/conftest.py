"""The fixtures of telemetry's tests."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Metric
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from tests.support import eventually


@pytest.fixture
def registry() -> CollectorRegistry:
    """A registry of prometheus-client that nobody else uses."""
    return CollectorRegistry(auto_describe=True)


@dataclass
class Meters:
    """An OpenTelemetry SDK, as far as it measures."""

    provider: MeterProvider
    reader: InMemoryMetricReader

    def read(self) -> dict[str, Metric]:
        """The measurements, by name."""
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        [resource] = data.resource_metrics
        [scope] = resource.scope_metrics
        return {metric.name: metric for metric in scope.metrics}


@pytest.fixture
def meters() -> Meters:
    """The SDK that measures; what was measured stays in memory."""
    reader = InMemoryMetricReader()
    return Meters(MeterProvider([reader], shutdown_on_exit=False), reader)


@dataclass
class Spans:
    """An OpenTelemetry SDK, as far as it traces."""

    provider: TracerProvider
    exporter: InMemorySpanExporter

    def wait_for(self, count: int) -> list[ReadableSpan]:
        """The spans that have ended, as soon as there are `count` of them."""
        eventually(lambda: len(self.exporter.get_finished_spans()) >= count, what=f"{count} spans")
        return list(self.exporter.get_finished_spans())

    def named(self, name: str) -> ReadableSpan:
        """The one span of this name."""
        [span] = [span for span in self.exporter.get_finished_spans() if span.name == name]
        return span


@pytest.fixture
def spans() -> Spans:
    """The SDK that traces; spans that have ended stay in memory."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Spans(provider, exporter)


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Takes a library away, as if it were not installed, and what has imported it."""

    def take(library: str) -> None:
        for name in list(sys.modules):
            if name == library or name.startswith(f"{library}."):
                monkeypatch.setitem(sys.modules, name, None)
        for name in list(sys.modules):
            if name.startswith(("eventbus.telemetry.prometheus", "eventbus.telemetry.otel")):
                monkeypatch.delitem(sys.modules, name)

    return take
