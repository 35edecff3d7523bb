"""Bytes to a server and back, plain or encrypted. One thread writes while another one reads."""

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from threading import Lock

READ_BYTES = 262_144
_UNACKNOWLEDGED_MS = 30_000  # after which the kernel gives up a connection


class Channel:
    """An open connection.

    Args:
        connected: the socket, whose handshake is still to come.

    Attributes:
        read_now: does as `read`, but does not wait: it raises BlockingIOError if there is nothing.
    """

    read_now: Callable[[], bytes]
    keeps = False
    """Whether `write` may keep bytes, which `flush` writes."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self.read_now = partial(connected.recv, READ_BYTES, socket.MSG_DONTWAIT)  # no function of ours for each read
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)

    def fileno(self) -> int:
        """The descriptor, to wait until it is writable."""
        return self._socket.fileno()

    def set_timeout(self, timeout: float | None) -> None:
        """How many seconds `read` waits; None: until something comes."""
        self._socket.settimeout(timeout)

    def read(self) -> bytes:
        """Wait for bytes; return none if the other side has closed.

        Raises:
            OSError: the connection is broken, or a timeout.
        """
        return self._socket.recv(READ_BYTES)

    def write(self, data: "bytes | memoryview[int]") -> int:
        """Write what there is room for without waiting; return how much.

        Raises:
            BlockingIOError: there is no room.
            OSError: the connection is broken.
        """
        return self._socket.send(data, socket.MSG_DONTWAIT)

    def writing(self, data: bytes) -> Iterator[int]:
        """Do as `write` when the result is asked for: in C, so that no signal handler comes between. Not if `keeps`."""
        return map(self._socket.send, (data,), (socket.MSG_DONTWAIT,))

    def flush(self) -> bool:
        """Write what `write` has taken and kept; return whether nothing is left."""
        return True

    def shut(self) -> None:
        """End the connection, also for a thread that waits for it."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Shut it and close the descriptor, for which no thread may wait: it may be another file's at once."""
        self.shut()
        self._socket.close()

    def abandon(self) -> None:
        """Close the descriptor of a forked child, without a word to the server."""
        with suppress(OSError):
            self._socket.close()


class TlsChannel(Channel):
    """The same, encrypted. OpenSSL must not be used by two threads at once, so it works in memory, under a lock.

    Args:
        plain: a channel on which the server has said that TLS follows.
        context: whom to trust, and who the client is.
        host: the name that the server's certificate must have.
        begun: bytes that were read already.

    Raises:
        ssl.SSLError: server and client do not trust each other.
        OSError: the connection broke, or a timeout.
    """

    keeps = True

    def __init__(self, plain: Channel, context: ssl.SSLContext, host: str, begun: bytes = b"") -> None:
        self._socket = plain._socket
        self.read_now = partial(self._read, socket.MSG_DONTWAIT)
        self._lock = Lock()
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._in.write(begun)
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=host)
        self._unsent = b""  # encrypted already
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._socket.sendall(self._out.read())
                data = self._socket.recv(READ_BYTES)
                if not data:
                    raise ConnectionResetError("the server has ended the handshake of TLS") from None
                self._in.write(data)
            except ssl.SSLError:
                with suppress(OSError):
                    self._socket.sendall(self._out.read())  # tells the server why
                raise
        self._socket.sendall(self._out.read())

    def read(self) -> bytes:
        return self._read(0)

    def _read(self, flags: int) -> bytes:
        while True:
            with self._lock:
                try:
                    if data := self._tls.read(READ_BYTES):
                        return data
                    return b""
                except ssl.SSLWantReadError:
                    pass
                except ssl.SSLZeroReturnError:
                    return b""
            more = self._socket.recv(READ_BYTES, flags)
            if not more:
                return b""
            with self._lock:
                self._in.write(more)
                # Post-handshake messages may want an answer; the next write or flush sends it.

    def write(self, data: "bytes | memoryview[int]") -> int:
        with self._lock:
            self._flush()
            if self._unsent:
                raise BlockingIOError
            try:
                taken = self._tls.write(data)
            except ssl.SSLWantReadError:
                raise BlockingIOError from None
            self._flush()
            return taken

    def flush(self) -> bool:
        with self._lock:
            self._flush()
            return not self._unsent

    def _flush(self) -> None:
        self._unsent += self._out.read()
        with suppress(BlockingIOError):
            while self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent, socket.MSG_DONTWAIT) :]
