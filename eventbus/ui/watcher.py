"""Receives what passes on a bus, in a thread, into an `Overview`. It only listens: it emits nothing and answers nothing."""

import logging
import secrets
from collections import deque
from collections.abc import Callable, Collection
from contextlib import ExitStack
from threading import Event, Lock, Thread
from time import monotonic, time
from types import TracebackType
from typing import Self

from eventbus._base.log import FIELD_PREFIX
from eventbus.observe.state import StateChange
from eventbus.transports.contract import Transport
from eventbus.ui.notices import Level
from eventbus.ui.overview import Json, Overview

_MAX_PENDING = 1_000  # notes from other threads, until the next look


class Watcher:
    """Watches through a transport within a `with` block, which opens it, subscribes, and closes it. Any thread may call it.

    Args:
        transport: where to watch.
        wanted: the topics to watch; empty: all.
        open_timeout: seconds that opening the transport may take. The block raises what `Transport.open` raises.

    Attributes:
        ended: set when the transport is closed.
    """

    def __init__(self, transport: Transport, wanted: Collection[bytes] = (), open_timeout: float = 5.0) -> None:
        self.ended = Event()
        self._transport = transport
        self._wanted = frozenset(wanted)
        self._open_timeout = open_timeout
        self._overview = Overview(transport.endpoints, monotonic(), wanted)
        self._run = secrets.token_hex(8)  # tells a browser that its server was started again
        self._lock = Lock()  # guards the overview
        self._malformed = 0
        # Others leave notes instead of waiting for the lock: a log handler may be called anywhere.
        self._pending: deque[Callable[[Overview], None]] = deque(maxlen=_MAX_PENDING)
        self._log_handler = _ToNotices(self)
        self._stack = ExitStack()
        self._thread = Thread(target=self._receive, name="eventbus-ui", daemon=True)

    def note(self, note: Callable[[Overview], None]) -> None:
        """Let the overview take a note, before the next message or the next look. Does not block."""
        self._pending.append(note)

    def tick(self) -> None:
        """End an interval of the rates."""
        with self._lock:
            self._overview.tick(monotonic(), time())

    def news(self, since: tuple[int, int]) -> tuple[list[Json], list[Json], tuple[int, int]]:
        """The events and notices that are new since a version, and the version to ask with next time."""
        with self._lock:
            self._look()
            overview = self._overview
            return overview.events_since(since[0]), overview.notices_since(since[1]), overview.version

    def figures(self) -> Json:
        """The figures of the last interval."""
        with self._lock:
            self._look()
            return self._overview.figures()

    def everything(self) -> Json:
        """What somebody needs who has seen nothing yet."""
        with self._lock:
            self._look()
            overview = self._overview
            return {
                "run": self._run,
                "figures": overview.figures(),
                "histories": overview.histories(),
                "events": overview.events_since(0),
                "notices": overview.notices_since(0),
            }

    def _take_notes(self) -> None:
        while self._pending:
            self._pending.popleft()(self._overview)

    def _look(self) -> None:
        self._take_notes()
        malformed = self._transport.malformed
        self._overview.reject(malformed - self._malformed, time())
        self._malformed = malformed
        self._overview.note_round_trip(self._transport.status.round_trip)

    def _note_state(self, change: StateChange) -> None:
        now = time()
        self.note(lambda overview: overview.note_state(change, now))

    def _receive(self) -> None:
        try:
            while (batch := self._transport.receive()) is not None:
                with self._lock:
                    self._take_notes()
                    self._overview.take(batch, monotonic(), time())
        finally:
            self.ended.set()

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            # Before it opens, because the proxy may deny it something at once.
            log = logging.getLogger("eventbus")
            log.addHandler(self._log_handler)
            undo.callback(log.removeHandler, self._log_handler)
            undo.callback(self._transport.status.listen(self._note_state))
            for topic in self._wanted or {b""}:
                self._transport.subscribe(topic)
            undo.callback(self._transport.close, 0.0)
            self._transport.open(self._open_timeout)
            self._thread.start()
            self._stack = undo.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()
        self._thread.join()


class _ToNotices(logging.Handler):
    """Makes notices of what the page's own connection logs, such as a denial. Changes of state come by another way."""

    def __init__(self, watcher: Watcher) -> None:
        super().__init__(logging.WARNING)
        self._watcher = watcher

    def emit(self, record: logging.LogRecord) -> None:
        """Leave a note."""
        if hasattr(record, FIELD_PREFIX + "state"):
            return
        kind = "denied" if hasattr(record, FIELD_PREFIX + "action") else "log"
        level = Level.ERROR if record.levelno >= logging.ERROR else Level.WARNING
        text = record.getMessage()
        self._watcher.note(lambda overview: overview.notices.add(level, kind, text, record.created))
