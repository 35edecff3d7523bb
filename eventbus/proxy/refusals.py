"""Tells which connections libzmq has ended because of what came on them: a message above the limit, or bytes that are none.

libzmq's monitor says that a connection has ended, but not which side ended it. So the descriptor of each connection is kept
twice: when libzmq has closed its own, the kernel still knows whether the peer had ended the connection, or was sending.
"""

import os
import resource
import socket
import struct
import sys
from contextlib import suppress
from time import sleep

from eventbus._base.deadline import Deadline
from eventbus.proxy.tcp import Connection

_IS_LINUX = sys.platform == "linux"
_TCP_INFO = getattr(socket, "TCP_INFO", 0)
# In `struct tcp_info` of <linux/tcp.h>: tcpi_state, tcpi_last_data_recv in milliseconds, tcpi_bytes_acked.
_STATE = struct.Struct("=B51xI64xQ")
_ESTABLISHED = 1
# What the proxy has sent at least when a peer can send a message: a greeting of 64 bytes and READY; with CURVE also WELCOME.
_HANDSHAKE_BYTES, _CURVE_HANDSHAKE_BYTES = 92, 260
# A silent peer is given up by its heartbeats much later than this; one that sends too much was sending just now.
_MAX_SILENCE_MS = 2_000
_CLOSING_S, _POLL_INTERVAL_S = 0.1, 0.001  # libzmq closes a connection after it has told its end
_MAX_SHARE = 0.25  # of the descriptors: the rest is for connections


class Refusals:
    """The connections of publishers. One thread at a time; close it at the end.

    A peer notices the end of its connection when `ended` is called, so call it soon.

    Args:
        encrypted: whether the proxy uses CURVE, whose handshake is longer. What is wrong in a handshake is no message.
    """

    def __init__(self, *, encrypted: bool) -> None:
        self._handshake_bytes = _CURVE_HANDSHAKE_BYTES if encrypted else _HANDSHAKE_BYTES
        self._held: dict[int, socket.socket] = {}

    def opened(self, descriptor: int) -> None:
        """Keep a connection; not if there are few descriptors, or the system does not tell what is needed."""
        self._release(descriptor)
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if not _IS_LINUX or descriptor > limit * _MAX_SHARE:
            return
        with suppress(OSError):  # the connection has ended already
            self._held[descriptor] = socket.socket(fileno=os.dup(descriptor))

    def ended(self, descriptor: int) -> Connection | None:
        """Release a connection that libzmq has closed; return it if libzmq has refused what came on it."""
        held = self._held.get(descriptor)
        try:
            if held is None:
                return None
            state, silence, sent = _STATE.unpack(held.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _STATE.size))
            is_refused = state == _ESTABLISHED and silence < _MAX_SILENCE_MS and sent >= self._handshake_bytes
            if is_refused and not _stays_open(descriptor, held):
                return Connection(descriptor, held.getpeername()[:2])
        except OSError:
            pass
        finally:
            self._release(descriptor)
        return None

    def close(self) -> None:
        """Release all connections."""
        for descriptor in list(self._held):
            self._release(descriptor)

    def _release(self, descriptor: int) -> None:
        held = self._held.pop(descriptor, None)
        if held is not None:
            held.close()


def _stays_open(descriptor: int, held: socket.socket) -> bool:
    """Whether the descriptor is that of this connection for a while: then another one has ended, which had it before.

    libzmq's events may come late, when a descriptor has been used again, and just before it closes the descriptor.
    """
    deadline = Deadline(_CLOSING_S)
    try:
        while os.path.sameopenfile(descriptor, held.fileno()):
            if deadline.passed():
                return True
            sleep(_POLL_INTERVAL_S)
    except OSError:  # it is closed
        pass
    return False
