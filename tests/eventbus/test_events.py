"""The base classes of services."""

import json
from datetime import UTC, datetime
from enum import auto

from eventbus import BaseEventTopic, BaseEventType, EventBusClient, StampedEvent
from eventbus.transports.memory import MemoryTransport
from tests.support import PATIENCE


class PlantType(BaseEventType):
    started = auto()


class PlantTopic(BaseEventTopic):
    plant = auto()


class PlantEvent(StampedEvent[PlantType]):
    value: float = 0.0


def test_a_stamped_event() -> None:
    """Each has an id of its own and the present time, which travel and come back as they were."""
    before = datetime.now(UTC)
    one, other = PlantEvent(type=PlantType.started), PlantEvent(type=PlantType.started)
    assert one.id != other.id
    assert before <= datetime.fromisoformat(one.time) <= datetime.fromisoformat(other.time) <= datetime.now(UTC)
    assert PlantEvent.model_validate_json(one.model_dump_json()) == one
    assert list(json.loads(one.model_dump_json())) == ["type", "id", "time", "value"]


def test_a_bare_type_is_stamped() -> None:
    """A bare type that is emitted becomes an event with an id and a time."""
    client = EventBusClient[PlantEvent, PlantType, PlantTopic](PlantEvent, transport=MemoryTransport())
    with client:
        client.subscribe(PlantTopic.plant)
        client.emit_event(PlantType.started, PlantTopic.plant)
        client.emit_event(PlantType.started, PlantTopic.plant)
        one, other = client.recv_event(PATIENCE), client.recv_event(PATIENCE)
    assert one is not None
    assert other is not None
    assert one.id != other.id
    assert one.time <= other.time
