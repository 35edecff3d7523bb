"""One connection to a NATS server, from the end of the handshake until it is lost."""

import ssl
from collections.abc import Callable
from functools import partial
from math import inf

from eventbus.nats_options import NatsServer
from eventbus.transports.nats.channel import Channel
from eventbus.transports.nats.pings import Pings
from eventbus.transports.nats.protocol import Info, Parser
from eventbus.transports.nats.reading import Reading


class ConnectionLost(OSError):
    """The connection is no good any more."""


class Connection:
    """One connection to one server, from the end of the handshake.

    Args:
        server: the server.
        channel: to it.
        info: what it has said of itself.
        parser: reads what it sends.
        read: see `Reading`, as for `fail` and `gathers`.
        echo_interval: see `Pings`.

    Attributes:
        info: what the server has said of itself last.
        lost: why it is no good any more; None as long as it is.
        pings: those that were written to it.
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
        echo_interval: float = inf,
    ) -> None:
        self.server = server
        self.channel = channel
        self.info = info
        self.parser = parser
        self.lost: str | None = None
        self.pings = pings = Pings(echo_interval)
        # Not while a PONG is awaited: how long that takes is a measure of the path.
        self.reading = Reading(partial(read, self), channel.fileno(), partial(fail, self), lambda: not pings and gathers())

    def give_up(self, reason: str) -> None:
        """It is no good any more: let everybody know who reads it or waits for a PONG."""
        if self.lost is None:
            self.lost = reason
        self.pings.end()
        self.reading.end()

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
