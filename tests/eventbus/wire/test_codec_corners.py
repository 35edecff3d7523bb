"""Event classes as few services have them."""

import logging
from enum import auto
from typing import Any, Literal

import pytest
from pydantic import AliasPath, BaseModel, ConfigDict, Field, TypeAdapter, field_validator

from eventbus import BaseEvent, BaseEventType
from eventbus.wire.codec import Codec
from eventbus.wire.encoders import encoder_of
from eventbus.wire.rejects import Reject, RejectReason
from tests.support import MyEventType


class OtherType(BaseEventType):
    elsewhere = auto()


class Later(BaseEvent[MyEventType]):
    """Has an adapter that is completed later."""


def test_an_adapter_that_is_not_complete_yet() -> None:
    """A TypeAdapter whose building was deferred is completed when the codec is made."""
    adapter: TypeAdapter[Later | Broken] = TypeAdapter(Later | Broken, config=ConfigDict(defer_build=True))
    assert not adapter.pydantic_complete
    assert isinstance(Codec(adapter).decode_one(b'{"type":"started"}'), Later)


class Broken(BaseEvent[MyEventType]):
    """A validator with a defect."""

    value: float = 0.0

    @field_validator("value")
    @classmethod
    def _fail(cls, value: float) -> float:
        if value == 13:
            raise RuntimeError("a defect")
        return value


def test_a_class_whose_validator_fails_on_its_own_events(caplog: pytest.LogCaptureFixture) -> None:
    """If the emitter's check fails with another error than pydantic's, the warning names it, and the event is sent."""
    codec = Codec(Broken)
    made = Broken.model_construct(type=MyEventType.started, value=13.0)
    with caplog.at_level(logging.WARNING, "eventbus"):
        assert codec.encoder_for(made)(made) == b'{"type":"started","value":13.0}'
    assert "reading them fails (RuntimeError: a defect)" in caplog.text


def test_a_validator_that_fails_among_many() -> None:
    """The rest of a large array is counted at once, also if a validator fails on it with an error of its own."""
    codec = Codec(Broken)
    payload = b"[" + b",".join([b"1"] * 1_000 + [b'{"type":"started","value":13}'] * 2) + b"]"
    found = list(codec.salvage(payload))
    assert all(isinstance(each, Reject) for each in found)
    assert sum(each.count for each in found if isinstance(each, Reject)) == 1_002


def test_more_errors_than_are_listed() -> None:
    """An event with very many errors is rejected with their number."""
    (reject,) = Codec(ManyFields).salvage(b'{"type":"started"}')
    assert isinstance(reject, Reject)
    assert (reject.reason, reject.detail) == (RejectReason.SCHEMA, "1200 errors")


def test_good_events_after_many_wrong_ones() -> None:
    """After a thousand wrong elements of an array, good events are still delivered."""
    payload = b"[" + b",".join([b"1"] * 1_000 + [b'{"type":"started"}'] * 2) + b"]"
    found = list(Codec(Later).salvage(payload))
    assert [each for each in found if not isinstance(each, Reject)] == [Later(type=MyEventType.started)] * 2
    assert len(found) == 1_002


# Any: fields that are made here.
ManyFields: Any = type(
    "ManyFields",
    (BaseEvent[MyEventType],),
    {"__annotations__": {f"field_{index}": int for index in range(1_200)}, "__module__": __name__},
)


class Choice(BaseModel):
    """A type under a path."""

    type: Literal[MyEventType.started, MyEventType.stopped] = Field(validation_alias=AliasPath("head", "type"))


def test_a_type_under_a_path() -> None:
    """An unknown type is found where the class reads its type."""
    (reject,) = Codec(Choice).salvage(b'{"head":{"type":"vanished"}}')
    assert isinstance(reject, Reject)
    assert (reject.reason, reject.unknown_type) == (RejectReason.TYPE, "vanished")


class OfTwo(BaseModel):
    """A type of one of two enums."""

    type: MyEventType | OtherType


def test_a_type_of_two_enums() -> None:
    """The values of both enums are known types."""
    codec = Codec(OfTwo)
    assert codec.decode_one(b'{"type":"elsewhere"}').type is OtherType.elsewhere
    (reject,) = codec.salvage(b'{"type":"vanished"}')
    assert isinstance(reject, Reject)


class Reread(BaseModel):
    """Read under a path, written under an alias that nobody reads."""

    type: MyEventType
    value: float = Field(default=0.0, validation_alias=AliasPath("values", 0), serialization_alias="written")


def test_an_alias_that_nobody_reads() -> None:
    """A field travels under its name if its class does not read the alias that it writes."""
    made = Reread(type=MyEventType.started)
    assert encoder_of(Reread)(made) == b'{"type":"started","value":0.0}'
