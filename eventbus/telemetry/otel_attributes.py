"""The attributes of OpenTelemetry that metrics and traces share."""

from eventbus.telemetry.names import OPERATION_NAME, OPERATION_TYPE, SERVER_ADDRESS, SERVER_PORT, SYSTEM

SCOPE = "eventbus"  # the instrumentation scope of the meter and the tracer

# Values of attributes
ZEROMQ = "zeromq"
SEND, RECEIVE, PROCESS = "send", "receive", "process"  # operations; their names and their types are the same
REQUEST = "request"  # an operation that the conventions do not know

type Attributes = dict[str, str | int]


def operation(name: str, host: str | None, port: int | None, messaging_system: str = ZEROMQ) -> Attributes:
    """Return the attributes of all spans and measurements of one operation."""
    return {OPERATION_NAME: name, OPERATION_TYPE: name, **server(host, port, messaging_system)}


def server(host: str | None, port: int | None, messaging_system: str = ZEROMQ) -> Attributes:
    """Return the attributes that say which bus it is."""
    attributes: Attributes = {SYSTEM: messaging_system}
    if host is not None:
        attributes[SERVER_ADDRESS] = host
        if port is not None:
            attributes[SERVER_PORT] = port
    return attributes
