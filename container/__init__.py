"""What a service touches: a container that holds the bus, and handlers that are collected when it starts."""

from eventbus.container.bus import EventBusContainer
from eventbus.container.lifespan import lifespan

__all__ = ["EventBusContainer", "lifespan"]
