"""The page of `eventbus ui` served in a thread, of a bus in memory."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from email.message import Message
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from eventbus.transports.memory import MemoryHub, MemoryTransport
from eventbus.ui.access import Access
from eventbus.ui.server import listening_socket, serve
from eventbus.ui.watcher import Watcher
from tests.support import PATIENCE, in_thread


class Answer(NamedTuple):
    """The answer of a server."""

    status: int
    headers: Message
    text: str


class Page:
    """A page that somebody serves.

    Args:
        url: its address, without a slash at the end.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, method: str = "GET", content: str = "", **headers: str) -> Answer:
        """Ask for a path."""
        with closing(http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=PATIENCE)) as connection:
            connection.request(method, path, content or None, _with_dashes(headers))
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read().decode())

    def status(self) -> int | None:
        """The status of the page itself; None: the connection was ended without an answer."""
        try:
            return self.get("/").status
        except (ConnectionError, http.client.HTTPException):
            return None

    @contextmanager
    def events(self, **headers: str) -> Iterator[Iterator[tuple[str, Any]]]:
        """Open the stream of events: pairs of a name and its content."""
        with closing(http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=PATIENCE)) as connection:
            connection.request("GET", "/events", headers=_with_dashes(headers))
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


class Served(Page):
    """A page of a bus in memory.

    Args:
        url: its address, without a slash at the end.
        bus: a transport that sends what the page shows.
        watcher: what it shows.
    """

    def __init__(self, url: str, bus: MemoryTransport, watcher: Watcher) -> None:
        super().__init__(url)
        self.bus = bus
        self.watcher = watcher

    def send(self, topic: str, **fields: object) -> None:
        """Send an event."""
        self.bus.send(topic.encode(), json.dumps(fields).encode())


def _with_dashes(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


@contextmanager
def served(token: str | None = None, *, port: int = 0, send_buffer: int | None = None) -> Iterator[Served]:
    """Serve the page on a free port within the block.

    Args:
        token: what a visitor must know.
        port: another one than a free one.
        send_buffer: the bytes that may wait for a browser in the kernel; None: as many as that likes.
    """
    hub = MemoryHub()
    with closing_transport(hub) as bus:
        watched = MemoryTransport(hub)
        ready = threading.Event()
        with listening_socket("127.0.0.1", port) as listening, Watcher(watched) as watcher:
            if send_buffer is not None:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
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
