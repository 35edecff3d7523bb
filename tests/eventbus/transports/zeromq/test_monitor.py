"""`Monitor`: the status of a connection, from sockets that meet every kind of other side."""

import os
import select
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Thread

import pytest
import zmq

from eventbus import EventBusProxy
from eventbus._base.zmq_sockets import ZAP_DOMAIN, Context, Socket
from eventbus.options import ZeroMQOptions
from eventbus.transports.zeromq.monitor import Monitor
from eventbus.transports.zeromq.policy import ConnectionStatus
from eventbus.transports.zeromq.sockets import connecting_socket
from tests.container.support import free_ports
from tests.support import PATIENCE, eventually, in_thread, proxy_process

QUICK = ZeroMQOptions(
    echo_interval=0, echo_timeout=1, reconnect_interval=0.02, reconnect_max_interval=0.02, reconnect_attempts=-1
)


@pytest.fixture
def context() -> Iterator[Context]:
    """A ZeroMQ context of the test's own, where sockets that are left open are closed at the end."""
    made: Context = zmq.Context()
    yield made
    made.destroy(linger=0)


class Connection:
    """A socket that is followed, and its monitor."""

    def __init__(self, context: Context, port: int, kind: int = zmq.XPUB) -> None:
        self.context = context
        self.endpoint = f"tcp://127.0.0.1:{port}"
        self.kind = kind
        self.monitor = Monitor(context)
        self.socket = self.connect()

    def connect(self) -> Socket:
        made = connecting_socket(self.context, self.kind, send_hwm=0, receive_hwm=0, options=QUICK, unacknowledged=10)
        self.monitor.attach(made)
        made.connect(self.endpoint)
        return made

    def renew(self) -> None:
        self.monitor.detach()
        self.socket.close(linger=0)
        self.socket = self.connect()

    def close(self) -> None:
        self.monitor.detach()
        self.socket.close(linger=0)

    def is_up(self) -> bool:
        return self.monitor.status().up

    def wait_for(self, condition: Callable[[ConnectionStatus], object]) -> ConnectionStatus:
        """Return the status once the condition holds of it."""
        eventually(lambda: condition(self.monitor.status()), PATIENCE, f"{self.monitor.status()}")
        return self.monitor.status()


type Connect = Callable[..., Connection]


@pytest.fixture
def connect(context: Context) -> Iterator[Connect]:
    """Makes connections, and closes them."""
    with ExitStack() as stack:

        def make(port: int, kind: int = zmq.XPUB) -> Connection:
            made = Connection(context, port, kind)
            stack.callback(made.close)
            return made

        yield make


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A server that greets each client with these bytes and hangs up; its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    accepted, _ = server.accept()
                except OSError:
                    return
                with accepted:
                    accepted.recv(64)
                    accepted.sendall(answer)

        thread = Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE)


class Gatekeeper:
    """A publisher's other side that asks a ZAP handler about each client; `status` is the answer."""

    def __init__(self, context: Context) -> None:
        self.status = b"400"
        self._handler = context.socket(zmq.REP)
        self._handler.bind("inproc://zeromq.zap.01")
        self._thread = Thread(target=self._answer, daemon=True)
        self._thread.start()
        self._door = context.socket(zmq.XSUB)
        self._door.set(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
        self.port = self._door.bind_to_random_port("tcp://127.0.0.1")

    def _answer(self) -> None:
        with self._handler:
            try:
                while True:
                    version, request, *_ = self._handler.recv_multipart()
                    self._handler.send_multipart([version, request, self.status, b"", b"", b""])
            except zmq.ContextTerminated:
                pass


@pytest.fixture
def gatekeeper() -> Iterator[Gatekeeper]:
    context: Context = zmq.Context()
    made = Gatekeeper(context)
    yield made
    made._door.close(linger=0)
    context.term()
    made._thread.join(PATIENCE)


def test_a_look_that_was_broken_off(connect: Connect) -> None:
    """When a signal handler has raised in the midst of an event, the next look goes on with the event after it."""
    with EventBusProxy(pub_port=0, sub_port=0) as proxy:
        connection = connect(proxy.pub_port)
        events = connection.monitor._events
        assert events is not None
        assert events.poll(round(PATIENCE * 1000))
        events.recv()  # half of the event that it is up
    connection.wait_for(lambda status: status.failures or status.abandoned)


@pytest.mark.parametrize("kind", [zmq.XPUB, zmq.SUB])
def test_a_connection_that_succeeds_is_up(proxy: EventBusProxy, connect: Connect, kind: int) -> None:
    """A status is down before its connection, and up after the handshake."""
    connection = connect(proxy.pub_port if kind == zmq.XPUB else proxy.sub_port, kind)
    assert connection.wait_for(lambda status: status.up) == ConnectionStatus(up=True, handshakes=1)


def test_a_connection_that_nobody_follows_is_down(context: Context) -> None:
    """Before a socket is attached the status is that of no connection, and there is no descriptor."""
    monitor = Monitor(context)
    assert (monitor.status(), monitor.fileno()) == (ConnectionStatus(), -1)
    monitor.detach()
    assert monitor.status() == ConnectionStatus()


def test_a_refused_port_is_tried_again(dead_ports: tuple[int, int], connect: Connect) -> None:
    """At a port where nobody listens each attempt is a failure, and libzmq goes on by itself."""
    connection = connect(dead_ports[0])
    first = connection.wait_for(lambda status: status.failures)
    later = connection.wait_for(lambda status: status.failures >= first.failures + 5)
    for status in (first, later):
        assert (status.up, status.handshakes, status.refused) == (False, 0, False)
    connection.wait_for(lambda status: not status.abandoned)


def test_failures_end_with_a_connection(connect: Connect) -> None:
    """The status comes up when a listener is there, and the failures count from 0 again."""
    ports = free_ports()
    connection = connect(ports[0])
    connection.wait_for(lambda status: status.failures >= 3)
    with EventBusProxy("127.0.0.1", *ports):
        assert connection.wait_for(lambda status: status.up) == ConnectionStatus(up=True, handshakes=1)


def test_each_reconnection_is_a_handshake(connect: Connect) -> None:
    """A status whose other side goes and comes back is down and up, with one handshake more each time."""
    ports = free_ports()
    connection = connect(ports[0])
    for number in range(1, 4):
        with EventBusProxy("127.0.0.1", *ports):
            assert connection.wait_for(lambda status: status.up) == ConnectionStatus(up=True, handshakes=number)
        status = connection.wait_for(lambda status: status.failures)
        assert (status.up, status.handshakes) == (False, number)


@pytest.mark.process
def test_a_killed_proxy_is_noticed(connect: Connect) -> None:
    """A status goes down when the other side's process is killed, and is tried again by libzmq."""
    with proxy_process() as (process, pub_port, _):
        connection = connect(pub_port)
        connection.wait_for(lambda status: status.up)
        process.send_signal(signal.SIGKILL)
        status = connection.wait_for(lambda status: status.failures >= 2)
        assert not status.up


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n" * 3, b"\xff" * 200])
@pytest.mark.parametrize("kind", [zmq.XPUB, zmq.SUB])
def test_a_stranger_is_abandoned(connect: Connect, answer: bytes, kind: int) -> None:
    """With a peer that does not speak ZeroMQ, the status is never up, and libzmq abandons the connection."""
    with answering(answer) as port:
        connection = connect(port, kind)
        status = connection.wait_for(lambda status: status.abandoned)
        assert status._replace(broken_off=0) == ConnectionStatus(abandoned=True)  # handshakes depend on it


def test_one_that_hangs_up_is_tried_again(connect: Connect) -> None:
    """If connections are accepted and closed without a word, the status is never up, and each is a failure."""
    with answering(b"") as port:
        connection = connect(port)
        status = connection.wait_for(lambda status: status.failures >= 3)
        assert (status.up, status.handshakes, status.refused) == (False, 0, False)


def is_refused(status: ConnectionStatus) -> bool:
    """Whether libzmq has given it up. Now and then the connection ends before the refusal is read, and it tries again."""
    return status.refused and status.abandoned


def test_a_refusal_is_abandoned(gatekeeper: Gatekeeper, connect: Connect) -> None:
    """If the other side's ZAP handler refuses, the status is refused and abandoned: libzmq does not try again."""
    connection = connect(gatekeeper.port)
    status = connection.wait_for(is_refused)
    assert (status.up, status.handshakes) == (False, 0)
    gatekeeper.status = b"200"
    with pytest.raises(AssertionError):
        eventually(connection.is_up, 0.3)


def test_a_new_socket_after_a_refusal(gatekeeper: Gatekeeper, connect: Connect) -> None:
    """Each refused socket is one more failure; a new socket is up once the other side lets it in, and that is forgotten."""
    connection = connect(gatekeeper.port)
    failures = -1
    for _ in range(5):
        status = connection.wait_for(is_refused)
        assert status.failures > failures
        failures = status.failures
        connection.renew()
    connection.wait_for(is_refused)
    gatekeeper.status = b"200"
    connection.renew()
    assert connection.wait_for(lambda status: status.up) == ConnectionStatus(up=True, handshakes=1)


def test_a_new_socket_of_a_live_connection(proxy: EventBusProxy, connect: Connect) -> None:
    """A connection goes down with its socket, which is no failure, and its handshakes are counted over all sockets."""
    connection = connect(proxy.pub_port)
    for number in range(1, 4):
        connection.wait_for(lambda status: status.up)
        connection.monitor.detach()
        assert connection.monitor.status() == ConnectionStatus(handshakes=number)
        assert connection.monitor.fileno() == -1
        connection.renew()


def test_no_socket_is_abandoned(proxy: EventBusProxy, connect: Connect) -> None:
    """A status without a socket counts as abandoned, and one more failure when it gets one."""
    connection = connect(proxy.pub_port)
    connection.wait_for(lambda status: status.up)
    connection.close()
    connection.monitor.abandon()
    assert connection.monitor.status() == ConnectionStatus(handshakes=1, abandoned=True)
    connection.monitor.detach()
    assert connection.monitor.status() == ConnectionStatus(handshakes=1, failures=1)


def test_the_descriptor_tells_of_changes(connect: Connect) -> None:
    """The descriptor is readable after each change, and no longer once everything was looked at."""
    ports = free_ports()
    with EventBusProxy("127.0.0.1", *ports):
        connection = connect(ports[0])
        poll = select.poll()
        poll.register(connection.monitor.fileno(), select.POLLIN)

        def settle(up: bool) -> None:
            while connection.is_up() is not up:
                assert poll.poll(1000 * PATIENCE)

        settle(up=True)
        connection.monitor.status()
        assert not poll.poll(0)
    settle(up=False)


def test_any_thread_may_look(connect: Connect) -> None:
    """Threads that look while a socket is replaced again and again find one, and nothing breaks."""
    ports = free_ports()
    with EventBusProxy("127.0.0.1", *ports):
        connection = connect(ports[0])
        done = False

        def look() -> None:
            while not done:
                connection.monitor.status()
                connection.monitor.fileno()

        with in_thread(look), in_thread(look):
            for _ in range(50):
                connection.renew()
            connection.wait_for(lambda status: status.up)
            done = True


def test_following_leaves_no_descriptor(dead_ports: tuple[int, int], connect: Connect) -> None:
    """A monitor that was attached and detached leaves nothing open."""
    connection = connect(dead_ports[0])
    connection.wait_for(lambda status: status.failures)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        connection.renew()
    eventually(lambda: len(os.listdir("/proc/self/fd")) <= before)
