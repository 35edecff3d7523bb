"""The XSUB/XPUB proxy that joins publishers and subscribers, embedded in a thread or a process of its own."""

import logging
import time
import uuid
from socket import AF_INET, SOCK_STREAM, gaierror, getaddrinfo
from threading import Lock, Thread
from types import TracebackType
from typing import Self, cast

import zmq

from eventbus.errors import AddressInUse

logger = logging.getLogger("eventbus")

_HWM = 100_000  # messages, per connection
_LINGER = 1_000  # milliseconds
# How long subscribers get to come back before publishers may flush what they have kept: longer than a client takes between
# two attempts to reconnect.
_SETTLE = 0.25  # seconds


class EventBusProxy:
    """Passes every event from the publishers on one port to the subscribers on the other, natively in libzmq.

    It keeps nothing: an event goes to those who are subscribed when it passes. A subscriber that does not keep up loses
    events when its queue here is full, and delays nobody else. Any thread may call any method.

    Args:
        host: the address to bind. The default lets nobody but this machine in; whoever can reach another one can send and
            read every event.
        pub_port: the port for publishers (XSUB); 0 picks a free one.
        sub_port: the port for subscribers (XPUB); 0 picks a free one.
    """

    def __init__(self, host: str = "127.0.0.1", pub_port: int = 5559, sub_port: int = 5560) -> None:
        self.host = host
        self._asked = (pub_port, sub_port)
        self._lock = Lock()
        self._running: _Running | None = None

    @property
    def pub_port(self) -> int:
        """The port for publishers: while the proxy runs the bound one, else the one asked for."""
        running = self._running
        return running.pub_port if running else self._asked[0]

    @property
    def sub_port(self) -> int:
        """The port for subscribers: while the proxy runs the bound one, else the one asked for."""
        running = self._running
        return running.sub_port if running else self._asked[1]

    def start(self) -> None:
        """Bind both ports and start passing events on, in a thread. Returns when it does. Idempotent.

        Raises:
            AddressInUse: a port is taken.
            OSError: the host cannot be bound.
        """
        with self._lock:
            if self._running is None:
                self._running = _Running(self.host, *self._asked)
                logger.info(
                    "proxy listens on %s: publishers on port %d, subscribers on port %d",
                    self.host,
                    self.pub_port,
                    self.sub_port,
                )

    def stop(self) -> None:
        """Stop passing events on and free both ports; returns when they are free. Idempotent."""
        with self._lock:
            if self._running is not None:
                self._running.stop()
                self._running = None

    def is_running(self) -> bool:
        """Whether it passes events on at this moment."""
        running = self._running
        return running is not None and running.is_alive()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


class _Running:
    """A proxy from bound ports to freed ports."""

    def __init__(self, host: str, pub_port: int, sub_port: int) -> None:
        self._context = zmq.Context()
        try:
            # Data queues are bounded. Subscriptions count against high-water marks too, and must never be forgotten.
            backend = self._socket(zmq.XPUB, send_hwm=_HWM, receive_hwm=0)
            self.sub_port = _bind(backend, host, sub_port, "EVENTBUS_SUB_PORT")
            if pub_port:
                # The back first: publishers that have kept events while no proxy ran send them as soon as they can, and
                # subscribers must be there by then. On a port that was not known before nobody waits.
                time.sleep(_SETTLE)
            frontend = self._socket(zmq.XSUB, send_hwm=0, receive_hwm=_HWM)
            self.pub_port = _bind(frontend, host, pub_port, "EVENTBUS_PUB_PORT")
            address = f"inproc://eventbus-proxy-{uuid.uuid4().hex}"
            control = self._socket(zmq.PAIR)
            control.bind(address)
            self._control = self._socket(zmq.PAIR)
            self._control.connect(address)
        except BaseException:
            self._context.destroy(linger=0)
            raise
        self._thread = Thread(target=_pass_on, args=(frontend, backend, control), name="eventbus-proxy", daemon=True)
        self._thread.start()

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._control.send(b"TERMINATE")
            self._thread.join()
        self._context.destroy()

    def _socket(self, kind: int, *, send_hwm: int = 0, receive_hwm: int = 0) -> "zmq.Socket[bytes]":
        made = self._context.socket(kind)
        made.set(zmq.SNDHWM, send_hwm)
        made.set(zmq.RCVHWM, receive_hwm)
        made.set(zmq.LINGER, _LINGER)
        return made


def _bind(socket: "zmq.Socket[bytes]", host: str, port: int, variable: str) -> int:
    """Bind, and return the port that was bound."""
    address = _address(host)
    socket.set(zmq.IPV6, ":" in address)
    endpoint = f"tcp://{f'[{address}]' if ':' in address else address}:{port or '*'}"
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        if error.errno == zmq.EADDRINUSE:
            raise AddressInUse(endpoint, port, variable) from None
        raise OSError(error.errno, f"cannot bind {endpoint}: is {host} an address of this machine?") from None
    bound = cast(bytes, socket.get(zmq.LAST_ENDPOINT))
    return int(bound.rstrip(b"\0").rpartition(b":")[2])


def _address(host: str) -> str:
    """The address of a name, for libzmq binds addresses only; an IPv4 one if there is one."""
    if host == "*":
        return host
    try:
        found = getaddrinfo(host, None, type=SOCK_STREAM)
    except gaierror as error:
        raise OSError(error.errno, f"cannot bind {host}: {error.strerror}") from None
    return str(min(found, key=lambda info: info[0] != AF_INET)[4][0])


def _pass_on(frontend: "zmq.Socket[bytes]", backend: "zmq.Socket[bytes]", control: "zmq.Socket[bytes]") -> None:
    zmq.proxy_steerable(frontend, backend, None, control)
    # Sockets are closed by the thread that used them.
    for socket in (frontend, backend, control):
        socket.close()
