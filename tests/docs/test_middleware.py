"""docs/middleware.md: its examples run, and its tables are complete."""

import re
from pathlib import Path
from typing import Any

import pytest

import eventbus
from eventbus import DropReason, EventBusHook, EventBusProxy, current_headers
from eventbus.container import lifespan
from eventbus.handle.middleware import Middleware
from tests.docs.pages import modules, path_of, section, write_events
from tests.support import eventually

PAGE = path_of("middleware.md").read_text()


@pytest.fixture
def folder(proxy: EventBusProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the page's modules; the settings lead to the proxy."""
    monkeypatch.setenv("EVENTBUS_PUB_PORT", str(proxy.pub_port))
    monkeypatch.setenv("EVENTBUS_SUB_PORT", str(proxy.sub_port))
    write_events(tmp_path)
    return tmp_path


def test_the_hook_is_found(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The example's hook gets a dropped event without being named to the bus."""
    with section("middleware.md", "Hooks") as part:
        part.write(folder)
    with modules(folder, "alarm") as (alarm,), lifespan(alarm.App()) as app:
        app.bus.client()._parts.counters.drops.add(DropReason.RECEIVE_BUFFER, 2)
    assert "paging plant-1: 2 events dropped" in capsys.readouterr().out


def test_the_middleware_is_called(folder: Path) -> None:
    """The example's middleware filters, and gives what is emitted while an event is handled the same id."""
    with section("middleware.md", "Middleware") as part:
        part.write(folder)
    ids: list[str] = []
    with modules(folder, "events", "around") as (events, around), lifespan(around.Around()) as app:
        client = app.bus.client()

        def handle(event: Any) -> None:
            ids.append(current_headers()["correlation-id"])
            if event.value < 3:
                client.emit_event(event.model_copy(update={"value": 3.0}), events.MyEventTopic.readings)

        client.subscribe(events.MyEventTopic.readings)
        client.attach_callback(events.MyEventType.measured, handle)
        client.start_consumer()
        for value in (-1.0, 1.0):
            event = events.MyEvent(type=events.MyEventType.measured, value=value)
            client.emit_event(event, events.MyEventTopic.readings)
        eventually(lambda: client.stats().handled == 3)
    assert len(ids) == 2
    assert ids[0] == ids[1]


def test_the_tables() -> None:
    """One lists every method of a hook, the other everything that is ready."""
    methods = {name for name in vars(EventBusHook) if not name.startswith("_")}
    assert set(re.findall(r"^\| `([a-z]\w+)\([a-z, ]*\)` \|", PAGE, flags=re.MULTILINE)) == methods
    ready = {
        name
        for name, thing in ((name, getattr(eventbus, name)) for name in eventbus.__all__)
        if isinstance(thing, type) and issubclass(thing, Middleware) and thing is not Middleware
    }
    assert set(re.findall(r"^\| `([A-Z]\w+)\(.*\)` \|", PAGE, flags=re.MULTILINE)) == ready
