"""The historian's work without a socket: it takes what has come, keeps events and answers queries."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain, count
from typing import NamedTuple, Protocol

from eventbus.history.store import Bounds, MemoryStore
from eventbus.wire.first_frame import parse, with_headers
from eventbus.wire.headers import decode_headers, encode_headers
from eventbus.wire.history import NEXT, PART, STATUS, UNTIL, InvalidQuery, Kept, Query, Stored, pack, packed_size
from eventbus.wire.private_topics import HISTORY_PREFIX
from eventbus.wire.requests import CORRELATION_ID, ERROR_TEXT, ERROR_TYPE, MORE, Request, owner_of_reply_topic

PART_BYTES = 1_048_576  # of an answer: few messages, because the queues of some proxies are short
PAGE_BYTES = 4_194_304  # of an answer: so much may wait in the proxy if the asker does not read
_FAILED = b" null"
_POSITIONS_PER_S = 1_000_000  # more than there are messages

type Permits = Callable[[bytes], bool]
"""Whether a topic may be read."""


class Message(NamedTuple):
    """A message to send.

    Attributes:
        reply_to: the topic to which it goes.
        first: the first frame.
        payload: the second one.
    """

    reply_to: bytes
    first: bytes
    payload: bytes


class Archive(Protocol):
    """Keeps messages beyond the end of the process; see `archive`.

    Attributes:
        failed: how many messages could not be written.
    """

    failed: int

    def open(self, store: MemoryStore) -> object:
        """Fill the store with what is there."""

    def close(self) -> None:
        """Write what waits."""

    def add(self, frames: list[bytes], payloads: list[bytes], position: int, now: float) -> None:
        """Take messages that the store has just kept, all of which have an event; `position` is that of the last one."""


def everything(owner: bytes) -> Permits:
    """Permit every topic to everybody."""
    return lambda topic: True


def archive_at(path: str | os.PathLike[str] | None) -> Archive | None:
    """Return the archive in this file; None: none."""
    if path is None:
        return None
    from eventbus.history.archive import SqliteArchive  # here, because SQLite takes as much memory as all the rest

    return SqliteArchive(os.fspath(path))


class HistoryServer:
    """Keeps messages and answers queries. One thread at a time.

    It answers only with messages of topics that the asker may subscribe to. The asker is the client whose key the reply
    topic belongs to: it is the only one who can receive the answer, whoever has sent the query.

    Args:
        bounds: how much is kept.
        permits: returns what the client with this owner part of its reply topics may read; see `wire.requests.owner_of`.
        archive: takes what is kept, too.
        clock: seconds since 1970.

    Attributes:
        store: what is kept.
        queries: how many queries were answered.
        part_bytes: a part of an answer gets no more messages once it has this size.
    """

    def __init__(
        self,
        bounds: Bounds,
        permits: Callable[[bytes], Permits] = everything,
        archive: Archive | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = MemoryStore(bounds)
        self.queries = 0
        self.part_bytes = PART_BYTES
        self._permits = permits
        self._archive = archive
        self._clock = clock
        self._now = self._taken_at = 0.0  # by the clock, which may be put back, and by one that may not

    @property
    def kept(self) -> Kept:
        """What is kept at this moment. Any thread may ask."""
        store = self.store
        unwritten = 0 if self._archive is None else self._archive.failed
        return Kept(len(store), len(store.topics), store.bytes, store.dropped, self.queries, unwritten)

    def open(self) -> None:
        """Begin with what the archive has, if there is one; once only before `close`.

        Raises:
            InvalidSettings: it cannot be used.
        """
        if self._archive is not None:
            self.store = MemoryStore(self.store.bounds)
            self._archive.open(self.store)
        # No earlier run has reached these positions: clients may ask for what has come after those that they know.
        self.store.position = max(self.store.position, round(self._clock() * _POSITIONS_PER_S))

    def close(self) -> None:
        """Have the archive write what waits. Idempotent."""
        if self._archive is not None:
            self._archive.close()

    def take(self, frames: list[bytes], payloads: list[bytes]) -> Iterator[Message]:
        """Keep the events of a batch. Returns the answers to queries in it, which are made while they are taken."""
        now, taken_at = self._clock(), time.monotonic()
        if now < self._now:  # the clock was put back: what is kept must grow old nevertheless
            now = self._now + taken_at - self._taken_at
        self._now, self._taken_at = now, taken_at
        skipped = self.store.add(frames, payloads, now)
        if self._archive is not None:
            left_out = {one.place for one in skipped}
            if left_out:
                kept = [index for index in range(len(frames)) if index not in left_out]
                self._archive.add([frames[i] for i in kept], [payloads[i] for i in kept], self.store.position, now)
            else:
                self._archive.add(frames, payloads, self.store.position, now)
        queries = [one for one in skipped if frames[one.place].startswith(HISTORY_PREFIX)]
        return chain.from_iterable(self._answer(frames[one.place], payloads[one.place], one.position) for one in queries)

    def _answer(self, frame: bytes, payload: bytes, position: int) -> Iterator[Message]:
        request = Request.of(decode_headers(parse(frame).headers))
        if request is None:
            return
        self.queries += 1
        headers = {CORRELATION_ID: request.correlation_id, UNTIL: str(position)}
        try:
            query = Query.decode(payload)
        except InvalidQuery as error:
            yield _message(request, headers | {ERROR_TYPE: type(error).__name__, ERROR_TEXT: str(error)}, _FAILED)
            return
        if query.until is None:
            query = replace(query, until=position)
        if query.wants_nothing:
            headers[STATUS] = self.kept.encode()
        permits = self._permits(owner_of_reply_topic(request.reply_to))
        found = self.store.read(query, permits, self._now)
        part: list[Stored] = []
        parts = count()
        page_size = part_size = 0
        for message in found:
            size = packed_size(message)
            if part and part_size + size > self.part_bytes:
                if page_size >= PAGE_BYTES:
                    headers[NEXT] = str(part[-1].position)
                    break
                yield _message(request, headers | {MORE: "true", PART: str(next(parts))}, pack(part))
                part, part_size = [], 0
            part.append(message)
            part_size += size
            page_size += size
        yield _message(request, headers | {PART: str(next(parts))}, pack(part))


def _message(request: Request, headers: dict[str, str], payload: bytes) -> Message:
    return Message(request.reply_to, with_headers(request.reply_to, encode_headers(headers)), payload)
