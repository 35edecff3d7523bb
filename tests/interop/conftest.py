"""The proxies that the tests of interoperability run at."""

from collections.abc import Iterator

import pytest

from eventbus import EventBusProxy
from tests.interop.support import Ports, bare_proxy, proxy_command


@pytest.fixture(scope="module", params=["embedded", pytest.param("process", marks=pytest.mark.process), "bare"])
def place(request: pytest.FixtureRequest) -> Iterator[Ports]:
    """A running proxy, one for all tests of a module: ours in this process and in one of its own, and libzmq's."""
    if request.param == "embedded":
        with EventBusProxy(pub_port=0, sub_port=0) as proxy:
            yield Ports(proxy.pub_port, proxy.sub_port)
    else:
        with proxy_command() if request.param == "process" else bare_proxy() as ports:
            yield ports


@pytest.fixture
def bare() -> Iterator[Ports]:
    """libzmq's own proxy."""
    with bare_proxy() as ports:
        yield ports


@pytest.fixture
def variables(place: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables that lead a container to the proxy, and that a fleet with original clients needs."""
    monkeypatch.setenv("EVENTBUS_HOST", "127.0.0.1")
    monkeypatch.setenv("EVENTBUS_PUB_PORT", str(place.pub_port))
    monkeypatch.setenv("EVENTBUS_SUB_PORT", str(place.sub_port))
    monkeypatch.setenv("EVENTBUS_CONNECT_TIMEOUT", "20")
    monkeypatch.setenv("EVENTBUS_PACKING", "false")
    monkeypatch.setenv("EVENTBUS_COMPRESSION", "none")
