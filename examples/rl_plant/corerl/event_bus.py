"""The agent's client of the bus, pre-configured with its events."""

from typing import Any

import eventbus
from corerl.events import RLEvent, RLEventTopic, RLEventType


class RLEventBusClient(eventbus.EventBusClient[RLEvent, RLEventType, RLEventTopic]):
    """A client of the agent's events: ``RLEventBusClient()``; a container makes it as its `client_class`.

    Args:
        event_class: there is no need to give it.
        options: what `eventbus.EventBusClient` takes.
    """

    # Any: of each option its own type.
    def __init__(self, event_class: type[RLEvent] = RLEvent, **options: Any) -> None:
        super().__init__(event_class, **options)


EventBusClient = RLEventBusClient
"""The name that services import which had a client of their own before."""
