"""Clients of different versions on one bus: what fits is handled in order, the rest is counted and named, nothing stops."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from enum import auto
from typing import Any

import pytest
from pydantic import BaseModel

from eventbus import BaseEvent, BaseEventType, EventBusClient, EventBusProxy, RejectReason
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
    """A newer publisher's events that fit are handled in order, the others counted and named."""
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
    assert all(f"on b'my_service': unknown type 'type {n}'" in line.getMessage() for n, line in enumerate(lines))
    assert stats.unknown_types == {f"type {number}": 3 for number in range(100)}
    assert stats.rejects == {RejectReason.TYPE: 450}
