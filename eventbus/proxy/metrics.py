"""The counts of a proxy as metrics for Prometheus. Needs prometheus-client."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from eventbus.proxy.health import Connections, ProxyHealth
from eventbus.wire.history import Kept

_PREFIX = "eventbus_proxy_"


class ProxyCollector(Collector):
    """The metrics of one proxy, read at each scrape.

    Args:
        health: returns the proxy's health.
        own: returns how many connections are the proxy's own, which do not count.
    """

    def __init__(self, health: Callable[[], ProxyHealth], own: Callable[[], Connections] = Connections) -> None:
        self._health = health
        self._own = own

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Return the metrics of this moment."""
        health, own = self._health(), self._own()
        yield _gauge("running", "1: the proxy passes messages on; 0: it does not.", float(health.running))
        yield _gauge("uptime_seconds", "Seconds since the proxy was started.", health.uptime)
        yield _gauge(
            "subscriptions",
            "Different topics, or prefixes of topics, that at least one client is subscribed to now.",
            health.subscriptions,
        )
        connections = GaugeMetricFamily(
            _PREFIX + "connections", "Open connections, by the port that they came to.", labels=["role"]
        )
        connections.add_metric(["publisher"], max(0, health.connections.publishers - own.publishers))
        connections.add_metric(["subscriber"], max(0, health.connections.subscribers - own.subscribers))
        yield connections
        messages = CounterMetricFamily(
            _PREFIX + "messages",
            "Messages from publishers (in), and messages passed on (out: each once, however many subscribers get it, even "
            "if none is subscribed or a full queue drops it). Half the number of frames: each message of this bus has two.",
            labels=["direction"],
        )
        size = CounterMetricFamily(_PREFIX + "bytes", "Bytes in the frames of messages.", labels=["direction"])
        for direction, traffic in (("in", health.from_publishers), ("out", health.to_subscribers)):
            messages.add_metric([direction], traffic.frames // 2)
            size.add_metric([direction], traffic.bytes)
        yield messages
        yield size
        failures = CounterMetricFamily(
            _PREFIX + "handshake_failures",
            "Connections whose handshake failed: the peer left or was too slow (no_detail), it does not speak ZeroMQ "
            "(protocol), or its key is not on the allow-list (auth).",
            labels=["reason"],
        )
        failed = health.handshake_failures
        for reason, count in (("no_detail", failed.no_detail), ("protocol", failed.protocol), ("auth", failed.auth)):
            failures.add_metric([reason], count)
        yield failures
        yield CounterMetricFamily(
            _PREFIX + "refused", "Connections of clients whose keys are not on the allow-list.", health.refused
        )
        disconnected = CounterMetricFamily(
            _PREFIX + "disconnected",
            "Connections that the proxy has ended to stay within its limits: of slow subscribers, of publishers with "
            "unfinished or too large messages, too much in a handshake, too many subscriptions, misuse of the subscribers' "
            "port, or for want of descriptors.",
            labels=["reason"],
        )
        for reason, count in health.disconnected.items():
            disconnected.add_metric([reason], count)
        yield disconnected
        dropped = CounterMetricFamily(
            _PREFIX + "dropped",
            "Messages that were dropped for slow subscribers because their queues were full; an estimate.",
            labels=["reason"],
        )
        dropped.add_metric(["slow"], health.dropped)
        yield dropped
        if health.history is not None:
            yield from _of_history(health.history)
        denied = CounterMetricFamily(
            _PREFIX + "denied",
            "How often a client, by its name in the allow-list, was denied to publish or to subscribe.",
            labels=["client"],
        )
        for client, count in health.denied.items():
            denied.add_metric([client], count)
        yield denied


def _of_history(kept: Kept) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
    yield _gauge("history_messages", "Messages that the proxy keeps for those who come late.", kept.messages)
    yield _gauge("history_topics", "Topics of which it keeps any.", kept.topics)
    yield _gauge("history_bytes", "Memory that they take.", kept.bytes)
    yield _gauge(
        "history_behind_messages",
        "Messages that have passed and that the history does not have: yet, or for good.",
        kept.behind,
    )
    yield CounterMetricFamily(_PREFIX + "history_evicted", "Messages that had to go because memory was full.", kept.dropped)
    yield CounterMetricFamily(
        _PREFIX + "history_unwritten", "Messages that could not be written to its file.", kept.unwritten
    )
    yield CounterMetricFamily(_PREFIX + "history_queries", "Queries that it has answered.", kept.queries)


def metrics_of(collector: ProxyCollector) -> Callable[[], tuple[bytes, str]]:
    """Return a function that returns the text for a scrape, with metrics of this process, and its content type."""
    registry = CollectorRegistry()
    registry.register(collector)
    ProcessCollector(registry=registry)
    encode, kind = choose_encoder("")  # the format that every scraper can read
    return lambda: (encode(registry), kind)


def _gauge(name: str, documentation: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(_PREFIX + name, documentation, value)
