"""`ask` and `greet`: what listens at a port, asked of real sockets and of what is none."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from time import monotonic

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from eventbus._base.zmq_sockets import Context, Socket
from eventbus._base.zmtp import Answer, answer_in, ask, greet
from tests.faults.zmtp import GREETING, SIGNATURE, ready
from tests.support import PATIENCE

LONG = 3 * PATIENCE  # seconds that no test may use up
SHORT = 0.3  # seconds that are meant to be used up


@pytest.fixture
def context() -> Iterator[Context]:
    """A ZeroMQ context, whose sockets are closed at the end."""
    made: Context = zmq.Context()
    yield made
    made.destroy(linger=0)


@contextmanager
def listening(*serve: Callable[[socket.socket], object]) -> Iterator[int]:
    """The port of a server that does this with one connection after the other."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            for action in serve:
                connection, _ = server.accept()
                with connection:
                    action(connection)

        thread = Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(PATIENCE)
        assert not thread.is_alive()


def is_silent(connection: socket.socket) -> None:
    """Read until the other side has had enough, and say nothing."""
    while connection.recv(4_096):
        pass


@pytest.mark.parametrize(("kind", "name"), [(zmq.XSUB, "XSUB"), (zmq.XPUB, "XPUB"), (zmq.REP, "REP"), (zmq.PAIR, "PAIR")])
def test_a_socket_without_security(context: Context, kind: int, name: str) -> None:
    """It tells its kind, at once and to everybody; with a ZAP domain too."""
    made = context.socket(kind)
    made.set(zmq.ZAP_DOMAIN, b"eventbus")
    port = made.bind_to_random_port("tcp://127.0.0.1")
    for _ in range(2):
        assert ask("127.0.0.1", port, PATIENCE) == Answer("NULL", name)
    made.close()


def secured(context: Context, mechanism: str, kind: int = zmq.XSUB) -> Socket:
    made = context.socket(kind)
    if mechanism == "PLAIN":
        made.set(zmq.PLAIN_SERVER, 1)
    else:
        made.set(zmq.CURVE_SERVER, 1)
        made.set(zmq.CURVE_SECRETKEY, zmq.curve_keypair()[1])
    return made


@pytest.mark.parametrize("kind", [zmq.XSUB, zmq.XPUB, zmq.REP])
@pytest.mark.parametrize("mechanism", ["PLAIN", "CURVE"])
def test_a_socket_with_security(context: Context, mechanism: str, kind: int) -> None:
    """It tells its mechanism at once, to each peer that asks, and nothing more."""
    made = secured(context, mechanism, kind)
    port = made.bind_to_random_port("tcp://127.0.0.1")
    began = monotonic()
    for host in ("127.0.0.1", "localhost"):
        assert ask(host, port, LONG) == Answer(mechanism)
    assert monotonic() - began < LONG / 2
    made.close()


def test_ipv6(context: Context) -> None:
    """The address may be one of IPv6."""
    made = secured(context, "CURVE")
    made.set(zmq.IPV6, 1)
    try:
        port = made.bind_to_random_port("tcp://[::1]")
    except zmq.ZMQError:
        made.close()
        pytest.skip("this machine has no IPv6")
    assert ask("::1", port, LONG).mechanism == "CURVE"
    made.close()


def test_nobody(dead_ports: tuple[int, int]) -> None:
    """A port without a listener is an error of the socket."""
    with pytest.raises(ConnectionRefusedError):
        ask("127.0.0.1", dead_ports[0], PATIENCE)


@pytest.mark.parametrize(
    "answer",
    [b"", b"SSH-2.0-OpenSSH_9.9\r\n", b"\xff" * 200, bytes(200), SIGNATURE, GREETING[:31], b"\xfe" + GREETING[1:]],
    ids=lambda answer: repr(answer[:12]),
)
def test_something_else(answer: bytes) -> None:
    """A peer that is not ZeroMQ, or hangs up before its greeting is whole, has no mechanism; the answer says so at once."""

    def serve(connection: socket.socket) -> None:
        connection.recv(64)
        connection.sendall(answer)

    with listening(serve) as port:
        began = monotonic()
        found = greet("127.0.0.1", port, LONG)
        assert (found.mechanism, found.said[:31]) == ("", answer[:31])
        assert monotonic() - began < LONG / 2


def test_a_mechanism_that_is_no_text() -> None:
    """A mechanism of any bytes becomes some text that means nothing."""

    def serve(connection: socket.socket) -> None:
        connection.recv(64)
        connection.sendall(GREETING[:12] + b"\xff\xfe\x00\x01".ljust(20, b"\xff") + bytes(32))

    with listening(serve) as port:
        assert greet("127.0.0.1", port, LONG).mechanism not in ("", "NULL", "PLAIN", "CURVE")


def test_silence() -> None:
    """A peer that says nothing, or too little, is not waited for longer than asked."""
    for content in (b"", GREETING[:20]):

        def serve(connection: socket.socket, content: bytes = content) -> None:
            connection.sendall(content)
            is_silent(connection)

        with listening(serve) as port:
            assert greet("127.0.0.1", port, SHORT) == Answer(said=content)


def test_one_byte_at_a_time() -> None:
    """An answer that comes in pieces counts, and is read to the end of what matters."""

    def serve(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in GREETING + ready(b"XPUB"):
            connection.sendall(bytes([byte]))
        is_silent(connection)

    with listening(serve) as port:
        assert greet("127.0.0.1", port, LONG) == Answer("NULL", "XPUB")


def test_what_speaks_first() -> None:
    """The first line of what says something else is the answer."""
    with listening(lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")) as port:
        assert ask("127.0.0.1", port, PATIENCE).said == b"SSH-2.0-OpenSSH_9.9\r\n"


def test_what_waits_for_a_request() -> None:
    """A peer that does not answer a greeting may answer a request: a web server does."""

    def answer(connection: socket.socket) -> None:
        assert connection.recv(4_096).startswith(b"GET / HTTP/1")
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")

    with listening(is_silent, answer) as port:
        assert ask("127.0.0.1", port, SHORT).said.startswith(b"HTTP/1.0 200 OK")


def test_who_hangs_up() -> None:
    """A peer that closes without a word is distinguished from a silent one."""
    with listening(lambda connection: connection.recv(4_096)) as port:
        assert ask("127.0.0.1", port, PATIENCE) == Answer(ended=True)


def test_who_never_ends() -> None:
    """No more than needed is read of a peer that sends without end."""

    def chatter(connection: socket.socket) -> None:
        try:
            while True:
                connection.sendall(b"x" * 4_096)
        except OSError:
            pass

    with listening(chatter) as port:
        assert len(ask("127.0.0.1", port, PATIENCE).said) < 10_000


def test_one_that_trickles() -> None:
    """A peer that sends a byte now and then does not prolong the timeout."""

    def trickle(connection: socket.socket) -> None:
        connection.settimeout(SHORT / 10)
        while True:
            try:
                connection.sendall(b"\xff")
                if not connection.recv(64):
                    return
            except TimeoutError:
                pass
            except OSError:
                return

    with listening(trickle) as port:
        assert set(ask("127.0.0.1", port, SHORT).said) == {0xFF}


@pytest.mark.parametrize(
    ("received", "expected"),
    [
        (GREETING + ready(b"XPUB"), Answer("NULL", "XPUB")),
        (GREETING + ready(b"XPUB")[:-1], Answer("NULL")),
        (GREETING + b"\x04\x06\x05ERROR", Answer("NULL")),
        (GREETING + b"\x06" + (len(ready(b"XSUB")) - 2).to_bytes(8) + ready(b"XSUB")[2:], Answer("NULL", "XSUB")),
        (GREETING, Answer("NULL")),
        (SIGNATURE, Answer(said=SIGNATURE)),
        (b"", Answer()),
    ],
)
def test_what_bytes_tell(received: bytes, expected: Answer) -> None:
    """A greeting alone tells the mechanism; a whole READY behind it tells the kind, whatever the form of its frame."""
    assert answer_in(received, ended=False) == expected


@given(st.binary(max_size=200), st.integers(0, 120))
def test_any_bytes(tail: bytes, start: int) -> None:
    """Whatever comes: it tells something or nothing, and is no error."""
    answer_in((GREETING + ready(b"XPUB"))[:start] + tail, ended=True)
