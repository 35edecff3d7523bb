"""docs/nats.md: its commands, its configuration and its Compose file, with a real server."""

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped] # its types are a distribution of their own

from eventbus import EventBusProxy
from eventbus.errors import PermissionDenied
from eventbus.nats_options import NatsOptions
from eventbus.settings import EventBusSettings
from eventbus.transports.nats.core import CoreTransport
from tests.docs.pages import section
from tests.docs.running import done, free_port, running, shell, surroundings
from tests.eventbus.transports.nats.support import QUICK, TOPIC, Values, client
from tests.nats import nats_server
from tests.nats import running as running_server
from tests.support import PATIENCE, client_of, event


@contextmanager
def first_server(folder: Path) -> Iterator[tuple[str, dict[str, str], str]]:
    """The server that the page starts, on a port of its own; yields its URL, the environment, and the next commands."""
    with section("nats.md", "The first server") as part:
        start, check = part.take("sh")
    port = free_port()
    environment = surroundings()
    environment["PATH"] = f"{Path(nats_server()).parent}:{environment['PATH']}"
    with running(shell(f"{start.rstrip()} -p {port}"), folder, environment) as server:
        server.wait_for("Server is ready")
        yield f"nats://127.0.0.1:{port}", environment, check.replace("4222", str(port))
        server.end()


def test_the_first_server(tmp_path: Path) -> None:
    """It stores, and the check says so."""
    with first_server(tmp_path) as (url, environment, check):
        found = done(shell(check), tmp_path, environment)
        assert found.stdout.splitlines()[-1].startswith(f"ok: {url}")
        assert "eb is missing: the first service makes it, as file,1GiB,7d,1" in found.stdout
    assert (tmp_path / "store").is_dir()


def test_the_bridge(tmp_path: Path, proxy: EventBusProxy) -> None:
    """An event of a service at the proxy reaches one over NATS."""
    with section("nats.md", "Move a running fleet") as part:
        command = part.one("sh")
    with running_server(tmp_path / "nats", jetstream=False) as server:
        options = NatsOptions(url=server.url)
        line = command.replace("nats://127.0.0.1:4222", server.url)
        with running(shell(line), tmp_path, surroundings(proxy)) as bridge:
            bridge.wait_for("bridge between")
            with client(CoreTransport(options, QUICK), TOPIC) as receiver, client_of(proxy) as sender:
                values = Values(receiver)
                sender.emit_event(event(1.0), TOPIC)
                assert values.wait_for(1) == [1]
            assert bridge.end() == 0


def test_the_permissions(tmp_path: Path) -> None:
    """The server takes the configuration; its user may do what the page says, and nothing else."""
    with section("nats.md", "Who may do what") as part:
        config = part.one("conf")
    config = re.sub(r'password: "[^"]*"', 'password: "x"', config)  # the page has a hash, whose password nobody knows
    with running_server(tmp_path, config) as server:
        options = NatsOptions(url=server.url.replace("//", "//thermostat@"), password="x")
        transport = CoreTransport(options, QUICK)
        transport.subscribe(b"plant.tank")
        transport.open(PATIENCE)
        transport.send(b"plant.tank", b"{}")
        assert transport.receive() == ([b"plant.tank"], [b"{}"])
        with pytest.raises(PermissionDenied):
            transport.subscribe(b"office")
        transport.close(0)


def test_the_compose_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's arguments start a server, and the worker's variables are settings."""
    with section("nats.md", "With Compose") as part:
        part.write(tmp_path)
    services: dict[str, Any] = yaml.safe_load((tmp_path / "compose.yaml").read_text())["services"]
    version = tuple(map(int, services["nats"]["image"].partition(":")[2].partition("-")[0].split(".")))
    assert version >= (2, 10)
    for name, value in services["worker"]["environment"].items():
        monkeypatch.setenv(name, value)
    settings = EventBusSettings()
    settings.check_transport()
    assert (settings.group, settings.url) == ("worker", "nats://nats:4222")
    arguments = shlex.join(services["nats"]["command"]).replace("/data", str(tmp_path / "data"))
    port, http_port = free_port(), free_port()
    command = f"{nats_server()} {arguments} -a 127.0.0.1 -p {port}".replace("8222", str(http_port))
    with running(shell(command), tmp_path, surroundings()) as server:
        server.wait_for("Server is ready")
        server.end()
