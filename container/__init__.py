"""What a service touches: a container that holds the bus, handlers collected when it starts, and components that run."""

from eventbus.container.bus import EventBusContainer
from eventbus.container.lifecycle import ServiceState
from eventbus.container.lifespan import lifespan
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
