"""The health of a client: ready and live, told apart."""

import time
from collections.abc import Callable
from threading import Event

import pytest

from eventbus import ClientState, EventBusProxy
from eventbus.transports.memory import MemoryTransport
from tests.container.support import free_ports
from tests.support import Bus, MyEvent, MyEventTopic, MyEventType, client_of, event, eventually

TOPIC, UPDATED = MyEventTopic.my_service, MyEventType.updated


def test_a_client_that_is_not_connected(proxy: EventBusProxy) -> None:
    """Before connect() and after close() it is not ready, and nothing is wrong with it."""
    client = client_of(proxy)
    for _ in range(2):
        health = client.health()
        assert (health.ready, health.live, health.state) == (False, True, ClientState.CLOSED)
        assert (health.consuming, health.busy_for) == (False, 0.0)
        with client:
            assert client.health().ready


def test_a_connected_client(connected: Callable[..., Bus]) -> None:
    """It is ready, and tells how long an echo takes and how old the last one is; consuming or not, it is live."""
    bus = connected()
    before = time.monotonic()
    health = bus.health()
    assert (health.ready, health.live, health.consuming, health.state) == (True, True, False, ClientState.READY)
    assert health.round_trip is not None
    assert health.echo_age is not None
    assert 0 < health.round_trip < 20
    assert 0 <= health.echo_age < 20
    bus.start_consumer()
    assert bus.health().consuming
    bus.connect()  # proves the path again
    age = bus.health().echo_age
    assert age is not None
    assert age <= time.monotonic() - before


def test_an_idle_client_echoes(connected: Callable[..., Bus]) -> None:
    """An idle client's echo is never old: it sends one each interval."""
    bus = connected(echo_interval=0.02)
    seen = [bus.health().echo_age or 0.0]

    def fell() -> bool:
        seen.append(bus.health().echo_age or 0.0)
        return seen[-1] < seen[-2]

    for _ in range(3):
        eventually(fell)


def test_a_client_without_its_proxy_is_live_but_not_ready() -> None:
    """While the proxy is away the client is not ready, and live: it recovers by itself."""
    with EventBusProxy("127.0.0.1", *free_ports()) as proxy, client_of(proxy) as bus:
        bus.start_consumer()
        proxy.stop()
        eventually(lambda: not bus.health().ready)
        assert bus.health().live
        assert bus.health().state is ClientState.DEGRADED
        proxy.start()
        bus.wait_ready(20)
        assert bus.health().ready


def test_a_handler_that_hangs_is_seen(bus: Bus) -> None:
    """A handler that takes too long over one event makes the client not live, but ready; when it is done, live again."""
    running, done = Event(), Event()

    def hang(event: MyEvent) -> None:
        running.set()
        done.wait()

    bus.attach_callback(UPDATED, hang)
    bus.start_consumer()
    bus.emit_event(event(), TOPIC)
    assert running.wait(20)
    eventually(lambda: not bus.health(stalled_after=0.05).live)
    assert bus.health().live, "within the 30 s that it has by default"
    assert bus.health(stalled_after=0.05).ready
    assert bus.health().busy_for > 0.05
    done.set()
    eventually(lambda: bus.health(stalled_after=0.0).live)


def test_a_consumer_that_has_ended_is_seen(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A consumer whose thread has died is not live, until it is started again; stopping it is no death."""
    bus.start_consumer()
    bus.stop_consumer()
    assert bus.health().live
    with monkeypatch.context() as broken:
        broken.setattr(bus._transport, "receive", lambda: 1 / 0)
        bus.start_consumer()
        eventually(lambda: not bus.health().live)
    bus.start_consumer()
    assert bus.health().live


def test_without_sockets() -> None:
    """A client in memory, and a disabled one, are ready once they are connected; there is no echo to tell of."""
    clients: tuple[Bus, ...] = Bus(MyEvent, transport=MemoryTransport()), Bus(MyEvent, enabled=False)
    for client in clients:
        assert not client.health().ready
        with client:
            health = client.health()
            assert (health.ready, health.live, health.round_trip, health.echo_age) == (True, True, None, None)
