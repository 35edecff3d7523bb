"""What observes a bus for others: Prometheus, OpenTelemetry. Imported only where it is switched on."""
