"""What a service and a proxy answer to whoever supervises and scrapes them; see `http`."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from eventbus.errors import ExtraMissing
from eventbus.proxy.health import Connections
from eventbus.proxy.readiness import Readiness
from eventbus.telemetry.http_server import Facts, Metrics, Probe, ProbeServer

if TYPE_CHECKING:  # the process of a proxy imports no client
    from eventbus.client import EventBusClient
    from eventbus.observe.health import EventBusHealth
    from eventbus.proxy.proxy import EventBusProxy

logger = logging.getLogger("eventbus")

_ECHO = 1.0  # seconds
_ENDED = "the proxy does not run"
_STUCK = "the proxy does not answer"


# Any: whatever classes of events it has.
def probes_of(client: "EventBusClient[Any, Any, Any]", port: int, host: str = "127.0.0.1") -> ProbeServer:
    """The server of a service, not started yet: /healthz and /readyz answer from `client.health()`.

    /metrics has prometheus-client's default registry: what `EVENTBUS_METRICS=prometheus` counts, and what the service does.

    Args:
        client: the service's.
        port: where to listen; 0 picks a free one.
        host: the address to bind.
    """

    def probe(is_well: "Callable[[EventBusHealth], bool]", reason: str) -> Probe:
        def ask() -> tuple[bool, Facts]:
            health = client.health()
            times = {"round_trip": health.round_trip, "echo_age": health.echo_age, "busy_for": health.busy_for}
            facts = {"state": health.state, **times}
            return (True, facts) if is_well(health) else (False, {"reason": reason, **facts})

        return ask

    live = probe(lambda health: health.live, "the consumer does not get on")
    ready = probe(lambda health: health.ready, "the way to the proxy and back is not proven")
    return ProbeServer(port, host, live=live, ready=ready, metrics=_default_registry)


@contextmanager
def serving(proxy: "EventBusProxy", port: int, host: str = "127.0.0.1") -> Iterator[ProbeServer]:
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


def _default_registry() -> tuple[bytes, str]:
    try:
        from prometheus_client import REGISTRY
        from prometheus_client.exposition import choose_encoder
    except ImportError:
        raise _missing() from None
    encode, kind = choose_encoder("")  # what every scraper can read
    return encode(REGISTRY), kind


def _metrics_of(proxy: "EventBusProxy", readiness: Readiness) -> Metrics:
    try:
        from eventbus.proxy.metrics import ProxyCollector, metrics_of
    except ImportError:
        missing = _missing()
        logger.warning("/metrics is not served: %s", missing, extra={"eventbus_reason": str(missing)})
        return _no_metrics
    # Its own probe is no client.
    return metrics_of(ProxyCollector(proxy.health, own=lambda: Connections(readiness.connections, readiness.connections)))


def _no_metrics() -> tuple[bytes, str]:
    raise _missing()


def _missing() -> ExtraMissing:
    return ExtraMissing("prometheus", "EVENTBUS_HTTP_PORT", library="prometheus-client")
