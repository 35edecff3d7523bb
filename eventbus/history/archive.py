"""A file that has what a historian keeps after a restart, too: SQLite with a write-ahead log, written in batches."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from threading import Condition, Thread
from typing import NamedTuple

from eventbus._base.log import Log
from eventbus._base.log_throttle import LogThrottle, more
from eventbus._base.printable import counted
from eventbus.errors import InvalidSettings
from eventbus.history.store import MemoryStore
from eventbus.wire.frames import topic_of
from eventbus.wire.history import Stored, pack, unpack

BATCH_INTERVAL_S = 0.25
"""From one batch to the next: what came since the last one is lost in a crash."""
_MAX_WAITING_BYTES = 134_217_728  # of payloads, while the disk is slow or full
_VERSION = 1
_NEVER = 2**62  # a position that is never reached
_UNKNOWN = -1  # no position
_POSITION = attrgetter("position")
# One row for the messages of a topic in a batch, as `wire.history` packs them: a row for each would cost far more.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS parts (topic BLOB, last INTEGER, messages BLOB);
CREATE INDEX IF NOT EXISTS parts_of_topic ON parts (topic, last);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value INTEGER);
"""
_MAX_PART_BYTES = 1_048_576


class Found(NamedTuple):
    """The content of a file when it was opened.

    Attributes:
        messages: how many messages it had.
        clean: whether it was closed by the one who had it open; if not, that process has crashed, and messages of the last
            `BATCH_INTERVAL_S` may be missing.
    """

    messages: int
    clean: bool


class SqliteArchive:
    """Writes what a store keeps, and deletes what it drops. `add` is for one thread, which never waits for the disk.

    Args:
        path: the file; it is made if it is missing.

    Attributes:
        failed: how many messages could not be written.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._log = Log(file=str(path))
        self._throttle = LogThrottle()
        self._changed = Condition()  # guards what waits
        self._waiting: list[tuple[int, float, list[bytes], list[bytes]]] = []  # batches, each with its first position
        self._waiting_bytes = 0
        self._ending = False
        self._thread: Thread | None = None
        self._store: MemoryStore | None = None
        self._written: dict[bytes, int] = {}  # of each topic in the file, the lowest position that is kept
        self.failed = 0

    def open(self, store: MemoryStore) -> Found:
        """Fill the store with what the file has, and begin to write what it keeps from now on.

        Raises:
            InvalidSettings: the file cannot be opened, is none of these, or another process has it open.
        """
        try:
            connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=1.0)
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        try:
            found = self._read(connection, store)
        except (sqlite3.Error, TypeError, ValueError) as error:
            connection.close()
            raise self._unusable(error) from error
        self._store = store
        self._ending = False
        self._thread = Thread(target=self._run, args=(connection,), name="eventbus-history-file", daemon=True)
        self._thread.start()
        if found.clean:
            self._log.info("history file %s: %s", self._path, counted(found.messages, "message"), count=found.messages)
        else:
            self._log.warning(
                "history file %s: %s; it was not closed, so those of the last %g s before the crash may be missing",
                self._path,
                counted(found.messages, "message"),
                BATCH_INTERVAL_S,
                count=found.messages,
                seconds=BATCH_INTERVAL_S,
            )
        return found

    def add(self, frames: list[bytes], payloads: list[bytes], position: int, now: float) -> None:
        """Have messages written soon; `position` is that of the last one."""
        size = sum(map(len, payloads))
        with self._changed:
            if self._waiting_bytes + size > _MAX_WAITING_BYTES:
                self._note_failure(len(frames), "it is too slow")
                return
            self._waiting_bytes += size
            self._waiting.append((position - len(frames) + 1, now, frames, payloads))

    def close(self) -> None:
        """Write what waits, and close the file. Idempotent."""
        thread, self._thread = self._thread, None
        if thread is not None:
            with self._changed:
                self._ending = True
                self._changed.notify()
            thread.join()

    def _read(self, connection: sqlite3.Connection, store: MemoryStore) -> Found:
        # Another process that has it open is noticed at the first lock. In this mode there is no shared memory beside it.
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")  # each batch is on the disk: lost power, too, costs the last one only
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in (0, _VERSION):
            raise ValueError(f"it has version {version}, this library writes {_VERSION}")
        connection.executescript(_SCHEMA)
        connection.execute(f"PRAGMA user_version={_VERSION}")
        clean = connection.execute("SELECT value FROM facts WHERE name='clean'").fetchone()
        connection.execute("INSERT OR REPLACE INTO facts VALUES ('clean', 0)")
        rows = connection.execute("SELECT topic, messages FROM parts").fetchall()
        messages = sorted((message for _, part in rows for message in unpack(part)), key=_POSITION)
        now = time.time()
        messages = [message if message.time <= now else message._replace(time=now) for message in messages]  # a wrong clock
        if messages and messages[-1].position >= _NEVER:
            raise ValueError(f"it is damaged: a message has position {messages[-1].position}")
        store.restore(messages)
        # The store may have dropped some of it, or drops it with the first batch: then it is deleted with that one.
        self._written = {topic: _UNKNOWN for topic, _ in rows}
        return Found(len(store), clean is None or clean[0] == 1)

    def _run(self, connection: sqlite3.Connection) -> None:
        """Write until the end; the archive's thread."""
        with suppress(sqlite3.Error):
            while not self._ending:
                with self._changed:
                    self._changed.wait(BATCH_INTERVAL_S)
                self._write(connection)
            self._write(connection)
            connection.execute("INSERT OR REPLACE INTO facts VALUES ('clean', 1)")
        with suppress(sqlite3.Error):
            connection.close()

    def _write(self, connection: sqlite3.Connection) -> None:
        with self._changed:
            waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        assert self._store is not None
        oldest = self._store.oldest_positions()
        gone = [(topic, oldest.get(topic, _NEVER)) for topic in self._written if oldest.get(topic) != self._written[topic]]
        if not waiting and not gone:
            return
        try:
            connection.execute("BEGIN")
            connection.executemany("INSERT INTO parts VALUES (?, ?, ?)", _parts(waiting, oldest))
            connection.executemany("DELETE FROM parts WHERE topic=? AND last<?", gone)
            connection.execute("COMMIT")
            self._written = oldest
        except Exception as error:  # not only sqlite3.Error: the thread must go on with the next batch
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            self._note_failure(sum(len(frames) for _, _, frames, _ in waiting), str(error))

    def _note_failure(self, count: int, reason: str) -> None:
        self.failed += count
        held_back = self._throttle.admit("failed", count)
        if held_back is not None:
            self._log.error(
                "%s could not be written to the history file %s: %s; kept in memory%s",
                counted(count, "message"),
                self._path,
                reason,
                more(held_back),
                reason=reason,
                count=count,
                held_back=held_back,
            )

    def _unusable(self, error: Exception) -> InvalidSettings:
        reason = "another process has it open" if "locked" in str(error) else str(error)
        return InvalidSettings(f"cannot use the history file {self._path} (EVENTBUS_HISTORY_FILE): {reason}")


def _parts(
    batches: list[tuple[int, float, list[bytes], list[bytes]]], oldest: dict[bytes, int]
) -> Iterator[tuple[bytes, int, bytes]]:
    """The rows for these batches: a topic, the position of its last message in the row, and its messages.

    Messages below the `oldest` position of their topic are left out: the store has dropped them already.
    """
    by_topic: dict[bytes, list[Stored]] = {}
    sizes: dict[bytes, int] = {}
    for first_position, now, frames, payloads in batches:
        for position, (first, payload) in enumerate(zip(frames, payloads, strict=True), start=first_position):
            topic = topic_of(first)
            if position < oldest.get(topic, _NEVER):
                continue
            part = by_topic.setdefault(topic, [])
            part.append(Stored(position, now, first, payload))
            sizes[topic] = size = sizes.get(topic, 0) + len(payload)
            if size >= _MAX_PART_BYTES:
                yield topic, position, pack(part)
                del by_topic[topic], sizes[topic]
    for topic, part in by_topic.items():
        yield topic, part[-1].position, pack(part)
