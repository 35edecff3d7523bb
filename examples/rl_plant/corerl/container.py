"""The container of corerl."""

from dependency_injector import containers, providers

from coreio.events import IOEventBusClient
from corerl.agent import Agent
from corerl.event_bus import RLEventBusClient
from eventbus.container import event_bus
from eventbus.settings import EventBusSettings


class App(containers.DeclarativeContainer):
    """Two event families over one proxy are two buses, each with a client; `@on` finds the right one by the event type."""

    bus = event_bus(RLEventBusClient)
    io = event_bus(
        IOEventBusClient,
        # Where EVENTBUS_HTTP_PORT is set, one client of the program can have the port, and that is the first.
        settings=providers.Singleton(EventBusSettings, http_port=0),
    )
    agent = providers.Singleton(Agent, bus=bus.client, io=io.client)
