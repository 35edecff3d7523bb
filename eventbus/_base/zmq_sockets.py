"""The options that all ZeroMQ sockets of this package share, whether they bind or connect."""

from typing import Protocol

import zmq

from eventbus._base.secret import Secret, reveal

type Context = zmq.Context[zmq.Socket[bytes]]
type Socket = zmq.Socket[bytes]

ZAP_DOMAIN = b"eventbus"
"""The ZAP domain of all our sockets. With one, even without an authenticator, libzmq refuses peers that do not speak ZMTP 3;
without one it takes random bytes for frames of an older version."""

_LINGER_S = 1.0  # of sockets that are never closed
HANDSHAKE_TIMEOUT_S = 5.0
"""libzmq drops a connection whose peer has not finished its handshake by then."""


# A peer that vanishes without a word is disconnected after 10 + 3 * 3 seconds, and its queue is freed.
_KEEPALIVE = {zmq.TCP_KEEPALIVE: 1, zmq.TCP_KEEPALIVE_IDLE: 10, zmq.TCP_KEEPALIVE_INTVL: 3, zmq.TCP_KEEPALIVE_CNT: 3}


class CurveKeys(Protocol):
    """The keys of a client that uses CURVE; see `eventbus.keys.ClientKeys`."""

    @property
    def server_public_key(self) -> str:
        """The public key of the server."""

    @property
    def public_key(self) -> str:
        """The client's own public key."""

    @property
    def secret_key(self) -> str | Secret:
        """The client's own secret key."""


def new_socket(
    context: Context,
    kind: int,
    *,
    send_hwm: int = 0,
    receive_hwm: int = 0,
    linger: float = _LINGER_S,
    client_keys: CurveKeys | None = None,
    server_key: str | Secret | None = None,
) -> Socket:
    """Return a new socket, neither bound nor connected.

    Args:
        context: the ZeroMQ context.
        kind: the socket type, such as `zmq.XPUB`.
        send_hwm: high-water mark of the send queue of each peer, in messages; 0: no limit.
        receive_hwm: the same of the receive queues.
        linger: the seconds that the socket goes on sending after it was closed without another linger.
        client_keys: the keys for a CURVE client; None: no encryption.
        server_key: the secret key of a CURVE server; None: no encryption.

    Raises:
        zmq.ZMQError: there is no descriptor left, or no room in the context.
    """
    made = context.socket(kind)
    try:
        made.set(zmq.SNDHWM, send_hwm)
        made.set(zmq.RCVHWM, receive_hwm)
        made.set(zmq.LINGER, round(1000 * linger))
        made.set(zmq.HANDSHAKE_IVL, round(1000 * HANDSHAKE_TIMEOUT_S))
        made.set(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
        for option, value in _KEEPALIVE.items():
            made.set(option, value)
        if client_keys is not None:
            made.set(zmq.CURVE_SERVERKEY, client_keys.server_public_key.encode())
            made.set(zmq.CURVE_PUBLICKEY, client_keys.public_key.encode())
            made.set(zmq.CURVE_SECRETKEY, reveal(client_keys.secret_key).encode())
        if server_key is not None:
            made.set(zmq.CURVE_SERVER, 1)
            made.set(zmq.CURVE_SECRETKEY, reveal(server_key).encode())
            made.set(zmq.ZAP_ENFORCE_DOMAIN, 1)  # without a ZAP handler libzmq refuses every client
    except BaseException:
        made.close(linger=0)
        raise
    return made
