"""How corerl is put together."""

from dependency_injector import containers, providers

from coreio.events import IOEvent
from corerl.agent import Agent
from corerl.event_bus import RLEventBusClient
from corerl.events import RLEvent
from eventbus.container import EventBusContainer
from eventbus.settings import EventBusSettings


class App(containers.DeclarativeContainer):
    """Two event families over one proxy are two buses, each with a client; `@on` finds the right one by the event type."""

    bus = providers.Container(EventBusContainer, event_class=RLEvent, client_class=RLEventBusClient)
    io = providers.Container(
        EventBusContainer,
        event_class=IOEvent,
        # Where EVENTBUS_HTTP_PORT is set, one client of the program can have the port, and that is the first.
        settings=providers.Singleton(EventBusSettings, http_port=0),
    )
    agent = providers.Singleton(Agent, bus=bus.client, io=io.client)
