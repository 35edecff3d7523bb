"""What is said while the proxy is away, and when it is back."""

import logging
from time import monotonic

from eventbus.observe.state import ClientState, StateChange

logger = logging.getLogger("eventbus")


class Outage:
    """Listens to a status. That the way to the proxy is lost, the status logs itself; that it is there again, this does."""

    def __init__(self) -> None:
        self._lost: tuple[float, str] | None = None  # when, and why

    def __call__(self, change: StateChange) -> None:
        """Follow a change of state."""
        if change.state is ClientState.DEGRADED:
            self._lost = monotonic(), change.reason
        elif change.state is ClientState.READY and self._lost is not None:
            (since, _), self._lost = self._lost, None
            logger.warning(
                "event bus ready again after %.1f s: events of that time may be missing here",
                monotonic() - since,
                extra={"eventbus_state": str(change.state)},
            )

    def __str__(self) -> str:
        """For how long it has lasted, and why; empty if there is none."""
        lost = self._lost
        return "" if lost is None else f"the proxy is away for {monotonic() - lost[0]:.0f} s: {lost[1]}"
