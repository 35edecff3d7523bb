"""`EventBusContainer` in a service's container: settings, client, proxy, and everything that can be overridden."""

import logging
import resource
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Literal, assert_type

import pytest
from dependency_injector import containers, providers
from pydantic import TypeAdapter

from eventbus import (
    BaseEvent,
    ClientState,
    DescriptorsExhausted,
    DropReason,
    EventBusClient,
    EventBusProxy,
    InvalidHandler,
    InvalidSettings,
    InvalidTopic,
    NotConnected,
    ProxyUnreachable,
    StateChange,
    on,
)
from eventbus.container import EventBusContainer, lifespan
from eventbus.settings import EventBusSettings
from eventbus.transports.memory import MemoryHub, MemoryTransport
from tests.container.support import OTHER, STARTED, TOPIC, UPDATED, App, Listener, consumers, free_ports, leaving_nothing
from tests.faults import zmtp
from tests.support import PATIENCE, Bus, MyEvent, MyEventTopic, MyEventType, client_of, event, eventually, run_threads

ROOT = Path(__file__).parents[2]


class Sender:
    """A service that only emits."""

    def __init__(self, bus: EventBusClient[MyEvent, MyEventType, MyEventTopic]) -> None:
        self.bus = bus

    def send(self, value: float) -> None:
        self.bus.emit_event(event(value), TOPIC)


class SenderApp(containers.DeclarativeContainer):
    bus = providers.Container(EventBusContainer, event_class=MyEvent)
    sender = providers.Singleton(Sender, bus=bus.client)


class MyClient(EventBusClient[MyEvent, MyEventType, MyEventTopic]):
    """A service's own client."""

    def say(self, value: float) -> None:
        """Emit an update."""
        self.emit_event(event(value), MyEventTopic.my_service)


def test_an_event_goes_from_one_service_to_another(at_proxy: EventBusProxy) -> None:
    """A service is a container with the bus, a client injected into a constructor, and methods marked with @on."""
    with leaving_nothing(), lifespan(SenderApp()) as sending, lifespan(App()) as listening:
        sending.sender().send(1)
        sending.sender().send(2)
        eventually(lambda: listening.listener().values == [1, 2])


def test_the_container_is_typed() -> None:
    """`lifespan` hands on the container that it was given, as its own class."""
    with lifespan(containers.DynamicContainer()) as dynamic:
        assert_type(dynamic, containers.DynamicContainer)


def test_what_is_injected_is_the_connected_client(at_proxy: EventBusProxy) -> None:
    """`bus.client` provides one client for the whole container: connected inside, closed after."""
    with lifespan(App()) as app:
        client = app.listener().bus
        assert isinstance(client, EventBusClient)
        assert client is app.bus.client()
        assert client.is_connected()
    assert not client.is_connected()
    with pytest.raises(NotConnected):
        client.emit_event(event(), TOPIC)


def test_every_setting_reaches_the_client(at_proxy: EventBusProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of buffers, timeouts and packing are those of the client: a small one is felt."""
    monkeypatch.setenv("EVENTBUS_RECEIVE_BUFFER", "2")
    monkeypatch.setenv("EVENTBUS_RECEIVE_POLICY", "drop_newest")
    monkeypatch.setenv("EVENTBUS_TOPICS", "other")
    with lifespan(SenderApp()) as app:
        client = app.bus.client()
        for number in range(5):
            client.emit_event(event(number), OTHER)
        eventually(lambda: client.stats().received == 5 and client.stats().drops == {DropReason.UNREAD: 3})
        assert [client.recv_event().value, client.recv_event().value] == [3, 4]
        for number in range(5, 10):
            client.emit_event(event(number), OTHER)
        eventually(lambda: client.stats().drops == {DropReason.UNREAD: 3, DropReason.RECEIVE_BUFFER: 3})
        assert client.stats().received == 10
        assert [client.recv_event().value, client.recv_event().value] == [5, 6]


def test_topics_from_the_environment(at_proxy: EventBusProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """EVENTBUS_TOPICS subscribes from the start, without any handler; the buffer receives, other topics do not come."""
    monkeypatch.setenv("EVENTBUS_TOPICS", "my_service,other")
    with lifespan(SenderApp()) as app:
        client = app.bus.client()
        assert client.topics == {"my_service", "other"}
        client.emit_event(event(1), MyEventTopic.my_service_scheduler)
        client.emit_event(event(2), TOPIC)
        client.emit_event(event(3), OTHER)
        assert [client.recv_event(20).value, client.recv_event(20).value] == [2, 3]


def test_topics_narrow_handlers_without_one(at_proxy: EventBusProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """With EVENTBUS_TOPICS, a handler without a topic hears those topics; it does not open the service to all."""
    monkeypatch.setenv("EVENTBUS_TOPICS", "other")

    class Everything(Listener):
        @on(UPDATED)
        def keep(self, event: MyEvent) -> None:
            self.values.append(event.value)

    class EverythingApp(containers.DeclarativeContainer):
        bus = providers.Container(EventBusContainer, event_class=MyEvent)
        listener = providers.Singleton(Everything, bus=bus.client)

    with lifespan(EverythingApp()) as app:
        assert app.bus.client().topics == {"other"}
        app.bus.client().emit_event(event(1), TOPIC)
        app.bus.client().emit_event(event(2), OTHER)
        eventually(lambda: app.listener().values == [2])


def test_a_bad_variable_stops_the_start(at_proxy: EventBusProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad variable raises InvalidSettings from the start, not from making or importing the container."""
    monkeypatch.setenv("EVENTBUS_LINGR", "1")
    app = App()
    with leaving_nothing(), pytest.raises(InvalidSettings, match="EVENTBUS_LINGER"), lifespan(app):
        raise AssertionError("it must not start")


def test_the_event_class_has_to_be_given(at_proxy: EventBusProxy) -> None:
    """A bus without an event class does not start, and the error names what lacks."""

    class Forgetful(containers.DeclarativeContainer):
        bus = providers.Container(EventBusContainer)

    with leaving_nothing(), pytest.raises(Exception, match="event_class"), lifespan(Forgetful()):
        raise AssertionError("it must not start")


def test_disabled(monkeypatch: pytest.MonkeyPatch, dead_ports: tuple[int, int]) -> None:
    """With EVENTBUS_ENABLED=false the same service runs without a proxy, opens nothing, and its calls do nothing."""
    monkeypatch.setenv("EVENTBUS_ENABLED", "false")
    monkeypatch.setenv("EVENTBUS_EMBEDDED_PROXY", "true")
    monkeypatch.setenv("EVENTBUS_PUB_PORT", str(dead_ports[0]))
    monkeypatch.setenv("EVENTBUS_SUB_PORT", str(dead_ports[1]))
    with leaving_nothing():
        with leaving_nothing():
            app = App()
            app.init_resources()
        app.listener().bus.emit_event(event(1), TOPIC)
        assert app.listener().bus.recv_event(0) is None
        assert app.listener().values == []
        app.shutdown_resources()


def test_disabled_still_checks_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bus that is switched off does not hide a handler that could never be called."""
    monkeypatch.setenv("EVENTBUS_ENABLED", "false")

    class Wrong:
        @on(UPDATED)
        def handle(self) -> None: ...

    class WrongApp(containers.DeclarativeContainer):
        bus = providers.Container(EventBusContainer, event_class=MyEvent)
        wrong = providers.Singleton(Wrong)

    with pytest.raises(TypeError, match=r"Wrong\.handle"), lifespan(WrongApp()):
        raise AssertionError("it must not start")


def test_no_proxy(monkeypatch: pytest.MonkeyPatch, dead_ports: tuple[int, int]) -> None:
    """Without a proxy the start raises ProxyUnreachable with both endpoints, and leaves nothing open."""
    monkeypatch.setenv("EVENTBUS_HOST", "127.0.0.1")
    monkeypatch.setenv("EVENTBUS_PUB_PORT", str(dead_ports[0]))
    monkeypatch.setenv("EVENTBUS_SUB_PORT", str(dead_ports[1]))
    monkeypatch.setenv("EVENTBUS_CONNECT_TIMEOUT", "0.2")
    with leaving_nothing(), pytest.raises(ProxyUnreachable) as caught, lifespan(App()):
        raise AssertionError("it must not start")
    for port in dead_ports:
        assert f"127.0.0.1:{port}" in str(caught.value)


# The embedded proxy


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """The variables ask for an embedded proxy, on free ports that nobody listens on."""
    pub_port, sub_port = free_ports()
    monkeypatch.setenv("EVENTBUS_EMBEDDED_PROXY", "true")
    monkeypatch.setenv("EVENTBUS_PUB_PORT", str(pub_port))
    monkeypatch.setenv("EVENTBUS_SUB_PORT", str(sub_port))
    monkeypatch.setenv("EVENTBUS_CONNECT_TIMEOUT", "20")
    return pub_port, sub_port


def test_an_embedded_proxy_is_started_if_none_runs(embedded: tuple[int, int]) -> None:
    """The first service with EVENTBUS_EMBEDDED_PROXY=true runs the proxy, for others too, until it stops."""
    with leaving_nothing(), lifespan(App()) as app, Bus(MyEvent, "127.0.0.1", *embedded) as other:
        other.emit_event(event(1), TOPIC)
        eventually(lambda: app.listener().values == [1])


def test_the_running_proxy_is_used(embedded: tuple[int, int]) -> None:
    """If a proxy runs already, a service with EVENTBUS_EMBEDDED_PROXY=true uses that one, and leaves it running."""
    with EventBusProxy("127.0.0.1", *embedded) as proxy, client_of(proxy) as other:
        with leaving_nothing(), lifespan(App()) as app:
            other.emit_event(event(1), TOPIC)
            eventually(lambda: app.listener().values == [1])
        assert proxy.is_running()
        other.connect()  # the path is as good as before


def test_services_that_start_at_once_share_one_proxy(embedded: tuple[int, int]) -> None:
    """One of several services that start at the same moment runs the proxy, and all of them hear each other."""
    apps = [App() for _ in range(3)]
    with leaving_nothing():
        try:
            run_threads(3, lambda number: apps[number].init_resources())
            for number, app in enumerate(apps):
                app.bus.client().emit_event(event(number), TOPIC)
            eventually(lambda: all(sorted(app.listener().values) == [0, 1, 2] for app in apps))
        finally:
            for app in apps:
                app.shutdown_resources()


@pytest.mark.patience
def test_another_service_takes_the_proxy_over(embedded: tuple[int, int], caplog: pytest.LogCaptureFixture) -> None:
    """When the service that runs the proxy ends, one of the others runs it, for all; and so on to the last one."""
    caplog.set_level(logging.INFO, "eventbus")
    with leaving_nothing(), ExitStack() as stack:
        apps = [App() for _ in range(4)]
        running = [stack.enter_context(ExitStack()) for _ in apps]
        for app, block in zip(apps, running, strict=True):
            block.enter_context(lifespan(app))
        for number in range(3):
            running[number].close()
            left = apps[number + 1 :]
            for app in left:
                app.bus.client().wait_ready(PATIENCE)

            def arrives(number: int = number, left: list[App] = left) -> bool:  # a state may be older than the proxy's end
                left[0].bus.client().emit_event(event(number), TOPIC)
                return all(app.listener().values[-1:] == [number] for app in left)

            eventually(arrives, PATIENCE)
            # Whether it was the owner that ended now depends on who was faster.
        took_over = [record for record in caplog.records if record.getMessage().startswith("took over the embedded proxy")]
        assert 1 <= len(took_over) <= 3


OWNER = """
from dependency_injector import containers, providers
from eventbus.container import EventBusContainer, lifespan
from tests.support import MyEvent

class App(containers.DeclarativeContainer):
    bus = providers.Container(EventBusContainer, event_class=MyEvent)

with lifespan(App()):
    print("ready", flush=True)
    input()
"""


@pytest.mark.process
def test_a_killed_service_is_replaced(embedded: tuple[int, int]) -> None:
    """The same when the process that runs the proxy is killed: events that are emitted afterwards arrive."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        try:
            assert owner.stdout is not None
            assert owner.stdout.readline() == "ready\n"
            with leaving_nothing(), lifespan(App()) as app:
                client = app.bus.client()
                owner.kill()
                eventually(lambda: client.state is not ClientState.READY)
                client.wait_ready(PATIENCE)
                with Bus(MyEvent, "127.0.0.1", *embedded) as other:
                    other.emit_event(event(1), TOPIC)
                    eventually(lambda: app.listener().values == [1])
        finally:
            owner.kill()


@pytest.mark.patience
def test_a_service_that_starts_while_the_proxy_ends(embedded: tuple[int, int]) -> None:
    """A service that finds the ports taken, and then free, runs the proxy while it connects."""
    taken = socket.create_server(("127.0.0.1", embedded[0]))

    def let_go(change: StateChange) -> None:
        taken.close()

    app = App()
    app.bus.client_class.override(partial(Notified, notify=let_go))
    with taken, leaving_nothing(), lifespan(app):
        app.bus.client().emit_event(event(1), TOPIC)
        eventually(lambda: app.listener().values == [1])


class Notified(Bus):
    """A client that tells of its first state."""

    def __init__(self, *arguments: Any, notify: Callable[[StateChange], None], **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.on_state_change(notify)


def test_a_taken_port_without_a_proxy(embedded: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """If something else has the port, connecting says that no proxy answers, and nothing is left open."""
    monkeypatch.setenv("EVENTBUS_CONNECT_TIMEOUT", "0.3")
    taken = socket.create_server(("127.0.0.1", embedded[1]))
    with taken, leaving_nothing(), pytest.raises(ProxyUnreachable), lifespan(App()):
        raise AssertionError("it must not start")


@pytest.mark.parametrize("host", ["192.0.2.1", "nowhere.invalid"])
def test_no_proxy_is_embedded_elsewhere(host: str, embedded: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy can be embedded on this machine only: another host raises InvalidSettings that names it."""
    monkeypatch.setenv("EVENTBUS_HOST", host)
    with leaving_nothing(), pytest.raises(InvalidSettings, match=f"EVENTBUS_EMBEDDED_PROXY.*{host}"), lifespan(App()):
        raise AssertionError("it must not start")


@pytest.mark.parametrize("variable", ["EVENTBUS_PUB_PORT", "EVENTBUS_SUB_PORT"])
def test_an_embedded_proxy_needs_known_ports(
    variable: str, embedded: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Port 0 would be any free one, which no client could know: InvalidSettings."""
    monkeypatch.setenv(variable, "0")
    with leaving_nothing(), pytest.raises(InvalidSettings, match="EVENTBUS_EMBEDDED_PROXY"), lifespan(App()):
        raise AssertionError("it must not start")


def test_an_embedded_proxy_refuses_what_is_too_large(embedded: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """EVENTBUS_MAX_EVENT_BYTES is the limit of the embedded proxy too: a peer that announces more is disconnected."""
    monkeypatch.setenv("EVENTBUS_MAX_EVENT_BYTES", "2000")
    with lifespan(App()), zmtp.peer(embedded[0], b"PUB") as connection:
        connection.sendall(zmtp.announcement(2_001))
        zmtp.await_end(connection)


def test_an_embedded_proxy_without_descriptors(embedded: tuple[int, int]) -> None:
    """If too few descriptors are left for it, the start says so: not that the host is wrong."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with leaving_nothing():
        resource.setrlimit(resource.RLIMIT_NOFILE, (12, hard))
        try:
            with pytest.raises(DescriptorsExhausted), lifespan(App()):
                raise AssertionError("it must not start")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# Overriding


def test_overriding_the_transport() -> None:
    """In tests, apps with MemoryTransports of one hub hear each other without a proxy and without sockets."""
    hub = MemoryHub()
    sending, listening = SenderApp(), App()
    sending.bus.transport.override(MemoryTransport(hub))
    listening.bus.transport.override(MemoryTransport(hub))
    with leaving_nothing(), lifespan(sending), lifespan(listening):
        sending.sender().send(1)
        eventually(lambda: listening.listener().values == [1])


def test_overriding_the_transport_by_a_provider() -> None:
    """The transport may be any provider, also where the bus is declared; each container then makes its own."""
    hub = MemoryHub()

    class InMemory(containers.DeclarativeContainer):
        bus = providers.Container(
            EventBusContainer, event_class=MyEvent, transport=providers.Singleton(MemoryTransport, providers.Object(hub))
        )
        listener = providers.Singleton(Listener, bus=bus.client)

    # An app is a copy of its class, and so is what providers.Object holds: the two have hubs of their own here.
    with lifespan(InMemory()) as app:
        app.bus.client().emit_event(event(1), TOPIC)
        eventually(lambda: app.listener().values == [1])


def test_overriding_the_settings(proxy: EventBusProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings with arguments take the place of those from the environment, which is then not read."""
    monkeypatch.setenv("EVENTBUS_HOST", "nowhere.invalid")
    settings = EventBusSettings(host="127.0.0.1", pub_port=proxy.pub_port, sub_port=proxy.sub_port)
    monkeypatch.setenv("EVENTBUS_NONSENSE", "1")
    app = App()
    app.bus.settings.override(settings)
    with lifespan(app):
        assert app.bus.settings() is settings
        app.bus.client().emit_event(event(1), TOPIC)
        eventually(lambda: app.listener().values == [1])
    app.bus.settings.reset_override()
    with pytest.raises(InvalidSettings, match="EVENTBUS_NONSENSE"), lifespan(app):
        raise AssertionError("it must not start")


def test_settings_where_the_bus_is_declared(proxy: EventBusProxy) -> None:
    """A service can give the settings in code where it declares the bus."""
    made = EventBusSettings(host="127.0.0.1", pub_port=proxy.pub_port, sub_port=proxy.sub_port)

    class Declared(containers.DeclarativeContainer):
        bus = providers.Container(EventBusContainer, event_class=MyEvent, settings=made)
        listener = providers.Singleton(Listener, bus=bus.client)

    with lifespan(Declared()) as app:
        app.bus.client().emit_event(event(1), TOPIC)
        eventually(lambda: app.listener().values == [1])


def test_the_client_class_with_type_parameters(at_proxy: EventBusProxy) -> None:
    """client_class=EventBusClient[E, T, P] makes the client refuse topics of other enums."""

    class Strict(containers.DeclarativeContainer):
        bus = providers.Container(
            EventBusContainer, event_class=MyEvent, client_class=EventBusClient[MyEvent, MyEventType, MyEventTopic]
        )

    class Elsewhere(MyEventTopic.__base__):  # type: ignore[misc, name-defined] # BaseEventTopic
        my_service = "my_service"

    with lifespan(Strict()) as app:
        app.bus.client().emit_event(event(1), TOPIC)
        with pytest.raises(InvalidTopic, match="MyEventTopic"):
            app.bus.client().emit_event(event(1), Elsewhere.my_service)


def test_a_client_of_the_service_s_own(at_proxy: EventBusProxy) -> None:
    """A subclass of five lines is a service's own client, injected like any other."""

    class Greeter:
        def __init__(self, bus: MyClient) -> None:
            self.bus = bus
            self.heard: list[float] = []

        @on(UPDATED, topic=TOPIC)
        def hear(self, event: MyEvent) -> None:
            self.heard.append(event.value)

    class Mine(containers.DeclarativeContainer):
        bus = providers.Container(EventBusContainer, event_class=MyEvent, client_class=MyClient)
        greeter = providers.Singleton(Greeter, bus=bus.client)

    with lifespan(Mine()) as app:
        assert type(app.bus.client()) is MyClient
        app.greeter().bus.say(7)
        eventually(lambda: app.greeter().heard == [7])


def test_overriding_the_client_class(at_proxy: EventBusProxy) -> None:
    """The client's class can be overridden from outside, as every provider can."""
    app = App()
    app.bus.client_class.override(MyClient)
    with lifespan(app):
        app.bus.client().say(3)
        eventually(lambda: app.listener().values == [3])


class Reading(BaseEvent[MyEventType]):
    type: Literal[MyEventType.updated] = MyEventType.updated
    value: float


class Begin(BaseEvent[MyEventType]):
    type: Literal[MyEventType.started] = MyEventType.started
    name: str


def test_a_union_of_event_classes(at_proxy: EventBusProxy) -> None:
    """The event class may be a TypeAdapter of a union: each handler gets the class that belongs to its type."""

    class Service:
        def __init__(self) -> None:
            self.got: list[Reading | Begin] = []

        @on(UPDATED, topic=TOPIC)
        def read(self, event: Reading) -> None:
            self.got.append(event)

        @on(STARTED, topic=TOPIC)
        def begin(self, event: Begin) -> None:
            self.got.append(event)

    class UnionApp(containers.DeclarativeContainer):
        bus = providers.Container(EventBusContainer, event_class=TypeAdapter(Reading | Begin))
        service = providers.Singleton(Service)

    with lifespan(UnionApp()) as app:
        app.bus.client().emit_event(Begin(name="pump"), TOPIC)
        app.bus.client().emit_event(Reading(value=4), TOPIC)
        eventually(lambda: app.service().got == [Begin(name="pump"), Reading(value=4)])


def test_a_wrong_member_of_a_union_is_refused(at_proxy: EventBusProxy) -> None:
    """A handler of a type of a union must take the class that has the type; a type that no class has is refused."""

    class Wrong:
        @on(UPDATED, STARTED, topic=TOPIC)
        def read(self, event: Reading) -> None: ...

    class Unheard:
        @on(MyEventType.stopped)
        def stop(self, event: object) -> None: ...

    for wrong, reason in ((Wrong, "read takes `event: Reading`, .* Begin"), (Unheard, "stop .* no event class .* has that")):

        class UnionApp(containers.DeclarativeContainer):
            bus = providers.Container(EventBusContainer, event_class=TypeAdapter(Reading | Begin))
            service = providers.Singleton(wrong)

        with pytest.raises(InvalidHandler, match=reason), lifespan(UnionApp()):
            raise AssertionError("it must not start")


class Derived(EventBusContainer):
    """A bus of a service's own: one provider is another, and one is added, with the client of its own."""

    event_class = providers.Object(MyEvent)
    listener = providers.Singleton(Listener, bus=EventBusContainer.client)


class DerivedTwice(Derived):
    client_class = providers.Object(MyClient)


@pytest.mark.parametrize("bus_class", [Derived, DerivedTwice])
@pytest.mark.parametrize("nested", [False, True])
def test_a_derived_bus(at_proxy: EventBusProxy, bus_class: type[Derived], nested: bool) -> None:
    """A subclass of the container is a bus, also as the root of a tree; what it inherits uses what it declares anew."""

    class Around(containers.DeclarativeContainer):
        bus = providers.Container(bus_class)

    root: Any = Around() if nested else bus_class()
    with leaving_nothing(), lifespan(root) as app:
        bus = app.bus if nested else app
        assert isinstance(bus.client(), MyClient) == (bus_class is DerivedTwice)
        bus.client().emit_event(event(1), TOPIC)
        eventually(lambda: bus.listener().values == [1])


def test_a_copied_bus(at_proxy: EventBusProxy) -> None:
    """A copy of the container by dependency_injector is a bus."""

    @containers.copy(EventBusContainer)
    class Copied(containers.DeclarativeContainer):
        event_class = providers.Object(MyEvent)
        listener = providers.Singleton(Listener, bus=EventBusContainer.client)

    with leaving_nothing(), lifespan(Copied()) as app:
        app.client().emit_event(event(1), TOPIC)
        eventually(lambda: app.listener().values == [1])


def test_two_instances_of_one_bus(at_proxy: EventBusProxy) -> None:
    """Instances of a derived container know each its own tree."""
    with leaving_nothing(), lifespan(Derived()) as one, lifespan(Derived()) as two:
        one.client().emit_event(event(1), TOPIC)
        eventually(lambda: one.listener().values == [1] and two.listener().values == [1])
        assert one.listener() is not two.listener()


def test_the_bus_container_by_itself(at_proxy: EventBusProxy) -> None:
    """The container works on its own too, as the root of a tree."""
    with leaving_nothing(), lifespan(EventBusContainer(event_class=MyEvent)) as bus:
        assert bus.client().is_connected()
        assert consumers() == 0
