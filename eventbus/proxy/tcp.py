"""The TCP connections behind a proxy's sockets: how many bytes the kernel has passed (on Linux), and ending one.

libzmq's monitor tells the descriptor of each connection that it accepts. libzmq owns that descriptor, and may close it at
any time; then the number can mean another connection. So each function checks that the peer is still the same.
"""

import fcntl
import socket
import struct
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from eventbus._base.addresses import host_and_port

_IS_LINUX = sys.platform == "linux"
_TCP_INFO = getattr(socket, "TCP_INFO", 0)
_TCP_INFO_BYTES = 148  # up to and with tcpi_notsent_bytes; older kernels return less
_COUNT = struct.Struct("=i")
_RESET = struct.pack("=ii", 1, 0)  # `struct linger` of <sys/socket.h>: on, for no time
# In `struct tcp_info` of <linux/tcp.h>: tcpi_bytes_acked and tcpi_bytes_received, then tcpi_notsent_bytes.
_BYTES, _UNSENT = struct.Struct("=120xQQ"), struct.Struct("=144xI")


class Connection(NamedTuple):
    """A connection to one of the proxy's ports, which stays the same even if its descriptor is used again."""

    descriptor: int
    peer: tuple[str, int]

    def __str__(self) -> str:
        return host_and_port(*self.peer)


class TcpState(NamedTuple):
    """The kernel's figures for a connection at one moment, in bytes.

    Attributes:
        sent: sent and acknowledged by the peer, since the connection was opened.
        received: received since the connection was opened.
        unsent: in the kernel's send buffer and not sent yet; above 0, the peer or the way to it is too slow.
        unacknowledged: in the kernel's send buffer, sent or not: with `sent`, all that libzmq has written.
    """

    sent: int
    received: int
    unsent: int
    unacknowledged: int = 0


def connection_at(descriptor: int) -> Connection | None:
    """Return the connection that has this descriptor now; None if there is none."""
    try:
        with _borrowed(descriptor) as borrowed:
            return Connection(descriptor, borrowed.getpeername()[:2])
    except (OSError, ValueError):
        return None


def port_of(descriptor: int) -> int | None:
    """Return the port of this machine that the socket with this descriptor is bound to; None if it has none."""
    try:
        with _borrowed(descriptor) as borrowed:
            return int(borrowed.getsockname()[1]) if borrowed.proto == socket.IPPROTO_TCP else None
    except (OSError, ValueError):
        return None


def connection_to(port: int, descriptor: int) -> Connection | None:
    """Return the connection that has this descriptor now, if it is one to this port of this machine."""
    return connection_at(descriptor) if port_of(descriptor) == port else None


def state_of(connection: Connection) -> TcpState | None:
    """Return what the kernel knows of a connection; None if it has ended, or the kernel does not tell."""
    if not _IS_LINUX:
        return None
    try:
        with _borrowed(connection.descriptor) as borrowed:
            info = borrowed.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _TCP_INFO_BYTES)
            if len(info) < _TCP_INFO_BYTES or borrowed.getpeername()[:2] != connection.peer:
                return None
            (unacknowledged,) = _COUNT.unpack(fcntl.ioctl(borrowed, termios.TIOCOUTQ, bytes(_COUNT.size)))
    except (OSError, ValueError):
        return None
    sent, received = _BYTES.unpack_from(info)
    (unsent,) = _UNSENT.unpack_from(info)
    return TcpState(sent, received, unsent, unacknowledged)


def disconnect(connection: Connection) -> bool:
    """End a connection; libzmq then closes it, and frees what it holds for it. Return whether it was open."""
    try:
        with _borrowed(connection.descriptor) as borrowed:
            if borrowed.getpeername()[:2] != connection.peer:
                return False
            # So closing resets it. Else a peer that only sends may wait for a minute, and the kernel keeps what is unsent.
            borrowed.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            borrowed.shutdown(socket.SHUT_RDWR)
    except (OSError, ValueError):
        return False
    return True


@contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket]:
    """A socket object for a descriptor that belongs to libzmq; it does not close it."""
    borrowed = socket.socket(fileno=descriptor)
    try:
        yield borrowed
    finally:
        borrowed.detach()
