"""Servers for the tests of NATS."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventbus.nats_options import NatsOptions
from tests.nats import Server, running
from tests.support import eventually


@pytest.fixture(autouse=True)
def _leaves_no_thread() -> Iterator[None]:
    """Each link ends with its transport: one that is left would dial for ever."""
    yield
    eventually(lambda: not [one.name for one in threading.enumerate() if one.name.startswith("eventbus-nats")])


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that no test stops."""
    with running(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
def nats(shared: Server) -> NatsOptions:
    """A bus of its own on the shared server."""
    with shared.stream() as options:
        return options


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server that this test may stop."""
    with running(tmp_path / "nats") as started:
        yield started
