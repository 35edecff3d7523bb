"""The HTTP server of a proxy: probes and metrics."""

import logging
import sys
from pathlib import Path
from threading import Event

import pytest
import zmq

from eventbus import EventBusProxy
from eventbus.errors import ProbePortInUse
from eventbus.proxy import Connections
from eventbus.proxy.serving import serving
from tests.container.support import leaving_nothing
from tests.security import Guarded, logged
from tests.support import PATIENCE, eventually
from tests.web import ask, scrape


@pytest.fixture
def without_prometheus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide prometheus-client, as if it were not installed."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.setitem(sys.modules, "prometheus_client.exposition", None)
    monkeypatch.delitem(sys.modules, "eventbus.proxy.metrics", raising=False)


def test_a_proxy_that_is_well(proxy: EventBusProxy) -> None:
    """A proxy that runs is live and ready. Its metrics do not count its own connections. Nothing is left."""
    with leaving_nothing(), serving(proxy, 0) as server:
        answer = ask(f"{server.url}/healthz")
        assert (answer.status, answer.facts["uptime"] > 0) == (200, True)
        answer = ask(f"{server.url}/readyz")
        assert (answer.status, answer.facts["round_trip"] > 0) == (200, True)
        eventually(lambda: proxy.health().connections == Connections(1, 1), PATIENCE)
        samples = scrape(server.url)
        assert samples["eventbus_proxy_running"] == 1
        assert samples['eventbus_proxy_connections{role="publisher"}'] == 0
        assert samples['eventbus_proxy_connections{role="subscriber"}'] == 0


@pytest.mark.patience
def test_a_proxy_that_starts_and_stops() -> None:
    """Before the proxy starts and after it has stopped, it is neither live nor ready; while it runs, it is both."""
    proxy = EventBusProxy(pub_port=0, sub_port=0)
    with serving(proxy, 0) as server:
        for _ in range(2):
            assert ask(f"{server.url}/healthz").status == ask(f"{server.url}/readyz").status == 503
            with proxy:
                assert ask(f"{server.url}/healthz").status == ask(f"{server.url}/readyz").status == 200
        assert scrape(server.url)["eventbus_proxy_running"] == 0


@pytest.mark.patience
def test_a_proxy_that_has_failed(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """When forwarding hangs or has failed, the proxy is neither live nor ready."""
    caplog.set_level(logging.CRITICAL, "eventbus")  # the proxy logs that it has failed
    go = Event()

    def fail(*_: object) -> None:
        go.wait()
        raise zmq.ZMQError(zmq.EFAULT)

    monkeypatch.setattr(zmq, "proxy_steerable", fail)
    with EventBusProxy(pub_port=0, sub_port=0) as proxy, serving(proxy, 0) as server:
        try:
            assert ask(f"{server.url}/readyz").status == 503  # it hangs
            answer = ask(f"{server.url}/healthz")
            assert (answer.status, answer.facts["reason"]) == (503, "the proxy does not answer")
        finally:
            go.set()
        eventually(lambda: not proxy.is_running())
        for path in ("/healthz", "/readyz"):
            answer = ask(server.url + path)
            assert (answer.status, answer.facts["reason"]) == (503, "the proxy does not run")


def test_a_proxy_that_restarts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While its first rule makes a proxy restart, it is live all the time, on the same ports; then it is ready again."""
    caplog.set_level(logging.CRITICAL, "eventbus")  # the proxy logs that it restarts
    statuses = []
    ports = set()
    with Guarded(tmp_path) as guarded, serving(guarded.proxy, 0) as server:

        def has_restarted() -> bool:
            statuses.append(ask(f"{server.url}/healthz").status)
            ports.add((guarded.proxy.pub_port, guarded.proxy.sub_port))
            return guarded.proxy.health().running and guarded.proxy.protection.endswith("with rules")

        guarded.admit("bound", publish=[])
        eventually(has_restarted, PATIENCE)
        assert set(statuses) == {200}
        assert len(ports) == 1
        eventually(lambda: ask(f"{server.url}/readyz").status == 200, PATIENCE)


@pytest.mark.usefixtures("without_prometheus")
def test_a_proxy_without_prometheus(proxy: EventBusProxy, caplog: pytest.LogCaptureFixture) -> None:
    """Without the library one warning says what to install, and so does each answer of /metrics."""
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
