"""One connection to a NATS server, from the end of the handshake until it is lost."""

import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from threading import Event

from eventbus.nats_options import NatsServer
from eventbus.transports.nats.channel import Channel
from eventbus.transports.nats.protocol import Info, Parser
from eventbus.transports.nats.reading import Reading


class ConnectionLost(OSError):
    """The connection is no good any more."""


@dataclass
class Proof:
    """A PING under way.

    Attributes:
        done: set when its PONG has come, or will not come.
        mark: what had been written before it.
        began: when.
        good: whether the PONG has come.
    """

    done: Event | None = None
    mark: int = 0
    began: float = 0.0
    good: bool = False


class Connection:
    """One connection to one server, from the end of the handshake.

    Args:
        server: the server.
        channel: to it.
        info: what it has said of itself.
        parser: reads what it sends.
        read: see `Reading`, as for `fail` and `gathers`.

    Attributes:
        info: what the server has said of itself last.
        lost: why it is no good any more; None as long as it is.
    """

    def __init__(
        self,
        server: NatsServer,
        channel: Channel,
        info: Info,
        parser: Parser,
        read: "Callable[[Connection], object]",
        fail: "Callable[[Connection, Exception], object]",
        gathers: Callable[[], bool] = lambda: False,
    ) -> None:
        self.server = server
        self.channel = channel
        self.info = info
        self.parser = parser
        self.reading = Reading(partial(read, self), channel.fileno(), partial(fail, self), gathers)
        self.lost: str | None = None
        self.proofs: deque[Proof] = deque()  # in the order of their PINGs

    def shut(self) -> None:
        """End the connection, also for threads that use it."""
        self.channel.shut()

    def close(self) -> None:
        """Close the descriptors, once nobody uses them."""
        self.reading.close()
        self.channel.close()


def reason_of(error: BaseException) -> str:
    """Say why a connection is no good, for people."""
    if isinstance(error, ssl.SSLError):
        return error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else (error.reason or str(error))
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
