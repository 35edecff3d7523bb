"""Tells which connections libzmq has ended because of what came on them: a message above the limit, or bytes that are none.

libzmq's monitor says that a connection has ended, but not which side ended it. So the descriptor of each connection is kept
twice: when libzmq has closed its own, the kernel still knows whether the peer had ended the connection, or was sending.

The process may be another program's. So only connections to the proxy's own port are kept, whatever a descriptor has become
since libzmq told of it; their second descriptors have high numbers, which leaves the low ones to the program, as `select`
needs them; forked children close theirs; and nothing here waits.
"""

import fcntl
import os
import resource
import socket
import struct
import sys
import termios
from contextlib import suppress

from eventbus._base.deadline import Deadline
from eventbus._base.forks import register_fork
from eventbus.proxy.tcp import Connection, connection_to, port_of

_IS_LINUX = sys.platform == "linux"
_TCP_INFO = getattr(socket, "TCP_INFO", 0)
# In `struct tcp_info` of <linux/tcp.h>: tcpi_state, tcpi_last_data_recv in milliseconds, tcpi_bytes_acked.
_STATE = struct.Struct("=B51xI64xQ")
_ESTABLISHED, _CLOSE_WAIT = 1, 8
_UNREAD = struct.Struct("=i")
# What the proxy has sent at least when a peer can send a message: a greeting of 64 bytes and READY; with CURVE also WELCOME.
_HANDSHAKE_BYTES, _CURVE_HANDSHAKE_BYTES = 92, 260
# A silent peer is given up by its heartbeats much later than this; one that sends too much was sending just now.
_MAX_SILENCE_MS = 2_000
_CLOSING_S = 0.1  # libzmq closes a connection just after it has told its end
_MAX_SHARE = 0.25  # of the descriptors: the rest is for connections, and for the program
_MAX_FIRST_DESCRIPTOR = 8_192  # the kernel's table grows with the highest number


class Refusals:
    """The connections of publishers. One thread at a time; close it at the end.

    A peer notices the end of its connection when `ended` is called, so call it soon.

    Args:
        encrypted: whether the proxy uses CURVE, whose handshake is longer. What is wrong in a handshake is no message.
    """

    def __init__(self, *, encrypted: bool) -> None:
        self._handshake_bytes = _CURVE_HANDSHAKE_BYTES if encrypted else _HANDSHAKE_BYTES
        self._port: int | None = None
        self._held: dict[int, socket.socket] = {}
        self._closing: list[tuple[int, socket.socket, Deadline]] = []  # that libzmq has perhaps not closed yet
        register_fork(self)

    def listens(self, descriptor: int) -> None:
        """Learn the port from the descriptor that listens at it. Before that, no connection is kept."""
        self._port = port_of(descriptor)

    def opened(self, descriptor: int) -> None:
        """Keep a connection; not if there are few descriptors, or the system does not tell what is needed."""
        self._release(descriptor)
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if not _IS_LINUX or self._port is None or len(self._held) >= limit * _MAX_SHARE:
            return
        if connection_to(self._port, descriptor) is None:  # it has ended already, and another thing may have its descriptor
            return
        try:
            second = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, min(limit // 2, _MAX_FIRST_DESCRIPTOR))
        except OSError:
            return
        if connection_to(self._port, second) is None:  # it has become another thing at this very moment
            os.close(second)
        else:
            self._held[descriptor] = socket.socket(fileno=second)

    def ended(self, descriptor: int) -> None:
        """Release a connection whose end libzmq has told; not yet if libzmq has perhaps refused what came on it."""
        held = self._held.pop(descriptor, None)
        if held is None:
            return
        if self._was_sending(held):
            self._closing.append((descriptor, held, Deadline(_CLOSING_S)))
        else:
            held.close()

    @property
    def is_waiting(self) -> bool:
        """Whether `refused` will tell more when it is called again, in a millisecond or some."""
        return bool(self._closing)

    def refused(self) -> list[Connection]:
        """Return the connections that have ended and that libzmq has refused, each once, and release them."""
        refused: list[Connection] = []
        still_open: list[tuple[int, socket.socket, Deadline]] = []
        for descriptor, held, deadline in self._closing:
            if not _is_closed(descriptor, held):
                # libzmq tells of the end just before it closes. If it does not close, it has told of an earlier connection,
                # which had the same descriptor.
                if deadline.passed():
                    held.close()
                else:
                    still_open.append((descriptor, held, deadline))
                continue
            if self._was_sending(
                held
            ):  # still: else libzmq has told of an earlier one, and the peer has ended this one since
                with suppress(OSError):
                    refused.append(Connection(descriptor, held.getpeername()[:2]))
            held.close()
        self._closing = still_open
        return refused

    def close(self) -> None:
        """Release all connections."""
        for held in (*self._held.values(), *(held for _, held, _ in self._closing)):
            held.close()
        self._held, self._closing = {}, []

    def _after_fork(self) -> None:
        self.close()

    def _release(self, descriptor: int) -> None:
        held = self._held.pop(descriptor, None)
        if held is not None:
            held.close()

    def _was_sending(self, held: socket.socket) -> bool:
        """Whether the peer was sending when libzmq ended the connection.

        If the peer has ended it, libzmq notices that when it has read everything.
        """
        try:
            state, silence, sent = _STATE.unpack(held.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _STATE.size))
            (unread,) = _UNREAD.unpack(fcntl.ioctl(held, termios.FIONREAD, bytes(_UNREAD.size)))
        except OSError:
            return False
        is_open = state == _ESTABLISHED or (state == _CLOSE_WAIT and unread > 0)
        return bool(is_open and silence < _MAX_SILENCE_MS and sent >= self._handshake_bytes)


def _is_closed(descriptor: int, held: socket.socket) -> bool:
    """Whether this descriptor is closed, or another thing's by now."""
    try:
        return not os.path.sameopenfile(descriptor, held.fileno())
    except OSError:
        return True
