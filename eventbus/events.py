"""The base classes of a service's event types, topics and events."""

from enum import StrEnum

from pydantic import BaseModel

from eventbus.exports import public


@public
class BaseEventType(StrEnum):
    """The types of events. Derive an enum whose members are ``auto()``: the value is the member's name in lower case."""


@public
class BaseEventTopic(StrEnum):
    """The topics of events. A subscriber of a topic receives the events of exactly that topic, never of a longer name."""


@public
class BaseEvent[EventTypeClass: BaseEventType](BaseModel):
    """An event: one thing that happened. Derive a model with the fields that your service needs.

    Fields that a receiver's model does not know are ignored, so that sender and receiver may have different versions.

    Attributes:
        type: a member of the service's event types; handlers are chosen by it.
    """

    type: EventTypeClass
