"""What a proxy answers to those who supervise and scrape it; see `http_server`."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from eventbus.proxy.health import Connections
from eventbus.proxy.proxy import EventBusProxy
from eventbus.proxy.readiness import Readiness
from eventbus.telemetry.http_server import Facts, Metrics, ProbeServer
from eventbus.telemetry.probes import prometheus_missing

logger = logging.getLogger("eventbus")

_ECHO = 1.0  # seconds
_ENDED = "the proxy does not run"
_STUCK = "the proxy does not answer"


@contextmanager
def serving(proxy: EventBusProxy, port: int, host: str = "127.0.0.1") -> Iterator[ProbeServer]:
    """Run a server for a proxy within the block; the proxy may start later and begin anew.

    /healthz tells whether it runs, also while it begins anew, /readyz whether an echo comes round through its own two ports
    within a second, or has in the last quarter of one, and /metrics what it counts; that needs prometheus-client.

    Args:
        proxy: which.
        port: where to listen; 0 picks a free one.
        host: the address to bind.

    Raises:
        ProbePortInUse: the port is taken.
        OSError: the host cannot be bound.
    """

    def live() -> tuple[bool, Facts]:
        beginning = proxy.is_beginning()
        health = proxy.health()
        facts = {"uptime": health.uptime}
        if health.running or beginning or proxy.is_beginning():  # perhaps only by now
            return True, facts
        return False, {"reason": _STUCK if proxy.is_running() else _ENDED, **facts}

    def ready() -> tuple[bool, Facts]:
        taken = readiness.prove(_ECHO)
        if taken is None and not proxy.is_running():
            return False, {"reason": _ENDED}
        if taken is None:
            return False, {"reason": f"no echo has come round through its own ports within {_ECHO:g} s"}
        return True, {"round_trip": taken}

    readiness = Readiness(proxy)
    metrics = _metrics_of(proxy, readiness)
    with readiness, ProbeServer(port, host, live=live, ready=ready, metrics=metrics) as made:
        yield made


def _metrics_of(proxy: EventBusProxy, readiness: Readiness) -> Metrics:
    try:
        from eventbus.proxy.metrics import ProxyCollector, metrics_of
    except ImportError:
        missing = prometheus_missing()
        logger.warning("/metrics is not served: %s", missing, extra={"eventbus_reason": str(missing)})
        return _no_metrics
    # Its own probe is no client.
    return metrics_of(ProxyCollector(proxy.health, own=lambda: Connections(readiness.connections, readiness.connections)))


def _no_metrics() -> tuple[bytes, str]:
    raise prometheus_missing()
