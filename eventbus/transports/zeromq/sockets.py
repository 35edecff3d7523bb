"""The sockets of a client, which connect to a proxy."""

import zmq

from eventbus._base.deadline import LONGEST_S
from eventbus._base.zmq_sockets import Context, Socket, new_socket
from eventbus.options import ZeroMQOptions
from eventbus.transports.zeromq.context import shared_context
from eventbus.transports.zeromq.policy import pause_before_attempt

_CONNECT_TIMEOUT_MS = 2_000  # of one attempt to connect; without it a lost SYN costs two minutes


def connecting_socket(
    context: Context,
    kind: int,
    *,
    send_hwm: int,
    receive_hwm: int,
    options: ZeroMQOptions,
    unacknowledged: int,
    ipv6: bool = False,
) -> Socket:
    """Return a new socket with the options of all connections of clients, not connected yet: subscribe first.

    Args:
        context: the ZeroMQ context.
        kind: the socket type: `zmq.XPUB`, `zmq.SUB`.
        send_hwm: high-water mark of the send queue, in messages; 0: no limit.
        receive_hwm: the same of the receive queue.
        options: how long to wait between attempts to connect, and the keys for CURVE.
        ipv6: resolve names to IPv6 addresses. Not by default: else `localhost` would mean ::1 before 127.0.0.1.
        unacknowledged: the seconds after which a connection is given up whose peer acknowledges nothing.
    """
    made = new_socket(context, kind, send_hwm=send_hwm, receive_hwm=receive_hwm, client_keys=options.keys)
    shared_context.keep_alive(made)
    try:
        made.set(zmq.IPV6, ipv6)
        # libzmq doubles the interval up to the longest. Its own jitter is the same in every process.
        made.set(zmq.RECONNECT_IVL, _milliseconds(pause_before_attempt(options, 0)))
        made.set(zmq.RECONNECT_IVL_MAX, _milliseconds(pause_before_attempt(options, 30)))
        made.set(zmq.CONNECT_TIMEOUT, _CONNECT_TIMEOUT_MS)
        made.set(zmq.TCP_MAXRT, 1000 * unacknowledged)
    except BaseException:
        made.close(linger=0)
        raise
    return made


def _milliseconds(seconds: float) -> int:
    return max(1, round(1000 * min(seconds, LONGEST_S)))


def is_ipv6_endpoint(endpoint: str) -> bool:
    """Whether an endpoint has an IPv6 address."""
    return "[" in endpoint
