"""The parts of a service: a container that holds the bus, handlers collected when it starts, and components that run."""

from typing import TYPE_CHECKING

from eventbus.container.light_wiring import import_wiring
from eventbus.exports import lazy

if TYPE_CHECKING:
    from eventbus.container.bus import EventBusContainer
    from eventbus.container.lifecycle import ServiceState
    from eventbus.container.lifespans import lifespan
    from eventbus.container.restarts import RestartPolicy
    from eventbus.container.running import run
    from eventbus.container.service import AsyncService, Service
    from eventbus.container.typed import EventBusProvider, event_bus

__all__ = [
    "AsyncService",
    "EventBusContainer",
    "EventBusProvider",
    "RestartPolicy",
    "Service",
    "ServiceState",
    "event_bus",
    "lifespan",
    "run",
]

_HOMES = {
    "eventbus.container.bus": ("EventBusContainer",),
    "eventbus.container.lifecycle": ("ServiceState",),
    "eventbus.container.lifespans": ("lifespan",),
    "eventbus.container.restarts": ("RestartPolicy",),
    "eventbus.container.running": ("run",),
    "eventbus.container.service": ("AsyncService", "Service"),
    "eventbus.container.typed": ("EventBusProvider", "event_bus"),
}
"""The names that each module defines."""

import_wiring()

if not TYPE_CHECKING:  # with a __getattr__, type checkers would believe in every name
    __getattr__, __dir__ = lazy(__name__, _HOMES)
