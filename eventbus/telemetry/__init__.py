"""Prometheus, OpenTelemetry, the log and the HTTP server. Each is imported only where it is switched on."""
