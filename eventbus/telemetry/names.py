"""The names of all metrics of a client, in Prometheus and in OpenTelemetry, and which of them export the same fact.

Prometheus: prefix `eventbus_`, base units, `_total`. OpenTelemetry: the messaging conventions (`messaging.…`) where they
have a metric, else the prefix `eventbus.client` and the conventions' rules: no unit in the name, counted things in the unit.
"""

from collections.abc import Mapping
from types import MappingProxyType

# Prometheus
EMITTED_EVENTS = "eventbus_emitted_events_total"
EMITTED_BYTES = "eventbus_emitted_bytes_total"
RECEIVED_EVENTS = "eventbus_received_events_total"
RECEIVED_BYTES = "eventbus_received_bytes_total"
HANDLER_DURATION = "eventbus_handler_duration_seconds"
HANDLER_ERRORS = "eventbus_handler_errors_total"
REJECTED = "eventbus_rejected_messages_total"
DROPPED = "eventbus_dropped_events_total"
LOST = "eventbus_lost_events_total"
REPAIRED = "eventbus_repaired_events_total"
CLIENTS = "eventbus_clients"
NAMED_CLIENTS = "eventbus_named_clients"
STATE_CHANGES = "eventbus_state_changes_total"
ROUND_TRIP = "eventbus_echo_round_trip_seconds"
BUSY = "eventbus_consumer_busy_seconds"

# OpenTelemetry's messaging conventions, which call events messages
SENT_MESSAGES = "messaging.client.sent.messages"
CONSUMED_MESSAGES = "messaging.client.consumed.messages"
OPERATION_DURATION = "messaging.client.operation.duration"
PROCESS_DURATION = "messaging.process.duration"

# OpenTelemetry, where the conventions have no metric
CLIENT_IO = "eventbus.client.io"
REJECTED_MESSAGES = "eventbus.client.rejected.messages"
DROPPED_MESSAGES = "eventbus.client.dropped.messages"
LOST_MESSAGES = "eventbus.client.lost.messages"
REPAIRED_MESSAGES = "eventbus.client.repaired.messages"
CLIENT_COUNT = "eventbus.client.count"
CLIENT_STATE_CHANGES = "eventbus.client.state.changes"
ECHO_ROUND_TRIP = "eventbus.client.echo.round_trip"
CONSUMER_BUSY = "eventbus.client.consumer.busy"

OTEL_OF_PROMETHEUS: Mapping[str, str] = MappingProxyType(
    {
        EMITTED_EVENTS: SENT_MESSAGES,
        EMITTED_BYTES: CLIENT_IO,
        RECEIVED_EVENTS: CONSUMED_MESSAGES,
        RECEIVED_BYTES: CLIENT_IO,
        HANDLER_DURATION: PROCESS_DURATION,
        HANDLER_ERRORS: PROCESS_DURATION,
        REJECTED: REJECTED_MESSAGES,
        DROPPED: DROPPED_MESSAGES,
        LOST: LOST_MESSAGES,
        REPAIRED: REPAIRED_MESSAGES,
        CLIENTS: CLIENT_COUNT,
        NAMED_CLIENTS: CLIENT_COUNT,
        STATE_CHANGES: CLIENT_STATE_CHANGES,
        ROUND_TRIP: ECHO_ROUND_TRIP,
        BUSY: CONSUMER_BUSY,
    }
)
"""The metric of OpenTelemetry with the same fact as each metric of Prometheus, two of them by an attribute."""

# Attributes of OpenTelemetry's conventions
SYSTEM = "messaging.system"
OPERATION_NAME = "messaging.operation.name"
OPERATION_TYPE = "messaging.operation.type"
DESTINATION_NAME = "messaging.destination.name"
BATCH_MESSAGE_COUNT = "messaging.batch.message_count"
ERROR_TYPE = "error.type"
CLIENT_ID = "messaging.client.id"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
CODE_FUNCTION_NAME = "code.function.name"
IO_DIRECTION = "network.io.direction"

# Attributes of OpenTelemetry that the conventions do not have
CLIENT_STATE = "eventbus.client.state"
REASON = "eventbus.reason"
