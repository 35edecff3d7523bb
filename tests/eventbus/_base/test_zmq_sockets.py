"""`new_socket`: the options of all our sockets, and CURVE on both sides."""

from collections.abc import Iterator

import pytest
import zmq

from eventbus._base.zmq_sockets import ZAP_DOMAIN, Context, new_socket
from eventbus.keys import ClientKeys, new_pair, public_key_of
from tests.support import PATIENCE


@pytest.fixture
def context() -> Iterator[Context]:
    made: Context = zmq.Context()
    yield made
    made.destroy(linger=0)


def test_options(context: Context) -> None:
    """Queues have no limit unless one is given; linger is in seconds; strangers are refused by the ZAP domain."""
    with new_socket(context, zmq.XPUB, send_hwm=5, linger=0.25) as made:
        assert [made.get(option) for option in (zmq.SNDHWM, zmq.RCVHWM, zmq.LINGER)] == [5, 0, 250]
        assert made.get(zmq.ZAP_DOMAIN) == ZAP_DOMAIN


def test_a_failure_leaves_nothing(context: Context) -> None:
    """An option that libzmq refuses is an error, and the socket is closed: the context can end."""
    with pytest.raises(zmq.ZMQError):
        new_socket(context, zmq.XPUB, send_hwm=-1)
    context.term()


def test_curve(context: Context) -> None:
    """A server with a secret key talks to clients with its public key; without a ZAP handler it lets nobody in."""
    server_secret, client_secret = new_pair()[1], new_pair()[1]
    keys = ClientKeys(public_key_of(server_secret), client_secret)
    with (
        new_socket(context, zmq.PAIR, server_key=server_secret) as server,
        new_socket(context, zmq.PAIR, client_keys=keys) as client,
    ):
        assert server.get(zmq.ZAP_ENFORCE_DOMAIN) == 1
        server.set(zmq.ZAP_ENFORCE_DOMAIN, 0)
        port = server.bind_to_random_port("tcp://127.0.0.1")
        client.connect(f"tcp://127.0.0.1:{port}")
        client.send(b"hello")
        assert server.poll(round(1000 * PATIENCE))
        assert server.recv() == b"hello"
