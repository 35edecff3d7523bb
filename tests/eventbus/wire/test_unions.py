"""Unions: a class for each type of events, chosen by the type."""

from enum import Enum, auto
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, Tag, TypeAdapter

from eventbus import BaseEvent, BaseEventType, InvalidEvent, RejectReason
from eventbus.wire.codec import Codec
from eventbus.wire.rejects import Reject


class ShopType(BaseEventType):
    paid = auto()
    refunded = auto()
    opened = auto()
    closed = auto()


class ShopEvent(BaseEvent[ShopType]):
    till: int = 0


class Paid(ShopEvent):
    type: Literal[ShopType.paid] = ShopType.paid
    amount: int
    parts: list["Paid"] = Field(default_factory=list)


class Refunded(ShopEvent):
    type: Literal[ShopType.refunded] = ShopType.refunded
    amount: int


class Audited(ShopEvent):
    """Narrows nothing, so that it stands for no type of its own."""

    auditor: str


PAID = Paid(amount=1, till=7, parts=[Paid(amount=2)])
CLOSED = ShopEvent(type=ShopType.closed)


def is_tagged(codec: Codec[Any]) -> bool:
    """Whether the type chooses the class, rather than trying all."""
    return codec._class_of_each_type is not None


def test_subclasses_are_read_as_themselves() -> None:
    """Of a base class, each type has the subclass that narrows to it; the others have the base class."""
    codec = Codec(ShopEvent)
    assert codec.classes == (ShopEvent, Paid, Refunded)
    for event in (PAID, Refunded(amount=1), CLOSED):
        (read,) = codec.decode_many(b"[%s]" % codec.encode(event))
        assert read == event == codec.decode_one(codec.encode(event))
        assert type(read) is type(event)
    assert codec.classes_of(ShopType.paid) == (Paid,)
    assert codec.classes_of(ShopType.closed) == (ShopEvent,)
    assert codec.event_types == {ShopType}


def test_what_the_class_of_a_type_needs_is_needed() -> None:
    """An event of a narrowed type is no event of the base class: the reject names what is missing."""
    codec = Codec(ShopEvent)
    (reject,) = codec.salvage(b'{"type":"paid"}')
    assert isinstance(reject, Reject)
    assert (reject.reason, reject.detail) == (RejectReason.SCHEMA, "paid.amount: Field required")
    (unknown,) = codec.salvage(b'{"type":"stolen","amount":1}')
    assert isinstance(unknown, Reject)
    assert (unknown.reason, unknown.unknown_type) == (RejectReason.TYPE, "stolen")
    with pytest.raises(InvalidEvent, match="needs more than the type paid: emit a whole event with amount"):
        codec.encode(ShopType.paid)
    assert codec.encode(ShopType.closed) == codec.encode(CLOSED)


@pytest.mark.parametrize(("event_class", "name"), [(Paid | Refunded, r"Paid \| Refunded"), (Refunded, "Refunded")])
def test_a_type_that_no_class_has(event_class: Any, name: str) -> None:
    """The error says so, rather than ask for fields."""
    with pytest.raises(InvalidEvent, match=f"^no class of {name} has the type closed$"):
        Codec(event_class).encode(ShopType.closed)


def test_a_union_is_tagged_too() -> None:
    """The members of a plain union are not tried one after the other, if the type tells them apart."""
    labelled: TypeAdapter[Any] = TypeAdapter(Annotated[Paid, Tag("p")] | Annotated[Refunded, Tag("r")])
    for union in (Paid | Refunded, TypeAdapter(Paid | Refunded), labelled):
        codec: Codec[Any] = Codec(union)
        assert is_tagged(codec)
        assert codec.decode_one(codec.encode(PAID)) == PAID
        assert codec.classes_of(ShopType.closed) == ()
    discriminated: Codec[Any] = Codec(TypeAdapter(Annotated[Paid | Refunded, Field(discriminator="type")]))
    assert discriminated.decode_one(discriminated.encode(PAID)) == PAID


type Payments = Paid | Refunded


def test_an_alias_is_a_union() -> None:
    """`type Payments = Paid | Refunded` works like the union."""
    assert Codec[Any](Payments).classes == (Paid, Refunded)


def test_classes_that_the_type_does_not_tell_apart() -> None:
    """Two classes of one type are tried one after the other, if they are named; of a base class they are ambiguous."""

    class Base(BaseEvent[ShopType]):
        pass

    class One(Base):
        type: Literal[ShopType.paid] = ShopType.paid
        one: int

    class Two(Base):
        type: Literal[ShopType.paid, ShopType.opened]
        two: int

    codec: Codec[Any] = Codec(One | Two)
    assert not is_tagged(codec)
    assert codec.decode_one(b'{"type":"paid","two":2}') == Two(type=ShopType.paid, two=2)
    with pytest.raises(
        InvalidEvent, match=r"One and .*Two are both for events of type 'paid', and the event class Base stands for"
    ):
        Codec(Base)


def test_a_class_that_comes_later_is_not_known() -> None:
    """The subclasses are those that exist when the codec, and so the client, is made."""

    class Base(BaseEvent[ShopType]):
        pass

    early = Codec(Base)

    class Late(Base):
        type: Literal[ShopType.opened] = ShopType.opened

    assert early.classes == (Base,)
    assert Codec(Base).classes == (Base, Late)


def test_everybodys_base_class_stands_for_itself() -> None:
    """`BaseEvent` does not stand for the event classes of all services."""
    assert Codec(BaseEvent).classes == (BaseEvent,)


def test_generic_bases() -> None:
    """A base class may be generic in the type, which is what pyright wants of a narrowed field."""

    class Base[Type: ShopType](BaseEvent[Type]):
        till: int = 0

    class Opened(Base[Literal[ShopType.opened]]):
        type: Literal[ShopType.opened] = ShopType.opened

    wide: Codec[Any] = Codec(Base[ShopType])
    assert wide.classes == (Base[ShopType], Opened)
    assert type(wide.decode_one(b'{"type":"opened"}')) is Opened
    assert type(wide.decode_one(b'{"type":"closed"}')) is Base[ShopType]
    for generic in (Base, Base[Any]):  # as `EventBusClient[Base[Any], …]` says
        codec: Codec[Any] = Codec(generic)
        assert codec.classes == (Opened,)
    union: Codec[Any] = Codec(Opened | Refunded)
    assert union.decode_one(b'{"type":"opened","till":3}') == Opened(till=3)


def test_what_does_not_choose_a_class() -> None:
    """A union whose members have aliases for the type, or no types of their own, is read member by member."""

    class Renamed(BaseEvent[ShopType]):
        type: Literal[ShopType.opened] = Field(ShopType.opened, alias="kind")

    class AnyType(BaseEvent[Any]):
        any: int

    for union, payload in ((Paid | Renamed, b'{"kind":"opened"}'), (Paid | AnyType, b'{"type":"x","any":1}')):
        codec: Codec[Any] = Codec(union)
        assert not is_tagged(codec)
        assert type(codec.decode_one(payload)) in codec.classes


class OldType(str, Enum):  # noqa: UP042 # as services have them that were written before StrEnum
    paid = "paid"
    refunded = "refunded"


def test_types_that_are_not_of_our_enum() -> None:
    """The type tells the class as it is in JSON, also if `str` of it is another text; numbers do not tell it."""

    class Old(BaseEvent[Any]):
        type: Literal[OldType.paid] = OldType.paid

    class Older(BaseEvent[Any]):
        type: Literal[OldType.refunded] = OldType.refunded

    class One(BaseEvent[Any]):
        type: Literal[1] = 1

    class Two(BaseEvent[Any]):
        type: Literal[2] = 2

    for events, tagged in (([Old(), Older()], True), ([One(), Two()], False), ([Old(), Two()], False)):
        codec: Codec[Any] = Codec(type(events[0]) | type(events[1]))
        assert is_tagged(codec) is tagged
        assert [codec.decode_one(codec.encode(event)) for event in events] == events
        assert codec.decode_many(b"[%s,%s]" % tuple(map(codec.encode, events))) == events
