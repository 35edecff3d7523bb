"""docs/schema.md: the versions, the strict class and the union behave as the page says."""

from pathlib import Path
from typing import Any

import pytest

from eventbus import EventBusClient, RejectReason
from eventbus.transports.memory import MemoryHub, MemoryTransport
from eventbus.wire.codec import Codec
from tests.docs.pages import modules, section
from tests.support import PATIENCE, MyEventTopic, eventually

TOPIC = MyEventTopic.my_service


def told(event_class: Any, *payloads: bytes) -> tuple[list[str], dict[RejectReason, int], dict[str, int]]:
    """The events that a receiver of this class receives, as JSON, and its counts."""
    hub = MemoryHub()
    sender = MemoryTransport(hub)
    sender.open(PATIENCE)
    receiver: EventBusClient[Any, Any, MyEventTopic] = EventBusClient(
        event_class, transport=MemoryTransport(hub), topics=[TOPIC]
    )
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
    """The frames that a publisher of this class sends."""
    return Codec(event_class).encode_many([event_class.model_validate(event) for event in events])


def test_the_versions_understand_each_other(tmp_path: Path) -> None:
    """Version 2 takes all events of version 1; version 1 takes those of version 2 but for the new type, which it names."""
    with section("schema.md", "A second version") as part:
        part.write(tmp_path)
    with modules(tmp_path, "version_1", "version_2") as versions:
        one, two = (version.PlantEvent for version in versions)
    old = sent(one, *({"type": each, "place": {"hall": 3}, "value": 1} for each in ("started", "measured")))
    received, *counted = told(two, *old)
    assert [two.model_validate_json(event).place.hall for event in received] == [3, 3]
    assert counted == [{}, {}]
    types = ("measured", "calibrated", "started")
    newer = sent(two, *({"type": each, "place": {"hall": 3, "row": "A"}, "value": 1, "unit": "K"} for each in types))
    received, *counted = told(one, *newer, b"[" + b",".join(newer) + b"]")
    assert received == [*map(bytes.decode, old[::-1])] * 2
    assert counted == [{RejectReason.TYPE: 2}, {"calibrated": 2}]


def test_the_strict_class_ignores_nothing(tmp_path: Path) -> None:
    """If extra fields are forbidden, a payload that has one is no event."""
    with section("schema.md", "Reject unknown fields") as part:
        part.write(tmp_path)
    with modules(tmp_path, "strict") as (strict,):
        event_class = strict.PlantEvent
    assert event_class.model_validate_json(b'{"type":"measured"}').value == 0
    with pytest.raises(ValueError, match="Extra inputs"):
        event_class.model_validate_json(b'{"type":"measured","unit":"K"}')


def test_the_union_names_types(tmp_path: Path) -> None:
    """In a union each type has its own fields; one that no member has is counted by name."""
    with section("schema.md", "A class for each type") as part:
        part.write(tmp_path)
    good = b'{"type":"measured","value":1.0}'
    with modules(tmp_path, "union") as (union,):
        received, *counted = told(union.PlantEvent, good, b'{"type":"measured"}', b'{"type":"calibrated"}')
    assert received == [good.decode()]
    assert counted == [{RejectReason.TYPE: 1, RejectReason.SCHEMA: 1}, {"calibrated": 1}]
