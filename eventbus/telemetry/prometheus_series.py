"""Series of Prometheus that cost little for each value: they are added up here, and exported when they are scraped.

Metrics of prometheus-client take a lock for each value. They are used in its multiprocess mode only: there the processes
that count are not scraped, so each value has to go to its files at once.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from time import time

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from eventbus.observe.hooks import AddDuration, AddVolume
from eventbus.telemetry.aggregation import Durations, Volume


@dataclass(frozen=True, slots=True)
class Name:
    """The name of a metric, its unit and its help text."""

    name: str
    unit: str
    text: str


def volumes(registry: CollectorRegistry, events: Name, size: Name, label: str) -> Callable[[str], AddVolume]:
    """Register a counter of events and one of their bytes; return what makes their series of one value of the label."""
    if not _is_multiprocess():
        return _Volumes(registry, events, size, label).series
    counters = [Counter(name.name, name.text, [label], unit=name.unit, registry=registry) for name in (events, size)]

    def series(value: str) -> AddVolume:
        count_events, count_bytes = (counter.labels(value) for counter in counters)

        def add(size: int, count: int) -> None:
            count_events.inc(count)
            count_bytes.inc(size)

        return add

    return series


def durations(registry: CollectorRegistry, name: Name, bounds: Sequence[float], *labels: str) -> Callable[..., AddDuration]:
    """Register a histogram of durations; return what makes its series of values of the labels."""
    if not _is_multiprocess():
        return _Durations(registry, name, bounds, labels).series
    histogram = Histogram(name.name, name.text, labels, unit=name.unit, buckets=bounds, registry=registry)
    return lambda *values: histogram.labels(*values).observe


def _is_multiprocess() -> bool:
    """Whether prometheus-client's multiprocess mode is on, as prometheus-client decides it."""
    return "PROMETHEUS_MULTIPROC_DIR" in os.environ or "prometheus_multiproc_dir" in os.environ


class _Volumes(Collector):
    def __init__(self, registry: CollectorRegistry, events: Name, size: Name, label: str) -> None:
        self._names = events, size
        self._label = label
        self._series: dict[str, tuple[Volume, float]] = {}  # with the time of its beginning
        registry.register(self)

    def series(self, value: str) -> AddVolume:
        return self._series.setdefault(value, (Volume(), time()))[0].add

    def describe(self) -> Iterable[Metric]:
        """Return the families without samples."""
        return self._families()

    def collect(self) -> Iterable[Metric]:
        families = self._families()
        dated = _series_are_dated()
        for value, (volume, created) in list(self._series.items()):
            for family, total in zip(families, volume.read(), strict=True):
                family.add_metric([value], total, created if dated else None)
        return families

    def _families(self) -> list[CounterMetricFamily]:
        return [CounterMetricFamily(name.name, name.text, labels=[self._label], unit=name.unit) for name in self._names]


class _Durations(Collector):
    def __init__(self, registry: CollectorRegistry, name: Name, bounds: Sequence[float], labels: Sequence[str]) -> None:
        self._name = name
        self._bounds = bounds
        self._labels = labels
        self._series: dict[tuple[str, ...], tuple[Durations, float]] = {}  # with the time of its beginning
        registry.register(self)

    def series(self, *values: str) -> AddDuration:
        return self._series.setdefault(values, (Durations(self._bounds), time()))[0].add

    def describe(self) -> Iterable[Metric]:
        """Return the family without samples."""
        return [self._family()]

    def collect(self) -> Iterable[Metric]:
        family = self._family()
        dated = _series_are_dated()
        bounds = [*map(floatToGoString, self._bounds), "+Inf"]
        for values, (timed, created) in list(self._series.items()):
            distribution = timed.read()
            counts = [*distribution.cumulative, distribution.count]
            family.add_metric(values, list(zip(bounds, counts, strict=True)), distribution.total)
            if dated:
                family.add_sample(f"{family.name}_created", dict(zip(self._labels, values, strict=True)), created)
        return [family]

    def _family(self) -> HistogramMetricFamily:
        return HistogramMetricFamily(self._name.name, self._name.text, labels=self._labels, unit=self._name.unit)


def _series_are_dated() -> bool:
    """Whether series have a sample with the time of their beginning: ``disable_created_metrics()`` decides it."""
    [of_any_counter] = Counter("any", "", registry=None).collect()
    return any(sample.name.endswith("_created") for sample in of_any_counter.samples)
