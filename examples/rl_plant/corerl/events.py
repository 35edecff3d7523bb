"""The events of the agent, for services that watch it or learn from it."""

from enum import auto
from uuid import uuid4

from pydantic import Field

from eventbus import BaseEvent, BaseEventTopic, BaseEventType, now_iso
from plant import Action, Observation


class RLEventType(BaseEventType):
    """The types of the agent's events; the first four once in each control step, in this order."""

    step = auto()
    step_get_obs = auto()
    step_agent_update = auto()
    step_emit_action = auto()
    yellow_zone_violation = auto()
    red_zone_violation = auto()
    agent_heartbeat = auto()
    exit = auto()
    service_started = auto()
    service_stopped = auto()
    service_error = auto()


class RLEventTopic(BaseEventTopic):
    """The topics: the steps, the violations, and the service itself."""

    corerl_steps = auto()
    corerl_zones = auto()
    corerl = auto()


class RLEvent(BaseEvent[RLEventType]):
    """One thing that happened to the agent.

    Attributes:
        id: of this event.
        time: when it was made.
        step: which control step it belongs to.
        observation: of `step_get_obs` and of violations: what the sensors showed.
        set_point: of `step_agent_update`: the level that is wanted, m.
        reward: of `step_agent_update`: how good the observation was, 0 at best.
        gain: of `step_agent_update`: what one step with an open valve adds to the level, as far as the agent has learnt, m.
        action: of `step_emit_action`.
        pid: of `agent_heartbeat`: the process.
        counts: of `agent_heartbeat`: what has become of that process's events.
    """

    id: str = Field(default_factory=lambda: uuid4().hex)
    time: str = Field(default_factory=now_iso)
    type: RLEventType
    step: int | None = None
    observation: Observation | None = None
    set_point: float | None = None
    reward: float | None = None
    gain: float | None = None
    action: Action | None = None
    pid: int | None = None
    counts: dict[str, int] = Field(default_factory=dict)
