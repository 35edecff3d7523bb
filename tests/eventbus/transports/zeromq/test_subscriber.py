"""`Subscriber`: the messages that it receives, also when its socket is made anew."""

from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
import zmq

from eventbus._base.zmq_sockets import Context, Socket
from eventbus.options import ZeroMQOptions
from eventbus.transports.zeromq.subscriber import Subscriber
from tests.support import PATIENCE, eventually, in_thread

QUICK = ZeroMQOptions(echo_interval=0, reconnect_interval=0.02, reconnect_max_interval=0.02, receive_hwm=10_000)
SOCKETS = 64


class Peer:
    """The other side: what a proxy has for subscribers, here in the hands of the test."""

    def __init__(self, context: Context) -> None:
        self.socket = context.socket(zmq.XPUB)
        self.socket.set(zmq.SNDHWM, 0)
        self.socket.set(zmq.XPUB_VERBOSER, 1)
        self.port = self.socket.bind_to_random_port("tcp://127.0.0.1")

    def await_change(self, change: bytes) -> None:
        """Read what comes upstream until this has."""
        assert self.socket.poll(round(1000 * PATIENCE))
        while self.socket.recv() != change:
            assert self.socket.poll(round(1000 * PATIENCE))

    def send(self, *values: int) -> None:
        for value in values:
            self.socket.send_multipart([b"t", b"%d" % value])


@pytest.fixture
def context() -> Iterator[Context]:
    made: Context = zmq.Context()
    made.set(zmq.MAX_SOCKETS, SOCKETS)
    yield made
    made.destroy(linger=0)


@pytest.fixture
def peer(context: Context) -> Peer:
    return Peer(context)


@pytest.fixture
def subscriber(context: Context, peer: Peer) -> Iterator[Subscriber]:
    """A subscriber to `t`, of which the peer knows."""
    made = Subscriber(context, f"tcp://127.0.0.1:{peer.port}", QUICK, [b"t"])
    with ExitStack() as stack:
        stack.callback(made.close)
        peer.await_change(b"\x01t")
        yield made


def read(subscriber: Subscriber, count: int) -> list[int]:
    """Receive until there are this many messages."""
    values: list[int] = []

    def enough() -> bool:
        batch = subscriber.receive()
        assert batch is not None
        values.extend(map(int, batch[1]))
        return len(values) >= count

    eventually(enough, PATIENCE)
    return values


def is_readable(subscriber: Subscriber) -> bool:
    """Whether something waits to be received: the test itself asks the socket, which nobody else uses just then."""
    return bool(subscriber._socket.poll(0))


def test_what_was_received_outlives_the_socket(subscriber: Subscriber, peer: Peer) -> None:
    """renew() keeps what the old socket had received; that comes first, then what the new one receives, nothing twice."""
    peer.send(*range(100))
    eventually(lambda: is_readable(subscriber))
    subscriber.renew()
    peer.await_change(b"\x01t")
    peer.send(1_000)
    values: list[int] = []
    while 1_000 not in values:
        values += read(subscriber, 1)
    assert len(values) > 1
    assert values == [*range(len(values) - 1), 1_000]


def test_subscriptions_outlive_the_socket(subscriber: Subscriber, peer: Peer) -> None:
    """A new socket has the subscriptions of the old one, with those made since, and without those undone since."""
    subscriber.subscribe(b"new")
    subscriber.subscribe(b"gone")
    subscriber.unsubscribe(b"gone")
    peer.await_change(b"\x00gone")
    subscriber.renew()
    changes: list[bytes] = []
    while set(changes) < {b"\x00t", b"\x00new", b"\x01t", b"\x01new"}:
        assert peer.socket.poll(round(1000 * PATIENCE))
        changes.append(peer.socket.recv())
    assert sorted(changes) == [b"\x00new", b"\x00t", b"\x01new", b"\x01t"]


def test_a_new_socket_under_a_receiver(subscriber: Subscriber, peer: Peer) -> None:
    """renew() works while receive() waits in another thread, which goes on with the new socket."""
    values: list[int] = []

    def receive() -> None:
        while (batch := subscriber.receive()) is not None:
            values.extend(map(int, batch[1]))

    with in_thread(receive):
        for value in range(20):
            subscriber.renew()
            peer.await_change(b"\x01t")
            peer.send(value)
            eventually(lambda value=value: value in values, PATIENCE)  # type: ignore[misc] # mypy cannot infer a lambda's default
        subscriber.close()
    assert values == list(range(20))


def test_a_socket_that_cannot_be_made(subscriber: Subscriber, peer: Peer, context: Context) -> None:
    """When no socket can be made renew() raises, which is one more failure; everything else works, and so does the next."""
    peer.send(0)
    eventually(lambda: is_readable(subscriber))
    sockets: list[Socket] = []
    # The places of its old sockets are free for an instant: it may get those again.
    eventually(lambda: exhaust(context, sockets) and not renews(subscriber))
    for failures in range(3):
        status = subscriber.status()
        assert (status.up, status.abandoned, status.failures) == (False, True, failures)
        eventually(lambda: exhaust_with(subscriber, context, sockets) == SOCKETS - 2)  # all but the peer's and the waker's
        assert not renews(subscriber)
    assert read(subscriber, 1) == [0]
    subscriber.subscribe(b"new")
    subscriber.process_commands()
    subscriber.wake()
    assert subscriber.receive() == ([], [])
    for socket in sockets:
        socket.close(linger=0)
    eventually(lambda: renews(subscriber))
    peer.await_change(b"\x01new")
    peer.await_change(b"\x01t")
    peer.send(1)
    assert read(subscriber, 1) == [1]


def exhaust(context: Context, sockets: list[Socket]) -> int:
    """Make sockets until there are no more to be had; how many that are."""
    with suppress(zmq.ZMQError):
        while True:
            sockets.append(context.socket(zmq.PAIR))
    return len(sockets)


def exhaust_with(subscriber: Subscriber, context: Context, sockets: list[Socket]) -> int:
    """The same, while the subscriber lets go of its old sockets, as the supervisor has it do."""
    subscriber.process_commands()
    return exhaust(context, sockets)


def renews(subscriber: Subscriber) -> bool:
    """Whether the subscriber gets a new socket."""
    try:
        subscriber.renew()
    except zmq.ZMQError:
        return False
    return True


GOOD = [b"t", b'{"good": 1}']
MALFORMED = {"one": [b"t"], "three": [b"t", b"{}", b"{}"], "five": [b"t", b"{}", b"{}", b"{}", b"{}"]}


@pytest.mark.parametrize("wakes", [False, True], ids=["quiet", "woken"])
@pytest.mark.parametrize("together", [False, True], ids=["one by one", "together"])
@pytest.mark.parametrize("frames", MALFORMED)
def test_malformed_messages_cost_no_neighbours(
    subscriber: Subscriber, peer: Peer, frames: str, together: bool, wakes: bool
) -> None:
    """However they come, messages that are not of two frames are counted, and those before and behind them arrive."""
    sent = [GOOD, MALFORMED[frames], GOOD, GOOD, MALFORMED[frames], MALFORMED[frames], GOOD]
    got: list[bytes] = []
    empty = 0

    def receive() -> None:
        nonlocal empty
        while (batch := subscriber.receive()) is not None:
            got.extend(batch[1])
            empty += not batch[1]

    with in_thread(receive):
        for number, message in enumerate(sent, 1):
            peer.socket.send_multipart(message)
            if wakes:
                subscriber.wake()
            if not together:
                eventually(lambda number=number: len(got) + subscriber.malformed >= number)  # type: ignore[misc] # mypy cannot infer a lambda's default
        eventually(lambda: len(got) == sent.count(GOOD))
        eventually(lambda: subscriber.malformed == len(sent) - sent.count(GOOD))
        for _ in range(3):  # it can still be woken
            before = empty
            subscriber.wake()
            eventually(lambda before=before: empty > before)  # type: ignore[misc] # as above
        subscriber.close()
    assert set(got) == {GOOD[1]}


def test_what_is_unsubscribed_costs_no_neighbours(subscriber: Subscriber, peer: Peer) -> None:
    """Messages that were sent before come all the same, and are well formed; so do those between them."""
    subscriber.subscribe(b"u")
    peer.await_change(b"\x01u")
    for _ in range(100):
        peer.socket.send_multipart(GOOD)
        peer.socket.send_multipart([b"u", GOOD[1]])
    subscriber.unsubscribe(b"u")
    eventually(lambda: is_readable(subscriber))
    got: list[bytes] = []

    def receive() -> bool:
        batch = subscriber.receive()
        assert batch is not None
        got.extend(batch[0])
        return len(got) + 2 * subscriber.malformed >= 199

    eventually(receive)
    assert subscriber.malformed == 0
    assert got.count(b"t") == 100


def test_closed_is_closed(subscriber: Subscriber) -> None:
    """After close() receiving is None, and everything else is harmless."""
    with in_thread(lambda: receive_to_the_end(subscriber)):
        subscriber.close()
    assert subscriber.receive() is None
    subscriber.subscribe(b"new")
    subscriber.unsubscribe(b"t")
    subscriber.renew()
    subscriber.process_commands()
    subscriber.wake()
    subscriber.close()
    assert (subscriber.receive(), subscriber.fileno(), subscriber.status().up) == (None, -1, False)


def receive_to_the_end(subscriber: Subscriber) -> None:
    while subscriber.receive() is not None:
        pass
