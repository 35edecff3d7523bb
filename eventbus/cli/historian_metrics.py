"""What `eventbus historian` keeps, as metrics for Prometheus. Needs prometheus-client."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from eventbus.wire.history import Kept

_PREFIX = "eventbus_historian_"

type Read = Callable[[], tuple[Kept, bool, float | None]]
"""Returns what is kept, whether the historian is connected, and how many seconds it is behind; None: it does not answer."""


class HistorianCollector(Collector):
    """The metrics of one historian, read at each scrape."""

    def __init__(self, read: Read) -> None:
        self._read = read

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Return the metrics of this moment."""
        kept, connected, behind = self._read()
        yield _gauge("connected", "1: the historian gets what passes the proxy; 0: it reconnects.", float(connected))
        if behind is not None:
            yield _gauge("behind_seconds", "Seconds until it has taken what passes now, and answers.", behind)
        yield _gauge("messages", "Messages that it keeps for those who come late.", kept.messages)
        yield _gauge("topics", "Topics of which it keeps any.", kept.topics)
        yield _gauge("bytes", "Memory that they take.", kept.bytes)
        yield _counter("evicted", "Messages that had to go because memory was full.", kept.dropped)
        yield _counter("unwritten", "Messages that could not be written to its file.", kept.unwritten)
        yield _counter("queries", "Queries that it has answered.", kept.queries)


def metrics_of(read: Read) -> Callable[[], tuple[bytes, str]]:
    """Return a function that returns the text for a scrape, with metrics of this process, and its content type."""
    registry = CollectorRegistry()
    registry.register(HistorianCollector(read))
    ProcessCollector(registry=registry)
    encode, kind = choose_encoder("")  # the format that every scraper can read
    return lambda: (encode(registry), kind)


def _gauge(name: str, documentation: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(_PREFIX + name, documentation, value)


def _counter(name: str, documentation: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(_PREFIX + name, documentation, value)
