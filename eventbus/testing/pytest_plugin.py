"""Fixtures for pytest. The root ``conftest.py`` of a project switches them on::

    pytest_plugins = ["eventbus.testing.pytest_plugin"]

Nothing is registered by itself: a project that has this package installed and does not test with it pays nothing.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Protocol

import pytest
from dependency_injector import containers

from eventbus.proxy import EventBusProxy
from eventbus.testing import BusTest, bus_test


class StartBusTest(Protocol):
    """Starts a `bus_test`, with its arguments."""

    # Any: those of `bus_test`.
    def __call__[Root: containers.Container](self, container: Root, **arguments: Any) -> BusTest[Root]: ...


@pytest.fixture
def start_bus_test() -> Iterator[StartBusTest]:
    """Start a `bus_test` that ends with the test: ``t = start_bus_test(App())``."""
    with ExitStack() as stack:

        def start[Root: containers.Container](container: Root, **arguments: Any) -> BusTest[Root]:
            return stack.enter_context(bus_test(container, **arguments))

        yield start


@pytest.fixture
def eventbus_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[EventBusProxy]:
    """A proxy on free ports, to which the variables of the environment lead during the test."""
    with EventBusProxy(pub_port=0, sub_port=0) as proxy:
        monkeypatch.setenv("EVENTBUS_HOST", proxy.host)
        monkeypatch.setenv("EVENTBUS_PUB_PORT", str(proxy.pub_port))
        monkeypatch.setenv("EVENTBUS_SUB_PORT", str(proxy.sub_port))
        yield proxy
