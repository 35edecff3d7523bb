"""The HTTP server of `eventbus historian`: probes for its supervisor, metrics for Prometheus; see `http_server`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from eventbus._base.log import Log
from eventbus.errors import EventBusError
from eventbus.history.historian import EventBusHistorian
from eventbus.history.reader import HistoryReader
from eventbus.observe.state import ClientState
from eventbus.telemetry.http_server import Facts, Metrics, ProbeServer
from eventbus.telemetry.probes import prometheus_missing
from eventbus.transports.contract import Transport

_ANSWER_TIMEOUT_S = 1.0


@contextmanager
def serving_historian(
    historian: EventBusHistorian, transport: Transport, public_key: str | None, port: int, host: str
) -> Iterator[ProbeServer]:
    """Run an HTTP server for a historian within the block.

    /healthz answers 200 while the historian runs, also while it reconnects. /readyz answers 200 while it answers a query of
    its own, which passes the proxy as those of clients do, within a second. As it takes messages one after the other, the
    time that this takes is how far it is behind. /metrics serves what it keeps, if prometheus-client is installed.

    Args:
        historian: the historian.
        transport: that of the historian.
        public_key: the historian's own, if it has keys.
        port: where to listen; 0 picks a free port.
        host: the address to bind.

    Raises:
        ProbePortInUse: the port is taken.
        OSError: the host cannot be bound.
    """
    reader = HistoryReader(transport, public_key)

    def behind() -> float:
        """How many seconds it takes until a query is answered."""
        began = monotonic()
        reader.status(_ANSWER_TIMEOUT_S)
        return monotonic() - began

    def live() -> tuple[bool, Facts]:
        facts: Facts = {"state": transport.status.state, "messages": historian.server.kept.messages}
        return (True, facts) if historian.is_running else (False, {"reason": "the historian has ended", **facts})

    def ready() -> tuple[bool, Facts]:
        try:
            return True, {"state": transport.status.state, "behind": behind()}
        except EventBusError as error:
            return False, {"reason": str(error), "state": transport.status.state}

    def late() -> float | None:
        if transport.status.state is not ClientState.READY:
            return None
        try:
            return behind()
        except EventBusError:
            return None

    try:
        with ProbeServer(port, host, live=live, ready=ready, metrics=_metrics_for(historian, transport, late)) as server:
            yield server
    finally:
        reader.close()


def _metrics_for(historian: EventBusHistorian, transport: Transport, behind: Callable[[], float | None]) -> Metrics:
    try:
        from eventbus.cli.historian_metrics import metrics_of
    except ImportError:
        missing = prometheus_missing()
        Log().warning("/metrics is not served: %s", missing, reason=str(missing))
        return _no_metrics
    return metrics_of(lambda: (historian.server.kept, transport.status.state is ClientState.READY, behind()))


def _no_metrics() -> tuple[bytes, str]:
    raise prometheus_missing()
