"""The HTTP server of a proxy: probes for its supervisor, metrics for Prometheus; see `http_server`."""

from collections.abc import Iterator
from contextlib import contextmanager

from eventbus._base.log import Log
from eventbus.proxy.health import Connections
from eventbus.proxy.proxy import EventBusProxy
from eventbus.proxy.readiness import Readiness
from eventbus.telemetry.http_server import Facts, Metrics, ProbeServer
from eventbus.telemetry.probes import prometheus_missing

_ECHO_TIMEOUT_S = 1.0


@contextmanager
def serving(proxy: EventBusProxy, port: int, host: str = "127.0.0.1") -> Iterator[ProbeServer]:
    """Run an HTTP server for a proxy within the block; the proxy may start later, stop and restart.

    /healthz answers 200 while the proxy runs or restarts, /readyz while an echo through the proxy's own two ports arrives
    within a second (a proof stays valid for a quarter of a second). /metrics serves the proxy's counts, if
    prometheus-client is installed.

    Args:
        proxy: the proxy.
        port: where to listen; 0 picks a free port.
        host: the address to bind.

    Raises:
        ProbePortInUse: the port is taken.
        OSError: the host cannot be bound.
    """
    readiness = Readiness(proxy)

    def live() -> tuple[bool, Facts]:
        starting = proxy.is_starting()
        health = proxy.health()
        facts = {"uptime": health.uptime}
        if health.running or starting or proxy.is_starting():  # a restart may have begun in the meantime
            return True, facts
        return False, {"reason": f"the proxy does not {'answer' if proxy.is_running() else 'run'}", **facts}

    def ready() -> tuple[bool, Facts]:
        taken = readiness.prove(_ECHO_TIMEOUT_S)
        if taken is not None:
            return True, {"round_trip": taken}
        if proxy.is_running():
            return False, {"reason": f"no echo has arrived through the proxy's own ports within {_ECHO_TIMEOUT_S:g} s"}
        return False, {"reason": "the proxy does not run"}

    with readiness, ProbeServer(port, host, live=live, ready=ready, metrics=_metrics_for(proxy, readiness)) as server:
        yield server


def _metrics_for(proxy: EventBusProxy, readiness: Readiness) -> Metrics:
    try:
        from eventbus.proxy.metrics import ProxyCollector, metrics_of
    except ImportError:
        missing = prometheus_missing()
        Log().warning("/metrics is not served: %s", missing, reason=str(missing))
        return _no_metrics
    # The connections that prove readiness are no clients'.
    return metrics_of(ProxyCollector(proxy.health, own=lambda: Connections(readiness.connections, readiness.connections)))


def _no_metrics() -> tuple[bytes, str]:
    raise prometheus_missing()
