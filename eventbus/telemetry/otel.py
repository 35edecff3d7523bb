"""OpenTelemetry: metrics and traces by its messaging conventions.

It needs the API only. Without an SDK the API's own objects do nothing, and events get no header.
"""

try:
    from eventbus.telemetry.otel_metrics import OpenTelemetryMetrics
    from eventbus.telemetry.otel_traces import OpenTelemetryTraces
except ModuleNotFoundError as error:
    error.add_note("pip install 'eventbus[otel]'")
    raise

__all__ = ["OpenTelemetryMetrics", "OpenTelemetryTraces"]
