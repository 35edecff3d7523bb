"""Events to payloads and back."""

import json
import math
from enum import auto
from typing import Annotated, Any, Literal

import pytest
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
    computed_field,
    field_serializer,
    field_validator,
)
from pydantic.dataclasses import dataclass

from eventbus import BaseEvent, BaseEventType, InvalidEvent
from eventbus.wire.codec import Codec
from eventbus.wire.rejects import MAX_TYPE_LENGTH, Reject, RejectReason
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
    found = [found.reason if isinstance(found, Reject) else found for found in codec.salvage(payload)]
    rejects: list[Reject] = []
    good = codec.decode_good(payload, rejects.append)
    assert good == [one for one in found if not isinstance(one, RejectReason)]
    assert [one.reason for one in rejects] == [one for one in found if isinstance(one, RejectReason)]
    return found


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


def test_encode_many_takes_several_classes() -> None:
    """Each event is encoded by its own class, in order."""
    adapter: TypeAdapter[Started | Stopped] = TypeAdapter(Union)
    payloads = Codec(adapter).encode_many([Started(), Stopped(why="done"), Started()])
    assert [json.loads(payload)["type"] for payload in payloads] == ["started", "stopped", "started"]


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
    assert salvaged(union, b'{"who":"me"}') == [RejectReason.SCHEMA]
    assert salvaged(union, b'{"type":"stopped"}') == [RejectReason.SCHEMA]


class Kind(BaseModel):
    type: Literal["big", "small"] = "big"


class Only(BaseEvent[MyEventType]):
    type: Literal[MyEventType.started]


class Nested(BaseEvent[MyEventType]):
    kind: Kind


class OneAlias(BaseEvent[MyEventType]):
    type: MyEventType = Field(alias="Type")


class Aliases(BaseEvent[MyEventType]):
    type: MyEventType = Field(validation_alias=AliasChoices("Type", AliasPath("head", 0, "type")))


class Renamed(BaseEvent[MyEventType]):
    """Takes the old name of a type, too."""

    value: Literal[1, 2]

    @field_validator("type", mode="before")
    @classmethod
    def rename(cls, value: object) -> object:
        return "updated" if value == "changed" else value


def type_of(value: Any) -> str:
    return str(value["type"] if isinstance(value, dict) else value.type)


CODECS: dict[str, Codec[Any]] = {
    "enum": Codec(MyEvent),
    "literal": Codec(Only),
    "nested": Codec(Nested),
    "renamed": Codec(Renamed),
    "discriminated": Codec(TypeAdapter(Union)),
    "plain-union": Codec(TypeAdapter(Only | Stopped)),
    "callable": Codec(
        TypeAdapter(
            Annotated[Annotated[Started, Tag("started")] | Annotated[Stopped, Tag("stopped")], Discriminator(type_of)]
        )
    ),
}


@pytest.mark.parametrize("name", CODECS)
def test_an_unknown_type_is_named(name: str) -> None:
    """However an event class says which types there are, one that it does not have is named as it was received."""
    for received in ("unheard", "", "Started", "größer"):
        payload = json.dumps({"type": received, "kind": {"type": "odd"}, "value": "much"}).encode()
        [reject] = CODECS[name].salvage(payload)
        assert reject == Reject(RejectReason.TYPE, f"unknown type '{received}'", received)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("received", [b"3", b"null", b"true", b"1.5", b"NaN", b'["started"]', b'{"started":1}', b"[[]]"])
def test_a_type_that_is_no_text_has_no_schema(name: str, received: bytes) -> None:
    """No version of any event has such a type: that is no type that is not known yet."""
    [reject] = CODECS[name].salvage(b'{"type":%s}' % received)
    assert (reject.reason, reject.unknown_type) == (RejectReason.SCHEMA, None)


@pytest.mark.parametrize("name", CODECS)
def test_no_type_has_no_schema(name: str) -> None:
    """A payload without a type is no event of any version."""
    for payload in (b"{}", b'{"time":"now"}', b"3"):
        [reject] = CODECS[name].salvage(payload)
        assert (reject.reason, reject.unknown_type) == (RejectReason.SCHEMA, None)


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("nested", b'{"type":"updated","kind":{"type":"odd"}}'),
        ("plain-union", b'{"type":"stopped"}'),
        ("renamed", b'{"type":"changed","value":3}'),
        ("discriminated", b'{"type":"stopped","why":3}'),
    ],
)
def test_a_known_type_is_not_what_is_wrong(name: str, payload: bytes) -> None:
    """An event of a known type that does not fit is a rejected schema, whatever its other fields are called."""
    [reject] = CODECS[name].salvage(payload)
    assert (reject.reason, reject.unknown_type) == (RejectReason.SCHEMA, None)


@pytest.mark.parametrize(
    ("cls", "payload"),
    [
        (OneAlias, b'{"Type":"unheard"}'),
        (Aliases, b'{"Type":"unheard","head":3}'),
        (Aliases, b'{"head":[{"type":"unheard"}]}'),
    ],
)
def test_an_unknown_type_under_an_alias(cls: type[BaseEvent[MyEventType]], payload: bytes) -> None:
    """A type is found under the aliases of its field."""
    [reject] = Codec(cls).salvage(payload)
    assert isinstance(reject, Reject)
    assert (reject.reason, reject.unknown_type) == (RejectReason.TYPE, "unheard")


def test_the_name_of_an_unknown_type_is_printable_and_short(codec: Codec[MyEvent]) -> None:
    """The type that a hostile publisher names is escaped and cut off, whatever its size."""
    for received, shown in (("\x1b[2J\n\u202e", r"\x1b[2J\n\u202e"), ("x" * 1_000_000, "x" * (MAX_TYPE_LENGTH - 1) + "…")):
        [reject] = codec.salvage(json.dumps({"type": received}).encode())
        assert isinstance(reject, Reject)
        assert reject.unknown_type == shown


def test_an_event_with_errors_without_number() -> None:
    """The first wrong element of a list is named; an unknown type is reported all the same."""

    class Listing(BaseEvent[MyEventType]):
        kinds: list[Kind]

    codec: Codec[Listing] = Codec(Listing)
    kinds = b"[" + b",".join([b"3"] * 2_000) + b"]"
    [reject] = codec.salvage(b'{"type":"updated","kinds":%s}' % kinds)
    assert isinstance(reject, Reject)
    assert (reject.reason, reject.detail[:9]) == (RejectReason.SCHEMA, "kinds.0: ")
    [reject] = codec.salvage(b'{"type":"unheard","kinds":%s}' % kinds)
    assert reject == Reject(RejectReason.TYPE, "unknown type 'unheard'", "unheard")


class Collections(BaseEvent[MyEventType]):
    kinds: list[Kind] = Field(default_factory=list)
    named: dict[str, Kind] = Field(default_factory=dict)
    deep: list[dict[str, tuple[int, ...]]] = Field(default_factory=list)
    some: set[int] | frozenset[int] = frozenset()


@pytest.mark.parametrize(
    "fields",
    [
        b'"kinds":[%s]' % b",".join([b"3"] * 100_000),
        b'"named":{%s}' % b",".join(b'"%d":3' % number for number in range(100_000)),
        b'"deep":[{"a":[%s]}]' % b",".join([b'"x"'] * 100_000),
        b'"some":[%s]' % b",".join([b'"x"'] * 100_000),
    ],
    ids=["list", "dict", "nested", "union"],
)
def test_decoding_stops_at_the_first_wrong_element(fields: bytes) -> None:
    """However many elements of a collection are wrong, one error is kept for each class that could have taken it."""
    codec: Codec[Collections] = Codec(Collections)
    payload = b'{"type":"updated",%s}' % fields
    for decode, content in ((codec.decode_one, payload), (codec.decode_many, b"[%s]" % payload)):
        with pytest.raises(ValidationError) as caught:
            decode(content)
        assert caught.value.error_count() <= 2


def test_salvage_keeps_the_good_elements(codec: Codec[MyEvent]) -> None:
    """The good elements of an array are kept, in order, and each bad one has its reason."""
    payload = b" [" + b",".join([json_of(1), b"7", json_of(2), b'{"type":"unheard","time":""}', b"[]"]) + b"]"
    assert salvaged(codec, payload) == [event(1), RejectReason.SCHEMA, event(2), RejectReason.TYPE, RejectReason.SCHEMA]


@pytest.mark.parametrize("bad", [b"1", b"{}", b"[]", b'{"type":"unheard"}', b'{"type":"updated","time":3}', b"[[1]]"])
def test_salvage_looks_at_some_and_counts_the_rest(codec: Codec[MyEvent], bad: bytes) -> None:
    """However many elements are bad, a thousand are looked at, the rest is one reject, and good events stay in order."""
    elements = [bad] * (60_000 // len(bad))
    elements[0], elements[len(elements) // 2], elements[-1] = json_of(1), json_of(2), json_of(3)
    attempts: list[bytes] = []
    decode_one = codec.decode_one
    codec.decode_one = lambda payload: attempts.append(payload) or decode_one(payload)  # type: ignore[func-returns-value]
    found = list(codec.salvage(b"[" + b",".join(elements) + b"]"))
    rejects = [one for one in found if isinstance(one, Reject)]
    assert [one for one in found if not isinstance(one, Reject)] == [event(1), event(2), event(3)]
    assert (len(rejects), sum(reject.count for reject in rejects)) == (1_001, len(elements) - 3)
    assert len({reject.reason for reject in rejects}) == 1
    assert len(attempts) == 1_001


def test_a_validator_that_raises_anything_ends_no_salvage() -> None:
    """If a service's validator raises what pydantic does not expect, the rest of a bad message counts as rejected."""

    class Picky(BaseEvent[MyEventType]):
        @field_validator("type", mode="before")
        @classmethod
        def refuse(cls, value: object) -> object:
            raise RuntimeError

    codec: Codec[Picky] = Codec(Picky)
    rejects = [one for one in codec.salvage(b"[%s]" % b",".join([b'{"type":"updated"}'] * 2_000)) if isinstance(one, Reject)]
    assert {reject.reason for reject in rejects} == {RejectReason.SCHEMA}
    assert (len(rejects), sum(reject.count for reject in rejects)) == (1_001, 2_000)


# What a class cannot read of its own


class Forbidding(BaseEvent[MyEventType], extra="forbid"):
    value: float = 1.0

    @computed_field  # type: ignore[prop-decorator] # of mypy, for all of them
    @property
    def double(self) -> float:
        return 2 * self.value


class Excluding(BaseEvent[MyEventType]):
    secret: str = Field(exclude=True)


class Unreadable(BaseEvent[MyEventType]):
    value: float = 1.5

    @field_serializer("value")
    def with_unit(self, value: float) -> str:
        return f"{value} K"


class Doubling(BaseEvent[MyEventType]):
    value: float = 1.5

    @field_serializer("value")
    def double(self, value: float) -> float:
        return 2 * value


class Strict(BaseEvent[MyEventType], extra="forbid"):
    pass


class Wider(Strict):
    more: int = 1


@pytest.mark.parametrize(
    ("codec", "event", "why"),
    [
        (Codec(Forbidding), Forbidding(type=MyEventType.updated), "rejected (double: "),
        (Codec(Excluding), Excluding(type=MyEventType.updated, secret="x"), "rejected (secret: "),
        (Codec(Unreadable), Unreadable(type=MyEventType.updated), "rejected (value: "),
        (Codec(Doubling), Doubling(type=MyEventType.updated), "read as different events"),
        (Codec(Strict), Wider(type=MyEventType.updated), "rejected (more: "),
    ],
    ids=lambda value: value.name if isinstance(value, Codec) else None,
)
def test_a_class_that_cannot_read_its_events(
    codec: Codec[Any], event: BaseEvent[MyEventType], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The first event that receivers will not read makes a warning where it is emitted, once, and is sent all the same."""
    for _ in range(3):
        assert codec.encode_many([event])
        codec.encode(event)
    [line] = caplog.records
    assert line.getMessage().startswith(
        f"{type(event).__name__} cannot read its own events as they are sent: they are {why}"
    )
    assert vars(line)["eventbus_event_class"] == type(event).__name__


class Odd(BaseEvent[MyEventType]):
    """Is read as it was, or as good."""

    names: frozenset[str] = frozenset({"a", "b", "c"})
    value: float = math.nan
    anything: Any = (1, 2)
    shown: float = 1.0
    hidden: int = Field(7, exclude=True)
    _private: int = 3

    @field_serializer("shown")
    def rounded(self, value: float) -> float:
        return round(value, 1)


@pytest.mark.parametrize("event", [Odd(type=MyEventType.updated, shown=1.23, hidden=8), event(math.inf)])
def test_a_class_that_reads_its_events(event: BaseEvent[MyEventType], caplog: pytest.LogCaptureFixture) -> None:
    """Sets, NaN, rounding, and fields with a default that are left out are nothing to warn of."""
    Codec(type(event)).encode(event)
    assert caplog.messages == []


class Holding(BaseEvent[MyEventType]):
    anything: Any = None


class Failing(BaseEvent[MyEventType]):
    value: int = 1

    @field_serializer("value")
    def fail(self, value: int) -> int:
        raise ZeroDivisionError("on purpose")


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (Holding(type=MyEventType.updated, anything=object()), "unknown type"),
        (Holding(type=MyEventType.updated, anything="\ud800"), "surrogates"),
        (Failing(type=MyEventType.updated), "on purpose"),
    ],
)
def test_what_json_cannot_carry_is_an_error_of_the_bus(event: BaseEvent[MyEventType], why: str) -> None:
    """Whatever a serializer raises, it is InvalidEvent with that as its cause, alone or among many, each time."""
    codec: Codec[Any] = Codec(type(event))
    for _ in range(2):
        with pytest.raises(InvalidEvent, match=f"{type(event).__name__} cannot be written as JSON: .*{why}") as caught:
            codec.encode(event)
        assert caught.value.__cause__ is not None
        with pytest.raises(InvalidEvent, match=why):
            codec.encode_many([event, event])


def test_decoding_raises_only_validation_errors(codec: Codec[MyEvent]) -> None:
    """A payload that cannot be decoded raises pydantic's ValidationError, which tells the caller to salvage."""
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


class WrittenOtherwise(BaseEvent[MyEventType]):
    """Its alias is for what writes it elsewhere, such as an HTTP API."""

    value: float = Field(serialization_alias="Value")


class ReadEitherWay(BaseEvent[MyEventType], populate_by_name=True):
    value: float = Field(alias="Value")


class ReadByName(BaseEvent[MyEventType], validate_by_name=True):
    value: float = Field(alias="Value")


class ReadByChoice(BaseEvent[MyEventType]):
    value: float = Field(validation_alias=AliasChoices("value", "Value"), serialization_alias="Value")


@pytest.mark.parametrize("cls", [WrittenOtherwise, ReadEitherWay, ReadByName, ReadByChoice])
def test_names_go_before_aliases(cls: type[BaseEvent[MyEventType]]) -> None:
    """If the class reads the names of its fields, events travel under them, as `model_dump_json` writes them."""
    codec: Codec[Any] = Codec(cls)
    made = cls(type=MyEventType.started, value=1.5)  # type: ignore[call-arg] # of the derived classes
    [payload] = codec.encode_many([made])
    assert payload == made.model_dump_json().encode() == b'{"type":"started","value":1.5}'
    assert codec.decode_one(payload) == made


def test_an_alias_among_choices_comes_back() -> None:
    """If only aliases are read, the one that is written has to be among them; in a dataclass as well."""

    @dataclass
    class Inner:
        unit: str = Field(validation_alias=AliasChoices("u", "Unit"), serialization_alias="Unit")

    class Choosing(BaseEvent[MyEventType]):
        inner: Inner

    codec: Codec[Choosing] = Codec(Choosing)
    made = codec.decode_one(b'{"type":"started","inner":{"u":"K"}}')
    assert codec.encode_many([made]) == [b'{"type":"started","inner":{"Unit":"K"}}']
    assert codec.decode_one(codec.encode_many([made])[0]) == made
