"""The three things a service derives from: its event types, its topics, its events."""

from datetime import UTC, datetime
from enum import StrEnum

from pydantic import BaseModel


class BaseEventType(StrEnum):
    """What can happen. Derive an enum whose members are ``auto()``: the value is the member's name in lower case."""


class BaseEventTopic(StrEnum):
    """Where it is said. A subscriber of a topic receives the events of exactly that topic, never of a longer name."""


class BaseEvent[EventTypeClass: BaseEventType](BaseModel):
    """One thing that happened. Derive a model with the fields that your service needs.

    Fields that a receiver's model does not know are ignored, so that sender and receiver may be of different versions.

    Attributes:
        type: which of the service's event types this is; handlers are chosen by it.
    """

    type: EventTypeClass


def now_iso() -> str:
    """The present in UTC as ISO 8601, such as ``2026-01-31T12:00:00.000000+00:00``: a default for a time field."""
    return datetime.now(UTC).isoformat(timespec="microseconds")
