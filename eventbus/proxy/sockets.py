"""The sockets that a proxy binds: their options, and the addresses at which they listen."""

from typing import cast

import zmq

from eventbus._base.addresses import is_ipv6, resolve, tcp_endpoint
from eventbus._base.secret import Secret
from eventbus._base.zmq_sockets import Context, Socket, new_socket
from eventbus.errors import AddressInUse

_BACKLOG = 1_024  # connections that wait to be accepted: a fleet of clients comes back all at once


def socket_for(
    context: Context,
    kind: int,
    *,
    send_hwm: int = 0,
    receive_hwm: int = 0,
    largest: int = -1,
    secret_key: str | Secret | None = None,
) -> Socket:
    """Return a new socket of a proxy, not bound yet.

    Args:
        context: the ZeroMQ context.
        kind: `zmq.XSUB`, `zmq.XPUB` or another socket type.
        send_hwm: high-water mark of the send queue of each peer, in messages; 0: no limit.
        receive_hwm: the same of the receive queues.
        largest: the largest frame, in bytes; a peer that sends a larger one is disconnected. -1: no limit.
        secret_key: the proxy's; None: no encryption.
    """
    made = new_socket(context, kind, send_hwm=send_hwm, receive_hwm=receive_hwm, server_key=secret_key)
    made.set(zmq.BACKLOG, _BACKLOG)
    made.set(zmq.MAXMSGSIZE, largest)
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
