"""`mechanism_at`: who listens at a port, asked of real sockets and of what is none."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from time import monotonic

import pytest
import zmq

from eventbus.transports.zeromq.greeting import mechanism_at
from tests.faults.zmtp import GREETING, SIGNATURE
from tests.support import PATIENCE

LONG = 3 * PATIENCE  # seconds that nobody may use up
SHORT = 0.05  # seconds that are meant to be used up

type Context = zmq.Context[zmq.Socket[bytes]]


@pytest.fixture
def context() -> Iterator[Context]:
    """A ZeroMQ context, whose sockets are closed at the end."""
    made: Context = zmq.Context()
    yield made
    made.destroy(linger=0)


@contextmanager
def listening(serve: Callable[[socket.socket], object]) -> Iterator[str]:
    """The endpoint of a server that does this with one connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            connection, _ = server.accept()
            with connection:
                serve(connection)

        thread = Thread(target=accept, daemon=True)
        thread.start()
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        thread.join(PATIENCE)
        assert not thread.is_alive()


def secured(context: Context, mechanism: str, kind: int = zmq.XSUB) -> "zmq.Socket[bytes]":
    made = context.socket(kind)
    if mechanism == "PLAIN":
        made.set(zmq.PLAIN_SERVER, 1)
    elif mechanism == "CURVE":
        made.set(zmq.CURVE_SERVER, 1)
        made.set(zmq.CURVE_SECRETKEY, zmq.curve_keypair()[1])
    return made


@pytest.mark.parametrize("kind", [zmq.XSUB, zmq.XPUB, zmq.REP, zmq.PAIR])
@pytest.mark.parametrize("mechanism", ["NULL", "PLAIN", "CURVE"])
def test_the_mechanism_of_a_socket(context: Context, mechanism: str, kind: int) -> None:
    """A socket of ZeroMQ tells its mechanism at once, whatever its kind, and again to the next who asks."""
    made = secured(context, mechanism, kind)
    port = made.bind_to_random_port("tcp://127.0.0.1")
    began = monotonic()
    for host in ("127.0.0.1", "localhost"):
        assert mechanism_at(f"tcp://{host}:{port}", LONG) == mechanism
    assert monotonic() - began < LONG / 2
    made.close()


def test_ipv6(context: Context) -> None:
    """An endpoint may have an IPv6 address."""
    made = secured(context, "CURVE")
    made.set(zmq.IPV6, 1)
    try:
        port = made.bind_to_random_port("tcp://[::1]")
    except zmq.ZMQError:
        made.close()
        pytest.skip("this machine has no IPv6")
    assert mechanism_at(f"tcp://[::1]:{port}", LONG) == "CURVE"
    made.close()


def test_nobody(dead_ports: tuple[int, int]) -> None:
    """Where nobody listens there is none, at once; nor where there is no such host."""
    began = monotonic()
    assert mechanism_at(f"tcp://127.0.0.1:{dead_ports[0]}", LONG) is None
    assert monotonic() - began < LONG / 2
    assert mechanism_at("tcp://host.invalid:5559", SHORT) is None


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"\xff" * 200,
        bytes(200),
        SIGNATURE,
        GREETING[:31],
        b"\xfe" + GREETING[1:],
    ],
    ids=lambda answer: repr(answer[:12]),
)
def test_something_else(answer: bytes) -> None:
    """What answers otherwise than ZeroMQ, or hangs up before it has told, has none."""

    def serve(connection: socket.socket) -> None:
        connection.recv(64)
        connection.sendall(answer)

    with listening(serve) as endpoint:
        began = monotonic()
        assert mechanism_at(endpoint, LONG) is None
        assert monotonic() - began < LONG / 2


def test_a_mechanism_that_is_no_text() -> None:
    """A mechanism of any bytes is some text, and none that means anything."""

    def serve(connection: socket.socket) -> None:
        connection.recv(64)
        connection.sendall(GREETING[:12] + b"\xff\xfe\x00\x01".ljust(20, b"\xff") + bytes(32))

    with listening(serve) as endpoint:
        assert mechanism_at(endpoint, LONG) not in (None, "NULL", "PLAIN", "CURVE")


def test_silence() -> None:
    """Who accepts and says nothing, or too little, is not waited for longer than asked."""
    for content in (b"", GREETING[:20]):

        def serve(connection: socket.socket, content: bytes = content) -> None:
            connection.sendall(content)
            while connection.recv(64):  # until the other side has had enough
                pass

        with listening(serve) as endpoint:
            assert mechanism_at(endpoint, SHORT) is None


def test_one_byte_at_a_time() -> None:
    """A greeting that comes in pieces counts, and is read no further than the mechanism."""

    def serve(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.recv(64)
        for byte in GREETING[:32]:
            connection.sendall(bytes([byte]))
        while connection.recv(64):
            pass

    with listening(serve) as endpoint:
        assert mechanism_at(endpoint, LONG) == "NULL"


def test_one_that_trickles_for_ever() -> None:
    """Somebody who sends a byte now and then is not waited for longer than asked in all."""

    def serve(connection: socket.socket) -> None:
        connection.settimeout(SHORT / 10)
        for byte in GREETING[:31]:
            try:
                connection.sendall(bytes([byte]))
                if not connection.recv(64):
                    return
            except TimeoutError:
                pass
            except OSError:
                return

    with listening(serve) as endpoint:
        assert mechanism_at(endpoint, SHORT) is None
