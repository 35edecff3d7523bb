"""The name of a client: what people call it."""

import logging
import sys
from types import ModuleType

import pytest

from eventbus import BaseEvent, EventBusClient
from eventbus._base.program import program_name
from eventbus.transports.memory import MemoryTransport
from tests.support import Bus, MyEvent, MyEventTopic, MyEventType, event, eventually


def test_the_name_is_told() -> None:
    """The name is in the health of a client, and of the program where none is given."""
    assert Bus(MyEvent, transport=MemoryTransport(), name="shop").health().name == "shop"
    assert Bus(MyEvent, transport=MemoryTransport()).name == program_name()
    assert Bus(MyEvent, transport=MemoryTransport(), name="a\nb" + 200 * "c").name.startswith("a\\nbccc")


def test_the_name_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Lines about the connection, and about handlers, have the name as a field."""

    def fail(event: MyEvent) -> None:
        raise ArithmeticError

    caplog.set_level(logging.INFO)
    with Bus(MyEvent, transport=MemoryTransport(), name="shop", topics=[MyEventTopic.other]) as bus:
        bus.attach_callback(MyEventType.updated, fail)
        bus.start_consumer()
        bus.emit_event(event(), MyEventTopic.other)
        eventually(lambda: any("fail failed" in record.getMessage() for record in list(caplog.records)))
    levels = {record.levelno for record in caplog.records if getattr(record, "eventbus_client_name", None) == "shop"}
    assert levels == {logging.INFO, logging.ERROR}


@pytest.mark.parametrize(
    ("argument", "spec", "name"),
    [
        ("/srv/plant/shop.py", None, "shop"),
        ("/srv/plant/__main__.py", None, "plant"),
        ("/srv/plant/__main__.py", "plant.app.__main__", "plant.app"),
        ("/srv/plant/shop.py", "plant.shop", "shop"),
        ("/usr/bin/uvicorn", None, "uvicorn"),
        ("-c", None, "python"),
        ("", None, "python"),
    ],
)
def test_the_name_of_the_program(monkeypatch: pytest.MonkeyPatch, argument: str, spec: str | None, name: str) -> None:
    """A script, a package, a module or a command."""
    main = ModuleType("__main__")
    if spec is not None:
        from importlib.machinery import ModuleSpec

        main.__spec__ = ModuleSpec(spec, None)
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(sys, "argv", [argument])
    assert program_name() == name
    assert EventBusClient(BaseEvent[MyEventType], transport=MemoryTransport()).name == name
