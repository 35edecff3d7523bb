"""The client at each connection of a proxy that enforces rules, and what it is subscribed to there."""

from typing import NamedTuple

import zmq

from eventbus.proxy.tcp import Connection, connection_at

_SRCFD = int(zmq.SRCFD)
_FEW_CONNECTIONS = 16  # that may be remembered without a look whether they have ended


def descriptor_of(frame: zmq.Frame) -> int | None:
    """Return the descriptor of the connection from which a frame came, perhaps closed by now; None if there was none."""
    try:
        return int(frame.get(_SRCFD))
    except zmq.ZMQError:
        return None


class _Subscriber(NamedTuple):
    connection: Connection
    key: str
    topics: set[int]  # their hashes, which take less memory; no client can choose two that are alike


class Change(NamedTuple):
    """The effect of a request.

    Attributes:
        connection: the connection from which it came; None if that has ended in the meantime.
        is_effective: False: it was a subscription that the connection had already, or the end of one that it did not have.
        exceeds: whether it is the first subscription too many.
    """

    connection: Connection | None
    is_effective: bool = True
    exceeds: bool = False


class Subscribers:
    """Knows the subscriptions of each connection. One thread at a time; any thread may call `client_at`.

    It keeps what was asked for, also what was denied, because libzmq keeps that too.

    Args:
        limit: the number of different subscriptions that a connection may have.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._by_descriptor: dict[int, _Subscriber] = {}
        self._forget_at = _FEW_CONNECTIONS

    def change(self, frame: zmq.Frame, key: str, topic: bytes, *, begins: bool) -> Change:
        """Take in a subscription or the end of one.

        Args:
            frame: the request, from which libzmq tells the descriptor of its connection.
            key: the client's public key.
            topic: the topic.
            begins: whether it is a subscription.
        """
        subscriber = self._subscriber_of(frame, key)
        if subscriber is None:
            return Change(None)
        topics, topic_hash = subscriber.topics, hash(topic)
        if begins == (topic_hash in topics):
            return Change(subscriber.connection, is_effective=False)
        if not begins:
            topics.discard(topic_hash)
        elif len(topics) <= self._limit:  # what comes after the first one too many does not matter
            topics.add(topic_hash)
            return Change(subscriber.connection, exceeds=len(topics) > self._limit)
        return Change(subscriber.connection)

    def client_at(self, connection: Connection) -> str | None:
        """Return the public key of the client at a connection; None if that has not asked for anything yet."""
        known = self._by_descriptor.get(connection.descriptor)
        return known.key if known is not None and known.connection == connection else None

    def _subscriber_of(self, frame: zmq.Frame, key: str) -> _Subscriber | None:
        descriptor = descriptor_of(frame)
        connection = None if descriptor is None else connection_at(descriptor)
        if connection is None:
            return None
        known = self._by_descriptor.get(connection.descriptor)
        if known is not None and known.connection == connection and known.key == key:
            return known
        if len(self._by_descriptor) >= self._forget_at:
            self._forget()
        made = self._by_descriptor[connection.descriptor] = _Subscriber(connection, key, set())
        return made

    def _forget(self) -> None:
        """Forget connections that have ended."""
        self._by_descriptor = {
            descriptor: known
            for descriptor, known in self._by_descriptor.items()
            if connection_at(descriptor) == known.connection
        }
        self._forget_at = max(_FEW_CONNECTIONS, 2 * len(self._by_descriptor))
