"""A client's health, as the probes of orchestrators and load balancers ask for it."""

from dataclasses import dataclass

from eventbus.exports import public
from eventbus.observe.state import ClientState


@public
@dataclass(frozen=True, slots=True)
class EventBusHealth:
    """A client's health at one moment: `ready` and `live` are what Kubernetes calls readiness and liveness.

    Attributes:
        ready: whether the state is READY, so that events pass. If not, wait: the client recovers by itself.
        live: whether the consumer makes progress, or was never started. If not, restart the service.
        state: the client's state.
        round_trip: seconds that the last echo took through the proxy; None before the first echo and without a proxy.
        echo_age: seconds since that echo came back; on an idle client at most `echo_interval` plus `echo_timeout`.
        consuming: whether the consumer's thread runs.
        busy_for: seconds since the consumer's last sign of progress; 0.0 while it waits for events. Calls of `health`
            measure it, so it grows from the second call that finds the same handler at the same event.
        name: what people call the client: the option ``name``, or that of the program.
    """

    ready: bool
    live: bool
    state: ClientState
    round_trip: float | None
    echo_age: float | None
    consuming: bool
    busy_for: float
    name: str = ""
