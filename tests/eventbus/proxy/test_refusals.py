"""What libzmq refuses is counted and logged, also by a proxy within another program, which notices nothing of that."""

import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from eventbus.proxy import EventBusProxy
from eventbus.proxy.refusals import Refusals
from eventbus.proxy.tcp import Connection
from tests.faults import zmtp
from tests.support import PATIENCE, eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux how a connection has ended")

LIMIT = 2_000  # bytes
FIRST_DESCRIPTOR = 256  # no program under test has as many itself


@pytest.fixture
def proxy() -> Iterator[EventBusProxy]:
    with EventBusProxy(pub_port=0, sub_port=0, max_event_bytes=LIMIT) as made:
        yield made


@pytest.fixture
def refusals() -> Iterator[Refusals]:
    with closing(Refusals(encrypted=False)) as made:
        yield made


@pytest.fixture
def listener(refusals: Refusals) -> Iterator[socket.socket]:
    """What listens at the port that the refusals are about."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        refusals.listens(made.fileno())
        yield made


def descriptors() -> set[int]:
    """The descriptors of this process."""
    return {int(name) for name in os.listdir("/proc/self/fd") if Path("/proc/self/fd", name).exists()}


def refused(proxy: EventBusProxy) -> int:
    return proxy.health().disconnected["too_large"]


def test_an_embedded_proxy_counts_what_it_refuses(proxy: EventBusProxy, caplog: pytest.LogCaptureFixture) -> None:
    """Messages above the limit, just and by far, count and are logged; those within it, and peers that leave, do not."""
    before = descriptors()
    for count, size in enumerate((LIMIT + 1, 5_000_000, LIMIT + 1), 1):
        with zmtp.peer(proxy.pub_port, b"PUB") as leaving, zmtp.peer(proxy.pub_port, b"PUB") as connection:
            eventually(lambda: proxy.health().connections.publishers == 2, PATIENCE)
            leaving.sendall(zmtp.frame(b"topic", 1) + zmtp.frame(bytes(LIMIT)))
            with suppress(OSError):  # it may be disconnected while it sends
                connection.sendall(zmtp.frame(b"topic", 1) + zmtp.frame(bytes(size)))
            zmtp.await_end(connection)
            eventually(lambda c=count: refused(proxy) == c, PATIENCE)  # type: ignore[misc]
        eventually(lambda: proxy.health().connections.publishers == 0, PATIENCE)
    assert refused(proxy) == 3
    eventually(lambda: descriptors() <= before, PATIENCE)  # what tests before this one have left may end meanwhile
    [line] = [line.getMessage() for line in caplog.records]
    assert re.match(r"disconnected 127\.0\.0\.1:\d+: it has sent a message above EVENTBUS_MAX_EVENT_BYTES", line)


def test_a_refused_peer_that_leaves_at_once_counts(proxy: EventBusProxy) -> None:
    """A peer that sends too much and ends its connection, as a program that exits, is counted: not all was read."""
    with zmtp.peer(proxy.pub_port, b"PUB") as connection:
        eventually(lambda: proxy.health().connections.publishers == 1)
        with suppress(OSError):  # it may be disconnected by then
            connection.sendall(zmtp.frame(b"topic", 1) + zmtp.frame(bytes(100_000)))
            connection.shutdown(socket.SHUT_WR)
        zmtp.await_end(connection)
    eventually(lambda: refused(proxy) == 1, PATIENCE)


def test_low_descriptors_are_left_to_the_program(proxy: EventBusProxy) -> None:
    """Each publisher takes one low number, as without being watched, and one that `select` does not need."""
    before = descriptors()
    with ExitStack() as stack:
        peers = [stack.enter_context(zmtp.peer(proxy.pub_port, b"PUB")) for _ in range(5)]
        eventually(lambda: len(descriptors() - before) == 3 * len(peers), PATIENCE)
        assert len({one for one in descriptors() - before if one < FIRST_DESCRIPTOR}) == 2 * len(peers)
    eventually(lambda: descriptors() <= before, PATIENCE)  # what tests before this one have left may end meanwhile


def test_what_is_no_connection_to_the_port_is_left_alone(refusals: Refusals, listener: socket.socket) -> None:
    """A descriptor may have become the program's own since libzmq told of it: no second one is made."""
    reading, writing = os.pipe()
    with socket.create_server(("127.0.0.1", 0)) as other, closing(zmtp.connect(other.getsockname()[1])) as elsewhere:
        before = descriptors()
        accepted, _ = other.accept()
        with accepted:
            own = zmtp.connect(listener.getsockname()[1])  # the other end of such a connection
            for descriptor in (
                writing,
                listener.fileno(),
                other.fileno(),
                elsewhere.fileno(),
                accepted.fileno(),
                own.fileno(),
            ):
                refusals.opened(descriptor)
            assert descriptors() == before | {accepted.fileno(), own.fileno()}
            own.close()
    refusals.opened(writing)
    os.close(writing)
    refusals.opened(writing)
    assert os.read(reading, 1) == b""  # nobody holds the other end
    os.close(reading)


@pytest.mark.parametrize("leaves", [False, True])
def test_a_descriptor_that_is_used_again(refusals: Refusals, listener: socket.socket, leaves: bool) -> None:
    """If libzmq's events come late, a descriptor is another connection's by then, which is not taken for refused.

    Nor if its peer leaves at that moment.
    """
    with closing(zmtp.connect(listener.getsockname()[1])) as peer:
        accepted, _ = listener.accept()
        with accepted:
            peer.sendall(b"x")
            accepted.sendall(bytes(92))
            zmtp.read(peer, 92)
            refusals.opened(accepted.fileno())
            refusals.ended(accepted.fileno())  # of the one before
            assert refusals.is_waiting
            if leaves:
                peer.close()
                assert accepted.recv(2) == b"x"
                assert accepted.recv(2) == b""
                accepted.close()
            found: list[Connection] = []

            def all_told() -> bool:
                found.extend(refusals.refused())
                return not refusals.is_waiting

            eventually(all_told)
            assert found == []


def test_forked_children_hold_no_connection(refusals: Refusals, listener: socket.socket) -> None:
    """A child closes what it has inherited, and the parent keeps it."""
    with closing(zmtp.connect(listener.getsockname()[1])):
        accepted, _ = listener.accept()
        with accepted:
            before = descriptors()
            refusals.opened(accepted.fileno())
            held = descriptors() - before
            assert len(held) == 1
            refusals._after_fork()
            assert descriptors() == before
