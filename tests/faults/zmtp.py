"""ZMTP 3 by hand, for peers that begin as libzmq does and then misbehave: https://rfc.zeromq.org/spec/23/."""

import socket
import struct
from collections.abc import Iterable

PATIENCE = 20.0  # seconds; only ever used up by a failing test

SIGNATURE = b"\xff" + bytes(8) + b"\x7f"
GREETING = SIGNATURE + b"\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)

_MORE, _LONG, _COMMAND = 1, 2, 4


def frame(body: bytes, flags: int = 0) -> bytes:
    """A frame with its header."""
    if len(body) > 255:
        return struct.pack(">BQ", flags | _LONG, len(body)) + body
    return bytes([flags, len(body)]) + body


def message(frames: Iterable[bytes]) -> bytes:
    """A message of these frames."""
    *first, last = frames
    return b"".join(frame(body, _MORE) for body in first) + frame(last)


def announcement(size: int) -> bytes:
    """The header alone of a frame of `size` bytes."""
    return struct.pack(">BQ", _LONG, size)


def ready(kind: bytes) -> bytes:
    """The command that ends the handshake of a socket of this kind."""
    return frame(b"\x05READY\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind, _COMMAND)


def connect(port: int, receive_buffer: int = 0) -> socket.socket:
    """A silent TCP connection; the kernel receives `receive_buffer` bytes that nobody reads (0: its default)."""
    made = socket.socket()
    if receive_buffer:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    made.settimeout(PATIENCE)
    try:
        made.connect(("127.0.0.1", port))
    except BaseException:
        made.close()
        raise
    return made


def peer(port: int, kind: bytes, receive_buffer: int = 0) -> socket.socket:
    """A connection with a finished handshake, as a socket of this kind."""
    made = connect(port, receive_buffer)
    made.sendall(GREETING)
    read(made, len(GREETING))
    made.sendall(ready(kind))
    _flags, size = read(made, 2)
    read(made, size)
    return made


def read(connection: socket.socket, count: int) -> bytes:
    """Read exactly `count` bytes."""
    found = b""
    while len(found) < count:
        part = connection.recv(count - len(found))
        assert part, "closed by the other side"
        found += part
    return found


def await_end(connection: socket.socket) -> None:
    """Read until the other side has closed, which it has to."""
    try:
        while connection.recv(65_536):
            pass
    except ConnectionError:
        pass


def finish(connection: socket.socket, content: bytes) -> None:
    """Send this, say that there is no more to come, and wait until the other side has read it all and closed."""
    try:
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # closed at the first bytes
    await_end(connection)
