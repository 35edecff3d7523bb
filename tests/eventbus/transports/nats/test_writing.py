"""Who writes: the thread that emits, if nothing was written just before; else the link's thread, which joins what waits."""

import socket
from collections.abc import Iterator
from contextlib import closing
from threading import Thread, current_thread, main_thread
from time import monotonic

import pytest

from eventbus.errors import NotConnected
from eventbus.nats_options import NatsServer
from eventbus.observe.stats import DropLog
from eventbus.transports.contract import Remedies
from eventbus.transports.nats.channel import READ_BYTES, Channel
from eventbus.transports.nats.connection import Connection
from eventbus.transports.nats.outgoing import Outgoing
from eventbus.transports.nats.protocol import Info, Parser
from eventbus.transports.nats.writing import Writing
from tests.eventbus.transports.nats.support import QUICK, TOPIC, Values, client, transport_of
from tests.nats import Server
from tests.support import PATIENCE, event, eventually

LARGE = 32 * 1_048_576  # more than a connection takes without a reader


@pytest.mark.process
@pytest.mark.parametrize("kind", ["core", "jetstream"])
def test_a_lone_event_is_written_by_the_thread_that_emits_it(
    shared: Server, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lone events and others take turns here, and all arrive in order."""
    writers = set()
    write, writing = Channel.write, Channel.writing

    def noting(channel: Channel, data: "bytes | memoryview[int]") -> int:
        writers.add(current_thread())
        return write(channel, data)

    def noting_own(channel: Channel, data: bytes) -> Iterator[int]:
        writers.add(current_thread())
        return writing(channel, data)

    with shared.stream() as options:
        receiver, sender = transport_of(kind, options), transport_of(kind, options)
        with client(receiver, TOPIC) as receiving, client(sender) as sending:
            values = Values(receiving)
            emitted = 0

            def emit_some() -> bool:
                nonlocal emitted
                for _ in range(1 + emitted % 50):
                    sending.emit_event(event(float(emitted)), TOPIC)
                    emitted += 1
                return current_thread() in writers and emitted >= 2_000

            monkeypatch.setattr(Channel, "write", noting)
            monkeypatch.setattr(Channel, "writing", noting_own)
            eventually(emit_some)
            assert len(writers) > 1
            assert values.wait_for(emitted) == list(range(emitted))
            assert sending.stats().drops == {}


@pytest.mark.process
@pytest.mark.parametrize("kind", ["core", "jetstream"])
def test_very_many_are_written_by_the_thread_that_emits_them(
    shared: Server, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It need not wait for the link's thread; all arrive in order."""
    own = []
    writing = Channel.writing

    def noting(channel: Channel, data: bytes) -> Iterator[int]:
        if current_thread() is main_thread():
            own.append(len(data))
        return writing(channel, data)

    with shared.stream() as options:
        receiver, sender = transport_of(kind, options), transport_of(kind, options)
        with client(receiver, TOPIC) as receiving, client(sender) as sending:
            values = Values(receiving)
            emitted = 0

            def emit_many() -> bool:
                nonlocal emitted
                for _ in range(5_000):
                    sending.emit_event(event(float(emitted)), TOPIC)
                    emitted += 1
                assert values.wait_for(emitted) == list(range(emitted))
                return max(own, default=0) > 1_000 * len(b'{"type":"x"}')

            monkeypatch.setattr(Channel, "writing", noting)
            eventually(emit_many)
            assert sending.stats().drops == {}


class Peers:
    """Connections to a server that reads only when it is told to, and what writes to them. The test plays all threads."""

    def __init__(self) -> None:
        self.waiting: list[bytes] = []
        outgoing = Outgoing("", QUICK, DropLog(), Remedies(), lambda: NotConnected(""), len)
        self.writing = Writing(self._take, outgoing, [], lambda *_: None, lambda *_: None)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket | Connection] = [self._listening]

    def connect(self) -> tuple[Connection, socket.socket]:
        """Both ends of a new connection."""
        host, port = self._listening.getsockname()
        channel = Channel(socket.create_connection((host, port)))
        connection = Connection(NatsServer(host, port), channel, Info({}), Parser(), lambda *_: None, lambda *_: None)
        accepted, _ = self._listening.accept()
        accepted.settimeout(PATIENCE)
        self._open += [connection, accepted]
        return connection, accepted

    def send(self, message: bytes) -> None:
        """Do as a thread that sends, and has taken the link's thread for idle."""
        self.waiting.append(message)
        came = monotonic()
        while monotonic() < came + 0.001:  # after a write of its own, that thread leaves others to the link's for so long
            pass
        self.writing.write_here()

    def close(self) -> None:
        for one in self._open:
            one.close()

    def _take(self) -> bytes:
        return self.waiting.pop(0) if self.waiting else b""


@pytest.fixture
def peers() -> Iterator[Peers]:
    with closing(Peers()) as made:
        yield made


def test_nobody_writes_before_the_rest_of_what_was_written_in_part(peers: Peers) -> None:
    """A thread that sends, or a signal handler, may come after that and before the link's thread goes on."""
    connection, server = peers.connect()
    first, second = b"1" * LARGE, b"2" * 1_000

    def send() -> bool:
        peers.send(first)
        assert peers.writing.rest
        peers.send(second)
        return True

    received = bytearray()

    def read() -> None:
        while len(received) < LARGE + len(second):
            received.extend(server.recv(READ_BYTES))

    with peers.writing.owned():
        peers.writing.wait(connection, float("inf"), send, for_messages=True)
        reader = Thread(target=read, daemon=True)
        reader.start()
        peers.writing.write(connection, b"".join(peers.waiting))
    reader.join(PATIENCE)
    assert received == first + second


def test_a_new_connection_does_not_begin_with_the_rest_of_a_message(peers: Peers) -> None:
    """A connection that is lost while a message was written in part takes the rest with it."""
    lost, _ = peers.connect()

    def send() -> bool:
        peers.send(b"1" * LARGE)
        assert peers.writing.rest
        return True

    with peers.writing.owned():
        peers.writing.wait(lost, float("inf"), send, for_messages=True)
    connection, server = peers.connect()
    peers.writing.write(connection, b"SUB > 1\r\n")  # as `Carrier.restore` does
    assert server.recv(READ_BYTES) == b"SUB > 1\r\n"
