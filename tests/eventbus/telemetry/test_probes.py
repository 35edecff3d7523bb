"""What a service and a proxy answer to whoever supervises and scrapes them."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest
import zmq

from eventbus import EventBusProxy
from eventbus.errors import ProbePortInUse
from eventbus.proxy.serving import serving
from eventbus.telemetry.probes import probes_of
from tests.container.support import leaving_nothing
from tests.security import Guarded, logged
from tests.support import PATIENCE, Bus, client_of, eventually
from tests.web import ask, scrape


@pytest.fixture
def without_prometheus(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where prometheus-client is not installed."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.setitem(sys.modules, "prometheus_client.exposition", None)
    monkeypatch.delitem(sys.modules, "eventbus.proxy.metrics", raising=False)


# A service


def test_a_service_that_is_well(connected: Callable[..., Bus]) -> None:
    """A connected client is live and ready, and both say how it is."""
    client = connected()
    with probes_of(client, 0) as server:
        for path in ("/healthz", "/readyz"):
            answer = ask(server.url + path)
            assert answer.status == 200
            assert answer.facts.keys() == {"ok", "state", "round_trip", "echo_age", "busy_for"}
            assert answer.facts["state"] == "ready"
            assert answer.facts["round_trip"] > 0


def test_a_service_without_a_proxy_is_live_and_not_ready(proxy: EventBusProxy) -> None:
    """A client that is not connected is not ready, and no new start would help it."""
    with probes_of(client_of(proxy), 0) as server:
        assert ask(f"{server.url}/healthz").status == 200
        answer = ask(f"{server.url}/readyz")
        assert (answer.status, answer.facts["state"], answer.facts["round_trip"]) == (503, "closed", None)
        assert answer.facts["reason"] == "the path to the proxy and back is not proven"


def test_the_metrics_of_a_service(proxy: EventBusProxy) -> None:
    """/metrics has what is in prometheus-client's default registry."""
    with probes_of(client_of(proxy), 0) as server:
        assert scrape(server.url)["process_start_time_seconds"] > 0


@pytest.mark.usefixtures("without_prometheus")
def test_a_service_without_prometheus(proxy: EventBusProxy) -> None:
    """Without the library /metrics says what to install; the probes need none."""
    with probes_of(client_of(proxy), 0) as server:
        answer = ask(f"{server.url}/metrics")
        assert answer.status == 501
        assert "prometheus-client is not installed: pip install 'eventbus[prometheus]'" in answer.facts["reason"]
        assert ask(f"{server.url}/healthz").status == 200


# A proxy


def test_a_proxy_that_is_well(proxy: EventBusProxy) -> None:
    """A proxy that runs is live and ready; its own probe is none of the connections in its metrics. Nothing is left."""
    with leaving_nothing(), serving(proxy, 0) as server:
        answer = ask(f"{server.url}/healthz")
        assert (answer.status, answer.facts["uptime"] > 0) == (200, True)
        answer = ask(f"{server.url}/readyz")
        assert (answer.status, answer.facts["round_trip"] > 0) == (200, True)
        assert proxy.health().connections.publishers == 1
        samples = scrape(server.url)
        assert samples["eventbus_proxy_running"] == 1
        assert samples['eventbus_proxy_connections{role="publisher"}'] == 0
        assert samples['eventbus_proxy_connections{role="subscriber"}'] == 0


def test_a_proxy_that_starts_and_stops() -> None:
    """What is served tells how the proxy is before, while and after it runs."""
    proxy = EventBusProxy(pub_port=0, sub_port=0)
    with serving(proxy, 0) as server:
        for _ in range(2):
            assert ask(f"{server.url}/healthz").status == ask(f"{server.url}/readyz").status == 503
            with proxy:
                assert ask(f"{server.url}/healthz").status == ask(f"{server.url}/readyz").status == 200
        assert scrape(server.url)["eventbus_proxy_running"] == 0


def test_a_proxy_that_has_ended(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """When what passes messages on has ended, the proxy is neither live nor ready."""
    caplog.set_level(logging.CRITICAL, "eventbus")  # it says that it has ended
    go = Event()

    def fail(*_: object) -> None:
        go.wait()
        raise zmq.ZMQError(zmq.EFAULT)

    monkeypatch.setattr(zmq, "proxy_steerable", fail)
    with EventBusProxy(pub_port=0, sub_port=0) as proxy, serving(proxy, 0) as server:
        try:
            assert ask(f"{server.url}/readyz").status == 503  # stuck
            answer = ask(f"{server.url}/healthz")
            assert (answer.status, answer.facts["reason"]) == (503, "the proxy does not answer")
        finally:
            go.set()
        eventually(lambda: not proxy.is_running())
        for path in ("/healthz", "/readyz"):
            answer = ask(server.url + path)
            assert (answer.status, answer.facts["reason"]) == (503, "the proxy does not run")


def test_a_proxy_that_begins_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While its first rule makes a proxy begin anew it is live all the time, on the same ports, and it gets ready again."""
    caplog.set_level(logging.CRITICAL, "eventbus")  # it says that it begins anew
    lived = []
    ports = set()
    with Guarded(tmp_path) as guarded, serving(guarded.proxy, 0) as server:

        def has_begun_anew() -> bool:
            lived.append(ask(f"{server.url}/healthz").status)
            ports.add((guarded.proxy.pub_port, guarded.proxy.sub_port))
            return guarded.proxy.health().running and guarded.proxy.protection.endswith("with rules")

        guarded.admit("bound", publish=[])
        eventually(has_begun_anew, PATIENCE)
        assert set(lived) == {200}
        assert len(ports) == 1
        eventually(lambda: ask(f"{server.url}/readyz").status == 200, PATIENCE)


@pytest.mark.usefixtures("without_prometheus")
def test_a_proxy_without_prometheus(proxy: EventBusProxy, caplog: pytest.LogCaptureFixture) -> None:
    """Without the library a warning says once what to install, and /metrics each time."""
    with serving(proxy, 0) as server:
        assert len(logged(caplog.records, "pip install 'eventbus[prometheus]'")) == 1
        for _ in range(2):
            answer = ask(f"{server.url}/metrics")
            assert answer.status == 501
            assert "prometheus-client is not installed: pip install 'eventbus[prometheus]'" in answer.facts["reason"]
        assert ask(f"{server.url}/readyz").status == 200
    assert len(logged(caplog.records, "pip install")) == 1


def test_a_taken_port(proxy: EventBusProxy) -> None:
    """A taken port is an error that leaves nothing open."""
    with serving(proxy, 0) as server:
        port = server.port
        with leaving_nothing(), pytest.raises(ProbePortInUse), serving(proxy, port):
            pass
