"""The container of coreio."""

from pathlib import Path

from dependency_injector import containers, providers

from coreio.events import IOEventBusClient
from coreio.opc import Opc
from coreio.service import PlantIO
from eventbus.container import event_bus


class App(containers.DeclarativeContainer):
    """One bus, the plant and the service. The plant is kept in the working folder."""

    bus = event_bus(IOEventBusClient)
    opc = providers.Singleton(Opc, path=Path("plant.json"))
    service = providers.Singleton(PlantIO, bus=bus.client, opc=opc)
