"""Why a message, or an event in it, was not taken. Imports no pydantic, because who only counts decodes nothing."""

from dataclasses import dataclass
from enum import StrEnum

from eventbus.exports import public

MAX_TYPE_LENGTH = 64  # characters of an unknown type


@public
class RejectReason(StrEnum):
    """The reason why a message, or one of several events in it, was rejected."""

    FRAMES = "frames"
    """The message was not a topic frame and a JSON payload frame."""
    TOO_LARGE = "too_large"
    """The payload is larger than the client's limit, or would be if it was inflated."""
    COMPRESSION = "compression"
    """The payload is compressed and damaged, or the library that inflates it is not installed."""
    TOPIC = "topic"
    """The topic is not UTF-8, or longer than 255 bytes."""
    JSON = "json"
    """The payload is not JSON."""
    TYPE = "type"
    """The client's class does not have the event's type. An event without a type, or whose type is no text, is SCHEMA."""
    SCHEMA = "schema"
    """The JSON does not fit the client's class."""


@dataclass(frozen=True, slots=True)
class Reject:
    """A payload, or elements of an array of events, that were rejected.

    Attributes:
        reason: why.
        detail: more about it, for people; may contain what was received, as it is.
        unknown_type: the received type, if that is the reason; printable, at most `MAX_TYPE_LENGTH` characters.
        count: the number of elements.
    """

    reason: RejectReason
    detail: str
    unknown_type: str | None = None
    count: int = 1
