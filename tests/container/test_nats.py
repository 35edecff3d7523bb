"""A service as it is written for the proxy, over NATS: only variables change."""

from collections.abc import Iterator

import pytest
from dependency_injector import containers, providers

from eventbus import EventBusClient, InvalidSettings, on
from eventbus.container import EventBusContainer, lifespan
from eventbus.transports.nats.core import CoreTransport
from eventbus.transports.nats.jetstream import JetStreamTransport
from tests.nats import Server, running
from tests.support import PATIENCE, MyEvent, MyEventTopic, MyEventType, event, eventually

pytestmark = pytest.mark.process

TOPIC = MyEventTopic.my_service


class Listener:
    """A service: emits, and handles with `@on`."""

    def __init__(self, bus: EventBusClient[MyEvent, MyEventType, MyEventTopic]) -> None:
        self.bus = bus
        self.values: list[float] = []

    @on(MyEventType.updated, topic=TOPIC)
    def handle(self, one: MyEvent) -> None:
        self.values.append(one.value)


class App(containers.DeclarativeContainer):
    bus = providers.Container(EventBusContainer, event_class=MyEvent)
    listener = providers.Singleton(Listener, bus=bus.client)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("nats")) as started:
        yield started


@pytest.mark.parametrize(("kind", "transport"), [("nats", CoreTransport), ("jetstream", JetStreamTransport)])
def test_a_service_runs_unchanged(server: Server, kind: str, transport: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """Client, `@on`, hooks and health work; the client's transport is the one that was chosen."""
    monkeypatch.setenv("EVENTBUS_TRANSPORT", kind)
    monkeypatch.setenv("EVENTBUS_URL", server.url)
    monkeypatch.setenv("EVENTBUS_METRICS", "prometheus")
    monkeypatch.setenv("EVENTBUS_SUBJECT_PREFIX", f"container-{kind}")
    with lifespan(App()) as app:
        listener = app.listener()
        assert isinstance(listener.bus._transport, transport)
        listener.bus.wait_ready(PATIENCE)
        for value in range(10):
            listener.bus.emit_event(event(float(value)), TOPIC)
        eventually(lambda: listener.values == [float(value) for value in range(10)])
        assert listener.bus.health().ready
        stats = listener.bus.stats()
        assert (stats.emitted, stats.received, stats.handled) == (10, 10, 10)


def test_workers_of_a_group_find_what_came_while_they_were_away(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only EVENTBUS_GROUP makes a service durable: it goes on where it has stopped."""
    monkeypatch.setenv("EVENTBUS_TRANSPORT", "jetstream")
    monkeypatch.setenv("EVENTBUS_URL", server.url)
    monkeypatch.setenv("EVENTBUS_SUBJECT_PREFIX", "durable")
    with lifespan(App()) as publisher, monkeypatch.context() as grouped:
        grouped.setenv("EVENTBUS_GROUP", "workers")
        emit = publisher.listener().bus.emit_event
        with lifespan(App()) as worker:
            emit(event(1.0), TOPIC)
            eventually(lambda: worker.listener().values == [1.0])
        emit(event(2.0), TOPIC)
        emit(event(3.0), TOPIC)
        with lifespan(App()) as worker:
            eventually(lambda: worker.listener().values == [2.0, 3.0])


def test_settings_of_another_transport_stop_a_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """At its start, with the names of both variables."""
    monkeypatch.setenv("EVENTBUS_GROUP", "workers")
    with pytest.raises(InvalidSettings, match="EVENTBUS_GROUP has no effect with EVENTBUS_TRANSPORT=zeromq"):
        lifespan(App()).__enter__()
