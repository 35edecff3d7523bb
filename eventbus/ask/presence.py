"""Answering `eventbus ps`: a client says who it is."""

import os
import socket
from collections.abc import Callable
from time import monotonic
from typing import Protocol
from uuid import uuid4

from eventbus._base.log import Log
from eventbus.ask.answering import Answerer
from eventbus.errors import EventBusError
from eventbus.observe.health import EventBusHealth
from eventbus.observe.stats import DropReason, EventBusStats
from eventbus.transports.contract import NumbersMessages, Transport
from eventbus.wire.headers import decode_headers
from eventbus.wire.presence import MAX_TOPICS, Presence
from eventbus.wire.requests import Request

_MIN_PAUSE_S = 0.02  # between two answers: who asks more often waits in vain, rather than keep the client from its events

_log = Log()


class Listed(Protocol):
    """A client, as far as it is listed."""

    @property
    def topics(self) -> frozenset[str]:
        """See `EventBusClient.topics`."""

    @property
    def emitted_topics(self) -> frozenset[str]:
        """See `EventBusClient.emitted_topics`."""

    def health(self) -> EventBusHealth:
        """See `EventBusClient.health`."""

    def stats(self) -> EventBusStats:
        """See `EventBusClient.stats`."""


class Respondent:
    """Answers the question who is there for one client, on the consumer's thread.

    Args:
        client: returns the client; None if it is gone.
        transport: sends the answers.
    """

    def __init__(self, client: Callable[[], Listed | None], transport: Transport) -> None:
        self._client = client
        self._transport = transport
        self._answerer = Answerer(transport)
        self._id = uuid4().hex
        self._made = monotonic()
        self._answered = -_MIN_PAUSE_S
        self._answers = 0  # that were sent: no events of the service

    def respond(self, headers: bytes) -> None:
        """Answer a question with these encoded headers; anything may come."""
        request, client, now = Request.of(decode_headers(headers)), self._client(), monotonic()
        if request is None or client is None or now - self._answered < _MIN_PAUSE_S:
            return
        self._answered = now
        try:
            self._answers += self._answerer.answer(request, self._presence(client).encode())
        except EventBusError as error:
            _log.debug("could not tell `eventbus ps` of this client: %s", error, error=type(error).__name__)

    def _presence(self, client: Listed) -> Presence:
        health, stats = client.health(), client.stats()
        return Presence(
            id=self._id,
            name=health.name,
            host=socket.gethostname(),
            pid=os.getpid(),
            uptime=monotonic() - self._made,
            state=str(health.state),
            topics=tuple(sorted(client.topics)[:MAX_TOPICS]),
            emits=tuple(sorted(client.emitted_topics)[:MAX_TOPICS]),
            publisher=self._publisher(),
            emitted=stats.emitted - self._answers,
            received=stats.received,
            handled=stats.handled,
            handler_errors=stats.handler_errors,
            dropped=stats.dropped - stats.drops.get(DropReason.UNREAD, 0),  # those are no loss: handlers got them
        )

    def _publisher(self) -> str:
        transport = self._transport
        found = transport.publisher_id if isinstance(transport, NumbersMessages) else None
        return "" if found is None else found.hex()
