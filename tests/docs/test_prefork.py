"""docs/prefork.md: what it shows runs under the real gunicorn."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq

from eventbus import EventBusProxy
from tests.docs.pages import Section, section, sections
from tests.docs.running import Program, free_port, running, surroundings
from tests.faults.programs import stop_process
from tests.support import PATIENCE, RawPeers, eventually
from tests.web import ask


@contextmanager
def gunicorn(folder: Path, proxy: EventBusProxy, port: int, worker_class: str = "") -> Iterator[Program]:
    """Run gunicorn as its configuration in the folder says, at a port."""
    # Its home, too: it listens there for commands, and other tests run others.
    arguments = f"--bind=127.0.0.1:{port}" + (f" --worker-class={worker_class}" if worker_class else "")
    environment = surroundings(proxy, GUNICORN_CMD_ARGS=arguments, HOME=folder)
    with running(["gunicorn"], folder, environment) as master:
        yield master


def workers_of(master: Program) -> list[int]:
    """The process ids of its workers."""
    pid = master.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def answers_of_each(workers: list[int], url: str) -> list[int]:
    """The statuses that the workers answer with, one after the other: meanwhile the others stand still."""
    statuses = []
    for worker in workers:
        others = [other for other in workers if other != worker]
        for other in others:
            stop_process(other)
        try:
            statuses.append(ask(url).status)
        finally:
            for other in others:
                os.kill(other, signal.SIGCONT)
    return statuses


def check_each_worker_emits(
    part: Section, proxy: EventBusProxy, subscriber: "zmq.Socket[bytes]", folder: Path, worker_class: str = ""
) -> None:
    part.write(folder)
    port = free_port()
    with gunicorn(folder, proxy, port, worker_class) as master:
        eventually(lambda: proxy.health().connections.publishers == 3, PATIENCE, "three workers, and nobody else")
        assert answers_of_each(workers_of(master), f"http://127.0.0.1:{port}/") == [204, 204, 204]
        received = [subscriber.recv_multipart() for _ in range(3)]
        assert master.end() == 0
    assert received == [[b"web", b'{"type":"requested"}']] * 3
    assert "Traceback" not in master.text
    assert "never closed" not in master.text


@pytest.mark.parametrize("worker_class", ["sync", "gthread"])
def test_with_a_client(proxy: EventBusProxy, raw: RawPeers, tmp_path: Path, worker_class: str) -> None:
    """The hooks connect and close a client in each of three workers, and the master has none."""
    with section("prefork.md", "With a client") as part:
        check_each_worker_emits(part, proxy, raw.subscriber(b"web"), tmp_path, worker_class)


def test_with_a_container(proxy: EventBusProxy, raw: RawPeers, tmp_path: Path) -> None:
    """The workers do the same with a container's resources."""
    with section("prefork.md", "With a container") as part:
        check_each_worker_emits(part, proxy, raw.subscriber(b"web"), tmp_path)


def test_with_an_asgi_application(proxy: EventBusProxy, tmp_path: Path) -> None:
    """The lifespan of the service that docs/fastapi.md shows runs in each worker, and its end is awaited."""
    (service,) = [block.code for each in sections("fastapi.md") for block in each.blocks if block.title == "service.py"]
    (tmp_path / "service.py").write_text(service)
    with section("prefork.md", "With an ASGI application") as part:
        part.write(tmp_path)
        port = free_port()
        with gunicorn(tmp_path, proxy, port) as master:
            master.wait_for("ASGI server listening", times=2)
            answer = ask(f"http://127.0.0.1:{port}/health")
            assert (answer.status, json.loads(answer.text)["state"]) == (200, "ready")
            assert proxy.health().connections.publishers == 2
            assert master.end() == 0
    eventually(lambda: proxy.health().connections.publishers == 0, PATIENCE, "closed clients")
    assert "Traceback" not in master.text
