"""What a proxy counts, as metrics for Prometheus. Needs prometheus-client."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from eventbus.proxy.health import Connections, ProxyHealth

_PREFIX = "eventbus_proxy_"


class ProxyCollector(Collector):
    """The metrics of one proxy, asked for when they are scraped.

    Args:
        health: tells how the proxy is.
        own: how many of the connections are the proxy's own, and not counted.
    """

    def __init__(self, health: Callable[[], ProxyHealth], own: Callable[[], Connections] = Connections) -> None:
        self._health = health
        self._own = own

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """The metrics of this moment."""
        health, own = self._health(), self._own()
        yield _gauge("running", "1: it passes messages on; 0: it does not.", float(health.running))
        yield _gauge("uptime_seconds", "Seconds that it has been running for.", health.uptime)
        yield _gauge(
            "subscriptions",
            "Different topics, or beginnings of topics, that somebody is subscribed to now.",
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
            "Messages from publishers (in), and those handed on (out: once, however many get them, and also what nobody has "
            "subscribed to or a full queue drops). Half as many as frames: each message of this bus has two.",
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
            "Connections that ended before their handshake was through: the other side left or was too slow (no_detail), "
            "it speaks something else (protocol), or its key is not on the allow-list (auth).",
            labels=["reason"],
        )
        failed = health.handshake_failures
        for reason, count in (("no_detail", failed.no_detail), ("protocol", failed.protocol), ("auth", failed.auth)):
            failures.add_metric([reason], count)
        yield failures
        yield CounterMetricFamily(
            _PREFIX + "refused", "Connections of clients whose keys are not on the allow-list.", health.refused
        )
        denied = CounterMetricFamily(
            _PREFIX + "denied",
            "How often a client, by its name in the allow-list, was denied to publish or to subscribe.",
            labels=["client"],
        )
        for client, count in health.denied.items():
            denied.add_metric([client], count)
        yield denied


def metrics_of(collector: ProxyCollector) -> Callable[[], tuple[bytes, str]]:
    """What returns the text for a scrape, with metrics of this process, and its content type."""
    registry = CollectorRegistry()
    registry.register(collector)
    ProcessCollector(registry=registry)
    encode, kind = choose_encoder("")  # what every scraper can read
    return lambda: (encode(registry), kind)


def _gauge(name: str, documentation: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(_PREFIX + name, documentation, value)
