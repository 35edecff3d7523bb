"""The XSUB/XPUB proxy that joins publishers and subscribers, embedded in a thread or a process of its own."""

import logging
import signal
import struct
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from socket import AF_INET, SOCK_STREAM, gaierror, getaddrinfo
from threading import Lock, Thread
from types import TracebackType
from typing import Self, cast

import zmq

from eventbus.deadline import Deadline
from eventbus.descriptors import require_descriptors
from eventbus.errors import AddressInUse

logger = logging.getLogger("eventbus")

_HWM = 100_000  # messages, per connection
_LINGER = 1_000  # milliseconds
_BACKLOG = 1_024  # connections that wait to be accepted: a fleet that comes back comes at once
_HANDSHAKE = 5_000  # milliseconds until a connection that does not finish its greeting is dropped
_ANSWER = 1.0  # seconds within which a healthy proxy tells its counts; it takes less than a millisecond
# A context has five, each of four sockets one, each of two ports one, and each client's two connections one.
_DESCRIPTORS = 5 + 4 + 2 + 2

# With a domain, though nobody authenticates, libzmq refuses what does not speak ZMTP 3. Without one it takes random bytes
# for frames of an older version.
_ZAP_DOMAIN = b"eventbus"

# Seconds after which a peer that is gone without a word is disconnected, with its queue: 10 and 3 times 3.
_KEEPALIVE = {zmq.TCP_KEEPALIVE: 1, zmq.TCP_KEEPALIVE_IDLE: 10, zmq.TCP_KEEPALIVE_INTVL: 3, zmq.TCP_KEEPALIVE_CNT: 3}
# libzmq keeps a node per byte of a subscription and walks them recursively: a long one costs 60 times its size, a very long
# one the stack. A topic has 255 bytes.
_MAX_SUBSCRIPTION_BYTES = 4_096
_MIN_EVENT_BYTES = 1_024  # a smaller limit would refuse topics, and the handshake itself


@dataclass(frozen=True, slots=True)
class Traffic:
    """What went one way: frames, of which each message of this bus has two, and the bytes in them."""

    frames: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class ProxyHealth:
    """How a proxy is at one moment, or was when it ended.

    The counts are libzmq's own and begin with `start`. What goes out is counted when it is handed on, once, however many get
    it: also what nobody has subscribed to, and what was dropped because a subscriber's queue was full.

    Attributes:
        running: whether it passes messages on: it has been started and it answers.
        uptime: seconds since it was started; of one that has ended, how long it ran.
        from_publishers: what publishers have sent.
        to_subscribers: what was handed on to subscribers.
        from_subscribers: subscriptions, and their ends, that subscribers have sent and that change anything for publishers.
        to_publishers: what was handed on to publishers.
    """

    running: bool = False
    uptime: float = 0.0
    from_publishers: Traffic = Traffic()
    to_subscribers: Traffic = Traffic()
    from_subscribers: Traffic = Traffic()
    to_publishers: Traffic = Traffic()


class EventBusProxy:
    """Passes every event from the publishers on one port to the subscribers on the other, natively in libzmq.

    It keeps nothing: an event goes to those who are subscribed when it passes. A subscriber that does not keep up loses
    events when its queue here is full, and delays nobody else. Whoever sends what is not ZeroMQ, or is too large, is
    disconnected. Any thread may call any method.

    Args:
        host: the address to bind. The default lets nobody but this machine in; whoever can reach another one can send and
            read every event, and end the subscriptions of others (by ending what it never began, which libzmq passes on).
        pub_port: the port for publishers (XSUB); 0 picks a free one.
        sub_port: the port for subscribers (XPUB); 0 picks a free one.
        max_event_bytes: the largest payload of a message. A publisher that sends a larger one is disconnected.
        settle: how many seconds subscribers get to come back before publishers may, on ports that are not picked. Publishers
            send what they have kept while no proxy ran as soon as they can: subscribers miss none of it if this is longer
            than they take between two attempts to reconnect.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        pub_port: int = 5559,
        sub_port: int = 5560,
        *,
        max_event_bytes: int = 16_777_216,
        settle: float = 0.25,
    ) -> None:
        self.host = host
        self._asked = (pub_port, sub_port)
        self._max_event_bytes = max_event_bytes
        self._settle = settle
        self._lock = Lock()
        self._running: _Running | None = None
        self._last = ProxyHealth()  # of the one that was stopped last

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
            DescriptorsExhausted: the process may not open as many sockets as a proxy needs.
            OSError: the host cannot be bound.
        """
        with self._lock:
            if self._running is not None and not self._running.is_alive():
                self._stop()  # it has ended of itself
            if self._running is None:
                self._running = _Running(self.host, *self._asked, self._max_event_bytes, self._settle)
                logger.info(
                    "proxy listens on %s: publishers on port %d, subscribers on port %d",
                    self.host,
                    self.pub_port,
                    self.sub_port,
                )

    def stop(self) -> None:
        """Stop passing events on and free both ports; returns when they are free. Idempotent."""
        with self._lock:
            self._stop()

    def is_running(self) -> bool:
        """Whether it passes events on at this moment."""
        running = self._running
        return running is not None and running.is_alive()

    def health(self) -> ProxyHealth:
        """Return how it is and what it has passed on.

        Takes less than a millisecond, and a second at most: a proxy that has not answered by then counts as not running,
        whatever keeps it, and the counts are the last that it has told.
        """
        running = self._running
        return running.health() if running else self._last

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _stop(self) -> None:
        if self._running is not None:
            self._running.stop()
            self._last = self._running.health()
            self._running = None


class _Running:
    """A proxy from bound ports to freed ports."""

    def __init__(self, host: str, pub_port: int, sub_port: int, max_event_bytes: int, settle: float) -> None:
        require_descriptors(_DESCRIPTORS)
        self._context = zmq.Context()
        try:
            # Data queues are bounded. Subscriptions count against high-water marks too, and must never be forgotten.
            self._backend = self._socket(zmq.XPUB, send_hwm=_HWM, receive_hwm=0, largest=_MAX_SUBSCRIPTION_BYTES)
            self.sub_port = _bind(self._backend, host, sub_port, "EVENTBUS_SUB_PORT")
            if pub_port:
                # The back first: publishers that have kept events while no proxy ran send them as soon as they can, and
                # subscribers must be there by then. On a port that was not known before nobody waits.
                time.sleep(settle)
            largest = max(max_event_bytes, _MIN_EVENT_BYTES)
            self._frontend = self._socket(zmq.XSUB, send_hwm=0, receive_hwm=_HWM, largest=largest)
            self.pub_port = _bind(self._frontend, host, pub_port, "EVENTBUS_PUB_PORT")
            address = f"inproc://eventbus-proxy-{uuid.uuid4().hex}"
            self._commands = self._socket(zmq.PAIR)
            self._commands.bind(address)
            self._control = self._socket(zmq.PAIR)
            self._control.connect(address)
            # Whoever touches the control socket holds the lock, and looks first whether the thread lives.
            self._controlling = Lock()
            self._traffic = (Traffic(),) * 4
            self._started = time.monotonic()
            self._ended: float | None = None
            self._thread = Thread(target=self._pass_on, name="eventbus-proxy", daemon=True)
            self._thread.start()
        except BaseException as error:
            self._context.destroy(linger=0)
            if isinstance(error, zmq.ZMQError):  # others have taken the descriptors meanwhile
                raise OSError(error.errno, f"cannot run a proxy: {error.strerror}") from error
            raise

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        with self._controlling:
            if self._thread.is_alive():
                self._ask(Deadline(_ANSWER))
                with suppress(zmq.Again):  # it has ended this very moment
                    self._control.send(b"TERMINATE", zmq.NOBLOCK)
                self._thread.join()
            self._context.destroy()

    def health(self) -> ProxyHealth:
        deadline = Deadline(_ANSWER)
        running = False
        if self._controlling.acquire(timeout=deadline.left()):
            try:
                running = self._thread.is_alive() and self._ask(deadline)
            finally:
                self._controlling.release()
        return ProxyHealth(running, (self._ended or time.monotonic()) - self._started, *self._traffic)

    def _ask(self, deadline: Deadline) -> bool:
        """Ask the thread for its counts; return whether it has answered in time."""
        while self._control.poll(0):
            self._control.recv_multipart()  # too late for whoever asked
        try:
            self._control.send(b"STATISTICS", zmq.NOBLOCK)
        except zmq.Again:  # it has ended this very moment
            return False
        if not self._control.poll(round(deadline.left() * 1000)):
            return False
        counts = [struct.unpack("=Q", frame)[0] for frame in self._control.recv_multipart()]
        front_in, front_out, back_in, back_out = (Traffic(*counts[index : index + 2]) for index in range(0, 8, 2))
        self._traffic = front_in, back_out, back_in, front_out
        return True

    def _pass_on(self) -> None:
        # Signals are for other threads: interrupted, libzmq's proxy would start anew and count from zero.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            zmq.proxy_steerable(self._frontend, self._backend, None, self._commands)
        except Exception:
            logger.exception("the proxy on ports %d and %d has ended, events pass no more", self.pub_port, self.sub_port)
        finally:
            self._ended = time.monotonic()
            # Sockets are closed by the thread that used them.
            for socket in (self._frontend, self._backend, self._commands):
                socket.close()

    def _socket(self, kind: int, *, send_hwm: int = 0, receive_hwm: int = 0, largest: int = -1) -> "zmq.Socket[bytes]":
        made = self._context.socket(kind)
        made.set(zmq.SNDHWM, send_hwm)
        made.set(zmq.RCVHWM, receive_hwm)
        made.set(zmq.LINGER, _LINGER)
        made.set(zmq.BACKLOG, _BACKLOG)
        made.set(zmq.HANDSHAKE_IVL, _HANDSHAKE)
        made.set(zmq.MAXMSGSIZE, largest)
        made.set(zmq.ZAP_DOMAIN, _ZAP_DOMAIN)
        for option, value in _KEEPALIVE.items():
            made.set(option, value)
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
