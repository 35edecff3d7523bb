"""The probes and metrics of a service."""

import sys
from collections.abc import Callable

import pytest

from eventbus import EventBusProxy
from eventbus.telemetry.probes import probes_of, served
from tests.support import Bus, client_of
from tests.web import ask, scrape


@pytest.fixture
def without_prometheus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide prometheus-client, as if it were not installed."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.setitem(sys.modules, "prometheus_client.exposition", None)


def test_a_service_that_is_well(connected: Callable[..., Bus]) -> None:
    """A connected client is live and ready, and both say how it is."""
    client = connected()
    with probes_of(client, 0) as server:
        for path in ("/healthz", "/readyz"):
            answer = ask(server.url + path)
            assert answer.status == 200
            assert answer.facts.keys() == {"ok", "name", "state", "round_trip", "echo_age", "busy_for"}
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
    assert served() == "probes"
