"""Stored events for a client: from its transport, if that keeps messages, or else from a historian."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from threading import RLock
from typing import TYPE_CHECKING, Any

from eventbus._base.moments import moment_of
from eventbus.events import BaseEvent
from eventbus.history.reader import HistoryReader
from eventbus.options import ClientOptions
from eventbus.receive.unpacking import Report, Unpacker
from eventbus.transports.contract import KeepsHistory, Transport
from eventbus.wire.codec import Codec
from eventbus.wire.first_frame import parse
from eventbus.wire.history import Portion, Query, Stored, new_history_topic
from eventbus.wire.requests import owner_of

_CHUNK_EVENTS = 256  # are decoded in one call of a thread

if TYPE_CHECKING:
    from collections.abc import Callable

type Moment = str | datetime | timedelta | float
"""A time, or how long ago; see `eventbus._base.moments`."""


class History[EventClass: BaseEvent[Any]]:
    """Reads stored events of a client's class. Any thread may use it.

    Args:
        transport: that of the client.
        codec: of the client's event class.
        report: takes note of what is no event of that class.
        options: those of the client.
    """

    def __init__(self, transport: Transport, codec: Codec[EventClass], report: Report, options: ClientOptions) -> None:
        self._transport = transport
        self._codec = codec
        self._report = report
        self._options = options
        self._unpacking = RLock()
        self._unpacker = Unpacker(lambda topic: True, report, options.max_event_bytes, options.max_event_values)
        self._owner = owner_of(None if options.keys is None else options.keys.public_key)
        self._reader = HistoryReader(transport, None if options.keys is None else options.keys.public_key)

    def last(self, topic: bytes, timeout: float) -> EventClass | None:
        """See `EventBusClient.last`."""
        found: EventClass | None = None
        for portion in self.read(Query((topic,), last=1), timeout=timeout):
            for event in self._events(portion):
                found = event
        return found

    def events(self, topic: bytes | None, count: int | None, since: Moment | None, timeout: float) -> Iterator[EventClass]:
        """See `EventBusClient.history`."""
        query = Query(
            None if topic is None else (topic,),
            last=count if topic is not None else None,
            since=None if since is None else moment_of(since, time.time()),
        )
        portions = self.read(query, timeout=timeout)
        first = next(portions, [])  # now, so that the call raises what is wrong
        if count is None:
            return self._all(first, portions)
        newest = list(self._all(first, portions))  # a message may hold several
        return islice(newest, max(0, len(newest) - count), None)

    def read(self, query: Query, *, timeout: float) -> Iterator[list[Stored]]:
        """Yield stored messages in portions, oldest first; see `HistoryReader.read`."""
        if isinstance(self._transport, KeepsHistory):
            self._transport.ensure_open()
            return self._transport.stored(query, timeout)
        return self._reader.read(query, timeout)

    def portions(self, query: Query, topic: bytes | None, timeout: float) -> Iterator[Portion]:
        """Ask a historian; see `HistoryReader.portions`."""
        return self._reader.portions(query, timeout, topic)

    def check(self, timeout: float) -> None:
        """Return if stored events can be had. Raises as `HistoryReader.read`."""
        for _ in self.read(Query((), last=0), timeout=timeout):
            pass

    def new_topic(self) -> bytes:
        """A topic for a query whose place among other messages matters."""
        return new_history_topic(self._owner)

    def close(self) -> None:
        """Let all who wait raise NotConnected at once."""
        self._reader.close()

    def _all(self, first: list[Stored], portions: Iterable[list[Stored]]) -> Iterator[EventClass]:
        yield from self._events(first)
        for portion in portions:
            yield from self._events(portion)

    def _events(self, portion: list[Stored]) -> list[EventClass]:
        """The events in these messages; what is none is reported."""
        found: list[EventClass] = []
        with self._unpacking:
            firsts = [parse(message.first) for message in portion]
            topics, headers = [first.topic for first in firsts], [first.headers for first in firsts]
            payloads = [message.payload for message in portion]
            for content in self._unpacker.contents(topics, payloads, headers):
                found += self._codec.decode_good(content.json, partial(self._report.rejected, content.topic))
        return found


async def in_thread[Found](iterate: Callable[[], Iterator[Found]]) -> AsyncIterator[Found]:
    """Iterate in threads, without blocking the event loop; `iterate` is called in one, too."""
    import asyncio  # already loaded, because a loop is running

    events = await asyncio.to_thread(iterate)
    while chunk := await asyncio.to_thread(lambda: list(islice(events, _CHUNK_EVENTS))):
        for event in chunk:
            yield event
