"""What listens at a port, for people who wonder why it does not work: asked by hand, without a ZeroMQ socket.

A ZeroMQ socket greets with its security mechanism, and one without security then tells of which kind it is: ZMTP 3 (ZeroMQ
RFC 23).
"""

import socket
from dataclasses import dataclass

from eventbus._base.deadline import Deadline

_SIGNATURE = b"\xff" + bytes(8) + b"\x7f"
_OPENING = _SIGNATURE + b"\x03"  # upon which a ZeroMQ socket tells its mechanism
_PLAIN = "NULL"
_REST = b"\x00" + _PLAIN.encode().ljust(20, b"\0") + bytes(32)
_MECHANISM = slice(12, 32)
_GREETING = len(_OPENING + _REST)
_LONG, _COMMAND = 2, 4  # flags of a frame
_READY, _KIND = b"\x05READY", b"\x0bSocket-Type"

_REQUEST = b"GET / HTTP/1.0\r\n\r\n"
_PATIENCE = 1.0  # seconds, for whoever waits for a request
_ENOUGH = 4_096  # bytes; no answer is longer


@dataclass(frozen=True, slots=True)
class Answer:
    """What was heard from whoever listens at a port.

    Attributes:
        mechanism: of a ZeroMQ socket: ``NULL``, ``CURVE``; empty: it is none.
        kind: of a ZeroMQ socket, if it tells: ``XPUB``, ``XSUB``.
        said: how it begins what it says, if it is no ZeroMQ socket.
        ended: whether it has closed the connection.
    """

    mechanism: str = ""
    kind: str = ""
    said: bytes = b""
    ended: bool = False


def ask(address: str, port: int, timeout: float) -> Answer:
    """Greet as a ZeroMQ socket does, and wait for up to so many seconds for an answer.

    Raises:
        OSError: nobody lets us in: nobody listens, or nothing comes back in time.
    """
    deadline = Deadline(timeout)
    received = _answer_to(_OPENING, _REST, address, port, deadline)
    answer = answer_in(*received)
    if answer.said or answer.mechanism or answer.ended:
        return answer
    # Nothing at all: some wait for a request that they understand.
    return answer_in(*_answer_to(_REQUEST, b"", address, port, Deadline(_PATIENCE)))


def answer_in(received: bytes, ended: bool) -> Answer:
    """What the bytes tell that have been received, and after which the connection was closed or not."""
    if not received.startswith(_SIGNATURE[:1]) or received[9:10] != _SIGNATURE[9:] or len(received) < _MECHANISM.stop:
        return Answer(said=received, ended=ended)
    mechanism = received[_MECHANISM].rstrip(b"\0").decode("ascii", errors="replace")
    return Answer(mechanism, _kind_in(received[_GREETING:]) or "", ended=ended)


def _is_complete(received: bytes) -> bool:
    """Whether nothing that matters is missing."""
    if not _SIGNATURE.startswith(received[:1]):
        return b"\n" in received
    if len(received) < _GREETING:
        return False
    answer = answer_in(received, ended=False)
    return answer.mechanism != _PLAIN or _kind_in(received[_GREETING:]) is not None


def _kind_in(frames: bytes) -> str | None:
    """The kind of socket that the first frame after the greeting tells of; empty if it is another frame, None if it is not
    all there."""
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


def _answer_to(greeting: bytes, rest: bytes, address: str, port: int, deadline: Deadline) -> tuple[bytes, bool]:
    """What comes back upon these bytes until the deadline, and whether the connection was closed.

    The rest is sent to who has told that it is a socket without security: one with it would hang up before it has told.
    """
    received = b""
    with socket.create_connection((address, port), deadline.left()) as connection:
        try:
            connection.sendall(greeting)
            while not _is_complete(received) and len(received) < _ENOUGH and not deadline.passed():
                connection.settimeout(max(0.001, deadline.left()))
                part = connection.recv(_ENOUGH)
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
