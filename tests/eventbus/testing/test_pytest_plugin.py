"""The fixtures for pytest."""

import pytest

from eventbus import EventBusProxy
from eventbus.container import lifespan
from eventbus.settings import EventBusSettings
from eventbus.testing.pytest_plugin import eventbus_proxy as eventbus_proxy
from tests.eventbus.testing.test_bus_test import App, ShopTopic, receipt
from tests.support import PATIENCE


@pytest.fixture(autouse=True)
def _an_environment_that_leads_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ENABLED": "false", "TRANSPORT": "nats", "SECURITY__SECRET_KEY": "x", "GROUP": "g"}.items():
        monkeypatch.setenv(f"EVENTBUS_{name}", value)
    monkeypatch.setenv("eventbus_host", "nowhere.invalid")


@pytest.fixture
def reached(eventbus_proxy: EventBusProxy) -> EventBusProxy:
    """The proxy."""
    return eventbus_proxy


def test_the_environment_leads_to_the_proxy_only(reached: EventBusProxy) -> None:
    """Whatever else it says, a service reaches the proxy of the fixture."""
    assert EventBusSettings().pub_port == reached.pub_port
    with lifespan(App()) as app:
        client = app.bus.client()
        client.emit_event(receipt(0), ShopTopic.mail)
        assert client.recv_event(PATIENCE) == receipt(0)
