"""Probes and metrics of a service over HTTP, switched on by a variable."""

from pathlib import Path
from threading import Thread

import pytest
from dependency_injector import providers

from eventbus import EventBusError, EventBusProxy
from eventbus.container import EventBusContainer, lifespan
from eventbus.errors import ProbePortInUse
from tests.container.support import TOPIC, App, free_ports, leaving_nothing
from tests.support import MyEvent, event, eventually, run_script
from tests.web import ask, scrape

ROOT = Path(__file__).parents[2]


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a service, after `EVENTBUS_HTTP_PORT`."""
    port, _ = free_ports()
    monkeypatch.setenv("EVENTBUS_HTTP_PORT", str(port))
    return f"http://127.0.0.1:{port}"


def test_a_service_tells_how_it_is(at_proxy: EventBusProxy, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With EVENTBUS_HTTP_PORT a service answers probes and, with EVENTBUS_METRICS, scrapes, until it stops."""
    monkeypatch.setenv("EVENTBUS_METRICS", "prometheus")
    with leaving_nothing():
        with lifespan(App()) as app:
            app.bus.client().emit_event(event(1), TOPIC)
            eventually(lambda: app.listener().values == [1])
            for probe in ("healthz", "readyz"):
                answer = ask(f"{url}/{probe}")
                assert (answer.status, answer.facts["state"]) == (200, "ready")
            assert scrape(url)['eventbus_received_events_total{topic="my_service"}'] >= 1
        with pytest.raises(OSError, match="refused"):
            ask(f"{url}/healthz")


def test_it_answers_while_it_waits_for_a_proxy(ports: tuple[int, int], url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that is still connecting is live and not ready, and ready once a proxy has come."""
    pub_port, sub_port = ports
    monkeypatch.setenv("EVENTBUS_PUB_PORT", str(pub_port))
    monkeypatch.setenv("EVENTBUS_SUB_PORT", str(sub_port))
    monkeypatch.setenv("EVENTBUS_HOST", "127.0.0.1")
    monkeypatch.setenv("EVENTBUS_CONNECT_TIMEOUT", "20")
    app = App()
    started = Thread(target=app.init_resources)
    started.start()

    def status(probe: str) -> int:
        try:
            return ask(f"{url}/{probe}").status
        except OSError:  # not yet
            return 0

    eventually(lambda: status("readyz") == 503)
    assert status("healthz") == 200
    with EventBusProxy("127.0.0.1", pub_port, sub_port, settle=0):
        started.join()
        assert status("readyz") == 200
        app.shutdown_resources()


@pytest.mark.process
def test_without_the_variable_nothing_is_served(at_proxy: EventBusProxy) -> None:
    """A service that is not asked to serve probes imports no HTTP server."""
    done = run_script(
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from tests.container.support import App\n"
        "from eventbus.container import lifespan\n"
        "with lifespan(App()): print({'http.server', 'eventbus.telemetry.http_server'} & set(sys.modules))\n"
    )
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_a_taken_port_stops_the_start(at_proxy: EventBusProxy, url: str) -> None:
    """Two buses of one process cannot serve at the same port: one error that names the variable, and all is stopped."""

    class Two(App):
        other_bus = providers.Container(EventBusContainer, event_class=MyEvent)

    with leaving_nothing(), pytest.raises(EventBusError, match="EVENTBUS_HTTP_PORT") as caught, lifespan(Two()):
        pass
    assert isinstance(caught.value, ProbePortInUse)


def test_a_disabled_client_serves_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """EVENTBUS_ENABLED=false opens no socket, not for probes either."""
    monkeypatch.setenv("EVENTBUS_ENABLED", "false")
    with lifespan(App()), pytest.raises(OSError, match="refused"):
        ask(f"{url}/healthz")
