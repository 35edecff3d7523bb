"""The client at each connection of a proxy that enforces rules, and the number of its subscriptions there."""

from typing import NamedTuple

import zmq

from eventbus.proxy.tcp import Connection, connection_at

_SRCFD = int(zmq.SRCFD)


class _Subscriber(NamedTuple):
    connection: Connection
    key: str
    subscriptions: int


class Subscribers:
    """Counts subscriptions by connection. One thread at a time; any thread may call `client_at`.

    It counts requests, also denied ones, because libzmq keeps those too.

    Args:
        limit: the number of subscriptions that a connection may have.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._by_descriptor: dict[int, _Subscriber] = {}

    def count(self, frame: zmq.Frame, key: str, *, begins: bool) -> Connection | None:
        """Count a subscription or the end of one; return the connection if that is the first one too many.

        Args:
            frame: the request, from which libzmq tells the descriptor of its connection.
            key: the client's public key.
            begins: whether it is a subscription.
        """
        try:
            connection = connection_at(int(frame.get(_SRCFD)))
        except zmq.ZMQError:
            return None
        if connection is None:
            return None  # it has ended in the meantime
        known = self._by_descriptor.get(connection.descriptor)
        before = known.subscriptions if known is not None and known.connection == connection else 0
        count = max(0, before + (1 if begins else -1))
        self._by_descriptor[connection.descriptor] = _Subscriber(connection, key, count)
        return connection if begins and count == self._limit + 1 else None

    def client_at(self, connection: Connection) -> str | None:
        """Return the public key of the client at a connection; None if that has not asked for anything yet."""
        known = self._by_descriptor.get(connection.descriptor)
        return known.key if known is not None and known.connection == connection else None
