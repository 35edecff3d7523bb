"""Sets and dictionaries whose elements a publisher chose to collide."""

import sys
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from eventbus import BaseEvent, BaseEventType
from eventbus.ask.replies import Limits, Reader
from eventbus.ask.waiting import Answer
from eventbus.errors import InvalidAnswer
from eventbus.wire import collisions
from eventbus.wire.codec import Codec
from eventbus.wire.decoders import decoder_of, max_careless_bytes
from eventbus.wire.rejects import Reject, RejectReason

MODULUS = sys.hash_info.modulus  # multiples of it have the hash 0
COUNT = 60_000  # elements that all collide, put into one set, would take minutes


class PlantEventType(BaseEventType):
    measured = "measured"


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)

    number: int


type Ids = set[int]


class Fields(BaseModel):
    ints: set[int] = set()
    few: Annotated[set[int], Field(min_length=2, max_length=3)] = {1, 2}
    floats: frozenset[float] = frozenset()
    uuids: set[UUID] = set()
    decimals: set[Decimal | None] = set()
    tuples: set[tuple[int, str]] = set()
    frozen: set[Frozen] = set()
    named: Ids = set()
    named_again: list[Ids] = []
    anything: set[Any] = set()
    by_int: dict[int, str] = {}
    by_uuid: dict[UUID, dict[float, int]] = {}
    by_text: dict[str, set[str]] = {}
    in_order: set[int] | list[int] = []
    pair: tuple[int, ...] | set[float] = ()
    few_by_int: Annotated[dict[int, str], Field(min_length=2, max_length=2)] = {1: "a", 2: "b"}


class Event(Fields, BaseEvent[PlantEventType]):
    type: PlantEventType = PlantEventType.measured


CODEC = Codec(Event)


def json_of(field: str, elements: Iterable[str], brackets: str = "[]") -> bytes:
    return f'{{"type":"measured","{field}":{brackets[0]}{",".join(elements)}{brackets[1]}}}'.encode()


def multiples(most: int = COUNT) -> Iterable[int]:
    return (number * MODULUS for number in range(most))


COLLIDING: dict[str, Callable[[int], bytes]] = {
    "ints": lambda most: json_of("ints", map(str, multiples(most))),
    "floats": lambda most: json_of("anything", map(str, multiples(most))),
    "uuids": lambda most: json_of("uuids", (f'"{UUID(int=number)}"' for number in multiples(most))),
    "decimals": lambda most: json_of("decimals", (f'"{number}"' for number in multiples(most))),
    "tuples": lambda most: json_of("tuples", (f'[{number},"a"]' for number in multiples(most))),
    "frozen": lambda most: json_of("frozen", (f'{{"number":{number}}}' for number in multiples(most))),
    "named": lambda most: json_of("named", map(str, multiples(most))),
    "named_again": lambda most: json_of("named_again", ["[" + ",".join(map(str, multiples(most))) + "]"]),
    "by_int": lambda most: json_of("by_int", (f'"{number}":"a"' for number in multiples(most)), "{}"),
    "by_uuid": lambda most: json_of("by_uuid", (f'"{UUID(int=number)}":{{}}' for number in multiples(most)), "{}"),
}


@pytest.mark.parametrize("name", COLLIDING)
def test_what_collides_is_refused(name: str) -> None:
    """An event whose elements collide takes milliseconds, where making it would take minutes."""
    payload = COLLIDING[name](COUNT)
    with pytest.raises(ValidationError, match="have hashes that collide"):
        CODEC.decode(payload)
    [reject] = CODEC.salvage(payload)
    assert isinstance(reject, Reject)
    assert reject.reason == RejectReason.SCHEMA
    assert reject.detail.endswith("hashes that collide")


@pytest.mark.parametrize("name", COLLIDING)
def test_a_few_that_collide_are_taken(name: str) -> None:
    """Small events are decoded as ever; what collides is legal."""
    payload = COLLIDING[name](40)
    assert CODEC.decode(payload) == [CODEC.decode_one(payload)] == [Event.model_validate_json(payload)]


def test_an_array_with_what_collides() -> None:
    """In an array of events, the one whose elements collide is rejected."""
    good = CODEC.encode(Event(uuids={UUID(int=1)}))
    payload = b"[%s,%s,%s]" % (good, COLLIDING["frozen"](1_900), good)
    assert 60_000 < len(payload) < 65_536
    with pytest.raises(ValidationError, match="have hashes that collide"):
        CODEC.decode(payload)
    events = [found for found in CODEC.salvage(payload) if isinstance(found, Event)]
    assert len(events) == 2


@pytest.mark.parametrize(
    "event",
    [
        Event(ints=set(range(70_000))),
        Event(ints={number << 40 for number in range(30_000)}),
        Event(floats=frozenset(number / 4 for number in range(30_000))),
        Event(uuids={UUID(int=number) for number in range(5_000)}),
        Event(decimals={None, *(Decimal(number) / 8 for number in range(5_000))}),
        Event(tuples={(number, "a") for number in range(5_000)}),
        Event(frozen={Frozen(number=number) for number in range(5_000)}),
        Event(named=set(range(5_000)), named_again=[set(range(5_000))] * 2),
        Event(by_int=dict.fromkeys(range(-30000, 30000), "a")),
        Event(by_uuid={UUID(int=number): {0.5: 1} for number in range(5_000)}),
        Event(by_text={str(number): {"a"} for number in range(5_000)}),
    ],
    ids=lambda event: " and ".join(sorted(event.model_fields_set)),
)
def test_large_sets_are_read_as_ever(event: Event) -> None:
    """A careful decoder makes the same events of what does not collide."""
    payload = CODEC.encode(event)
    assert len(payload) > CODEC.max_bytes_at_once
    assert CODEC.decode(payload) == [event] == [CODEC.decode_one(payload)]


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("few", "[1]", "too_short"),
        ("few", "[1,1,1,1,2]", None),
        ("few", "[1,2,3,4]", "too_long"),
        ("ints", "[1,[2]]", "int_type"),
        ("anything", "[1,[2]]", "set_item_not_hashable"),
        ("by_int", '{"1":"a","01":"b","x":"c"}', "int_parsing"),
        ("by_int", '{"1":"a","1":"b","01":"c"}', None),
        ("few_by_int", '{"1":"a","01":"b"}', "too_short"),
        ("few_by_int", '{"1":"a","01":"b","2":"c"}', None),
        ("few_by_int", '{"1":"a","2":"b","3":"c"}', "too_long"),
        ("in_order", "[2,1,1]", None),
        ("pair", "[2,1]", None),
    ],
)
def test_careful_decoders_refuse_the_same(field: str, value: str, error: str | None) -> None:
    """Lengths, elements and repeated keys are judged as by any decoder."""
    json = f'{{"type":"measured","{field}":{value}}}'.encode()
    careful = decoder_of(Event.__pydantic_core_schema__, careful=True)
    if error is None:
        assert careful.validate_json(json) == Event.model_validate_json(json)
        return
    with pytest.raises(ValidationError) as caught:
        careful.validate_json(json)
    [found] = caught.value.errors()
    assert found["type"] == error
    with pytest.raises(ValidationError) as caught:
        Event.model_validate_json(json)
    assert caught.value.errors()[0]["loc"][:1] == found["loc"][:1]


@pytest.mark.parametrize(
    ("field", "most"),
    [
        (set[str], sys.maxsize),
        (set[datetime | bytes | None], sys.maxsize),
        (set[tuple[str, ...]], sys.maxsize),
        (frozenset[tuple[str, Literal[1, 2]]], sys.maxsize),
        (dict[str, list[int]], sys.maxsize),
        (dict[bool, PlantEventType], sys.maxsize),
        (set[PlantEventType], sys.maxsize),
        (list[int], sys.maxsize),
        (set[int], 65_536),
        (dict[float, int], 65_536),
        (list[dict[str, set[int | None]]], 65_536),
        (set[timedelta], 4_096),
        (set[tuple[str, int]], 4_096),
        (set[int | Decimal], 4_096),
        (dict[UUID, set[int]], 4_096),
        (set[Any], 4_096),
        (set[Frozen], 4_096),
    ],
)
def test_care_is_taken_where_hashes_are_known(field: Any, most: int) -> None:
    """Texts have secret hashes, and small JSON too few elements: there is nothing to guard."""
    assert max_careless_bytes(TypeAdapter(field).core_schema) == most


def test_answers_are_read_carefully() -> None:
    """Who answers a request may choose numbers that collide, too."""
    reader = Reader(set[int], "plant", "measured", Limits(16_777_216, 100_000))
    answer = b"[" + b",".join(b"%d" % number for number in multiples()) + b"]"
    with pytest.raises(InvalidAnswer, match="collide"):
        reader.read(Answer({}, answer))
    assert reader.read(Answer({}, b"[1,2,1]")) == {1, 2}


def test_a_busy_processor_is_no_collision(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes long once, and no longer when it is done again, is taken."""
    ticks = count()
    monkeypatch.setattr(collisions, "thread_time", lambda: 10.0 if next(ticks) >= 5 else 0.0)
    event = Event(uuids={UUID(int=number) for number in range(5_000)})
    assert CODEC.decode(CODEC.encode(event)) == [event]
    assert next(ticks) > 5_000 / 64 * 3
