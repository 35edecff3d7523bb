"""Who reads a connection: the receiver while it waits, the reader's thread while nobody does or the receiver is busy."""

import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from threading import Event, Thread, current_thread

import pytest

from eventbus.transports.nats import reading
from eventbus.transports.nats.inbox import Inbox
from eventbus.transports.nats.reading import Reading
from tests.support import PATIENCE, eventually


class Line:
    """A connection whose bytes go to an inbox, one message each, with the thread that has read them."""

    def __init__(self, gathers: Callable[[], bool] = lambda: False) -> None:
        self.near, self.far = socket.socketpair()
        self.inbox = Inbox(100_000)
        self.failures: list[Exception] = []
        self.readers: list[Thread] = []
        self.reading = Reading(self._read, self.near.fileno(), self._fail, gathers)
        self.thread = Thread(target=self.reading.run)
        self.thread.start()

    def _read(self) -> None:
        data = self.near.recv(1, socket.MSG_DONTWAIT)
        if not data:
            raise ConnectionResetError
        self.readers.append(current_thread())
        self.inbox.put([b"t"], [data])

    def _fail(self, error: Exception) -> None:
        self.failures.append(error)
        self.reading.end()

    def receive(self) -> list[bytes]:
        self.reading.await_(self.inbox)
        batch = self.inbox.get()
        return [] if batch is None else batch[1]

    def close(self) -> None:
        self.reading.end()
        self.near.shutdown(socket.SHUT_RDWR)
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        self.reading.close()
        self.near.close()
        self.far.close()


@pytest.fixture
def line() -> Iterator[Line]:
    with closing(Line()) as line:
        yield line


def test_nobody_receives(line: Line) -> None:
    """The reader's thread reads."""
    line.far.send(b"ab")
    eventually(lambda: len(line.inbox) == 2)
    assert line.readers == [line.thread] * 2


def test_the_receiver_reads_while_it_waits(line: Line) -> None:
    """And the reader's thread does from when the receiver is busy; then the receiver again, in order."""
    received: list[bytes] = []
    busy, go_on = Event(), Event()

    def work() -> None:
        while b"z" not in received:
            received.extend(line.receive())
            if received[-1:] == [b"b"]:
                busy.set()
                assert go_on.wait(PATIENCE)

    receiver = Thread(target=work)
    receiver.start()
    line.far.send(b"a")  # may still be read by the other thread, which has begun to wait
    eventually(lambda: received == [b"a"])
    line.far.send(b"b")
    assert busy.wait(PATIENCE)
    assert line.readers[1] is receiver
    line.far.send(b"cd")
    eventually(lambda: len(line.inbox) == 2)
    assert line.readers[2:] == [line.thread] * 2
    go_on.set()
    eventually(lambda: received == [b"a", b"b", b"c", b"d"])
    line.far.send(b"z")
    receiver.join(PATIENCE)
    assert received == [b"a", b"b", b"c", b"d", b"z"]


def test_an_answer_is_needed(line: Line) -> None:
    """The thread that waits for it may be the receiver: then the reader's thread reads."""
    line.far.send(b"a")
    answered = Event()

    def work() -> None:
        line.receive()
        line.far.send(b"b")
        while not answered.wait(0.01):
            line.reading.need()

    receiver = Thread(target=work)
    receiver.start()
    eventually(lambda: len(line.inbox) == 1)
    answered.set()
    receiver.join(PATIENCE)
    assert line.readers[-1] is line.thread


def test_the_receiver_goes_on_reading_after_a_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader's thread, which is called at the end of the rest, does not take it for busy at once."""
    monkeypatch.setattr(reading, "_LOOKS_BEFORE_SLEEP", 0)
    monkeypatch.setattr(reading, "_LOOK_S", PATIENCE)

    def receive(line: Line) -> None:
        while len(line.readers) < 3:
            line.receive()

    for _ in range(30):  # it depends on which thread runs first
        with closing(Line()) as line:
            receiver = Thread(target=receive, args=(line,))
            receiver.start()
            for sent in range(3):
                eventually(lambda: line.inbox.interrupt is not None or line.inbox._waits)
                line.far.send(b"a")
                eventually(lambda sent=sent: len(line.readers) > sent)  # type: ignore[misc] # this loop's
            receiver.join(PATIENCE)
            assert line.readers[1:] == [receiver] * 2


def test_more_is_gathered_before_the_reader_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits when something has come, and reads all that has come then; the end of the connection ends that at once."""
    monkeypatch.setattr(reading, "_GATHER_S", 2 * PATIENCE)
    asked = Event()

    def gathers() -> bool:
        asked.set()
        return True

    with closing(Line(gathers)) as line:

        def send() -> bool:
            """Send one more; returns whether it has found the reader waiting, so that it stays unread."""
            line.far.send(b"a")
            return asked.wait(0.1)

        eventually(send)
        read = len(line.readers)
        line.far.send(b"b")
        line.reading._call()
        eventually(lambda: len(line.inbox) == read + 2)
        asked.clear()
        eventually(send)
        read = len(line.readers)
    assert len(line.readers) == read


def test_who_is_kept_waiting_ends_the_gathering(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has come is read at once."""
    monkeypatch.setattr(reading, "_GATHER_S", 2 * PATIENCE)
    with closing(Line(lambda: True)) as line:
        line.reading.hurry()  # nobody gathers
        sent = 0
        while not line.reading._is_gathering:
            sent += line.far.send(b"a")
            eventually(lambda: line.reading._is_gathering or len(line.inbox) == sent)  # noqa: B023 # called within
        line.reading.hurry()
        eventually(lambda: len(line.inbox) == sent)


@pytest.mark.parametrize("how", ["wake", "close", "end", "the other side"])
def test_what_ends_the_wait(line: Line, how: str) -> None:
    """Somebody wakes or closes the inbox, or the connection ends."""
    returned = Event()

    def work() -> None:
        line.reading.await_(line.inbox)
        returned.set()

    receiver = Thread(target=work)
    receiver.start()
    eventually(lambda: line.inbox.interrupt is not None)
    match how:
        case "wake":
            line.inbox.wake()
        case "close":
            line.inbox.close()
        case "end":
            line.reading.end()
        case _:
            line.far.close()
    assert returned.wait(PATIENCE)
    receiver.join(PATIENCE)
    assert len(line.failures) == (how == "the other side")
