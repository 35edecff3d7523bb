"""Large events that lack a required field."""

from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError, model_validator

from eventbus import BaseEvent
from eventbus.wire.codec import Codec
from eventbus.wire.rejects import Reject, RejectReason
from eventbus.wire.required import FieldMissing
from tests.support import MyEventType


class Started(BaseEvent[MyEventType]):
    type: Literal[MyEventType.started] = MyEventType.started
    note: str = ""


class Stopped(BaseEvent[MyEventType]):
    type: Literal[MyEventType.stopped] = MyEventType.stopped
    note: str = ""
    why: str


class Part(BaseModel):
    name: str
    size: int


class Piece(BaseModel):
    name: str
    size: int


class Other(BaseModel):
    label: str


class Fields(BaseModel):
    serial: int
    site: str = Field(validation_alias="place")
    note: str = ""
    main: Part | None = None
    parts: list[Part] = []
    pair: tuple[Part, int] | None = None
    either: Piece | Other | None = None
    tree: "Tree | None" = None


class Machine(Fields, BaseEvent[MyEventType]):
    type: MyEventType


class Tree(BaseModel):
    label: str
    branches: list["Tree"] = []
    either: "Tree | Other | None" = None


LARGE = b'"note":"' + b"x" * 70_000 + b'"'
MACHINE = b'{"type":"updated","serial":1,"place":"north"'


def refusal(codec: Codec[Machine], payload: bytes) -> FieldMissing | ValidationError:
    try:
        codec.decode(payload)
    except (FieldMissing, ValidationError) as error:
        return error
    raise AssertionError("it was not refused")


@pytest.mark.parametrize(
    ("fields", "reason", "detail"),
    [
        (b'{"type":"updated","place":"north"', RejectReason.SCHEMA, "serial: Field required"),
        (b'{"type":"updated","serial":1', RejectReason.SCHEMA, "place: Field required"),
        (b'{"serial":1', RejectReason.SCHEMA, "type: Field required"),
        (b'{"type":"unheard"', RejectReason.TYPE, "unknown type 'unheard'"),
        (b'{"type":"unheard","serial":1,"place":"north"', RejectReason.TYPE, "unknown type 'unheard'"),
        (MACHINE + b',"main":{"name":"axle"}', RejectReason.SCHEMA, "size: Field required"),
        (MACHINE + b',"parts":[{"name":"axle","size":1},{}]', RejectReason.SCHEMA, "name: Field required"),
        (MACHINE + b',"pair":[{"name":"axle"},1]', RejectReason.SCHEMA, "size: Field required"),
        (MACHINE + b',"either":{"size":1}', RejectReason.SCHEMA, "either.Piece.name: Field required"),
    ],
)
def test_a_large_event_is_refused_at_its_first_missing_field(fields: bytes, reason: RejectReason, detail: str) -> None:
    """Refusing it takes no longer than decoding it: pydantic would copy it for each field that is missing."""
    codec: Codec[Machine] = Codec(Machine)
    payload = fields + b"," + LARGE + b"}"
    caught = refusal(codec, payload)
    [reject] = codec.salvage(payload, caught)
    assert isinstance(reject, Reject)
    assert (reject.reason, reject.detail) == (reason, detail)
    assert isinstance(caught, FieldMissing) or caught.error_count() <= 3


@pytest.mark.parametrize(
    "more",
    [
        b"",
        b',"either":{"label":"a"}',
        b',"either":{"name":"axle","size":1}',
        b',"tree":{"label":"a","branches":[{"label":"b"}],"either":{"label":"c","branches":[]}}',
    ],
)
def test_a_large_event_is_read_as_a_small_one(more: bytes) -> None:
    """Fields may be missing that have defaults, or in one member of a union."""
    codec: Codec[Machine] = Codec(Machine)
    assert codec.decode(MACHINE + more + b"," + LARGE + b"}") == [codec.decode_one(MACHINE + more + b"," + LARGE + b"}")]


def test_a_large_event_of_a_union_without_a_field() -> None:
    """In a union of event classes, the type chooses the one whose fields are required."""
    union: Codec[Any] = Codec(Started | Stopped)
    with pytest.raises(FieldMissing, match="why: Field required"):
        union.decode(b'{"type":"stopped",' + LARGE + b"}")
    [started] = union.decode(b'{"type":"started",' + LARGE + b"}")
    assert isinstance(started, Started)
    [again] = union.salvage(b'{"type":"heard",' + LARGE + b"}")
    assert isinstance(again, Reject)
    assert again.unknown_type == "heard"


def test_a_type_that_is_in_no_object() -> None:
    """A class may read events from other JSON than objects; what it refuses is no unknown type."""

    class Short(BaseEvent[MyEventType]):
        type: MyEventType

        @model_validator(mode="before")
        @classmethod
        def read(cls, value: object) -> object:
            return {"type": value} if isinstance(value, str) else value

    codec: Codec[Short] = Codec(Short)
    assert codec.decode(b'"started"') == [Short(type=MyEventType.started)]
    [reject] = codec.salvage(b'"heard"')
    assert isinstance(reject, Reject)
    assert reject.reason == RejectReason.SCHEMA
