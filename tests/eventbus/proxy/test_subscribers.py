"""The subscriptions of each connection, from requests that peers have written by hand."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import zmq

from eventbus._base.zmq_sockets import ZAP_DOMAIN
from eventbus.proxy.subscribers import Change, Subscribers
from tests.faults import zmtp
from tests.support import PATIENCE

KEY = "k" * 40


class Port:
    """A port for subscribers, and what its peers ask for."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._context = stack.enter_context(zmq.Context())
        self._socket = stack.enter_context(self._context.socket(zmq.XPUB))
        self._socket.set(zmq.XPUB_MANUAL, 1)
        self._socket.set(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
        self._socket.set(zmq.RCVTIMEO, round(1000 * PATIENCE))
        self._port = self._socket.bind_to_random_port("tcp://127.0.0.1")

    def peer(self) -> "Peer":
        return Peer(self, self._stack.enter_context(zmtp.peer(self._port, b"SUB")))

    def ask(self, subscribers: Subscribers, key: str) -> Change:
        request = self._socket.recv(copy=False)
        return subscribers.change(request, key, request.bytes[1:], begins=request.bytes[:1] == b"\x01")


class Peer:
    """One of these peers."""

    def __init__(self, port: Port, connection: socket.socket) -> None:
        self._port = port
        self._connection = connection

    def asks(self, subscribers: Subscribers, request: bytes, key: str = KEY) -> Change:
        self._connection.sendall(zmtp.frame(request))
        return self._port.ask(subscribers, key)


@pytest.fixture
def port() -> Iterator[Port]:
    with ExitStack() as stack:
        yield Port(stack)


def test_ends_of_what_nobody_has_make_no_room(port: Port) -> None:
    """A peer that ends subscriptions that it never made may have no more subscriptions for that."""
    subscribers, peer = Subscribers(limit=3), port.peer()
    exceeds = []
    for number in range(6):
        exceeds.append(peer.asks(subscribers, b"\x01%d" % number).exceeds)
        assert not peer.asks(subscribers, b"\x00never").is_effective
    assert exceeds == [False, False, False, True, False, False]


def test_the_same_again_takes_no_room(port: Port) -> None:
    """A subscription counts once for each connection; it has ended when it is ended once."""
    subscribers, one, two = Subscribers(limit=3), port.peer(), port.peer()
    assert [one.asks(subscribers, b"\x01t").is_effective for _ in range(3)] == [True, False, False]
    assert two.asks(subscribers, b"\x01t").is_effective
    assert [one.asks(subscribers, b"\x00t").is_effective for _ in range(2)] == [True, False]
    assert not any(one.asks(subscribers, b"\x01%d" % number).exceeds for number in range(3))
    assert two.asks(subscribers, b"\x00t").is_effective


def test_the_client_of_a_connection_is_known(port: Port) -> None:
    """The client of each open connection is known once it has asked for anything; many that have ended are forgotten."""
    subscribers, first = Subscribers(limit=3), port.peer()
    connection = first.asks(subscribers, b"\x01t").connection
    assert connection is not None
    assert subscribers.client_at(connection) == KEY
    for _ in range(20):
        with ExitStack() as stack:
            peer = Peer(port, stack.enter_context(zmtp.peer(port._port, b"SUB")))
            other = peer.asks(subscribers, b"\x01t", "other").connection
            assert other is not None
            assert subscribers.client_at(other) == "other"
        port._socket.recv()  # libzmq's end of it
    assert subscribers.client_at(connection) == KEY
    assert not first.asks(subscribers, b"\x01t").is_effective
