"""Versions that differ, and messages that are no events: neither client suffers from what the other sends."""

import json
from datetime import datetime
from enum import auto

import pytest
from pydantic import BaseModel

from eventbus import BaseEvent, BaseEventType, EventBusClient, RejectReason
from tests.interop.support import (
    NOON,
    OLD_TOPIC,
    TOPIC,
    Place,
    Ports,
    RLEventTopic,
    greet,
    new,
    numbers_in,
    old,
    old_event,
)
from tests.support import PATIENCE, eventually


def changed(event: BaseModel, **changes: object) -> bytes:
    """The event's JSON as another version would write it; a field that is None is left out."""
    content = event.model_dump(mode="json") | changes
    return json.dumps({name: value for name, value in content.items() if value is not None}).encode()


STRANGE: dict[str, tuple[list[bytes], RejectReason]] = {
    "unknown-type": ([b"corerl", changed(old_event(1), type="calibrated")], RejectReason.TYPE),
    "missing-field": ([b"corerl", changed(old_event(1), time=None)], RejectReason.SCHEMA),
    "wrong-value": ([b"corerl", changed(old_event(1), value="warm")], RejectReason.SCHEMA),
    "nan": ([b"corerl", old_event(float("nan")).model_dump_json().encode()], RejectReason.SCHEMA),
    "no-json": ([b"corerl", b"{nonsense}"], RejectReason.JSON),
    "no-object": ([b"corerl", b"7"], RejectReason.SCHEMA),
    "no-text": ([b"corerl", b"\xff\x00"], RejectReason.JSON),
    "one-frame": ([b"corerl"], RejectReason.FRAMES),
    "three-frames": ([b"corerl", changed(old_event(1)), b"{}"], RejectReason.FRAMES),
}


@pytest.mark.parametrize(("frames", "reason"), STRANGE.values(), ids=STRANGE.keys())
def test_what_the_original_sends_and_is_no_event(bare: Ports, frames: list[bytes], reason: RejectReason) -> None:
    """It is counted here for what it is, skipped there, and costs no other event."""
    with new(bare, TOPIC) as ours, old(bare, OLD_TOPIC) as theirs, old(bare) as sender:
        for receiver in (ours, theirs):
            sender.introduce(receiver.events)
        for number in range(3):
            sender.emit(old_event(number))
            sender.client.send(frames)
        sender.emit(old_event(3))
        for events in (ours.events, theirs.events):
            assert numbers_in(events, 4) == [0, 1, 2, 3]
        eventually(lambda: ours.client.stats().rejects == {reason: 3}, PATIENCE)
        assert theirs.client.skipped == 3


class NewerType(BaseEventType):
    measured = auto()
    calibrated = auto()


class NewerEvent(BaseEvent[NewerType]):
    """The event class that the original will be migrated to: a field and a type more."""

    time: datetime
    value: float = 0.0
    note: str | None = None
    unit: str = "°C"


class NewerClient(EventBusClient[NewerEvent, NewerType, RLEventTopic]):
    """A client of a service that is a version ahead."""


def test_a_newer_version_here(bare: Ports) -> None:
    """The original client ignores the field that it does not know, skips the type, and gets all else, in order."""
    with old(bare, OLD_TOPIC) as receiver, NewerClient(NewerEvent, "127.0.0.1", *bare) as sender:

        def emit(value: float, event_type: NewerType = NewerType.measured) -> None:
            sender.emit_event(NewerEvent(type=event_type, time=NOON, value=value), TOPIC)

        greet(emit, receiver.events)
        emit(1)
        emit(2, NewerType.calibrated)
        emit(3)
        assert numbers_in(receiver.events, 2) == [1, 3]
        assert receiver.client.skipped == 1


def test_an_older_version_here(bare: Ports) -> None:
    """This client ignores a newer original's field, names the type that it does not know, and gets all else."""
    with new(bare, TOPIC) as receiver, old(bare) as sender:
        sender.introduce(receiver.events)
        sender.client.send([b"corerl", changed(old_event(1), unit="°C", note=None)])
        sender.client.send([b"corerl", changed(old_event(2), type="calibrated")])
        sender.client.send([b"corerl", changed(old_event(3), places=[{"name": "Süd", "row": 3}])])
        assert numbers_in(receiver.events, 2) == [1, 3]
        assert receiver.events[-1].places == [Place(name="Süd")]
        assert dict(receiver.client.stats().unknown_types) == {"calibrated": 1}
