"""The events to and from the plant's input and output. Other services import the events from here and nothing else."""

from enum import auto
from uuid import uuid4

from pydantic import Field

from eventbus import BaseEvent, BaseEventTopic, BaseEventType, EventBusClient, now_iso
from plant import Action, Observation


class IOEventType(BaseEventType):
    """The types of these events: requests, and facts."""

    write_to_opc = auto()
    read_from_opc = auto()
    reading = auto()
    exit = auto()
    heartbeat = auto()
    service_started = auto()
    service_stopped = auto()
    service_error = auto()


class IOEventTopic(BaseEventTopic):
    """The topics of coreio: for what it receives, for its readings, and for how it is itself. Topics match exactly.

    Readings have a topic of their own, so that its last event is always one of them.
    """

    coreio = auto()
    coreio_readings = auto()
    coreio_service = auto()


class IOEvent(BaseEvent[IOEventType]):
    """One thing that was asked for or has happened.

    Attributes:
        id: of this event.
        time: when it was made.
        step: of `write_to_opc`: the control step that the action is for, the number of steps that the plant had done before.
        action: of `write_to_opc`.
        observation: of `reading`.
        pid: of `heartbeat`: the process.
        counts: of `heartbeat`: what has become of that process's events.
    """

    id: str = Field(default_factory=lambda: uuid4().hex)
    time: str = Field(default_factory=now_iso)
    type: IOEventType
    step: int | None = None
    action: Action | None = None
    observation: Observation | None = None
    pid: int | None = None
    counts: dict[str, int] = Field(default_factory=dict)


IOEventBusClient = EventBusClient[IOEvent, IOEventType, IOEventTopic]
