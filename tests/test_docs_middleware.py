"""docs/middleware.md: its examples run, and its tables are complete."""

import re
from pathlib import Path
from typing import Any

import pytest

from eventbus import EventBusHook, EventBusProxy, current_headers, resilience
from eventbus.container import lifespan
from eventbus.middleware import Middleware
from tests.support import MyEvent, MyEventTopic, MyEventType, event, eventually

PAGE = (Path(__file__).parents[1] / "docs" / "middleware.md").read_text()
TOPIC = MyEventTopic.my_service


@pytest.fixture
def examples(proxy: EventBusProxy, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the page's code defines, for a bus at the proxy."""
    monkeypatch.setenv("EVENTBUS_PUB_PORT", str(proxy.pub_port))
    monkeypatch.setenv("EVENTBUS_SUB_PORT", str(proxy.sub_port))
    names: dict[str, Any] = {"MyEvent": MyEvent}
    for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(block, names)
    return names


def test_the_hook_is_found(examples: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """The example's hook is told of a dropped event without being named to the bus."""
    with lifespan(examples["App"]()) as app:
        client = app.bus.client()
        client._counters.drops.add(next(iter(examples["DropReason"])), 2)
    assert "paging plant-1: 2 events dropped" in capsys.readouterr().out


def test_the_middleware_is_called(examples: dict[str, Any]) -> None:
    """The example's middleware filters, and gives what is emitted while an event is handled the same id."""
    ids: list[str] = []
    with lifespan(examples["Around"]()) as app:
        client = app.bus.client()

        def handle(event: MyEvent) -> None:
            ids.append(current_headers()["correlation-id"])
            if event.value < 3:
                client.emit_event(event.model_copy(update={"value": 3.0}), TOPIC)

        client.subscribe(TOPIC)
        client.attach_callback(MyEventType.updated, handle)
        client.start_consumer()
        client.emit_event(event(-1), TOPIC)
        client.emit_event(event(1), TOPIC)
        eventually(lambda: client.stats().handled == 3)
    assert len(ids) == 2
    assert ids[0] == ids[1]


def test_the_tables() -> None:
    """One lists every method of a hook, the other everything that is ready."""
    methods = {name for name in vars(EventBusHook) if not name.startswith("_")}
    assert set(re.findall(r"^\| `([a-z]\w+)\([a-z, ]*\)` \|", PAGE, flags=re.MULTILINE)) == methods
    ready = {
        name
        for name, thing in vars(resilience).items()
        if isinstance(thing, type) and issubclass(thing, Middleware) and thing is not Middleware
    }
    assert set(re.findall(r"^\| `([A-Z]\w+)\(.*\)` \|", PAGE, flags=re.MULTILINE)) == ready
