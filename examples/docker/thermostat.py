from enum import auto

from dependency_injector import containers, providers

from eventbus import BaseEvent, BaseEventTopic, BaseEventType, EventBusClient, on
from eventbus.container import event_bus, run


class PlantEventType(BaseEventType):
    measured = auto()
    heating = auto()


class PlantTopic(BaseEventTopic):
    plant = auto()


class PlantEvent(BaseEvent[PlantEventType]):
    value: float


PlantBus = EventBusClient[PlantEvent, PlantEventType, PlantTopic]


class Thermostat:
    def __init__(self, bus: PlantBus) -> None:
        self.bus = bus

    @on(PlantEventType.measured, topic=PlantTopic.plant)
    def handle_measured(self, event: PlantEvent) -> None:
        self.bus.emit_event(PlantEvent(type=PlantEventType.heating, value=20 - event.value), topic=PlantTopic.plant)


class App(containers.DeclarativeContainer):
    bus = event_bus(PlantBus)
    thermostat = providers.Singleton(Thermostat, bus=bus.client)


if __name__ == "__main__":
    run(App)
