"""Turns settings into hooks and middleware. A library is imported only if its telemetry is switched on."""

from collections.abc import Callable
from dataclasses import dataclass

from eventbus.errors import ExtraMissing
from eventbus.handle.middleware import Middleware
from eventbus.observe.hooks import EventBusHook
from eventbus.policies import Metrics, Timed, Traces
from eventbus.telemetry.clients import HasHealth


def _unwatched(_: HasHealth) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Telemetry:
    """The hooks and middleware of one client.

    Attributes:
        hooks: for ``EventBusClient(hooks=…)``.
        middleware: for ``EventBusClient(middleware=…)``, before the service's own, so that it measures those too.
        watch: call it with the client, for metrics that are read from its health; it keeps the client weakly.
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
    timed: Timed = "auto",
    sampled: float = 1.0,
    name: str = "",
    messaging_system: str = "zeromq",
) -> Telemetry:
    """Make the hooks and middleware of one client.

    Args:
        metrics: which library counts.
        traces: whether calls make spans, and the trace context travels with events.
        host: where the proxy runs, or a NATS server; None without either, as in memory.
        pub_port: the port for publishers, an attribute of sending.
        sub_port: the port for subscribers, an attribute of receiving and handling.
        name: of the client; empty: none is told.
        messaging_system: what carries the events, by OpenTelemetry's conventions: ``zeromq`` or ``nats``.
        timed: which of the calls that succeed OpenTelemetry times; see `OpenTelemetryMetrics`. Prometheus times all.
        sampled: which part of the emissions begin a trace; see `OpenTelemetryTraces`.

    Raises:
        ExtraMissing: a library is not installed; the text names the extra and the variable.
    """
    hooks: list[EventBusHook] = []
    middleware: list[Middleware] = []
    watch: Callable[[HasHealth], None] = _unwatched
    if traces is not Traces.NONE:
        try:
            from eventbus.telemetry.otel import OpenTelemetryTraces
        except ImportError:
            raise ExtraMissing("otel", "EVENTBUS_TRACES", library="opentelemetry-api") from None
        # Traces are outermost, because measurements inside of a span can have it as their exemplar.
        middleware.append(
            OpenTelemetryTraces(
                host,
                pub_port,
                sub_port,
                baggage=traces is Traces.OTEL_WITH_BAGGAGE,
                sampled=sampled,
                name=name,
                messaging_system=messaging_system,
            )
        )
    if metrics is Metrics.OTEL:
        try:
            from eventbus.telemetry.otel import OpenTelemetryMetrics
        except ImportError:
            raise ExtraMissing("otel", "EVENTBUS_METRICS", library="opentelemetry-api") from None
        counted = OpenTelemetryMetrics(host, pub_port, sub_port, timed=timed, name=name, messaging_system=messaging_system)
        hooks.append(counted)
        middleware.append(counted)
        watch = counted.watch
    elif metrics is Metrics.PROMETHEUS:
        try:
            from eventbus.telemetry.prometheus import PrometheusHook
        except ImportError:
            raise ExtraMissing("prometheus", "EVENTBUS_METRICS", library="prometheus-client") from None
        scraped = PrometheusHook()
        hooks.append(scraped)
        watch = scraped.watch
    return Telemetry(tuple(hooks), tuple(middleware), watch)
