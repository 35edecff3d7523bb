"""Clients of different versions on one bus: what fits is handled in order, the rest is counted and named, nothing stops."""

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from enum import auto
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from eventbus import BaseEvent, BaseEventType, EventBusClient, EventBusProxy, RejectReason
from eventbus.codec import Codec
from eventbus.transports.memory import MemoryHub, MemoryTransport
from tests.support import PATIENCE, MyEventTopic, eventually

TOPIC = MyEventTopic.my_service

type Client = EventBusClient[Any, Any, MyEventTopic]


class OldType(BaseEventType):
    started = auto()
    updated = auto()
    last = auto()


class OldPlace(BaseModel):
    hall: int
    floor: int = 0


class OldEvent(BaseEvent[OldType]):
    number: int
    value: float = 0.0
    place: OldPlace = OldPlace(hall=0)


class NewType(BaseEventType):
    started = auto()
    updated = auto()
    last = auto()
    paused = auto()
    resumed = auto()


class NewPlace(BaseModel):
    """Has a field more, has one of another type, and need not have the one that was needed before."""

    hall: int | str | None = 1
    row: str = "A"


class NewEvent(BaseEvent[NewType]):
    """Has lost the field `number`, `value` may be a text, and `place` may be missing."""

    value: float | str = 0.0
    place: NewPlace | None = NewPlace()
    note: str = "new"


class Numbered(NewEvent):
    """Has kept it."""

    number: int
    since: tuple[int, ...] = (1, 2)


def new(number: int, event_type: NewType = NewType.updated, **fields: Any) -> Numbered:
    return Numbered(type=event_type, number=number, **fields)


BAD_FOR_OLD = [
    new(-1, NewType.paused),
    new(-1, value="much"),
    NewEvent(type=NewType.updated),
    new(-1, place=None),
    new(-1, NewType.resumed, value="much"),
    new(-1, place=NewPlace(hall="B")),
    new(-1, NewType.paused, place=None),
    new(-1, place=NewPlace(hall=None)),
]


@pytest.fixture
def client(proxy: EventBusProxy) -> Iterator[Callable[[type[BaseEvent[Any]]], Client]]:
    """Makes connected clients of an event class, and closes them at the end."""
    with ExitStack() as stack:

        def make(cls: type[BaseEvent[Any]]) -> Client:
            made: Client = EventBusClient(cls, "127.0.0.1", proxy.pub_port, proxy.sub_port)
            return stack.enter_context(made)

        yield make


def until_last(receiver: Client) -> list[Any]:
    """The events that come before one of type `last`."""
    received = []
    while (event := receiver.recv_event(PATIENCE)) is not None and event.type != "last":
        received.append(event)
    assert event is not None
    return received


def emit(sender: Client, events: list[Any], packed: bool) -> None:
    if packed:
        sender.emit_events(events, TOPIC)
    else:
        for event in events:
            sender.emit_event(event, TOPIC)


@pytest.mark.parametrize("packed", [False, True])
def test_an_older_receiver_takes_what_it_understands(
    client: Callable[[type[BaseEvent[Any]]], Client], packed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Of what a newer publisher sends, the events that fit are handled in order, the others counted and named."""
    receiver, sender = client(OldEvent), client(NewEvent)
    handled: list[int] = []
    receiver.attach_callback(OldType.updated, lambda event: handled.append(event.number))
    receiver.subscribe(TOPIC)
    sender.connect()  # by now it knows the subscription
    mixed: list[NewEvent] = []
    for number in range(200):
        mixed += [new(number), BAD_FOR_OLD[number % len(BAD_FOR_OLD)]]
    emit(sender, [*mixed, new(0, NewType.started), new(0, NewType.last)], packed)
    received = until_last(receiver)
    assert received == [
        *(OldEvent(type=OldType.updated, number=number, place=OldPlace(hall=1)) for number in range(200)),
        OldEvent(type=OldType.started, number=0, place=OldPlace(hall=1)),
    ]
    eventually(lambda: len(handled) == 200)  # they were read before
    assert handled == list(range(200))
    stats = receiver.stats()
    assert stats.rejects == {RejectReason.TYPE: 75, RejectReason.SCHEMA: 125}
    assert stats.unknown_types == {"paused": 50, "resumed": 25}
    lines = [
        (vars(line)["eventbus_reason"], vars(line).get("eventbus_type")) for line in caplog.records if line.levelno > 20
    ]
    assert lines == [("type", "paused"), ("schema", None), ("type", "resumed")], "one for each reason, one for each new type"
    assert "unknown type 'paused'" in caplog.text


@pytest.mark.parametrize("packed", [False, True])
def test_a_newer_receiver_takes_what_an_older_one_sends(
    client: Callable[[type[BaseEvent[Any]]], Client], packed: bool
) -> None:
    """Fields that an older publisher does not send have their defaults, in nested models too; nothing is rejected."""
    receiver, sender = client(NewEvent), client(OldEvent)
    receiver.subscribe(TOPIC)
    sender.connect()
    events = [OldEvent(type=OldType.updated, number=number, value=number) for number in range(100)]
    emit(sender, [*events, OldEvent(type=OldType.last, number=0)], packed)
    place = NewPlace(hall=0)
    assert until_last(receiver) == [NewEvent(type=NewType.updated, value=float(n), place=place) for n in range(100)]
    assert receiver.stats().rejected == 0


def test_each_unknown_type_is_said_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """Each new type makes a line as soon as it is seen, a type that comes again none for a minute, nor do too many types."""
    hub = MemoryHub()
    sender = MemoryTransport(hub)
    sender.open(PATIENCE)
    receiver: Client = EventBusClient(OldEvent, transport=MemoryTransport(hub), topics=[TOPIC])
    with receiver:
        receiver.start_consumer()
        for _ in range(3):
            for number in range(150):
                sender.send(TOPIC.encode(), b'{"type":"type %d","number":0}' % number)
        sender.send(TOPIC.encode(), b'{"type":"last","number":0}')
        assert until_last(receiver) == []
        stats = receiver.stats()
    lines = [line for line in caplog.records if line.levelno == logging.WARNING]
    assert [vars(line)["eventbus_type"] for line in lines] == [f"type {number}" for number in range(100)]
    assert all(f"on b'my_service': unknown type 'type {n}'; 0 more" in line.getMessage() for n, line in enumerate(lines))
    assert stats.unknown_types == {f"type {number}": 3 for number in range(100)}
    assert stats.rejects == {RejectReason.TYPE: 450}


# What docs/schema.md says

BLOCKS = dict(
    re.findall(
        r"```python\n# ([\w ]+)\n(.*?)```", (Path(__file__).parents[2] / "docs" / "schema.md").read_text(), flags=re.DOTALL
    )
)


def documented(name: str) -> dict[str, Any]:
    """What a block of code in the documentation defines."""
    namespace: dict[str, Any] = {"__name__": __name__}
    exec(compile(BLOCKS[name], f"docs/schema.md: {name}", "exec"), namespace)
    return namespace


def told(event_class: Any, *payloads: bytes) -> tuple[list[str], dict[RejectReason, int], dict[str, int]]:
    """What a receiver of this class receives, as JSON, and what it counts."""
    hub = MemoryHub()
    sender = MemoryTransport(hub)
    sender.open(PATIENCE)
    receiver: Client = EventBusClient(event_class, transport=MemoryTransport(hub), topics=[TOPIC])
    with receiver:
        receiver.start_consumer()
        for payload in payloads:
            sender.send(TOPIC.encode(), payload)
        count = b"".join(payloads).count(b'"type"')
        eventually(lambda: receiver.stats().received + receiver.stats().rejected == count)
        stats = receiver.stats()
        received = [event.model_dump_json() for _ in range(stats.received) if (event := receiver.recv_event(0))]
    return received, dict(stats.rejects), dict(stats.unknown_types)


def sent(event_class: Any, *events: dict[str, Any]) -> list[bytes]:
    """What a publisher of this class sends."""
    return Codec(event_class).encode_many([event_class.model_validate(event) for event in events])


def test_the_documented_versions_understand_each_other() -> None:
    """Version 2 takes all events of version 1; version 1 takes those of version 2 but for the new type, which it names."""
    one, two = documented("version 1")["PlantEvent"], documented("version 2")["PlantEvent"]
    old = sent(one, *({"type": each, "place": {"hall": 3}, "value": 1} for each in ("started", "measured")))
    received, *counted = told(two, *old)
    assert [two.model_validate_json(event).place.hall for event in received] == [3, 3]
    assert counted == [{}, {}]
    types = ("measured", "calibrated", "started")
    newer = sent(two, *({"type": each, "place": {"hall": 3, "row": "A"}, "value": 1, "unit": "K"} for each in types))
    received, *counted = told(one, *newer, b"[" + b",".join(newer) + b"]")
    assert received == [*map(bytes.decode, old[::-1])] * 2
    assert counted == [{RejectReason.TYPE: 2}, {"calibrated": 2}]


def test_the_documented_strict_class_ignores_nothing() -> None:
    """Where extra fields are forbidden, what has one is no event."""
    strict = documented("strict")["PlantEvent"]
    assert strict.model_validate_json(b'{"type":"measured"}').value == 0
    with pytest.raises(ValueError, match="Extra inputs"):
        strict.model_validate_json(b'{"type":"measured","unit":"K"}')


def test_the_documented_union_names_types() -> None:
    """In a union each type has its own fields; one that no member has is counted by name."""
    good = b'{"type":"measured","value":1.0}'
    received, *counted = told(documented("union")["PlantEvent"], good, b'{"type":"measured"}', b'{"type":"calibrated"}')
    assert received == [good.decode()]
    assert counted == [{RejectReason.TYPE: 1, RejectReason.SCHEMA: 1}, {"calibrated": 1}]
