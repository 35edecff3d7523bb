"""The sockets that a proxy binds: their options, and the addresses at which they listen."""

from typing import cast

import zmq

from eventbus._base.addresses import is_ipv6, resolve, tcp_endpoint
from eventbus.errors import AddressInUse
from eventbus.keys import ZAP_DOMAIN

_LINGER = 1_000  # milliseconds
_BACKLOG = 1_024  # connections that wait to be accepted: a fleet that comes back comes at once
_HANDSHAKE = 5_000  # milliseconds until a connection that does not finish its greeting is dropped

# Seconds after which a peer that is gone without a word is disconnected, with its queue: 10 and 3 times 3.
_KEEPALIVE = {zmq.TCP_KEEPALIVE: 1, zmq.TCP_KEEPALIVE_IDLE: 10, zmq.TCP_KEEPALIVE_INTVL: 3, zmq.TCP_KEEPALIVE_CNT: 3}

type Context = zmq.Context[zmq.Socket[bytes]]
type Socket = zmq.Socket[bytes]


def socket_for(
    context: Context, kind: int, *, send_hwm: int = 0, receive_hwm: int = 0, largest: int = -1, secret_key: str | None = None
) -> Socket:
    """Return a new socket of a proxy. It is not bound yet.

    Args:
        context: the ZeroMQ context.
        kind: `zmq.XSUB`, `zmq.XPUB` or another.
        send_hwm: high-water mark of what is sent to each peer, in messages; 0 for none.
        receive_hwm: that of what is received.
        largest: how many bytes a frame may have; whoever sends a larger one is disconnected. -1: any number.
        secret_key: the proxy's; None for no encryption.
    """
    made = context.socket(kind)
    made.set(zmq.SNDHWM, send_hwm)
    made.set(zmq.RCVHWM, receive_hwm)
    made.set(zmq.LINGER, _LINGER)
    made.set(zmq.BACKLOG, _BACKLOG)
    made.set(zmq.HANDSHAKE_IVL, _HANDSHAKE)
    made.set(zmq.MAXMSGSIZE, largest)
    made.set(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
    if secret_key is not None:
        made.set(zmq.CURVE_SERVER, 1)
        made.set(zmq.CURVE_SECRETKEY, secret_key.encode())
        made.set(zmq.ZAP_ENFORCE_DOMAIN, 1)  # where nobody answers who may connect, nobody may
    for option, value in _KEEPALIVE.items():
        made.set(option, value)
    return made


def bind(socket: "zmq.Socket[bytes]", host: str, port: int, variable: str) -> int:
    """Bind the socket to a port of a host, and return the port.

    Args:
        socket: a socket that is not bound yet.
        host: the address or name to bind.
        port: the port; 0 picks a free one.
        variable: the environment variable that sets the port, for the error.

    Raises:
        AddressInUse: the port is taken.
        OSError: the host is unknown, or no address of this machine.
    """
    address = resolve(host)
    socket.set(zmq.IPV6, is_ipv6(address))
    endpoint = tcp_endpoint(address, port or "*")
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        if error.errno == zmq.EADDRINUSE:
            raise AddressInUse(endpoint, port, variable) from None
        raise OSError(error.errno, f"cannot bind {endpoint}: is {host} an address of this machine?") from None
    bound = cast(bytes, socket.get(zmq.LAST_ENDPOINT))
    return int(bound.rstrip(b"\0").rpartition(b":")[2])
