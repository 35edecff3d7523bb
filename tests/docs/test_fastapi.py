"""docs/fastapi.md: the service runs under the real uvicorn, and its tests pass."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eventbus import EventBusProxy
from tests.docs.pages import section
from tests.docs.running import Program, done, free_port, running, shell, surroundings
from tests.support import PATIENCE, RawPeers, eventually
from tests.web import ask


@contextmanager
def served(folder: Path, environment: dict[str, str], app: str = "service:app") -> Iterator[tuple[Program, str]]:
    """Run the service, as the page says, at a port of its own."""
    with section("fastapi.md", "The service") as part:
        part.write(folder)
        command = shell(part.one("sh").replace("service:app", app))
    port = free_port(int(environment["EVENTBUS_PUB_PORT"]), int(environment["EVENTBUS_SUB_PORT"]))
    with running(command, folder, environment | {"UVICORN_PORT": str(port)}) as server:
        server.wait_for("Uvicorn running on")
        yield server, f"http://127.0.0.1:{port}"


def test_the_service(proxy: EventBusProxy, raw: RawPeers, tmp_path: Path) -> None:
    """It emits what is wanted, shows what is measured, tells its health, and ends well at SIGTERM."""
    subscriber = raw.subscriber(b"plant")
    with served(tmp_path, surroundings(proxy)) as (server, url):
        assert ask(f"{url}/measured").status == 404
        eventually(lambda: ask(f"{url}/health").status == 200, PATIENCE, "a service that is ready")
        assert ask(f"{url}/wanted/21.5", "POST").status == 202
        assert subscriber.recv_multipart() == [b"plant", b'{"type":"wanted","value":21.5}']
        raw.publisher(b"plant").send_multipart([b"plant", b'{"type":"measured","value":19.0}'])
        eventually(lambda: ask(f"{url}/measured").text == "19.0", PATIENCE, "what was measured")
        assert ask(f"{url}/health").facts["ready"] is True
        assert server.end() == -signal.SIGTERM, "that is how uvicorn ends"
    assert "Application shutdown complete" in server.text
    assert "Traceback" not in server.text
    assert "never closed" not in server.text
    eventually(lambda: proxy.health().connections.publishers == 1, PATIENCE, "a client that has closed")


def test_without_a_proxy(tmp_path: Path, ports: tuple[int, int]) -> None:
    """It starts, says 503, and keeps what is emitted, until it can keep no more: 503, at once. Then it recovers."""
    environment = surroundings(EVENTBUS_PUB_PORT=ports[0], EVENTBUS_SUB_PORT=ports[1], EVENTBUS_SEND_HWM=2)
    with served(tmp_path, environment) as (server, url):
        assert ask(f"{url}/health").status == 503
        statuses = [ask(f"{url}/wanted/{value}", "POST").status for value in range(4)]
        assert statuses == [202, 202, 503, 503]
        assert "send buffer" in ask(f"{url}/wanted/4", "POST").facts["detail"]
        with EventBusProxy(pub_port=ports[0], sub_port=ports[1]):
            eventually(lambda: ask(f"{url}/health").status == 200, PATIENCE, "a service that is ready")
            assert server.end() == -signal.SIGTERM, "that is how uvicorn ends"


def test_it_needs_a_proxy_by_default(tmp_path: Path, dead_ports: tuple[int, int]) -> None:
    """Without that variable it does not start, and says why."""
    with section("fastapi.md", "The service") as part:
        part.write(tmp_path)
        command = shell(part.one("sh").replace("export EVENTBUS_CONNECT_REQUIRED=false\n", ""))
    pub_port, sub_port = dead_ports
    environment = surroundings(EVENTBUS_PUB_PORT=pub_port, EVENTBUS_SUB_PORT=sub_port, EVENTBUS_CONNECT_TIMEOUT=0.2)
    with running(command, tmp_path, environment | {"UVICORN_PORT": str(free_port())}) as server:
        assert server.wait() == 3
    assert "ProxyUnreachable" in server.text


def test_dependencies_by_wiring(proxy: EventBusProxy, raw: RawPeers, tmp_path: Path) -> None:
    """A wired route emits as the other does."""
    subscriber = raw.subscriber(b"plant")
    with section("fastapi.md", "Dependencies by wiring") as part:
        part.write(tmp_path)
    with served(tmp_path, surroundings(proxy), "wired:app") as (server, url):
        assert ask(f"{url}/wired/21.5", "POST").status == 202
        assert subscriber.recv_multipart() == [b"plant", b'{"type":"wanted","value":21.5}']
        assert server.end() == -signal.SIGTERM, "that is how uvicorn ends"


def test_tests(tmp_path: Path) -> None:
    """The tests pass, with warnings as errors and without a proxy."""
    with section("fastapi.md", "The service") as part:
        part.write(tmp_path)
        part.take("sh")
    with section("fastapi.md", "Tests") as part:
        part.write(tmp_path)
    ended = done([sys.executable, "-m", "pytest", "-q", "-W", "error"], tmp_path, surroundings())
    assert "3 passed" in ended.stdout
