"""What a service touches: a container that holds the bus, handlers collected when it starts, and components that run."""

from eventbus.container.bus import EventBusContainer
from eventbus.container.lifecycle import ServiceState
from eventbus.container.lifespan import lifespan
from eventbus.container.restarts import RestartPolicy
from eventbus.container.running import run
from eventbus.container.service import AsyncService, Service

__all__ = ["AsyncService", "EventBusContainer", "RestartPolicy", "Service", "ServiceState", "lifespan", "run"]
