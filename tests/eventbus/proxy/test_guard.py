"""The connections that a guard ends, and those that it leaves."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from eventbus.options import ProxyOptions
from eventbus.proxy.guard import ConnectionGuard
from eventbus.proxy.health import Traffic
from eventbus.proxy.tcp import Connection
from tests.support import PATIENCE

_LIMIT = 10  # subscriptions
_SUBSCRIPTION = bytes(255)


class Subscribers:
    """A guard of real connections, and a proxy of which the test says whether it answers."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._listening, self.other = (stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2))
        self._opened: dict[int, float] = {}
        self.answers = True
        self.guard = ConnectionGuard(
            ProxyOptions(max_subscriptions=_LIMIT),
            lambda: ((Traffic(), Traffic(), Traffic(), Traffic()), self.answers),
            lambda reason: pytest.fail(reason),
            lambda connection: "",
        )

        self.guard.listens(self._listening.fileno())

    def connect(self, now: float, listening: socket.socket | None = None) -> "Subscriber":
        listening = listening or self._listening
        theirs = self._stack.enter_context(socket.create_connection(listening.getsockname()))
        ours = self._stack.enter_context(listening.accept()[0])
        self._opened[ours.fileno()] = now
        return Subscriber(theirs, ours)

    def check(self, now: float) -> None:
        self.guard.check(({}, self._opened), now)


class Subscriber:
    """Both ends of a connection."""

    def __init__(self, theirs: socket.socket, ours: socket.socket) -> None:
        self._theirs = theirs
        self._ours = ours

    def sends(self, count: int) -> None:
        self._theirs.settimeout(PATIENCE)
        self._theirs.sendall(_SUBSCRIPTION * count)
        while count:
            self._ours.recv(len(_SUBSCRIPTION), socket.MSG_WAITALL)
            count -= 1

    def is_open(self) -> bool:
        self._theirs.setblocking(False)
        try:
            return bool(self._theirs.recv(1))
        except BlockingIOError:
            return True


@pytest.fixture
def subscribers() -> Iterator[Subscribers]:
    with ExitStack() as stack:
        yield Subscribers(stack)


def test_a_flood_of_subscriptions_ends(subscribers: Subscribers) -> None:
    """While the proxy does nothing but take in subscriptions, it ends those who send more than they may have."""
    modest, hostile = subscribers.connect(now=100.0), subscribers.connect(now=100.0)
    modest.sends(_LIMIT)
    hostile.sends(2 * _LIMIT)
    subscribers.answers = False
    subscribers.check(now=101.0)
    assert modest.is_open()
    assert not hostile.is_open()
    assert subscribers.guard.disconnected["subscriptions"] == 1


def test_a_connection_of_the_program_does_not_end(subscribers: Subscribers) -> None:
    """A descriptor may have become another connection of the program around the proxy since libzmq told of it."""
    foreign = subscribers.connect(now=100.0, listening=subscribers.other)
    foreign.sends(2 * _LIMIT)
    subscribers.answers = False
    subscribers.check(now=101.0)
    assert foreign.is_open()
    assert subscribers.guard.disconnected["subscriptions"] == 0


def test_a_slow_client_that_comes_back_fills_no_log(subscribers: Subscribers, caplog: pytest.LogCaptureFixture) -> None:
    """What queues have dropped is told once a minute for each client or address, however often it connects."""
    for port in range(50_000, 50_010):
        subscribers.guard._report_dropped(Connection(1_000, ("192.0.2.1", port)), 1)
    subscribers.guard._report_dropped(Connection(1_000, ("192.0.2.2", 50_000)), 1)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "subscriber 192.0.2.1",
        "subscriber 192.0.2.2",
    ]
    assert subscribers.guard.dropped == 11


def test_what_was_sent_long_ago_is_no_flood(subscribers: Subscribers) -> None:
    """The echoes of hours do not count when another client floods the proxy, also under rules, where nobody counts."""
    old = subscribers.connect(now=100.0)
    for minute in range(10):
        old.sends(_LIMIT // 2)
        subscribers.check(now=100.0 + 60.0 * minute)
    subscribers.answers = False
    subscribers.check(now=1_000.0)
    assert old.is_open()
    assert subscribers.guard.disconnected["subscriptions"] == 0
