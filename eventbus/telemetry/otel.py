"""OpenTelemetry: metrics and traces by its messaging conventions.

It needs the API only. Without an SDK the API's own objects do nothing, and events get no header.
"""

from eventbus.telemetry.otel_metrics import OpenTelemetryMetrics
from eventbus.telemetry.otel_traces import OpenTelemetryTraces

__all__ = ["OpenTelemetryMetrics", "OpenTelemetryTraces"]
