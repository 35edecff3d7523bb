"""Hands what is new to browsers, as server-sent events. Each has a short queue: one that is too slow gets a fresh start.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable

from pydantic_core import to_json

from eventbus.ui.watcher import Watcher

MAX_FEEDS = 32
_MAX_QUEUED = 16  # messages, which all feeds share
_NEWS_INTERVAL_S = 0.5
_NEWS_PER_TICK = 2


def message(name: str, content: object) -> bytes:
    """Return a server-sent event. JSON has no line ends in it."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), to_json(content, inf_nan_mode="null"))


class Feed:
    """The messages for one browser, in one event loop.

    Attributes:
        has_ended: whether nothing more comes.
    """

    def __init__(self) -> None:
        self.has_ended = False
        self._queue: deque[bytes] = deque()
        self._behind = True  # what has come since would not make sense: it needs everything
        self._is_there = asyncio.Event()
        self._is_there.set()

    def offer(self, new: bytes) -> None:
        """Queue a message. If the queue is full, all are given up for a fresh start."""
        if self._behind:
            return
        if len(self._queue) >= _MAX_QUEUED:
            self._queue.clear()
            self._behind = True
        else:
            self._queue.append(new)
        self._is_there.set()

    def end(self) -> None:
        """Note that nothing more comes: `next` returns at once."""
        self.has_ended = True
        self._is_there.set()

    async def next(self) -> bytes | None:
        """Wait for the next message; None: the browser needs everything, or nothing more comes."""
        await self._is_there.wait()
        is_behind, self._behind = self._behind, False
        new = None if is_behind or self.has_ended else self._queue.popleft()
        if not self._queue:
            self._is_there.clear()
        return new


class Feeds:
    """All browsers of a watcher, in one event loop, which runs `run`.

    Args:
        watcher: what they watch.
        is_closing: whether the server is about to end.
    """

    def __init__(self, watcher: Watcher, is_closing: Callable[[], bool] = lambda: False) -> None:
        self._watcher = watcher
        self._is_closing = is_closing
        self._feeds: set[Feed] = set()

    @property
    def is_full(self) -> bool:
        """Whether no browser more is taken."""
        return len(self._feeds) >= MAX_FEEDS

    async def run(self) -> None:
        """Look for news, until the watcher ends; then the streams end."""
        try:
            await self._run()
        finally:
            for feed in self._feeds:
                feed.end()

    async def _run(self) -> None:
        version = self._watcher.news((0, 0))[2]
        ticks = 0
        while not self._watcher.ended.is_set():
            await asyncio.sleep(_NEWS_INTERVAL_S)
            ticks += 1
            if ticks % _NEWS_PER_TICK == 0:
                self._watcher.tick()
            events, notices, version = self._watcher.news(version)
            if not self._feeds:
                continue
            for name, new in (("events", events), ("notices", notices)):
                if new:
                    self._offer(message(name, new))
            if ticks % _NEWS_PER_TICK == 0:
                self._offer(message("figures", self._watcher.figures()))

    async def messages(self) -> AsyncGenerator[bytes]:
        """Yield the messages for one more browser."""
        feed = Feed()
        self._feeds.add(feed)
        try:
            while not self._is_closing():
                new = await feed.next()
                if feed.has_ended:
                    break
                yield message("everything", self._watcher.everything()) if new is None else new
        finally:
            self._feeds.discard(feed)

    def _offer(self, new: bytes) -> None:
        for feed in self._feeds:
            feed.offer(new)
