"""From settings to what they switch on. Libraries are imported for what is switched on, and for nothing else."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from eventbus.errors import ExtraMissing
from eventbus.handle.middleware import Middleware
from eventbus.observe.health import EventBusHealth
from eventbus.observe.hooks import EventBusHook
from eventbus.policies import Metrics, Traces


class HasHealth(Protocol):
    """A client, as far as telemetry looks at it."""

    def health(self) -> EventBusHealth:
        """Tell how the client is. Does not block."""


def _unwatched(_: HasHealth) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What is to be given to one client.

    Attributes:
        hooks: for ``EventBusClient(hooks=…)``.
        middleware: for ``EventBusClient(middleware=…)``; before the service's own, so that it measures those too.
        watch: to be called with the client, for what is read from its health; it is kept weakly.
    """

    hooks: tuple[EventBusHook, ...] = ()
    middleware: tuple[Middleware, ...] = ()
    watch: Callable[[HasHealth], None] = _unwatched


def telemetry(
    metrics: Metrics = Metrics.NONE,
    traces: Traces = Traces.NONE,
    *,
    host: str | None = None,
    pub_port: int | None = None,
    sub_port: int | None = None,
) -> Telemetry:
    """Make what observes one client.

    Args:
        metrics: who is told what the client does.
        traces: whether spans are made, and the trace context travels with events.
        host: where the proxy runs; None where there is none, such as in memory.
        pub_port: its port for publishers, for what is said of sending.
        sub_port: its port for subscribers, for what is said of receiving and handling.

    Raises:
        ExtraMissing: a library is not installed; the text names the extra and the variable.
    """
    hooks: list[EventBusHook] = []
    middleware: list[Middleware] = []
    watch: Callable[[HasHealth], None] = _unwatched
    if traces is Traces.OTEL:
        try:
            from eventbus.telemetry.otel import OpenTelemetryTraces
        except ImportError:
            raise ExtraMissing("otel", "EVENTBUS_TRACES") from None
        # The outermost: what is measured inside of a span can be told as an example of it.
        middleware.append(OpenTelemetryTraces(host, pub_port, sub_port))
    if metrics is Metrics.OTEL:
        try:
            from eventbus.telemetry.otel import OpenTelemetryMetrics
        except ImportError:
            raise ExtraMissing("otel", "EVENTBUS_METRICS") from None
        counted = OpenTelemetryMetrics(host, pub_port, sub_port)
        hooks.append(counted)
        middleware.append(counted)
    elif metrics is Metrics.PROMETHEUS:
        try:
            from eventbus.telemetry.prometheus import PrometheusHook
        except ImportError:
            raise ExtraMissing("prometheus", "EVENTBUS_METRICS") from None
        scraped = PrometheusHook()
        hooks.append(scraped)
        watch = scraped.watch
    return Telemetry(tuple(hooks), tuple(middleware), watch)
