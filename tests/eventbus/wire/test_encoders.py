"""Events travel as their class reads them: under which names, and with which numbers."""

import json
import math
from enum import Enum, IntEnum, StrEnum
from typing import Annotated, Any, Literal

import pytest
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, PlainSerializer, computed_field
from pydantic.dataclasses import dataclass
from typing_extensions import TypedDict

from eventbus import BaseEvent
from eventbus.wire.codec import Codec
from eventbus.wire.encoders import encoder_of
from tests.support import MyEventType

NAN, INF = math.nan, math.inf


def there_and_back[Event: BaseEvent[MyEventType]](event: Event) -> tuple[bytes, Event]:
    """The payload of an event, and what is read from it."""
    codec: Codec[Event] = Codec(type(event))
    payload = codec.encode(event)
    return payload, codec.decode_one(payload)


# Numbers


class Inner(BaseModel):
    value: float = 0.0


class Tree(BaseModel):
    value: float = 0.0
    branches: "list[Tree]" = Field(default_factory=list)


@dataclass
class Pair:
    left: float = 0.0


class Mapped(TypedDict):
    value: float


class Numbers(BaseEvent[MyEventType]):
    plain: float = 0.0
    optional: float | None = None
    either: float | str = ""
    many: list[float] = Field(default_factory=list)
    anything: Any = None
    named: dict[str, Any] = Field(default_factory=dict)
    inner: Inner = Inner()
    inners: list[Inner] = Field(default_factory=list)
    maybe: Inner | None = None
    tree: Tree = Tree()
    pair: Pair = Pair()
    mapped: Mapped = Field(default_factory=lambda: Mapped(value=0.0))
    constrained: Annotated[float, Field(gt=-INF)] = 1.0


@pytest.mark.parametrize("number", [NAN, INF, -INF])
@pytest.mark.parametrize(
    "fields",
    [
        lambda number: {"plain": number},
        lambda number: {"optional": number},
        lambda number: {"either": number},
        lambda number: {"many": [1.0, number, number]},
        lambda number: {"anything": number},
        lambda number: {"anything": [{"deep": (number,)}]},
        lambda number: {"named": {"a": number, "b": [number]}},
        lambda number: {"inner": {"value": number}},
        lambda number: {"inners": [{"value": number}, {"value": 1.0}]},
        lambda number: {"maybe": {"value": number}},
        lambda number: {"tree": {"branches": [{"branches": [{"value": number}]}]}},
        lambda number: {"pair": {"left": number}},
        lambda number: {"mapped": {"value": number}},
    ],
)
def test_numbers_that_json_does_not_have(number: float, fields: Any) -> None:
    """NaN and infinity come as they were, wherever they stand; receivers with the original client read them, too."""
    event = Numbers.model_validate({"type": "updated", **fields(number)})
    payload, read = there_and_back(event)
    assert repr(read) == repr(event).replace("(nan,)", "[nan]").replace("inf,)", "inf]").replace("(inf", "[inf").replace(
        "(-inf", "[-inf"
    )
    assert repr(Numbers.model_validate_json(payload)) == repr(read)
    assert b"null" not in payload or "None" in repr(event)


def test_a_class_that_writes_texts_keeps_them() -> None:
    """If a class has chosen texts for these numbers, which it reads, they stay; the classes in it choose for themselves."""

    class Texts(BaseEvent[MyEventType], ser_json_inf_nan="strings"):
        value: float
        inner: Inner

    payload, read = there_and_back(Texts(type=MyEventType.updated, value=INF, inner=Inner(value=NAN)))
    assert payload == b'{"type":"updated","value":"Infinity","inner":{"value":NaN}}'
    assert (read.value, math.isnan(read.inner.value)) == (INF, True)


def test_other_numbers_travel_as_pydantic_writes_them() -> None:
    """Nothing else is different from `model_dump_json`."""
    event = Numbers(type=MyEventType.updated, plain=1e300, many=[0.1, -0.0], anything={"a": None}, maybe=Inner(value=2.5))
    assert there_and_back(event) == (event.model_dump_json().encode(), event)


# Names


class ForOthers(BaseEvent[MyEventType], serialize_by_alias=True):
    """Its aliases are for what writes it elsewhere, and it says so for all writers."""

    value: float = Field(default=0.0, serialization_alias="Value")


class ReadsNames(BaseEvent[MyEventType], serialize_by_alias=True, validate_by_name=True, validate_by_alias=True):
    value: float = Field(default=0.0, alias="Value")


@pytest.mark.parametrize("cls", [ForOthers, ReadsNames])
def test_names_travel_whatever_the_config_says(cls: type[BaseEvent[MyEventType]]) -> None:
    """If a class reads its fields under their names, they travel so, though its config wants aliases."""
    payload, read = there_and_back(cls.model_validate({"type": "updated", "value": 1.5}))
    assert json.loads(payload) == {"type": "updated", "value": 1.5}
    assert read == cls.model_validate({"type": "updated", "value": 1.5})


class AliasOnly(BaseModel):
    unit: str = Field(default="", alias="Unit")
    note: str = Field(default="", serialization_alias="Note")


class NameOnly(BaseModel, serialize_by_alias=True):
    unit: str = Field(default="", serialization_alias="Unit")


@dataclass(config=ConfigDict(serialize_by_alias=True))
class AliasPair:
    left: float = Field(default=0.0, validation_alias=AliasChoices("l", "Left"), serialization_alias="Left")
    right: float = Field(default=0.0, serialization_alias="Right")


class Mixed(BaseEvent[MyEventType]):
    one: AliasOnly
    other: NameOnly
    pairs: list[AliasPair]
    config: str = Field(default="", serialization_alias="Config")
    default: AliasOnly = AliasOnly()
    metadata: NameOnly = NameOnly()


def test_each_field_has_the_name_that_is_read() -> None:
    """Fields that are read by their alias and others, in one class or in several, each travel as they are read."""
    event = Mixed(
        type=MyEventType.updated,
        one=AliasOnly(Unit="K", note="n"),
        other=NameOnly(unit="m"),
        pairs=[AliasPair(l=1.0, right=2.0)],  # type: ignore[call-arg] # mypy does not know aliases of dataclasses
        config="c",
        default=AliasOnly(Unit="s"),
        metadata=NameOnly(unit="kg"),
    )
    payload, read = there_and_back(event)
    assert read == event
    assert json.loads(payload) == {
        "type": "updated",
        "one": {"Unit": "K", "note": "n"},
        "other": {"unit": "m"},
        "pairs": [{"Left": 1.0, "right": 2.0}],
        "config": "c",
        "default": {"Unit": "s", "note": ""},
        "metadata": {"unit": "kg"},
    }


def test_computed_fields_have_their_names() -> None:
    """A computed field is read by nobody of this class, and travels under its own name."""

    class Computed(BaseEvent[MyEventType], serialize_by_alias=True):
        value: float

        @computed_field(alias="Double")  # type: ignore[prop-decorator] # of mypy, for all of them
        @property
        def double(self) -> float:
            return 2 * self.value

    payload, _ = there_and_back(Computed(type=MyEventType.updated, value=1.5))
    assert json.loads(payload) == {"type": "updated", "value": 1.5, "double": 3.0}


# Members of enums


class Unit(str, Enum):  # noqa: UP042 # as older code has it
    metre = "m"
    quoted = 'a "quoted" one'


class Level(IntEnum):
    low = 1


class Stamped(StrEnum):
    """Its members are texts, and their values are others."""

    one = "one"

    def __new__(cls, text: str) -> "Stamped":
        made = str.__new__(cls, f"the text of {text}")
        made._value_ = text
        return made


class Members(BaseEvent[MyEventType]):
    type: Literal[MyEventType.updated] = MyEventType.updated
    unit: Unit = Unit.metre
    level: Level = Level.low
    stamped: Stamped = Stamped.one
    either: Unit | Level | int | None = None
    of_literals: Literal[Unit.quoted, "text", 3] = 3
    by_unit: dict[Unit, list[Unit]] = Field(default_factory=dict)
    written: Annotated[Unit, PlainSerializer(lambda unit: unit.name)] = Unit.metre


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"unit": Unit.quoted},
        {"either": Unit.quoted},
        {"either": Level.low},
        {"either": 7},
        {"of_literals": Unit.quoted},
        {"of_literals": "text"},
        {"by_unit": {Unit.quoted: [Unit.metre, Unit.quoted]}},
    ],
)
def test_members_of_enums_travel_as_pydantic_writes_them(fields: dict[str, Any]) -> None:
    """Texts are written without asking each for its value; those whose value is another keep it, as do other enums."""
    event = Members(**fields)
    payload = encoder_of(Members)(event)
    assert payload == event.model_dump_json().encode()
    assert b'"stamped":"one"' in payload
    assert b'"written":"metre"' in payload


Marked = Annotated[str, PlainSerializer(lambda text: f"marked {text}")]


class Plain(TypedDict):
    kind: Literal["plain"]
    text: str


class WithMark(TypedDict):
    kind: Literal["marked"]
    text: Marked


class Unions(BaseEvent[MyEventType]):
    type: Literal[MyEventType.updated] = MyEventType.updated
    either: Unit | Marked = ""
    of_literals: Literal["text"] | Marked = ""
    lists: list[Literal["text"]] | list[Marked] = Field(default_factory=list)
    some: list[Plain | WithMark] = Field(default_factory=list)
    unit: Unit = Unit.metre  # these are used twice
    plain: Plain | None = None


@pytest.mark.parametrize(
    "fields",
    [
        {"either": "text"},
        {"either": Unit.quoted},
        {"of_literals": "another text"},
        {"lists": ["another text"]},
        {"some": [{"kind": "marked", "text": "text"}, {"kind": "plain", "text": "text"}]},
    ],
)
def test_members_and_literals_tell_which_type_of_a_union_a_value_has(fields: dict[str, Any]) -> None:
    """Also if their schema is a definition, because the class uses it twice."""
    event = Unions(**fields)
    assert encoder_of(Unions)(event) == event.model_dump_json().encode()
