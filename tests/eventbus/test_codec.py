"""Events to payloads and back."""

import json
from enum import auto
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from eventbus import BaseEvent, BaseEventType, InvalidEvent
from eventbus.codec import Codec, Reject, RejectReason
from tests.support import MyEvent, MyEventType, event, json_of


class OtherType(BaseEventType):
    started = auto()  # the same value as MyEventType.started


class BareEvent(BaseEvent[MyEventType]):
    """Needs nothing but a type."""

    note: str = "none"


class Detailed(MyEvent):
    detail: str = "much"


class Started(BaseEvent[MyEventType]):
    type: Literal[MyEventType.started] = MyEventType.started
    who: str = "nobody"


class Stopped(BaseEvent[MyEventType]):
    type: Literal[MyEventType.stopped] = MyEventType.stopped
    why: str


Union = Annotated[Started | Stopped, Field(discriminator="type")]


@pytest.fixture
def codec() -> Codec[MyEvent]:
    return Codec(MyEvent)


@pytest.fixture
def union() -> Codec[Started | Stopped]:
    adapter: TypeAdapter[Started | Stopped] = TypeAdapter(Union)
    return Codec(adapter)


def encode(codec: Codec[Any], value: Any) -> bytes:
    [payload] = codec.encode_many([value])
    return payload


def salvaged(codec: Codec[Any], payload: bytes) -> list[RejectReason | object]:
    return [found.reason if isinstance(found, Reject) else found for found in codec.salvage(payload)]


def test_an_event_is_its_json(codec: Codec[MyEvent]) -> None:
    """The payload is the event as pydantic writes it in JSON, and reads back as an equal event."""
    payload = encode(codec, event(1.5))
    assert payload == event(1.5).model_dump_json().encode() == json_of(1.5)
    assert codec.decode_one(payload) == event(1.5)


def test_many_events_read_back_from_an_array(codec: Codec[MyEvent]) -> None:
    """A JSON array of events is decoded at once, in order."""
    assert codec.decode_many(b"[" + json_of(1) + b"," + json_of(2) + b"]") == [event(1), event(2)]


def test_unknown_fields_are_ignored(codec: Codec[MyEvent]) -> None:
    """A sender of a newer version may add fields."""
    assert codec.decode_one(json_of(1)[:-1] + b',"new":true}') == event(1)


def test_a_bare_type_is_wrapped() -> None:
    """A type alone becomes an event with the class's defaults."""
    assert json.loads(encode(Codec(BareEvent), MyEventType.started)) == {"type": "started", "note": "none"}


def test_a_bare_type_that_is_not_enough_names_the_fields(codec: Codec[MyEvent]) -> None:
    """When the class needs more than a type, InvalidEvent names what is missing, and only that."""
    with pytest.raises(InvalidEvent, match=r"MyEvent needs more than the type started: .* with time$"):
        encode(codec, MyEventType.started)


def test_a_type_of_another_enum_is_refused() -> None:
    """A type with the right value from the wrong enum is InvalidEvent, each time."""
    codec = Codec(BareEvent)
    for _ in range(2):
        with pytest.raises(InvalidEvent, match=r"OtherType\.started is no type of BareEvent: use MyEventType"):
            encode(codec, OtherType.started)


@pytest.mark.parametrize("wrong", [BareEvent(type=MyEventType.started), "started", None, {"type": "started"}, MyEvent])
def test_what_is_no_event_is_refused(codec: Codec[MyEvent], wrong: object) -> None:
    """An event of another class, or no event at all, is InvalidEvent and names the class that is expected."""
    with pytest.raises(InvalidEvent, match="this client emits MyEvent"):
        encode(codec, wrong)


def test_a_derived_event_keeps_its_fields(codec: Codec[MyEvent]) -> None:
    """An event of a derived class is encoded with the fields that it adds."""
    derived = Detailed(type=MyEventType.started, time="now")
    assert json.loads(encode(codec, derived))["detail"] == "much"


def test_encode_many_is_all_or_nothing(codec: Codec[MyEvent]) -> None:
    """One bad event among many raises before anything is returned."""
    with pytest.raises(InvalidEvent):
        codec.encode_many([event(1), "bad", event(2)])  # type: ignore[list-item] # what a careless caller does


@pytest.mark.parametrize("wrong", [int, "MyEvent", None])
def test_a_class_that_is_no_event_class_is_refused(wrong: Any) -> None:
    """Only an event class, or an adapter of some, makes a codec."""
    with pytest.raises(InvalidEvent, match="no event class"):
        Codec(wrong)


def test_an_adapter_of_no_model_is_refused() -> None:
    """A TypeAdapter of something else than events is InvalidEvent."""
    adapter: TypeAdapter[Any] = TypeAdapter(int)
    with pytest.raises(InvalidEvent, match="no event class"):
        Codec(adapter)


def test_a_class_without_a_type_is_refused() -> None:
    """A model that has no `type` cannot choose handlers: InvalidEvent says so."""

    class Typeless(BaseModel):
        a: int

    with pytest.raises(InvalidEvent, match="Typeless has no field `type`"):
        Codec(Typeless)


def test_the_types_of_a_class_are_known(codec: Codec[MyEvent], union: Codec[Started | Stopped]) -> None:
    """The type enums are found, also behind the literals of a union."""
    assert codec.event_types == union.event_types == {MyEventType}


def test_the_name_is_for_people(codec: Codec[MyEvent], union: Codec[Started | Stopped]) -> None:
    """The name is the class's, or all those of a union."""
    assert (codec.name, union.name) == ("MyEvent", "Started | Stopped")


def test_a_union_reads_each_member(union: Codec[Started | Stopped]) -> None:
    """A discriminated union decodes to the member that the type names."""
    for each in (Started(who="me"), Stopped(why="done")):
        assert union.decode_one(encode(union, each)) == each


def test_a_union_wraps_bare_types(union: Codec[Started | Stopped]) -> None:
    """A bare type makes the member that it names, if that needs no more."""
    assert union.decode_one(encode(union, MyEventType.started)) == Started()
    with pytest.raises(InvalidEvent, match=r"with why$"):
        encode(union, MyEventType.stopped)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", RejectReason.JSON),
        (b"{", RejectReason.JSON),
        (b"\xff", RejectReason.JSON),
        (b"[", RejectReason.JSON),
        (b"[" * 10_000, RejectReason.JSON),
        (json_of(1).replace(b"updated", b"unheard"), RejectReason.TYPE),
        (b'{"type":"updated"}', RejectReason.SCHEMA),
        (b"3", RejectReason.SCHEMA),
        (b"null", RejectReason.SCHEMA),
        (json_of(1).replace(b"1.0", b'"much"'), RejectReason.SCHEMA),
    ],
)
def test_salvage_says_why(codec: Codec[MyEvent], payload: bytes, reason: RejectReason) -> None:
    """A payload that is no event is rejected for exactly one reason."""
    assert salvaged(codec, payload) == [reason]


def test_salvage_says_why_of_a_union(union: Codec[Started | Stopped]) -> None:
    """A type that no member of the union has is a rejected type; a member that does not fit is a rejected schema."""
    assert salvaged(union, b'{"type":"updated"}') == [RejectReason.TYPE]
    assert salvaged(union, b'{"who":"me"}') == [RejectReason.TYPE]
    assert salvaged(union, b'{"type":"stopped"}') == [RejectReason.SCHEMA]


def test_salvage_keeps_the_good_elements(codec: Codec[MyEvent]) -> None:
    """Of an array with bad elements the good ones are kept, in order, and each bad one has its reason."""
    payload = b" [" + b",".join([json_of(1), b"7", json_of(2), b'{"type":"unheard","time":""}', b"[]"]) + b"]"
    assert salvaged(codec, payload) == [event(1), RejectReason.SCHEMA, event(2), RejectReason.TYPE, RejectReason.SCHEMA]


def test_decoding_raises_only_validation_errors(codec: Codec[MyEvent]) -> None:
    """What cannot be decoded raises pydantic's ValidationError, which tells the caller to salvage."""
    with pytest.raises(ValidationError):
        codec.decode_one(b"nonsense")
    with pytest.raises(ValidationError):
        codec.decode_many(b"[nonsense]")


def test_aliases_come_back() -> None:
    """Fields with aliases, in nested models too, travel under them, so that the same class can read them."""

    class Inner(BaseModel):
        unit: str = Field(alias="Unit")

    class Aliased(BaseEvent[MyEventType]):
        inner: Inner
        value: float = Field(alias="Value")

    codec: Codec[Aliased] = Codec(Aliased)
    made = Aliased(type=MyEventType.started, inner=Inner(Unit="K"), Value=1.5)
    [payload] = codec.encode_many([made])
    assert codec.decode_one(payload) == made
