"""Fixtures for pytest. The root ``conftest.py`` of a project switches them on::

    pytest_plugins = ["eventbus.testing.pytest_plugin"]

Nothing is registered by itself: a project that has this package installed and does not test with it pays nothing.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Protocol

import pytest
from dependency_injector import containers

from eventbus.proxy import EventBusProxy
from eventbus.settings import EventBusSettings
from eventbus.testing import BusTest, bus_test
from eventbus.testing._bus_test_base import PATIENCE_S, Errors


class StartBusTest(Protocol):
    """Starts a `bus_test`, with its arguments."""

    def __call__[Root: containers.Container](
        self,
        container: Root,
        *,
        errors: Errors = "raise",
        settings: EventBusSettings | None = None,
        patience: float = PATIENCE_S,
    ) -> BusTest[Root]: ...


@pytest.fixture
def start_bus_test() -> Iterator[StartBusTest]:
    """Start a `bus_test` that ends with the test: ``t = start_bus_test(App())``."""
    with ExitStack() as stack:

        def start[Root: containers.Container](
            container: Root,
            *,
            errors: Errors = "raise",
            settings: EventBusSettings | None = None,
            patience: float = PATIENCE_S,
        ) -> BusTest[Root]:
            return stack.enter_context(bus_test(container, errors=errors, settings=settings, patience=patience))

        yield start


@pytest.fixture
def eventbus_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[EventBusProxy]:
    """A proxy on free ports, to which the variables of the environment lead during the test. Others of ours are unset."""
    for name in [name for name in os.environ if name.upper().startswith("EVENTBUS_")]:
        monkeypatch.delenv(name)  # one may name another bus, or switch off the client
    with EventBusProxy(pub_port=0, sub_port=0) as proxy:
        monkeypatch.setenv("EVENTBUS_HOST", proxy.host)
        monkeypatch.setenv("EVENTBUS_PUB_PORT", str(proxy.pub_port))
        monkeypatch.setenv("EVENTBUS_SUB_PORT", str(proxy.sub_port))
        yield proxy
