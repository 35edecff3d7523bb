"""The HTTP server of a service; see `http_server`."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from eventbus.errors import ExtraMissing
from eventbus.telemetry.http_server import Facts, Probe, ProbeServer

if TYPE_CHECKING:  # the process of a proxy imports no client
    from eventbus.client import EventBusClient
    from eventbus.observe.health import EventBusHealth


# Any: whatever classes of events it has.
def probes_of(client: "EventBusClient[Any, Any, Any]", port: int, host: str = "127.0.0.1") -> ProbeServer:
    """Return the server of a service, not started yet: /healthz and /readyz answer from `client.health()`.

    /metrics serves prometheus-client's default registry: the metrics of `EVENTBUS_METRICS=prometheus` and the service's own.

    Args:
        client: the service's client.
        port: where to listen; 0 picks a free port.
        host: the address to bind.
    """

    def probe(is_well: "Callable[[EventBusHealth], bool]", reason: str) -> Probe:
        def ask() -> tuple[bool, Facts]:
            health = client.health()
            times = {"round_trip": health.round_trip, "echo_age": health.echo_age, "busy_for": health.busy_for}
            facts = {"name": health.name, "state": health.state, **times}
            return (True, facts) if is_well(health) else (False, {"reason": reason, **facts})

        return ask

    live = probe(lambda health: health.live, "the consumer makes no progress")
    ready = probe(lambda health: health.ready, "the path to the proxy and back is not proven")
    return ProbeServer(port, host, live=live, ready=ready, metrics=_default_registry)


def _default_registry() -> tuple[bytes, str]:
    try:
        from prometheus_client import REGISTRY
        from prometheus_client.exposition import choose_encoder
    except ImportError:
        raise prometheus_missing() from None
    encode, kind = choose_encoder("")  # the format that every scraper can read
    return encode(REGISTRY), kind


def served() -> str:
    """What such a server has for those who ask, in words: metrics only if the library is there."""
    return "probes" if find_spec("prometheus_client") is None else "metrics and probes"


def prometheus_missing() -> ExtraMissing:
    """Return the error of a service or a proxy that serves /metrics without the library."""
    return ExtraMissing("prometheus", "EVENTBUS_HTTP_PORT", library="prometheus-client")
