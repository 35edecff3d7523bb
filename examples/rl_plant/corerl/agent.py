"""The agent: observes the plant, learns, and acts, one control step after the other."""

import os
from time import monotonic

from coreio.events import IOEvent, IOEventBusClient, IOEventTopic, IOEventType
from corerl.controller import Controller, Zone, reward, set_point, zone
from corerl.event_bus import RLEventBusClient
from corerl.events import RLEvent, RLEventTopic, RLEventType
from counts import counts_of
from eventbus import NoAnswer, NobodyAnswers, on
from eventbus.container import RestartPolicy, Service
from plant import Action, Observation

PACE = 0.015  # seconds from an observation to the action
HEARTBEAT = 0.5  # seconds between two
MEMORY = 15  # times PACE that a new agent waits for the last observation

VIOLATIONS = {Zone.YELLOW: RLEventType.yellow_zone_violation, Zone.RED: RLEventType.red_zone_violation}


class Agent(Service[RLEvent, RLEventType, RLEventTopic]):
    """Asks for an observation, decides, writes the action, and asks again.

    It needs no memory: the observation tells the step of the plant. So it goes on there after it was killed, coreio was
    killed, or a message was lost; it writes an action again that has not arrived at the plant. When it starts and the bus
    has a history, the last observation comes by itself, before the agent asks for one.

    Args:
        bus: the client for its own events.
        io: the client for those of coreio, at the same proxy.
        answer_timeout: the seconds without an answer after which it asks again.
    """

    def __init__(self, bus: RLEventBusClient, io: IOEventBusClient, answer_timeout: float = 0.5) -> None:
        super().__init__(bus, RLEventTopic.corerl, restart=RestartPolicy(limit=5, window=60.0))
        self._io = io
        self._answer_timeout = answer_timeout
        self._next_heartbeat = monotonic()
        self._told: Observation | None = None  # by the last event of the readings

    def run(self) -> None:
        """Do control steps until stopping is asked for."""
        controller = Controller()
        decided_for: int | None = None
        observation = self._remembered() or self._observe()
        while observation is not None:
            if observation.step != decided_for:
                action = self._decide(controller, observation)
                decided_for = observation.step
            if self.pause(PACE):
                break
            self._act(observation.step, action)
            observation = self._observe()
        self._emit_heartbeat()

    @on(RLEventType.exit, topic=RLEventTopic.corerl)
    def handle_exit(self, event: RLEvent) -> None:
        """Stop, and with it the program."""
        self.request_stop()

    @on(IOEventType.reading, topic=IOEventTopic.coreio_readings, start="last")
    def handle_reading(self, event: IOEvent) -> None:
        """Keep the last observation. The first event is one that was emitted before the agent was started."""
        self._told = event.observation

    def _remembered(self) -> Observation | None:
        """The last observation before the agent was started; None if there is none, or if the bus has no history."""
        for _ in range(MEMORY):
            if self._told is not None or self.pause(PACE):
                break
        return self._told

    def _observe(self) -> Observation | None:
        """Ask for the state of the plant until an answer comes; None when the agent is to stop."""
        while not self.stopping:
            if monotonic() >= self._next_heartbeat:
                self._emit_heartbeat()
            question = IOEvent(type=IOEventType.read_from_opc)
            try:
                return self._io.request(question, IOEventTopic.coreio, reply=Observation, timeout=self._answer_timeout)
            except NoAnswer:
                pass  # coreio was killed, or the question or the answer is lost
            except NobodyAnswers:
                self.pause(self._answer_timeout)  # coreio is not there yet
        return None

    def _decide(self, controller: Controller, observation: Observation) -> Action:
        step = observation.step
        self._emit(RLEvent(type=RLEventType.step, step=step))
        self._emit(RLEvent(type=RLEventType.step_get_obs, step=step, observation=observation))
        if violation := VIOLATIONS.get(zone(observation.level)):
            self.bus.emit_event(RLEvent(type=violation, step=step, observation=observation), RLEventTopic.corerl_zones)
        action = controller.decide(observation)
        self._emit(
            RLEvent(
                type=RLEventType.step_agent_update,
                step=step,
                set_point=set_point(step),
                reward=reward(observation),
                gain=controller.level.gain,
            )
        )
        return action

    def _act(self, step: int, action: Action) -> None:
        self._emit(RLEvent(type=RLEventType.step_emit_action, step=step, action=action))
        self._io.emit_event(IOEvent(type=IOEventType.write_to_opc, step=step, action=action), IOEventTopic.coreio)

    def _emit(self, event: RLEvent) -> None:
        self.bus.emit_event(event, RLEventTopic.corerl_steps)

    def _emit_heartbeat(self) -> None:
        self._next_heartbeat = monotonic() + HEARTBEAT
        heartbeat = RLEvent(type=RLEventType.agent_heartbeat, pid=os.getpid(), counts=counts_of(self.bus, self._io))
        self.bus.emit_event(heartbeat, RLEventTopic.corerl)
