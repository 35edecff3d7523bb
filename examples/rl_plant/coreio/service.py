"""The service that writes actions to the plant and reads observations from it, as events on the bus ask for."""

import os

from coreio.events import IOEvent, IOEventBusClient, IOEventTopic, IOEventType
from coreio.opc import Opc
from counts import counts_of
from eventbus import answers, on
from eventbus.container import Service
from plant import Observation

HEARTBEAT = 0.5  # seconds between two


class PlantIO(Service[IOEvent, IOEventType, IOEventTopic]):
    """Handlers do the work, one after the other in the client's thread; `run` tells now and then that it is there.

    Args:
        bus: the client that is injected.
        opc: the plant.
    """

    def __init__(self, bus: IOEventBusClient, opc: Opc) -> None:
        super().__init__(bus, IOEventTopic.coreio_service)
        self._opc = opc

    def run(self) -> None:
        """Emit heartbeats until stopping is asked for, and a last one then."""
        while not self.pause(HEARTBEAT):
            self._emit_heartbeat()
        self._emit_heartbeat()

    @on(IOEventType.write_to_opc, topic=IOEventTopic.coreio)
    def handle_write(self, event: IOEvent) -> None:
        """Do a control step, unless the plant has done it before."""
        if event.step is None or event.action is None:
            raise ValueError("write_to_opc needs a step and an action")  # which the bus logs with the event
        self._opc.write(event.step, event.action)

    @answers(IOEventType.read_from_opc, topic=IOEventTopic.coreio)
    def handle_read(self, event: IOEvent) -> Observation:
        """Answer what the sensors show, and tell it to everybody."""
        observation = self._opc.read()
        self.bus.emit_event(IOEvent(type=IOEventType.reading, observation=observation), IOEventTopic.coreio_readings)
        return observation

    @on(IOEventType.exit, topic=IOEventTopic.coreio)
    def handle_exit(self, event: IOEvent) -> None:
        """Stop, and with it the program."""
        self.request_stop()

    def _emit_heartbeat(self) -> None:
        heartbeat = IOEvent(type=IOEventType.heartbeat, pid=os.getpid(), counts=counts_of(self.bus))
        self.bus.emit_event(heartbeat, IOEventTopic.coreio_service)
