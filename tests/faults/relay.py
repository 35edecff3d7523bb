"""A relay between clients and a proxy: the network, which can be held up, cut, closed or silent."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from threading import Event, Lock, Thread

from tests.container.support import free_ports
from tests.faults.proxies import ProxyProcess
from tests.support import eventually


class _Connection:
    """A client's connection and the one to the proxy that continues it."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.ends = near, far
        self.silent = False

    def close(self) -> None:
        for end in self.ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # wakes who reads it
            end.close()


class Relay:
    """Carries bytes to one port of a proxy and back, in threads of its own."""

    def __init__(self, port: int, target: int) -> None:
        self.port = port
        self._target = target
        self._lock = Lock()
        self._connections: list[_Connection] = []
        self._threads: list[Thread] = []
        self._flows = Event()
        self._flows.set()
        self._listener: socket.socket | None = None
        self.admit()

    def hold_up(self) -> None:
        """Carry nothing for a while; what is sent meanwhile waits."""
        self._flows.clear()

    def go_on(self) -> None:
        """Undo `hold_up`."""
        self._flows.set()

    def cut(self) -> None:
        """Close all connections, with what is under way."""
        with self._lock:
            connections, self._connections = self._connections, []
        for connection in connections:
            connection.close()

    def silence(self) -> None:
        """Lead the open connections nowhere: bytes sent on them vanish, and neither side notices."""
        with self._lock:
            for connection in self._connections:
                connection.silent = True

    def refuse(self) -> None:
        """Let no more connections in."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes who accepts
            self._listener.close()
            self._listener = None

    def admit(self) -> None:
        """Undo `refuse`."""
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=100)
        self._start(self._accept, self._listener)

    def close(self) -> None:
        """Close everything; no thread is left."""
        self.refuse()
        self.go_on()
        self.cut()
        for thread in self._threads:
            thread.join()

    def _start(self, action: object, *arguments: object) -> None:
        thread = Thread(target=action, args=arguments, daemon=True)  # type: ignore[arg-type] # a method of this class
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):  # closed
            while True:
                near, _ = listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self._target))
                except OSError:  # no proxy
                    near.close()
                    continue
                for end in (near, far):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection = _Connection(near, far)
                with self._lock:
                    self._connections.append(connection)
                self._start(self._carry, connection, near, far)
                self._start(self._carry, connection, far, near)

    def _carry(self, connection: _Connection, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):  # closed by either side
            while data := source.recv(65_536):
                self._flows.wait()
                if not connection.silent:
                    target.sendall(data)
        if not connection.silent:
            connection.close()


class Network:
    """A relay before each port of a proxy, to which clients connect instead."""

    def __init__(self, proxy: ProxyProcess, stack: ExitStack) -> None:
        self.host = proxy.host
        self.pub_port, self.sub_port = free_ports()
        self.publishing = Relay(self.pub_port, proxy.pub_port)
        stack.callback(self.publishing.close)
        self.subscribing = Relay(self.sub_port, proxy.sub_port)
        stack.callback(self.subscribing.close)

    @property
    def relays(self) -> tuple[Relay, Relay]:
        return self.publishing, self.subscribing


@contextmanager
def network(proxy: ProxyProcess) -> Iterator[Network]:
    """A `Network` that is closed at the end of the block."""
    before = threading.active_count()
    with ExitStack() as stack:
        yield Network(proxy, stack)
    eventually(lambda: threading.active_count() <= before)  # one that has found out why may be ending
