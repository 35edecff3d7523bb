"""An event with an id and a time. A module of its own, because making a model takes milliseconds that few services need."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

from pydantic import Field

from eventbus.events import BaseEvent, BaseEventType
from eventbus.exports import public


@public
def now_iso() -> str:
    """Return the current time in UTC as ISO 8601, such as ``2026-01-31T12:00:00.000000+00:00``: a default for a field."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


@public
class StampedEvent[EventTypeClass: BaseEventType](BaseEvent[EventTypeClass]):
    """An event with its time and an id of its own.

    Attributes:
        id: a random one.
        time: when the event was made, in UTC as ISO 8601; see `now_iso`.
    """

    id: UUID = Field(default_factory=uuid4)
    time: str = Field(default_factory=now_iso)
