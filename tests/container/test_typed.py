"""`event_bus`: a bus in a container whose client has a type, for type checkers and when it runs."""

import copy
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, assert_type

import pytest
from dependency_injector import containers, providers
from pydantic import Field, TypeAdapter

from eventbus import BaseEvent, BaseEventTopic, EventBusClient, EventBusProxy, InvalidEvent, InvalidTopic, on
from eventbus.container import EventBusContainer, event_bus, lifespan
from eventbus.settings import EventBusSettings
from eventbus.transports.contract import Transport
from eventbus.transports.memory import MemoryTransport
from tests.container.support import STARTED, TOPIC, UPDATED, Listener
from tests.support import Bus, MyEvent, MyEventTopic, MyEventType, event, eventually

ROOT = Path(__file__).parents[2]


class MyClient(EventBusClient[MyEvent, MyEventType, MyEventTopic]):
    """A service's own client."""

    def say(self, value: float) -> None:
        self.emit_event(event(value), TOPIC)


class App(containers.DeclarativeContainer):
    bus = event_bus(Bus)
    listener = providers.Singleton(Listener, bus=bus.client)


class OwnApp(containers.DeclarativeContainer):
    bus = event_bus(MyClient)
    listener = providers.Singleton(Listener, bus=bus.client)


def test_the_client_has_a_type(at_proxy: EventBusProxy) -> None:
    """A type checker takes `app.bus.client()` for the client, with its methods; the event class is that of the client."""
    with lifespan(App()) as app:
        client = app.bus.client()
        assert_type(client, EventBusClient[MyEvent, MyEventType, MyEventTopic])
        assert_type(client.recv_event(0), MyEvent | None)
        client.emit_event(event(1), TOPIC)
        eventually(lambda: app.listener().values == [1])


def test_a_client_of_the_service_s_own(at_proxy: EventBusProxy) -> None:
    """A derived client keeps its class."""
    with lifespan(OwnApp()) as app:
        assert_type(app.bus.client(), MyClient)
        assert type(app.bus.client()) is MyClient
        app.bus.client().say(2)
        eventually(lambda: app.listener().values == [2])


def test_topics_of_another_enum(at_proxy: EventBusProxy) -> None:
    """The client knows the enum of its topics, as one that is made with type arguments does."""

    class Other(BaseEventTopic):
        my_service = "my_service"

    with lifespan(App()) as app, pytest.raises(InvalidTopic, match="Other"):
        app.bus.client().emit_event(event(1), Other.my_service)  # type: ignore[arg-type] # what is wrong here


def test_the_other_providers_have_types() -> None:
    """An override in tests has a type as well."""
    app = App()
    assert_type(app.bus.settings, providers.Provider[EventBusSettings])
    assert_type(app.bus.transport, providers.Provider[Transport | None])
    with app.bus.transport.override(MemoryTransport()), lifespan(app):
        app.bus.client().emit_event(event(3), TOPIC)
        eventually(lambda: app.listener().values == [3])


def test_an_object_where_a_provider_belongs() -> None:
    """It is taken as it is; dependency_injector would copy it, which a transport does not let itself."""
    transport = MemoryTransport()

    class Plain(containers.DeclarativeContainer):
        bus = event_bus(Bus, transport=transport)  # type: ignore[arg-type] # what is wrong here

    with lifespan(Plain()) as app:
        assert app.bus.transport() is transport
        assert app.bus.client()._transport is transport


def test_providers_of_the_service_s_own(at_proxy: EventBusProxy) -> None:
    """Providers are given by name, as to providers.Container."""

    class Own(containers.DeclarativeContainer):
        bus = event_bus(Bus, settings=providers.Factory(EventBusSettings, topics=["other"]))

    with lifespan(Own()) as app:
        assert app.bus.client().topics == {"other"}


class Reading(BaseEvent[MyEventType]):
    type: Literal[MyEventType.updated] = MyEventType.updated
    value: float


class Begin(BaseEvent[MyEventType]):
    type: Literal[MyEventType.started] = MyEventType.started
    name: str


type Either = Reading | Begin
UnionBus = EventBusClient[Reading | Begin, MyEventType, MyEventTopic]
AliasBus = EventBusClient[Either, MyEventType, MyEventTopic]
DISCRIMINATED: TypeAdapter[Reading | Begin] = TypeAdapter(Annotated[Reading | Begin, Field(discriminator="type")])


class UnionListener:
    def __init__(self) -> None:
        self.got: list[Reading | Begin] = []

    @on(UPDATED, topic=TOPIC)
    def read(self, event: Reading) -> None:
        self.got.append(event)

    @on(STARTED, topic=TOPIC)
    def begin(self, event: Begin) -> None:
        self.got.append(event)


@pytest.mark.parametrize(
    "make",
    [lambda: event_bus(UnionBus), lambda: event_bus(AliasBus), lambda: event_bus(UnionBus, event_class=DISCRIMINATED)],
    ids=["union", "alias of a union", "adapter"],
)
def test_a_union(at_proxy: EventBusProxy, make: Callable[[], Any]) -> None:
    """A union in the type arguments is the event class; an adapter of one can be given."""

    class UnionApp(containers.DeclarativeContainer):
        bus = make()
        listener = providers.Singleton(UnionListener)

    with lifespan(UnionApp()) as app:
        app.bus.client().emit_event(Begin(name="pump"), TOPIC)
        app.bus.client().emit_event(Reading(value=4), TOPIC)
        eventually(lambda: app.listener().got == [Begin(name="pump"), Reading(value=4)])


type LazyBus = EventBusClient[MyEvent, MyEventType, MyEventTopic]


def test_where_the_event_class_comes_from() -> None:
    """It is found in a class derived over several steps and in an alias by `type`; without one the error says what to do."""

    class Deeper(MyClient):
        pass

    lazy: Any = LazyBus  # which type checkers do not take for a class
    for client_class in (Deeper, lazy):
        assert event_bus(client_class).event_class() is MyEvent
    assert event_bus(EventBusClient, event_class=MyEvent).event_class() is MyEvent
    with pytest.raises(InvalidEvent, match="names no event class: use EventBusClient"):
        event_bus(EventBusClient)


def test_it_is_a_provider_of_the_container() -> None:
    """A copy, as dependency_injector makes one for each instance of a container, stays what it is."""
    bus = event_bus(Bus)
    assert isinstance(copy.deepcopy(bus), type(bus))
    assert App().bus.container.declarative_parent is EventBusContainer


if TYPE_CHECKING:

    def refused(app: App, own: OwnApp) -> None:
        app.bus.client().emit_event("nonsense", TOPIC)  # type: ignore[arg-type] # a str is no event
        app.bus.client().emit_event(MyEventType.started, "nowhere")  # type: ignore[arg-type] # a str is no topic
        app.bus.client().nonsense()  # type: ignore[attr-defined] # there is no such method
        own.bus.client().say("nonsense")  # type: ignore[arg-type] # a str is no number
        event_bus(int)  # type: ignore[type-var] # an int is no client


README_PATTERN = """
from enum import auto
from typing import assert_type

from dependency_injector import containers, providers

from eventbus import BaseEvent, BaseEventTopic, BaseEventType, EventBusClient, on
from eventbus.container import event_bus, lifespan


class MyEventType(BaseEventType):
    started = auto()


class MyEventTopic(BaseEventTopic):
    my_service = auto()


class MyEvent(BaseEvent[MyEventType]):
    value: float = 0.0


MyBus = EventBusClient[MyEvent, MyEventType, MyEventTopic]


class Thermostat:
    def __init__(self, bus: MyBus) -> None:
        self.bus = bus

    @on(MyEventType.started, topic=MyEventTopic.my_service)
    def handle_started(self, event: MyEvent) -> None:
        print("started", event.value)


class App(containers.DeclarativeContainer):
    bus = event_bus(MyBus)
    thermostat = providers.Singleton(Thermostat, bus=bus.client)


with lifespan(App()) as app:
    assert_type(app.bus.client(), EventBusClient[MyEvent, MyEventType, MyEventTopic])
    assert_type(app.thermostat(), Thermostat)
    app.bus.client().emit_event(MyEventType.started, topic=MyEventTopic.my_service)
"""
NONSENSE = '    app.bus.client().emit_event("nonsense", topic=MyEventTopic.my_service)\n'


@pytest.mark.process
@pytest.mark.timeout(180)  # without a cache they read the types of all dependencies
@pytest.mark.parametrize("mode", ["standard", "strict"])
def test_pyright_has_nothing_to_say(tmp_path: Path, mode: str) -> None:
    """pyright accepts the README's pattern, in both modes, and refuses nonsense."""
    pytest.importorskip("basedpyright", reason="it is installed with the linters")
    write_both(tmp_path)
    options = {"typeCheckingMode": mode, "extraPaths": [str(ROOT)], "include": ["."]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(options))
    said = run_checker("basedpyright", "--pythonpath", sys.executable, "--project", tmp_path)
    assert re.findall(r"(\w+\.py):\d+:\d+ - (\w+):", said) == [("bad.py", "error")], said
    assert "reportArgumentType" in said


@pytest.mark.process
@pytest.mark.timeout(180)
def test_mypy_has_nothing_to_say(tmp_path: Path) -> None:
    """mypy --strict accepts the README's pattern, and refuses nonsense."""
    pytest.importorskip("mypy", reason="it is installed with the linters")
    write_both(tmp_path)
    cache = ROOT / ".mypy_cache" / "docs"
    said = run_checker("mypy", "--strict", "--config-file", "", "--cache-dir", cache, tmp_path)
    assert re.findall(r"(good|bad)\.py:\d+: (\w+):.*\[([\w-]+)\]", said) == [("bad", "error", "arg-type")], said


def write_both(folder: Path) -> None:
    """Write what is right, and the same with a line that is wrong."""
    (folder / "good.py").write_text(README_PATTERN)
    (folder / "bad.py").write_text(README_PATTERN + NONSENSE)


def run_checker(*command: object) -> str:
    """The output of a type checker, in the folder of this project."""
    arguments = [sys.executable, "-m", *map(str, command)]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=170, check=False)
    return done.stdout + done.stderr
