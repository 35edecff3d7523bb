"""The application that owns the proxy, served in this process."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn

from coredinator.app import app
from corerl.event_bus import RLEventBusClient
from corerl.events import RLEventTopic, RLEventType
from eventbus import AddressInUse, EventBusProxy
from tests.support import PATIENCE, eventually, in_thread
from tests.web import ask


@contextmanager
def serving() -> Iterator[str]:
    """Serve the application, and give the address of its healthcheck; at the end it must come to an end."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, ws="none", log_level="warning"))
    with in_thread(server.run):
        try:
            eventually(lambda: server.started, PATIENCE)
            port = server.servers[0].sockets[0].getsockname()[1]
            yield f"http://127.0.0.1:{port}/api/healthcheck"
        finally:
            server.should_exit = True


@pytest.fixture
def bus_ports(ports: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """The two ports of the bus, as the environment has them."""
    monkeypatch.setenv("EVENTBUS_HOST", "127.0.0.1")
    monkeypatch.setenv("EVENTBUS_PUB_PORT", str(ports[0]))
    monkeypatch.setenv("EVENTBUS_SUB_PORT", str(ports[1]))
    return ports


@pytest.fixture
def url(bus_ports: tuple[int, int]) -> Iterator[str]:
    """The healthcheck of the application, running."""
    with serving() as address:
        yield address


def test_its_proxy_joins_services(url: str, bus_ports: tuple[int, int]) -> None:
    """An event passes through it and back, and the healthcheck counts it and the connections."""
    with RLEventBusClient(host="127.0.0.1", pub_port=bus_ports[0], sub_port=bus_ports[1]) as bus:
        bus.subscribe(RLEventTopic.corerl)
        bus.emit_event(RLEventType.agent_heartbeat, RLEventTopic.corerl)
        assert bus.recv_event(PATIENCE) is not None
        answer = ask(url)
        assert answer.status == 200
        assert answer.facts["status"] == "ok"
        proxy = answer.facts["proxy"]
        assert proxy["running"]
        assert (proxy["messages"], proxy["publishers"], proxy["subscribers"], proxy["subscriptions"]) == (1, 1, 1, 1)
    eventually(lambda: ask(url).facts["proxy"]["publishers"] == 0)


def test_it_tells_the_configuration(url: str, bus_ports: tuple[int, int]) -> None:
    """The configuration of the bus: its address and its limits."""
    assert ask(url).facts["configuration"] == {
        "host": "127.0.0.1",
        "pub_port": bus_ports[0],
        "sub_port": bus_ports[1],
        "max_event_bytes": 8_388_608,
        "encrypted": False,
    }


def test_it_is_not_well_without_its_proxy(url: str) -> None:
    """Status 503, and what is wrong."""
    app.state.proxy.stop()
    answer = ask(url)
    assert (answer.status, answer.facts["status"]) == (503, "proxy does not run")


@pytest.mark.patience
def test_it_frees_the_ports(bus_ports: tuple[int, int]) -> None:
    """Its ports are taken while it runs; when it has ended, it can itself begin anew."""
    with serving(), pytest.raises(AddressInUse), EventBusProxy("127.0.0.1", *bus_ports):
        pass
    with serving() as url:
        assert ask(url).status == 200
