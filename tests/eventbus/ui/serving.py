"""The page of `eventbus ui` served in a thread, of a bus in memory."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from eventbus.transports.memory import MemoryHub, MemoryTransport
from eventbus.ui.access import Access
from eventbus.ui.server import listening_socket, serve
from eventbus.ui.watcher import Watcher
from tests.support import PATIENCE, in_thread


@dataclass
class Served:
    """A page that is served.

    Attributes:
        url: its address, without a slash at the end.
        bus: a transport that sends what the page shows.
        watcher: what it shows.
    """

    url: str
    bus: MemoryTransport
    watcher: Watcher

    def send(self, topic: str, **fields: object) -> None:
        """Send an event."""
        self.bus.send(topic.encode(), json.dumps(fields).encode())

    def get(self, path: str, method: str = "GET", content: str = "", **headers: str) -> http.client.HTTPResponse:
        """Ask for a path; the answer has been read, and its content is in `text`."""
        with closing(http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=PATIENCE)) as connection:
            connection.request(
                method, path, content or None, {name.replace("_", "-"): value for name, value in headers.items()}
            )
            answer = connection.getresponse()
            answer.text = answer.read().decode()  # type: ignore[attr-defined] # for the test alone
            return answer

    @contextmanager
    def events(self, **headers: str) -> Iterator[Iterator[tuple[str, Any]]]:
        """Open the stream of events: pairs of a name and its content."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=PATIENCE)
        with closing(connection):
            connection.request("GET", "/events", headers={name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            assert answer.status == 200
            assert answer.headers["content-type"].startswith("text/event-stream")

            def messages() -> Iterator[tuple[str, Any]]:
                while line := answer.readline().decode():
                    name = line.removeprefix("event: ").strip()
                    content = answer.readline().decode().removeprefix("data: ")
                    assert answer.readline() == b"\n"
                    yield name, json.loads(content)

            yield messages()

    def connect(self) -> socket.socket:
        """A plain connection."""
        where = urlsplit(self.url)
        return socket.create_connection((where.hostname, where.port or 0), timeout=PATIENCE)


@contextmanager
def served(token: str | None = None, *, port: int = 0) -> Iterator[Served]:
    """Serve the page on a free port within the block."""
    hub = MemoryHub()
    with closing_transport(hub) as bus, closing_transport(hub) as watched:
        watched.subscribe(b"")
        ready = threading.Event()
        with listening_socket("127.0.0.1", port) as listening, Watcher(watched) as watcher:
            access = Access(token, listening.getsockname()[1])
            with in_thread(lambda: serve(watcher, listening, access, ready.set)):
                try:
                    assert ready.wait(PATIENCE)
                    yield Served(f"http://127.0.0.1:{listening.getsockname()[1]}", bus, watcher)
                finally:
                    watched.close(0.0)  # which ends the server, too


@contextmanager
def closing_transport(hub: MemoryHub) -> Iterator[MemoryTransport]:
    """An open transport."""
    transport = MemoryTransport(hub)
    transport.open(PATIENCE)
    try:
        yield transport
    finally:
        transport.close(0.0)
