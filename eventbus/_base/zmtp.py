"""Finds out by hand, without a ZeroMQ socket, what listens at a port: libzmq does not tell why a handshake failed.

A ZeroMQ socket greets with its security mechanism, and one without security then tells its socket type: ZMTP 3 (ZeroMQ RFC
23).
"""

import socket
from typing import NamedTuple

from eventbus._base.deadline import Deadline

_SIGNATURE = b"\xff" + bytes(8) + b"\x7f"
_OPENING = _SIGNATURE + b"\x03"  # a ZeroMQ socket answers with its mechanism
_PLAIN = "NULL"
_REST = b"\x00" + _PLAIN.encode().ljust(20, b"\0") + bytes(32)
_MECHANISM = slice(12, 32)
_GREETING_BYTES = len(_OPENING + _REST)
_LONG, _COMMAND = 2, 4  # flags of a frame
_READY, _KIND = b"\x05READY", b"\x0bSocket-Type"

_HTTP_REQUEST = b"GET / HTTP/1.0\r\n\r\n"
_HTTP_TIMEOUT_S = 1.0
_MAX_ANSWER_BYTES = 4_096


class Answer(NamedTuple):
    """The answer of the peer at a port.

    Attributes:
        mechanism: the security mechanism of a ZeroMQ socket: ``NULL``, ``CURVE``; empty: it is no ZeroMQ socket.
        kind: the socket type of a ZeroMQ socket, if it tells: ``XPUB``, ``XSUB``.
        said: the first bytes of a peer that is no ZeroMQ socket.
        ended: whether the peer closed the connection.
    """

    mechanism: str = ""
    kind: str = ""
    said: bytes = b""
    ended: bool = False


def greet(address: str, port: int, timeout: float) -> Answer:
    """Greet as a ZeroMQ socket does, and wait for up to `timeout` seconds for the answer.

    Raises:
        OSError: no connection: nothing listens there, or nothing comes back in time.
    """
    return answer_in(*_exchange(_OPENING, _REST, address, port, Deadline(timeout)))


def ask(address: str, port: int, timeout: float) -> Answer:
    """Greet as `greet` does; send a peer that stays silent an HTTP request, and wait for one second more.

    Raises:
        OSError: no connection: nothing listens there, or nothing comes back in time.
    """
    answer = greet(address, port, timeout)
    if answer.said or answer.mechanism or answer.ended:
        return answer
    return answer_in(*_exchange(_HTTP_REQUEST, b"", address, port, Deadline(_HTTP_TIMEOUT_S)))


def answer_in(received: bytes, ended: bool) -> Answer:
    """Read an answer.

    Args:
        received: the first bytes that came back.
        ended: whether the connection was closed after them.
    """
    if not received.startswith(_SIGNATURE[:1]) or received[9:10] != _SIGNATURE[9:] or len(received) < _MECHANISM.stop:
        return Answer(said=received, ended=ended)
    mechanism = received[_MECHANISM].rstrip(b"\0").decode("ascii", errors="replace")
    return Answer(mechanism, _kind_in(received[_GREETING_BYTES:]) or "", ended=ended)


def _is_complete(received: bytes) -> bool:
    """Whether the answer tells all that can be known."""
    if not _SIGNATURE.startswith(received[:1]):
        return b"\n" in received
    if len(received) < _GREETING_BYTES:
        return False
    answer = answer_in(received, ended=False)
    return answer.mechanism != _PLAIN or _kind_in(received[_GREETING_BYTES:]) is not None


def _kind_in(frames: bytes) -> str | None:
    """The socket type that the first frame after the greeting names.

    Empty if it is another frame; None if a part of the frame is missing.
    """
    if len(frames) < 2:
        return None
    flags = frames[0]
    start = 9 if flags & _LONG else 2
    body = frames[start : start + int.from_bytes(frames[1:start])]
    if len(frames) < start or len(body) < int.from_bytes(frames[1:start]):
        return None
    if not flags & _COMMAND or not body.startswith(_READY):
        return ""
    _, _, rest = body.partition(_KIND)
    return rest[4 : 4 + int.from_bytes(rest[:4])].decode("ascii", errors="replace")


def _exchange(greeting: bytes, rest: bytes, address: str, port: int, deadline: Deadline) -> tuple[bytes, bool]:
    """Return what comes back until the deadline, and whether the connection was closed.

    The rest of the greeting goes to a peer without security only: one with security would hang up before it has told.
    """
    received = b""
    with socket.create_connection((address, port), deadline.left()) as connection:
        try:
            connection.sendall(greeting)
            while not _is_complete(received) and len(received) < _MAX_ANSWER_BYTES and not deadline.passed():
                connection.settimeout(max(0.001, deadline.left()))
                part = connection.recv(_MAX_ANSWER_BYTES)
                if not part:
                    return received, True
                received += part
                if rest and answer_in(received, ended=False).mechanism == _PLAIN:
                    connection.sendall(rest)
                    rest = b""
        except TimeoutError:
            return received, False
        except OSError:
            return received, True
    return received, False
