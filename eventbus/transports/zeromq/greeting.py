"""Who listens at a port: asked when a handshake fails, for libzmq does not tell why the other side has broken it off."""

import socket
from urllib.parse import urlsplit

from eventbus._base.deadline import Deadline

# How ZMTP begins: a signature and the major version. Upon these a ZeroMQ socket tells its mechanism (ZeroMQ RFC 23).
_OPENING = b"\xff" + bytes(8) + b"\x7f\x03"
_SIGNATURE = 10  # bytes
_MECHANISM = slice(12, 32)


def mechanism_at(endpoint: str, timeout: float) -> str | None:
    """The security mechanism that the ZeroMQ socket at a TCP endpoint uses: ``NULL``, ``CURVE``.

    Returns None if nobody answers in so many seconds, or what answers is not ZeroMQ.
    """
    deadline = Deadline(timeout)
    address = urlsplit(endpoint)
    greeting = b""
    try:
        with socket.create_connection((address.hostname, address.port), deadline.left()) as connection:
            connection.sendall(_OPENING)
            while len(greeting) < _MECHANISM.stop and not deadline.passed():
                connection.settimeout(max(0.001, deadline.left()))
                received = connection.recv(_MECHANISM.stop - len(greeting))
                if not received:
                    break
                greeting += received
    except OSError:
        return None
    if len(greeting) < _MECHANISM.stop or greeting[:1] != b"\xff" or greeting[_SIGNATURE - 1] != 0x7F:
        return None
    return greeting[_MECHANISM].rstrip(b"\0").decode("ascii", errors="replace")
