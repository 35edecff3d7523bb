"""Generated documents: graph, AsyncAPI, frozen schemas, and a container that runs as a program."""

import json
import re
import signal
import subprocess
from collections.abc import Callable
from enum import auto
from math import inf
from pathlib import Path
from typing import Annotated, Any, Literal
from xml.etree import ElementTree

import jsonschema
import pytest
import yaml  # type: ignore[import-untyped] # its types are a distribution of their own
from dependency_injector import containers, providers
from pydantic import BaseModel, Field, create_model

from eventbus import BaseEvent, BaseEventTopic, BaseEventType, EventBusClient, EventBusProxy, answers, on
from eventbus.cli.asyncapi import as_json, as_yaml, document
from eventbus.cli.graph import edges, mermaid, svg
from eventbus.cli.schema_changes import refusals
from eventbus.cli.schemas import schemas_of
from eventbus.container import event_bus
from eventbus.container.description import Flow, describe
from eventbus.container.emissions import emissions_of
from eventbus.errors import InvalidSettings
from tests.commands import Run, Start, complaint, ports, said
from tests.support import PATIENCE, eventually

APP = """
from enum import auto
from dependency_injector import containers, providers
from eventbus import BaseEvent, BaseEventTopic, BaseEventType, EventBusClient, on
from eventbus.container import Service, event_bus

class PlantEventType(BaseEventType):
    measured = auto()
    heating = auto()

class PlantTopic(BaseEventTopic):
    plant = auto()

class PlantEvent(BaseEvent[PlantEventType]):
    value: float = 0.0

PlantBus = EventBusClient[PlantEvent, PlantEventType, PlantTopic]

class Thermostat(Service[PlantEvent, PlantEventType, PlantTopic]):
    @on(PlantEventType.measured, topic=PlantTopic.plant)
    def handle_measured(self, event: PlantEvent) -> None:
        print("measured", event.value, flush=True)

    def run(self) -> None:
        print("running", flush=True)
        self.pause(60)

class App(containers.DeclarativeContainer):
    bus = event_bus(PlantBus)
    thermostat = providers.Singleton(Thermostat, bus=bus.client)
"""


class PlantEventType(BaseEventType):
    measured = auto()
    heating = auto()
    wanted = auto()


class PlantTopic(BaseEventTopic):
    plant = auto()
    control = auto()


class Hall(BaseModel):
    kind: Literal["hall"] = "hall"
    number: int


class Yard(BaseModel):
    kind: Literal["yard"] = "yard"


class Measured(BaseEvent[PlantEventType]):
    """A measurement."""

    type: Literal[PlantEventType.measured] = PlantEventType.measured
    value: float
    place: Annotated[Hall | Yard, Field(discriminator="kind")] = Yard()


class Heating(BaseEvent[PlantEventType]):
    type: Literal[PlantEventType.heating] = PlantEventType.heating
    by: dict[str, tuple[int, float]] = Field(default_factory=dict)


class Wanted(BaseEvent[PlantEventType]):
    type: Literal[PlantEventType.wanted] = PlantEventType.wanted


PlantBus = EventBusClient[Measured | Heating | Wanted, PlantEventType, PlantTopic]


class Sensor:
    def __init__(self, bus: Any) -> None:
        self.bus = bus

    def measure(self, topic: PlantTopic) -> None:
        self.bus.emit_event(Measured(value=1.0), PlantTopic.plant)
        event = Heating()
        self.bus.emit_events([event], topic=PlantTopic.control)
        self.bus.emit_event(event, topic)
        self.bus.request(PlantEventType.wanted, PlantTopic.plant, float)


class Heater:
    @answers(PlantEventType.wanted, topic=PlantTopic.plant)
    def answer(self, event: Wanted) -> float:
        return 1.0

    @on(PlantEventType.heating, topic=PlantTopic.control)
    def heat(self, event: Heating) -> None:
        pass

    @on(Measured)
    def everywhere(self, event: Measured) -> None:
        pass


class Alarm:
    bus: Any

    async def tell(self) -> None:
        await self.bus.aemit_event(Heating(), PlantTopic.control)

    def later(self) -> Callable[[], None]:
        def act() -> None:
            self.bus.emit_event(PlantEventType.wanted, PlantTopic.plant)

        return act


class App(containers.DeclarativeContainer):
    bus = event_bus(PlantBus)
    sensor = providers.Singleton(Sensor, bus=bus.client)
    heater = providers.Singleton(Heater)


# Who emits and handles what


def test_a_container_describes_itself() -> None:
    """What stands in marks and in calls of the client is found without starting anything; a computed topic stays unknown."""
    found = describe(App())
    assert found.name == "App"
    assert [(bus.topics, set(bus.types)) for bus in found.buses] == [
        (("plant", "control"), {"measured", "heating", "wanted"})
    ]
    assert {component.name: (component.emits, component.handles) for component in found.components} == {
        "Sensor": (
            (
                Flow("plant", ("measured",), "measure"),
                Flow("control", ("heating",), "measure"),
                Flow(None, ("heating",), "measure"),
                Flow("plant", ("wanted",), "measure", answered=True),
            ),
            (),
        ),
        # A handler without a topic gets the events of all topics that the client subscribes to for other handlers.
        "Heater": (
            (),
            (
                Flow("plant", ("wanted",), "answer", answered=True),
                Flow("control", ("heating",), "heat"),
                Flow("plant", ("measured",), "everywhere"),
                Flow("control", ("measured",), "everywhere"),
            ),
        ),
    }


def test_what_a_class_emits() -> None:
    """Calls on an event loop count, and those in a function inside of a method are the method's."""
    assert emissions_of(Alarm) == [
        ("control", ("heating",), "tell", False),
        ("plant", ("wanted",), "later", False),
    ]


def test_the_graph_in_both_formats() -> None:
    """Each arrow of the description is in the text for Mermaid and in the picture, which is good XML."""
    found = describe(App())
    assert len(edges(found)) == 5
    text, picture = mermaid(found), svg(found)
    assert '    c0 -->|"measured, wanted (asks)"| t0' in text
    assert '    t0 -->|"wanted (answers), measured"| c1' in text
    assert '    t1 -->|"heating, measured"| c1' in text
    shown = [element.text for element in ElementTree.fromstring(picture).iter() if element.tag.endswith("}text")]
    assert {"App", "Sensor", "Heater", "plant", "control", "a topic that is computed", "heating, measured"} <= set(shown)


# AsyncAPI


def validate(content: object) -> None:
    schema = json.loads((Path(__file__).parent / "asyncapi" / "3.0.0.json").read_text())
    jsonschema.Draft7Validator(schema).validate(content)


def test_the_asyncapi_document() -> None:
    """It is valid by the specification's own schema, all references lead somewhere, and YAML says the same as JSON."""
    content = document(describe(App()), title='Plant: "A" #1', version="2.0")
    validate(content)
    assert json.loads(as_json(content)) == content == yaml.safe_load(as_yaml(content))
    assert content["channels"]["plant"]["address"] == "plant"  # type: ignore[index] # it is JSON
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', as_json(content)):
        part: Any = content
        for step in reference.split("/"):
            part = part[step]
    operations: Any = content["operations"]
    assert operations["Sensor.measure.send.plant"]["messages"] == [
        {"$ref": "#/channels/plant/messages/measured"},
        {"$ref": "#/channels/plant/messages/heating"},  # perhaps: its topic is computed
        {"$ref": "#/channels/plant/messages/wanted"},
    ]
    assert operations["Heater.answer.receive.plant"]["reply"] == {"address": {"location": "$message.header#/reply-to"}}
    assert operations["Heater.heat.receive.control"]["action"] == "receive"


def second_bus() -> Any:
    """The client of another bus, whose classes have the names of the first one's."""

    class PlantEventType(BaseEventType):
        measured = auto()

    class PlantTopic(BaseEventTopic):
        plant = auto()
        other = auto()

    class Measured(BaseEvent[PlantEventType]):
        pressure: float

    return EventBusClient[Measured, PlantEventType, PlantTopic]


class TwoBuses(App):
    other_bus = event_bus(second_bus())


def test_two_buses_with_the_same_names() -> None:
    """Types, topics and classes of one do not take the place of the other's, in AsyncAPI; files would have the same name."""
    content = document(describe(TwoBuses()))
    validate(content)
    components, text = content["components"], as_json(content)
    assert isinstance(components, dict)
    for kind, name in re.findall(r'"#/components/(\w+)/([^"]+)"', text):
        assert name in components[kind]
    of_measured = [message for message in components["messages"].values() if message["name"] == "measured"]
    schemas = [components["schemas"][each["payload"]["allOf"][0]["$ref"].rpartition("/")[2]] for each in of_measured]
    assert sum("pressure" in schema["properties"] for schema in schemas) == 1
    assert len(schemas) >= 2
    with pytest.raises(InvalidSettings, match="two event classes have the same name"):
        schemas_of(describe(TwoBuses()))


def test_the_schema_would_notice() -> None:
    """A document that breaks the specification is not valid."""
    content = document(describe(App()))
    with pytest.raises(jsonschema.ValidationError):
        validate(content | {"channels": {"plant": {"adress": "plant"}}})


# Schemas

SCHEMA: dict[str, Any] = {
    "$defs": {"Place": {"type": "object", "properties": {"hall": {"type": "integer"}}, "required": ["hall"]}},
    "type": "object",
    "properties": {
        "type": {"enum": ["measured"], "type": "string"},
        "value": {"type": "number", "minimum": 0},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "places": {"type": "array", "items": {"$ref": "#/$defs/Place"}},
    },
    "required": ["type", "value"],
}


def changed(*path: str, value: object = None) -> dict[str, Any]:
    """The schema with another value at a place; without that place if the value is None."""
    copy: dict[str, Any] = json.loads(json.dumps(SCHEMA))
    part = copy
    for step in path[:-1]:
        part = part[step]
    if value is None:
        del part[path[-1]]
    else:
        part[path[-1]] = value
    return copy


@pytest.mark.parametrize(
    ("now", "readers", "writers"),
    [
        (SCHEMA, [], []),
        (changed("properties", "note"), [], []),
        (changed("properties", "value"), ["value"], []),
        (changed("properties", "unit", value={"type": "string"}), [], []),
        (changed("required", value=["type", "value", "unit"]), [], ["unit"]),
        (changed("properties", "value", value={"type": "integer", "minimum": 0}), [], ["value"]),
        (changed("properties", "value", value={"type": "string"}), ["value"], ["value"]),
        (changed("properties", "value", value={"type": "number", "minimum": 1}), [], ["value"]),
        (changed("properties", "value", value={"type": "number"}), ["value"], []),
        (changed("properties", "note", value={"type": "string"}), [], ["note"]),
        (changed("properties", "type", value={"enum": ["measured", "heating"], "type": "string"}), ["type"], []),
        (changed("properties", "type", value={"enum": ["heating"], "type": "string"}), ["type"], ["type"]),
        (
            changed("$defs", "Place", "properties", "hall", value={"type": "string"}),
            ["places[].hall"] * 1,
            ["places[].hall"],
        ),
        (changed("additionalProperties", value=False), [], []),
    ],
)
def test_what_a_change_breaks(now: dict[str, Any], readers: list[str], writers: list[str]) -> None:
    """Older readers refuse what a new writer writes, new readers what older writers write: the fields are named."""
    assert [change.path for change in refusals(now, SCHEMA)] == readers
    assert [change.path for change in refusals(SCHEMA, now)] == writers


@pytest.mark.parametrize(
    ("writer", "reader", "paths"),
    [
        (Any, int, ["value"]),
        (list[Any], list[int], ["value[]"]),
        (dict[str, Any], dict[str, int], ["value.*"]),
        (dict[str, int | None], dict[str, int], ["value.*"]),
        (dict[str, int], dict[str, Any], []),
        (Hall, dict[str, int], ["value.kind"]),
        (dict[str, str], dict[str, str], []),
    ],
)
def test_what_becomes_narrower_breaks(writer: Any, reader: Any, paths: list[str]) -> None:
    """A reader that accepted anything and now wants something is refused, also within lists and dictionaries."""
    schemas = [create_model("Event", value=(kind, ...)).model_json_schema() for kind in (writer, reader)]
    assert [change.path for change in refusals(*schemas)] == paths


@pytest.mark.parametrize(
    ("written", "read", "is_read"),
    [
        (Annotated[int, Field(gt=0)], Annotated[int, Field(ge=1)], True),
        (Annotated[int, Field(ge=1)], Annotated[int, Field(gt=0)], True),
        (Annotated[int, Field(ge=1)], Annotated[float, Field(gt=0.5)], True),
        (Annotated[int, Field(lt=10)], Annotated[int, Field(le=9)], True),
        (Annotated[int, Field(lt=10)], Annotated[int, Field(le=8)], False),
        (Annotated[float, Field(gt=0)], Annotated[float, Field(ge=0)], True),
        (Annotated[float, Field(gt=0)], Annotated[float, Field(ge=1)], False),
        (Annotated[float, Field(ge=0)], Annotated[float, Field(gt=0)], False),
        (int, Annotated[int, Field(ge=0)], False),
        (float, Annotated[float, Field(le=inf)], True),
        (str, Annotated[str, Field(min_length=0)], True),
        (str, Annotated[str, Field(max_length=9)], False),
    ],
)
def test_bounds_that_say_the_same(written: Any, read: Any, is_read: bool) -> None:
    """Bounds are compared by what they let through: an integer above 0 is at least 1."""
    schemas = [create_model("Event", value=(kind, ...)).model_json_schema() for kind in (written, read)]
    assert (refusals(*schemas) == []) is is_read


def test_recursive_schemas_end() -> None:
    """A model that contains itself is compared once."""
    schema = {
        "$defs": {"Node": {"type": "object", "properties": {"inner": {"$ref": "#/$defs/Node"}, "x": {"type": "integer"}}}},
        "$ref": "#/$defs/Node",
    }
    assert refusals(schema, schema) == []


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path / "app.py"


@pytest.mark.process
def test_frozen_schemas(run_process: Run, app: Path) -> None:
    """What `freeze` has written, `check` compares: a compatible change is good, a new type is told, a broken field fails."""
    assert run_process("schema", "freeze", "app:App").stdout == "wrote schemas/PlantEvent.json\n"
    assert run_process("schema", "check", "app:App").stdout == "same    PlantEvent\n"

    app.write_text(APP.replace("heating = auto()", "heating = auto()\n    cooling = auto()"))
    done = run_process("schema", "check", "app:App")
    assert (done.returncode, done.stdout.split()[:2]) == (0, ["note", "PlantEvent.type:"])

    app.write_text(APP.replace("value: float = 0.0", "value: str"))
    done = run_process("schema", "check", "app:App")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines() == [
        "BREAKS  PlantEvent.value: older readers: string may be written, and number is read",
        "BREAKS  PlantEvent.value: older writers: number may be written, and string is read",
    ]


def test_nothing_is_frozen_yet(run: Run, app: Path) -> None:
    """The remedy is told."""
    assert "eventbus schema freeze" in complaint(run("schema", "check", "eventbus.container.demo:WatcherApp"), 2)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("app", "'app' names no container: write module:name, such as app:App"),
        ("nowhere.app:App", "there is no module 'nowhere.app' in "),
        ("../app:App", "there is no module '../app' in "),
        (".nowhere:App", "there is no module '.nowhere' in "),
        (
            "eventbus.container.demo:App",
            "there is no eventbus.container.demo:App: did you mean eventbus.container.demo:SensorApp?",
        ),
        ("eventbus.container.demo:INTERVAL_S", "eventbus.container.demo:INTERVAL_S is no container"),
        ("eventbus.container.demo:Sensor", "eventbus.container.demo:Sensor is no container: it is the class Sensor"),
        (
            "eventbus.container.demo:HostBus",
            "eventbus.container.demo:HostBus is no container: it is the class EventBusClient",
        ),
        (
            "eventbus.container:run",
            "eventbus.container:run is no container, and cannot be called without arguments: missing",
        ),
    ],
)
def test_what_is_no_container(run: Run, name: str, text: str) -> None:
    """A name that leads nowhere is told in one line, with one that would be right if there is one."""
    for command in ("graph", "run"):
        assert complaint(run(command, name), 2).startswith(text)


@pytest.mark.parametrize("name", ["nowhere/app.py:App", "./nowhere/app.py:App", "nowhere/app:App", "nowhere.app.py:App"])
def test_a_file_is_no_module(run: Run, name: str) -> None:
    """Who names a file is told the name of its module."""
    assert complaint(run("graph", name), 2).endswith(": did you mean nowhere.app:App?")


# A container as a program


@pytest.mark.process
def test_a_container_runs_as_a_program(start: Start, run: Run, app: Path, proxy: EventBusProxy) -> None:
    """`run app:App` finds it in the current folder, runs its services and handlers, and ends at SIGTERM with status 0.

    The module is the program's name, because several such programs are told apart by it.
    """
    app.write_text(APP.replace('print("running"', 'print("running", self.bus.name'))
    where = {"EVENTBUS_PUB_PORT": str(proxy.pub_port), "EVENTBUS_SUB_PORT": str(proxy.sub_port)}
    with start("run", "app:App", **where) as process:
        lines = lines_from(process)
        lines("running app")
        assert run("emit", "plant", '{"type": "measured", "value": 2}', *ports(proxy)).returncode == 0
        lines("measured 2.0")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        assert "Traceback" not in said(process)


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_container_that_is_reloaded(start: Start, app: Path, proxy: EventBusProxy, number: signal.Signals) -> None:
    """With --reload it starts again when a file changes, also after an error, and ends with what it has started."""
    where = {"EVENTBUS_PUB_PORT": str(proxy.pub_port), "EVENTBUS_SUB_PORT": str(proxy.sub_port)}
    with start("run", "--reload", "app:App", **where) as process:
        lines = lines_from(process)
        lines("running")
        app.write_text("this is no Python\n")
        app.write_text(APP.replace('"running"', '"running again"'))
        lines("running again")
        process.send_signal(number)
        assert process.wait(PATIENCE) == 0
        assert "app.py has changed: starting app:App again" in said(process)


def lines_from(process: "subprocess.Popen[str]") -> Callable[[str], None]:
    """Waits for a line of a process's output."""
    assert process.stdout is not None
    output = process.stdout

    def wait_for(line: str) -> None:
        eventually(lambda: output.readline() == f"{line}\n", PATIENCE)

    return wait_for
