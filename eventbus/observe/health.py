"""How a client is, for the probes of whatever supervises its service."""

from dataclasses import dataclass

from eventbus.observe.state import ClientState


@dataclass(frozen=True, slots=True)
class EventBusHealth:
    """How a client is at one moment: `ready` and `live` are what Kubernetes calls readiness and liveness.

    Attributes:
        ready: whether events pass: the state is READY. If not, waiting helps, for the client recovers by itself.
        live: whether the consumer gets on, or was never started. If not, only a new start of the service helps.
        state: the client's state.
        round_trip: seconds that the last echo took through the proxy; None before the first, and without a proxy.
        echo_age: seconds since that echo came back. On an idle client at most `echo_interval` and `echo_timeout`.
        consuming: whether the consumer's thread runs.
        busy_for: seconds since the consumer's last sign of progress; 0.0 while it waits for events. It is seen by calls of
            `health`, so that it grows from the second one on that finds the same handler at the same event.
    """

    ready: bool
    live: bool
    state: ClientState
    round_trip: float | None
    echo_age: float | None
    consuming: bool
    busy_for: float
