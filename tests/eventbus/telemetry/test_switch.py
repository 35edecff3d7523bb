"""Settings become hooks and middleware: only what is switched on, and one clear error if its library is missing."""

from collections.abc import Callable
from importlib import import_module

import pytest
from opentelemetry import baggage, context

from eventbus.errors import ExtraMissing
from eventbus.handle.middleware import Emission
from eventbus.policies import Metrics, Traces
from eventbus.telemetry.otel import OpenTelemetryMetrics, OpenTelemetryTraces
from eventbus.telemetry.prometheus import PrometheusHook
from eventbus.telemetry.switch import telemetry
from tests.support import MyEventTopic, event, run_script


def test_nothing_is_switched_on_by_itself() -> None:
    """Without metrics and traces there is neither a hook nor a middleware."""
    made = telemetry()
    assert (made.hooks, made.middleware) == ((), ())


def test_prometheus() -> None:
    """Prometheus is one hook, and no middleware: emitting costs no more than telling it."""
    made = telemetry(Metrics.PROMETHEUS)
    [hook] = made.hooks
    assert isinstance(hook, PrometheusHook)
    assert made.middleware == ()


def test_opentelemetry() -> None:
    """OpenTelemetry's metrics are a hook and a middleware; traces a middleware, which is outside."""
    made = telemetry(Metrics.OTEL, Traces.OTEL, host="plant-1", pub_port=5559, sub_port=5560)
    [hook] = made.hooks
    assert isinstance(hook, OpenTelemetryMetrics)
    outer, inner = made.middleware
    assert isinstance(outer, OpenTelemetryTraces)
    assert inner is hook


def test_how_much_is_timed() -> None:
    """OpenTelemetry times as many calls as cost little, or the part that is asked for."""
    for made, expected in ((telemetry(Metrics.OTEL), "auto"), (telemetry(Metrics.OTEL, timed=0.25), 0.25)):
        [hook] = made.hooks
        assert isinstance(hook, OpenTelemetryMetrics)
        assert hook.timed == expected


def test_how_much_is_sampled() -> None:
    """All emissions begin a trace, or the part that is asked for."""
    for made, expected in ((telemetry(traces=Traces.OTEL), 1.0), (telemetry(traces=Traces.OTEL, sampled=0.25), 0.25)):
        [middleware] = made.middleware
        assert isinstance(middleware, OpenTelemetryTraces)
        assert middleware.sampled == expected


@pytest.mark.parametrize(("traces", "travels"), [(Traces.OTEL, False), (Traces.OTEL_WITH_BAGGAGE, True)])
def test_baggage_has_to_be_asked_for(traces: Traces, travels: bool) -> None:
    """The caller's baggage travels with events with `otel-with-baggage` only."""
    [middleware] = telemetry(traces=traces).middleware
    sent: list[Emission] = []
    token = context.attach(baggage.set_baggage("plant", "north"))
    middleware.emit(Emission([event()], MyEventTopic.my_service), sent.append)
    context.detach(token)
    assert ("baggage" in sent[0].headers) == travels


def test_metrics_and_traces_are_separate() -> None:
    """Traces go with any metrics, and metrics without traces."""
    traces_alone = telemetry(traces=Traces.OTEL)
    assert traces_alone.hooks == ()
    assert [type(made) for made in traces_alone.middleware] == [OpenTelemetryTraces]
    with_prometheus = telemetry(Metrics.PROMETHEUS, Traces.OTEL)
    assert [type(made) for made in with_prometheus.hooks] == [PrometheusHook]
    assert [type(made) for made in with_prometheus.middleware] == [OpenTelemetryTraces]
    metrics_alone = telemetry(Metrics.OTEL)
    assert [type(made) for made in metrics_alone.middleware] == [OpenTelemetryMetrics]


@pytest.mark.parametrize(
    ("library", "extra", "variable", "metrics", "traces"),
    [
        ("prometheus_client", "prometheus", "EVENTBUS_METRICS", Metrics.PROMETHEUS, Traces.NONE),
        ("opentelemetry", "otel", "EVENTBUS_METRICS", Metrics.OTEL, Traces.NONE),
        ("opentelemetry", "otel", "EVENTBUS_TRACES", Metrics.NONE, Traces.OTEL),
    ],
)
def test_a_missing_library_is_an_error_with_a_remedy(
    without: Callable[[str], None], library: str, extra: str, variable: str, metrics: Metrics, traces: Traces
) -> None:
    """Switching something on without its library raises an error that names the extra to install, and the variable."""
    without(library)
    with pytest.raises(ExtraMissing, match=rf"pip install 'eventbus\[{extra}\]' \({variable}\)") as caught:
        telemetry(metrics, traces)
    assert caught.value.extra == extra


@pytest.mark.parametrize(("library", "extra"), [("prometheus_client", "prometheus"), ("opentelemetry", "otel")])
def test_who_imports_it_is_told_the_extra(without: Callable[[str], None], library: str, extra: str) -> None:
    """A program that imports a hook or a middleware itself gets the usual error, with the remedy."""
    without(library)
    with pytest.raises(ModuleNotFoundError, match=library) as caught:
        import_module(f"eventbus.telemetry.{extra}")
    assert caught.value.__notes__ == [f"pip install 'eventbus[{extra}]'"]


@pytest.mark.process
def test_libraries_are_imported_where_they_are_switched_on() -> None:
    """Neither the package nor what is not switched on imports a library."""
    done = run_script(
        "import sys, eventbus\n"
        "from eventbus.policies import Metrics, Traces\n"
        "from eventbus.telemetry.switch import telemetry\n"
        "def loaded(): print('prometheus_client' in sys.modules, 'opentelemetry' in sys.modules)\n"
        "telemetry(); loaded()\n"
        "telemetry(Metrics.PROMETHEUS); loaded()\n"
        "telemetry(traces=Traces.OTEL); loaded()\n"
    )
    assert done.stdout.split("\n") == ["False False", "True False", "True True", ""]
