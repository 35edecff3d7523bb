"""What a service derives from: its event types, its topics, its events."""

from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID, uuid4

from pydantic import BaseModel, Field


class BaseEventType(StrEnum):
    """The types of events. Derive an enum whose members are ``auto()``: the value is the member's name in lower case."""


class BaseEventTopic(StrEnum):
    """The topics of events. A subscriber of a topic receives the events of exactly that topic, never of a longer name."""


class BaseEvent[EventTypeClass: BaseEventType](BaseModel):
    """An event: one thing that happened. Derive a model with the fields that your service needs.

    Fields that a receiver's model does not know are ignored, so that sender and receiver may have different versions.

    Attributes:
        type: a member of the service's event types; handlers are chosen by it.
    """

    type: EventTypeClass


def now_iso() -> str:
    """Return the current time in UTC as ISO 8601, such as ``2026-01-31T12:00:00.000000+00:00``: a default for a field."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


class StampedEvent[EventTypeClass: BaseEventType](BaseEvent[EventTypeClass]):
    """An event that says when it was made, and can be told apart from every other one.

    Attributes:
        id: a random one.
        time: when the event was made, in UTC as ISO 8601; see `now_iso`.
    """

    id: UUID = Field(default_factory=uuid4)
    time: str = Field(default_factory=now_iso)
