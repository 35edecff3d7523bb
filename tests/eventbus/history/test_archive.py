"""A history in a file: it is there after a restart and after a crash, and is no larger than what is kept."""

import logging
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from eventbus import EventBusHistorian, EventBusProxy, InvalidSettings
from eventbus.history.archive import SqliteArchive
from eventbus.history.server import HistoryServer, archive_at
from eventbus.history.store import Bounds, MemoryStore
from eventbus.transports.zeromq import ZeroMQTransport
from eventbus.wire.history import Query, Stored, pack, unpack
from tests.support import PATIENCE, MyEventTopic, client_of, event, eventually

TOPIC = MyEventTopic.my_service

CRASHING = """
import sys
from eventbus.history.server import HistoryServer, archive_at
from eventbus.history.store import Bounds, MemoryStore

server = HistoryServer(Bounds(), archive=archive_at(sys.argv[1]))
server.open()
for number in range(100):
    server.take([b"plant"], [b"number %d" % number])
print("taken", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "bus.db"


@contextmanager
def served(file: Path, bounds: Bounds | None = None) -> Iterator[HistoryServer]:
    server = HistoryServer(bounds or Bounds(), archive=archive_at(file))
    server.open()
    try:
        yield server
    finally:
        server.close()


def payloads_in(server: HistoryServer) -> list[bytes]:
    return [message.payload for message in server.store.read(Query(), lambda topic: True, 0.0)]


def rows(file: Path) -> int:
    with closing(sqlite3.connect(file)) as connection:
        return sum(len(unpack(part)) for (part,) in connection.execute("SELECT messages FROM parts"))


def test_it_is_there_after_a_restart(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Messages with their positions, topics with numbers and headers; new ones follow, and nothing is said of a crash."""
    caplog.set_level(logging.INFO)
    with served(file) as server:
        before = server.store.position
        server.take([b"a", b"_history/x", b"b\0\x01234567\0\0\0\0\0\0\0\1"], [b"1", b"{}", b"2"])
    with served(file) as server:
        assert [(one.position, one.first, one.payload) for one in server.store.read(Query(), lambda topic: True, 0.0)] == [
            (before + 1, b"a", b"1"),
            (before + 2, b"b\0\x01234567\0\0\0\0\0\0\0\1", b"2"),
        ]
        server.take([b"a"], [b"3"])
        last = server.store.position
    with served(file) as server:
        assert payloads_in(server) == [b"1", b"2", b"3"]
        assert server.store.position > last > before + 2  # no position that a client may know from before a crash
    assert [record.levelname for record in caplog.records] == ["INFO"] * 3


def test_the_file_has_little_more_than_is_kept(file: Path) -> None:
    """Batches of which nothing is kept any more are deleted, also those of topics that are gone."""
    archive = SqliteArchive(file)
    server = HistoryServer(Bounds(count=10, age=1_000.0), archive=archive, clock=lambda: now)
    now = 0.0
    server.open()
    try:
        for batch in range(4):
            server.take([b"a"] * 5 + [b"b%d" % batch], [b"%d" % batch] * 6)
            eventually(lambda: archive._waiting == [], PATIENCE)
        eventually(lambda: len(archive._written) == 5, PATIENCE)
        now = 2_000.0
        server.take([b"c"], [b"{}"])
        eventually(lambda: archive._written == {b"c": 25}, PATIENCE)
    finally:
        server.close()
    assert rows(file) == 1
    with served(file, Bounds(count=3)) as server:
        server.take([b"c"] * 10, [b"%d" % number for number in range(10)])
    with served(file, Bounds(count=3)) as server:
        assert payloads_in(server) == [b"7", b"8", b"9"]


def test_what_is_dropped_after_a_restart_is_deleted(file: Path) -> None:
    """What became too old while nobody ran, and topics for which there is no memory any more."""
    for now in (0.0, 2_000.0, 4_000.0):
        server = HistoryServer(Bounds(age=1_000.0), archive=archive_at(file), clock=partial(float, now))
        server.open()
        server.take([b"at %d" % now], [b"{}"])
        server.close()
        assert rows(file) == 1
    with served(file, Bounds(bytes=10_000)) as server:
        server.take([b"x", b"y", b"z"], [b"{}"] * 3)
        assert len(server.store.topics) < 4
    assert rows(file) < 4


@pytest.mark.process
def test_a_crash_costs_the_last_batch_at_most_and_is_told(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """All that was written before is there, without gaps."""
    with Popen([sys.executable, "-c", CRASHING, str(file)], stdin=PIPE, stdout=PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "taken\n"
        wal = file.with_name("bus.db-wal")
        eventually(lambda: wal.exists() and b"number 99" in wal.read_bytes(), PATIENCE)  # the batch is written
        process.kill()
    with served(file) as server:
        assert payloads_in(server) == [b"number %d" % number for number in range(100)]
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "those of the last 0.25 s before the crash may be missing" in line


def test_a_clock_that_is_put_back(file: Path) -> None:
    """What was kept while it was wrong grows old nevertheless, also after a restart."""
    ahead = 1_000_000.0
    server = HistoryServer(Bounds(age=0.1), archive=archive_at(file), clock=lambda: time.time() + ahead)
    server.open()
    server.take([b"plant"], [b"old"])
    ahead = 0.0
    server.take([b"plant"], [b"new"])
    assert server.store.topics == [b"plant"]
    server.close()
    with served(file) as again:
        assert payloads_in(again) == [b"old", b"new"]
        assert all(message.time <= time.time() for message in again.store.read(Query(), lambda topic: True, 0.0))

    def is_forgotten() -> bool:
        server.take([b"other"], [b""])
        return b"plant" not in server.store.topics

    eventually(is_forgotten)


def test_one_process_has_it(file: Path) -> None:
    """Another one is refused, and told why."""
    with served(file), pytest.raises(InvalidSettings, match="another process has it open"):
        SqliteArchive(file).open(HistoryServer(Bounds()).store)


@pytest.mark.parametrize("content", [b"no database" * 1_000, None])
def test_what_is_no_such_file_is_refused(file: Path, content: bytes | None) -> None:
    """Before anything is kept: a file of something else, or of another version."""
    if content is None:
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA user_version=99")
    else:
        file.write_bytes(content)
    with pytest.raises(InvalidSettings, match="EVENTBUS_HISTORY_FILE"):
        EventBusProxy(pub_port=0, sub_port=0, history=10, history_file=file).start()


def test_a_disk_that_fails_costs_nothing_in_memory(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What could not be written is counted and logged."""
    archive = SqliteArchive(file)
    server = HistoryServer(Bounds(), archive=archive)
    server.open()
    try:
        server.take([b"a"], [b"1"])
        eventually(lambda: archive._waiting == [], PATIENCE)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("eventbus.history.archive._MAX_WAITING_BYTES", 0)
            server.take([b"a", b"b"], [b"2", b"3"])
        assert archive.failed == 2
        assert payloads_in(server) == [b"1", b"2", b"3"]
    finally:
        server.close()
    assert "2 messages could not be written to the history file" in caplog.text


def test_an_impossible_position(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A clock that is far off, or a damaged file: what cannot be written is told, and such a file is refused."""
    seconds = 1e13
    archive = SqliteArchive(file)
    server = HistoryServer(Bounds(), archive=archive, clock=lambda: seconds)
    server.open()
    try:
        server.take([b"a"], [b"1"])
        eventually(lambda: archive.failed == 1, PATIENCE)
    finally:
        server.close()
    assert "1 message could not be written to the history file" in caplog.text
    assert rows(file) == 0
    with closing(sqlite3.connect(file)) as connection, connection:
        part = pack([Stored(2**63, 0.0, b"a", b"1")])
        connection.execute("INSERT INTO parts VALUES (?, 1, ?)", (b"a", part))
    with pytest.raises(InvalidSettings, match="damaged"):
        archive.open(MemoryStore(Bounds()))


@pytest.mark.parametrize("beside", [False, True])
def test_of_a_proxy_and_of_a_historian_beside_it(file: Path, beside: bool) -> None:
    """A new process finds what the last one has kept."""
    for value in (1, 2):
        with (
            EventBusProxy(
                pub_port=0, sub_port=0, history=0 if beside else 10, history_file=None if beside else file
            ) as proxy,
            client_of(proxy) as client,
        ):
            transport = ZeroMQTransport("127.0.0.1", proxy.pub_port, proxy.sub_port)
            server = HistoryServer(Bounds(), archive=archive_at(file if beside else None))
            historian = EventBusHistorian(transport, server)
            if beside:
                historian.start()
            client.emit_event(event(value), TOPIC)
            assert [found.value for found in client.history(TOPIC)] == list(range(1, value + 1))
            historian.stop()


def test_a_historian_that_is_started_twice(file: Path) -> None:
    """It goes on with what it keeps."""
    with (
        EventBusProxy(pub_port=0, sub_port=0) as proxy,
        client_of(proxy) as client,
        EventBusHistorian(
            ZeroMQTransport("127.0.0.1", proxy.pub_port, proxy.sub_port), HistoryServer(Bounds(), archive=archive_at(file))
        ) as historian,
    ):
        client.emit_event(event(1), TOPIC)
        assert [found.value for found in client.history(TOPIC)] == [1]
        historian.start()
        assert [found.value for found in client.history(TOPIC)] == [1]


@pytest.mark.parametrize(("history", "expected"), [(0, 1), (5, 0)])
def test_a_history_file_without_a_history(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, history: int, expected: int
) -> None:
    """A proxy that keeps nothing says that the file has no effect."""
    with EventBusProxy("127.0.0.1", 0, 0, history=history, history_file=tmp_path / "bus.db"):
        pass
    assert sum("EVENTBUS_HISTORY_FILE" in entry.getMessage() for entry in caplog.records) == expected
