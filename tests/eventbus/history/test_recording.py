"""Recordings: what is in their lines, when their events are due, and a container that gets them in a test."""

import asyncio
import json
from enum import auto
from pathlib import Path

import pytest
from dependency_injector import containers, providers

from eventbus import (
    BaseEvent,
    BaseEventTopic,
    BaseEventType,
    EventBusClient,
    InvalidRecording,
    current_delivery,
    current_headers,
    on,
)
from eventbus.container import event_bus
from eventbus.handle.marks import every
from eventbus.history.recording import Recorded, delays, read_recording
from eventbus.testing import abus_test, bus_test


class PlantType(BaseEventType):
    measured = auto()


class PlantTopic(BaseEventTopic):
    plant = auto()


class Measured(BaseEvent[PlantType]):
    value: float


Bus = EventBusClient[Measured, PlantType, PlantTopic]


class Display:
    """Notes what it gets, and how often it was called in between."""

    def __init__(self) -> None:
        self.shown: list[float] = []
        self.replayed: list[bool] = []
        self.headers: list[dict[str, str]] = []
        self.ticks = 0

    @on(PlantType.measured, topic=PlantTopic.plant)
    def show(self, event: Measured) -> None:
        delivery = current_delivery()
        assert delivery is not None
        self.shown.append(event.value)
        self.replayed.append(delivery.replayed)
        self.headers.append(dict(current_headers()))

    @every(10.0, delay=5.0)
    def tick(self) -> None:
        self.ticks += 1


class App(containers.DeclarativeContainer):
    bus = event_bus(Bus)
    display = providers.Singleton(Display)


def recorded(time: float, value: float, **headers: str) -> Recorded:
    return Recorded(time, "plant", {"type": "measured", "value": value}, headers)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Three events, with a quarter of a minute between the first two."""
    path = tmp_path / "plant.jsonl"
    path.write_text(
        "\n".join(one.line() for one in (recorded(100, 1), recorded(115, 2, who="me"), recorded(115.5, 3))) + "\n\n"
    )
    return path


def test_lines_are_json_and_read_back(file: Path) -> None:
    """Each has the time, topic and event, and headers if there are any; NaN survives."""
    lines = [json.loads(line) for line in file.read_text().splitlines() if line]
    assert lines[0] == {"time": 100.0, "topic": "plant", "event": {"type": "measured", "value": 1.0}}
    assert lines[1]["headers"] == {"who": "me"}
    assert list(read_recording(file)) == [recorded(100, 1), recorded(115, 2, who="me"), recorded(115.5, 3)]
    assert "NaN" in recorded(1, float("nan")).line()


def test_a_recorded_request_is_none_any_more() -> None:
    """Its answers would go nowhere; and a recording of a replay counts as replayed again only when it is replayed."""
    line = recorded(1, 2, **{"reply-to": "_reply/x", "correlation-id": "1", "replayed": "true", "trace": "t"}).line()
    assert json.loads(line)["headers"] == {"trace": "t"}


def test_when_events_are_due() -> None:
    """As far apart as they were recorded, faster or slower, or at once; a clock that went back delays nothing."""
    events = [recorded(100, 1), recorded(110, 2), recorded(105, 3), recorded(112, 4)]
    for rate, due in ((1.0, [0, 10, 10, 12]), (2.0, [0, 5, 5, 6]), (None, [0, 0, 0, 0])):
        assert [delay for delay, _ in delays(events, rate)] == due
    assert list(delays([], 1.0)) == []


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        ("{", "no JSON"),
        ("[]", "no JSON object"),
        ('{"topic": "a", "event": {}}', "time"),
        ('{"time": true, "topic": "a", "event": {}}', "time"),
        ('{"time": -1, "topic": "a", "event": {}}', "time"),
        ('{"time": 1e12, "topic": "a", "event": {}}', "time"),
        ('{"time": NaN, "topic": "a", "event": {}}', "time"),
        ('{"time": 1e999, "topic": "a", "event": {}}', "time"),
        ('{"time": 1%s, "topic": "a", "event": {}}' % ("0" * 400), "time"),
        ('{"time": 1, "topic": "a", "event": []}', "event"),
        ('{"time": 1, "topic": 1, "event": {}}', "topic"),
        ('{"time": 1, "topic": "", "event": {}}', "topic"),
        ('{"time": 1, "topic": "a", "event": {}, "headers": {"a": 1}}', "headers"),
    ],
)
def test_a_line_that_is_none_is_named(file: Path, line: str, detail: str) -> None:
    """With its number."""
    file.write_text(file.read_text() + line)
    with pytest.raises(InvalidRecording, match=f"line 5 of .*{detail}"):
        list(read_recording(file))


def test_a_test_replays_a_recording(file: Path) -> None:
    """Its handlers get all, in order, and can tell that it is replayed; on request the clock moves on in between."""
    with bus_test(App()) as t:
        assert t.replay(file) == 3
        display = t.container.display()
        assert (display.shown, display.replayed) == ([1, 2, 3], [True] * 3)
        assert display.headers[1]["who"] == "me"
        assert display.ticks == 0
        assert t.replay(file, timed=True) == 3
        assert display.ticks == 2  # after 5 and 15 seconds


def test_an_async_test_does_too(file: Path) -> None:
    """The same on the loop of the test."""

    async def test() -> None:
        async with abus_test(App()) as t:
            assert await t.replay(file, timed=True) == 3
            assert (t.container.display().shown, t.container.display().ticks) == ([1, 2, 3], 2)

    asyncio.run(test())
