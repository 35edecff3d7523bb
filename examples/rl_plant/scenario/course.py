"""The course of a run, put together event by event. Pure: the order of events and their repetition do not matter."""

from collections import defaultdict

from coreio.events import IOEvent, IOEventType
from corerl.events import RLEvent, RLEventType
from plant import Observation


class Course:
    """The course of a run of a number of control steps; what comes after those is not part of it.

    Attributes:
        steps: the number to do.
        done: the number that the plant has done, as far as its events show.
        observations: by the number of steps done before.
        set_points: by step.
        acted: the steps that the agent has acted in.
        yellow: the steps in which the yellow zone was violated.
        red: and the red zone.
        gain: what the agent has learnt by its last step; None: no event of it has arrived.
        questions: the ids of all `read_from_opc` until then.
        writes: the steps of all `write_to_opc`, by their ids.
        counts: the last that each process has told, by the service's name and the process id.
        heard: the services from which any event has arrived.
        ended: those that were heard to stop.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.done = 0
        self.observations: dict[int, Observation] = {}
        self.set_points: dict[int, float] = {}
        self.acted: set[int] = set()
        self.yellow: set[int] = set()
        self.red: set[int] = set()
        self.gain: float | None = None
        self.questions: set[str] = set()
        self.writes: dict[str, int] = {}
        self.counts: dict[str, dict[int, dict[str, int]]] = defaultdict(dict)
        self.heard: set[str] = set()
        self.ended: set[str] = set()

    @property
    def unheard(self) -> list[int]:
        """The steps that were done, but whose observation or action has not arrived here."""
        return [step for step in range(self.done) if step + 1 not in self.observations or step not in self.acted]

    def add_rl(self, event: RLEvent) -> None:
        """An event of the agent has come, or one to it."""
        if event.type is not RLEventType.exit:
            self.heard.add("corerl")
        if event.pid is not None:
            self.counts["corerl"][event.pid] = event.counts
        elif event.type is RLEventType.service_stopped:
            self.ended.add("corerl")
        if event.step is None or event.step >= self.steps:
            return
        match event.type:
            case RLEventType.step_agent_update:
                if event.set_point is not None:
                    self.set_points[event.step] = event.set_point
                self.gain = event.gain
            case RLEventType.step_emit_action:
                self.acted.add(event.step)
            case RLEventType.yellow_zone_violation:
                self.yellow.add(event.step)
            case RLEventType.red_zone_violation:
                self.red.add(event.step)

    def add_io(self, event: IOEvent) -> None:
        """An event of coreio has come, or one to it."""
        if event.type not in (IOEventType.read_from_opc, IOEventType.write_to_opc, IOEventType.exit):
            self.heard.add("coreio")
        match event.type:
            case IOEventType.reading:
                if event.observation is not None and event.observation.step <= self.steps:
                    self.observations[event.observation.step] = event.observation
                    self.done = max(self.done, event.observation.step)
            case IOEventType.read_from_opc:
                if self.done < self.steps:
                    self.questions.add(event.id)
            case IOEventType.write_to_opc:
                if event.step is not None and event.step < self.steps:
                    self.writes[event.id] = event.step
            case IOEventType.heartbeat:
                if event.pid is not None:
                    self.counts["coreio"][event.pid] = event.counts
            case IOEventType.service_stopped:
                self.ended.add("coreio")

    def counts_of(self, service: str) -> dict[str, int]:
        """The counts of all processes of a service together."""
        total: dict[str, int] = defaultdict(int)
        for counts in self.counts[service].values():
            for name, count in counts.items():
                total[name] += count
        return dict(total)
