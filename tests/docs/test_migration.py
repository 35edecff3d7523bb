"""docs/migration.md: a service runs with the original client, then with this one beneath, then with a container."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from eventbus import Compression, EventBusClient, EventBusProxy, Packing
from eventbus.settings import EventBusSettings
from tests.docs.pages import path_of, section
from tests.interop import original
from tests.interop.support import Ports, bare_proxy
from tests.support import PATIENCE, RawPeers, eventually


@pytest.fixture
def ports() -> Iterator[Ports]:
    """The address of libzmq's own proxy."""
    with bare_proxy() as ports:
        yield ports


def surroundings(ports: Ports) -> dict[str, str]:
    """The variables of this process, and those that lead to the proxy."""
    return {name: value for name, value in os.environ.items() if not name.upper().startswith("EVENTBUS_")} | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "EVENTBUS_PUB_PORT": str(ports.pub_port),
        "EVENTBUS_SUB_PORT": str(ports.sub_port),
        "EVENTBUS_CONNECT_TIMEOUT": str(PATIENCE),
    }


class Plant:
    """The agent's peer: plain sockets, as a third kind of peer."""

    def __init__(self, peers: RawPeers) -> None:
        self._peers = peers
        self._subscriber = peers.subscriber(b"corerl")
        self.heard: list[bytes] = []

    def meet(self) -> None:
        """Return once the agent has subscribed."""
        self._publisher = self._peers.publisher(b"PLANT")

    def emit(self, event_type: str, value: float = 0.0) -> None:
        self._publisher.send_multipart([b"PLANT", b'{"type":"%s","value":%s}' % (event_type.encode(), str(value).encode())])

    def hears(self) -> bool:
        """Whether another event has come; then it is in `heard`."""
        if not self._subscriber.poll(20):
            return False
        [topic, payload] = self._subscriber.recv_multipart()
        assert topic == b"corerl"
        self.heard.append(payload)
        return True


@contextmanager
def running_agent(folder: Path, ports: Ports) -> Iterator[Plant]:
    """Run the agent with a plant that was there before; at its stop it must end well and print nothing."""
    with closing(RawPeers(*ports)) as peers:
        plant = Plant(peers)
        with subprocess.Popen(
            [sys.executable, "-W", "error", "agent.py"],
            cwd=folder,
            env=surroundings(ports),
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                plant.meet()
                yield plant
                plant.emit("stopped")
                _, errors = process.communicate(timeout=PATIENCE)
                assert (process.returncode, errors) == (0, "")
            finally:
                process.kill()


def expect_advice(plant: Plant) -> None:
    """The agent's first event has come, and to each measured value its advice, in order."""
    for value in (1.0, 2.0, 3.0):
        plant.emit("measured", value)
    eventually(lambda: plant.hears() and len(plant.heard) == 4, PATIENCE, "four events of the agent")
    started = b'{"type":"started","value":0.0}'
    assert started in plant.heard  # of another thread than the advice: anywhere among it
    advice = [payload for payload in plant.heard if payload != started]
    assert advice == [b'{"type":"advised","value":%s}' % value for value in (b"0.5", b"1.0", b"1.5")]


def write_original(folder: Path) -> None:
    """Write the service as it was, and the original client for it."""
    shutil.copy(original.__file__, folder / "bus.py")
    with section("migration.md", "A service") as part:
        part.write(folder)


def test_before(ports: Ports, tmp_path: Path) -> None:
    """With the original client the agent gives advice, once its slow joining is over."""
    write_original(tmp_path)
    with running_agent(tmp_path, ports) as plant:

        def advised() -> bool:
            plant.emit("measured", 3.0)
            return plant.hears() and b'{"type":"advised","value":1.5}' in plant.heard

        eventually(advised, PATIENCE, "advice")


def test_the_client_first(ports: Ports, tmp_path: Path) -> None:
    """With this client beneath, the same agent loses nothing, from its first event on."""
    write_original(tmp_path)
    with section("migration.md", "The client first") as part:
        part.write(tmp_path)
    (tmp_path / "bus.py").unlink()
    tested = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_topics.py"]
    subprocess.run(tested, cwd=tmp_path, env=surroundings(ports), timeout=2 * PATIENCE, check=True)
    with running_agent(tmp_path, ports) as plant:
        expect_advice(plant)


def test_then_the_container(ports: Ports, tmp_path: Path) -> None:
    """With a container it does the same, without a sleep and without opening or closing anything."""
    with section("migration.md", "Then the container") as part:
        part.write(tmp_path)
    with running_agent(tmp_path, ports) as plant:
        expect_advice(plant)


def test_an_order_for_a_fleet(ports: Ports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check succeeds at a bare proxy, and the file has settings that the original client can live with."""
    with section("migration.md", "An order for a fleet") as part:
        (check,) = part.take("sh", "")
        part.write(tmp_path)
    checked = subprocess.run(
        ["sh", "-e", "-c", check],
        cwd=tmp_path,
        env=surroundings(ports),
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout.splitlines()[-1].startswith("ok: ")
    for name in os.environ:
        if name.upper().startswith("EVENTBUS_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    settings = EventBusSettings()
    assert (settings.compression, settings.numbered, settings.packing) == (Compression.NONE, False, Packing.NONE)
    assert settings.echo_interval == 60


def test_the_calls() -> None:
    """Every call that the page names is one of the client's."""
    of_client, of_manager = path_of("migration.md").read_text().split("coredinator's manager of the proxy")
    names = set(re.findall(r"^\| `(\w+)\(", of_client, flags=re.MULTILINE)) - {"EventBusClient"}
    assert len(names) == 11
    assert names == {name for name in names if callable(getattr(EventBusClient, name, None))}
    # The original of the tests has them, too.
    assert names == {name for name in names if callable(getattr(original.EventBusClient, name, None))}
    assert all(
        f"`{name}" in of_manager for name in ("start", "stop", "is_running", "health", "host", "pub_port", "sub_port")
    )
    proxy = EventBusProxy()
    assert all(hasattr(proxy, name) for name in ("start", "stop", "is_running", "health", "host", "pub_port", "sub_port"))
