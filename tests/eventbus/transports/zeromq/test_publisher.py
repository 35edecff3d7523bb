"""`Publisher`: what it holds, what it lets go, and what it does when its buffer is full."""

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from threading import Event, Thread
from time import monotonic
from typing import Any

import pytest
import zmq

from eventbus import NotConnected, SendBufferFull, SendTimeout
from eventbus._base.zmq_sockets import Context, Socket
from eventbus.observe.stats import DropLog, DropReason
from eventbus.options import ZeroMQOptions
from eventbus.policies import SendPolicy
from eventbus.transports.zeromq.context import shared_context
from eventbus.transports.zeromq.numbered_publisher import NumberedPublisher
from eventbus.transports.zeromq.packing_publisher import PackingPublisher
from eventbus.transports.zeromq.publisher import Publisher
from tests.container.support import leaving_nothing
from tests.eventbus.transports.zeromq.upstream import QUICK, TOPIC, Peer, flush, settle
from tests.support import PATIENCE, eventually, in_thread, run_threads

SOCKETS = 256


@pytest.fixture
def context() -> Iterator[Context]:
    made: Context = zmq.Context()
    made.set(zmq.MAX_SOCKETS, SOCKETS)
    yield made
    made.destroy(linger=0)


@pytest.fixture
def peer(context: Context) -> Peer:
    return Peer(context)


type Make = Callable[..., Publisher]


@pytest.fixture
def drops() -> DropLog:
    """The log of the events that the publishers drop."""
    return DropLog()


@pytest.fixture
def make(context: Context, peer: Peer, drops: DropLog) -> Iterator[Make]:
    """Makes publishers that know of the peer's subscription, and closes them."""
    with ExitStack() as stack:

        def make_one(**options: Any) -> Publisher:
            defaults: dict[str, Any] = {"send_hwm": 1_000, "send_timeout": PATIENCE, "send_policy": SendPolicy.BLOCK}
            made = Publisher(context, f"tcp://127.0.0.1:{peer.port}", ZeroMQOptions(**QUICK | defaults | options), drops)
            stack.callback(made.close, 0)
            settle(made, peer)
            return made

        yield make_one


def number(value: int) -> bytes:
    return b"%d" % value


# Numbering


def test_an_interrupted_message_costs_no_other(context: Context, peer: Peer, drops: DropLog) -> None:
    """A send that KeyboardInterrupt cuts short uses its number up, and goes out whole: the next has a number of its own."""
    publisher = NumberedPublisher(context, f"tcp://127.0.0.1:{peer.port}", ZeroMQOptions(**QUICK), drops)
    try:
        settle(publisher, peer)
        flush(publisher)
        send = publisher._socket_send
        interrupts = iter([False, True])

        def interrupted(frame: bytes, flags: int) -> object:
            if next(interrupts, False):
                raise KeyboardInterrupt
            return send(frame, flags)

        publisher._socket_send = publisher._send_frame = interrupted
        with pytest.raises(KeyboardInterrupt):
            publisher.send(TOPIC, number(0))
        publisher.send(TOPIC, number(1))
        messages = [peer.socket.recv_multipart() for _ in range(2)]
        assert [payload for _, payload in messages] == [number(0), number(1)]
        assert [int.from_bytes(first[-8:]) for first, _ in messages] == [1, 2]
    finally:
        publisher.close(0)


# Holding


def test_it_begins_by_holding(make: Make, peer: Peer) -> None:
    """A new publisher sends nothing before flush(); then everything goes, in order, and what comes after goes at once."""
    publisher = make()
    for value in range(100):
        publisher.send(TOPIC, number(value))
    assert (publisher.held, publisher.sent) == (100, 100)
    assert peer.is_silent()
    assert publisher.flush()
    publisher.send(TOPIC, number(100))
    assert peer.read(101) == [number(value) for value in range(101)]
    assert (publisher.held, publisher.sent) == (0, 101)


def test_it_holds_again(make: Make, peer: Peer) -> None:
    """After hold() nothing is sent until the next flush()."""
    publisher = make()
    assert publisher.flush()
    for value in range(5):
        publisher.send(TOPIC, number(2 * value))
        assert peer.read(1) == [number(2 * value)]
        publisher.hold()
        publisher.send(TOPIC, number(2 * value + 1))
        assert publisher.held == 1
        assert peer.is_silent()
        assert publisher.flush()
        assert peer.read(1) == [number(2 * value + 1)]


def test_events_are_counted_not_messages(make: Make, drops: DropLog) -> None:
    """`held` and `sent` count the events that messages carry; so does what close() has dropped."""
    publisher = make()
    publisher.send(TOPIC, b"[]", 10)
    publisher.send(TOPIC, b"{}")
    assert (publisher.held, publisher.sent) == (11, 11)
    publisher.close(0)
    assert drops.counts == {DropReason.CLOSED: 11}
    assert publisher.held == 0


def test_much_is_flushed_in_parts(make: Make, peer: Peer) -> None:
    """flush() lets others in between when much is held: it says so, and what is sent meanwhile comes after what is held."""
    publisher = make(send_hwm=10_000)
    for value in range(2_500):
        publisher.send(TOPIC, number(value))
    flushes = [publisher.flush()]
    publisher.send(TOPIC, number(2_500))
    while not flushes[-1]:
        flushes.append(publisher.flush())
    assert len(flushes) == 3
    publisher.send(TOPIC, number(2_501))
    assert peer.read(2_502) == [number(value) for value in range(2_502)]


def test_order_through_holding_and_flushing(make: Make, peer: Peer) -> None:
    """Threads that send while the publisher holds and flushes, again and again, lose and double nothing, in order."""
    publisher = make()
    done = Event()

    def send(thread: int) -> None:
        for value in range(1_000):
            publisher.send(TOPIC, b"%d %d" % (thread, value))

    def hold_and_flush() -> None:
        while not done.wait(0.0005):
            publisher.hold()
            flush(publisher)

    found: list[bytes] = []
    with in_thread(lambda: found.extend(peer.read(4_000))) as reading, in_thread(hold_and_flush):
        try:
            run_threads(4, send)
            reading.join(PATIENCE)
        finally:
            done.set()
    for thread in range(4):
        mine = [int(payload.split()[1]) for payload in found if payload.startswith(b"%d " % thread)]
        assert mine == list(range(1_000))
    assert (publisher.sent, publisher.held) == (4_000, 0)
    assert peer.is_silent()


# A full buffer


def large(value: int) -> bytes:
    """A payload of which a few fill the buffers of the operating system."""
    return number(value) + b" " * 2_000_000


def send_all(publisher: Publisher, payloads: list[bytes]) -> None:
    for payload in payloads:
        publisher.send(TOPIC, payload)


def fill(publisher: Publisher) -> None:
    """Send without end."""
    for value in range(publisher.sent, 1_000):
        publisher.send(TOPIC, large(value))


def expect_all(publisher: Publisher, peer: Peer) -> None:
    """The messages that were sent arrive, in order, and from then on more do."""
    flush(publisher)
    for value in range(publisher.sent):
        assert peer.read(1) == [large(value)]
    publisher.send(TOPIC, large(publisher.sent))
    assert peer.read(1) == [large(publisher.sent - 1)]
    assert peer.is_silent()


def is_held_up(thread: Thread) -> bool:
    """Whether the thread waits for room in the send buffer."""
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None and frame.f_code.co_name != "_send_later":
        frame = frame.f_back
    return frame is not None


@pytest.mark.parametrize("holding", [True, False])
def test_raise_says_so_at_once(make: Make, peer: Peer, holding: bool, drops: DropLog) -> None:
    """RAISE: a full buffer is SendBufferFull, and nothing is sent; what was taken arrives, and then there is room again."""
    publisher = make(send_hwm=3, send_policy=SendPolicy.RAISE)
    assert holding or publisher.flush()
    for _ in range(2):
        with pytest.raises(SendBufferFull, match=str(peer.port)) as caught:
            fill(publisher)
        assert not isinstance(caught.value, SendTimeout)
        assert caught.value.limit == 3
    assert publisher.held == (3 if holding else 0)
    assert drops.counts.get(DropReason.SEND_BUFFER, 0) == 0
    expect_all(publisher, peer)


@pytest.mark.parametrize("holding", [True, False])
def test_block_ends_in_send_timeout(make: Make, peer: Peer, holding: bool, drops: DropLog) -> None:
    """BLOCK: a buffer that stays full for the send timeout is SendTimeout; nothing is lost, what was taken arrives."""
    publisher = make(send_hwm=3, send_timeout=0.05)
    assert holding or publisher.flush()
    for _ in range(2):
        before = monotonic()
        with pytest.raises(SendTimeout) as caught:
            fill(publisher)
        assert monotonic() - before >= 0.05
        assert (caught.value.limit, caught.value.timeout) == (3, 0.05)
    assert publisher.held == (3 if holding else 0)
    assert drops.counts.get(DropReason.SEND_BUFFER, 0) == 0
    expect_all(publisher, peer)


@pytest.mark.parametrize("holding", [True, False])
def test_block_waits_for_room(make: Make, peer: Peer, holding: bool) -> None:
    """BLOCK: a send() that waits goes on when there is room, behind what was sent before; others may send meanwhile."""
    publisher = make(send_hwm=3)
    assert holding or publisher.flush()
    with in_thread(lambda: send_all(publisher, [large(value) for value in range(20)])) as sending:
        eventually(lambda: is_held_up(sending), PATIENCE)
        flush(publisher)
        assert peer.read(20) == [large(value) for value in range(20)]
    assert publisher.sent == 20


@pytest.mark.parametrize("holding", [True, False])
def test_drop_drops_and_counts(make: Make, peer: Peer, holding: bool, drops: DropLog) -> None:
    """DROP: what finds the buffer full is dropped and counted, and not as sent; the rest arrives."""
    publisher = make(send_hwm=3, send_policy=SendPolicy.DROP)
    assert holding or publisher.flush()
    for _ in range(100):
        publisher.send(TOPIC, large(publisher.sent))
    assert drops.counts.get(DropReason.SEND_BUFFER, 0) > 0
    assert publisher.sent + drops.counts.get(DropReason.SEND_BUFFER, 0) == 100
    assert publisher.held == (3 if holding else 0)
    expect_all(publisher, peer)


def test_drop_counts_events(make: Make, drops: DropLog) -> None:
    """DROP: it is the events that are counted, not the messages."""
    publisher = make(send_hwm=1, send_policy=SendPolicy.DROP)
    for _ in range(3):
        publisher.send(TOPIC, b"[]", 10)
    assert (publisher.sent, drops.counts.get(DropReason.SEND_BUFFER, 0)) == (10, 20)


def test_each_buffer_has_its_bound(make: Make, peer: Peer) -> None:
    """The high-water mark bounds the held messages however often they are held and flushed: nothing piles up."""
    publisher = make(send_hwm=10, send_policy=SendPolicy.RAISE)
    for _ in range(5):
        publisher.hold()
        for value in range(10):
            publisher.send(TOPIC, number(value))
        with pytest.raises(SendBufferFull):
            publisher.send(TOPIC, number(10))
        assert publisher.held == 10
        flush(publisher)
        assert peer.read(10) == [number(value) for value in range(10)]


# A new socket


def test_a_new_socket_keeps_what_is_held(make: Make, peer: Peer) -> None:
    """renew() loses nothing that is held, and goes on holding."""
    publisher = make()
    for value in range(10):
        publisher.send(TOPIC, number(value))
        publisher.renew()
    assert (publisher.held, publisher.sent) == (10, 10)
    settle(publisher, peer)
    flush(publisher)
    assert peer.read(10) == [number(value) for value in range(10)]


def test_a_new_socket_begins_by_holding(make: Make, peer: Peer) -> None:
    """A new socket knows of no subscription: what is sent after renew() is held until flush(), also if it was not before."""
    publisher = make()
    flush(publisher)
    publisher.send(TOPIC, number(0))
    assert peer.read(1) == [number(0)]
    publisher.renew()
    publisher.send(TOPIC, number(1))
    assert publisher.held == 1
    settle(publisher, peer)
    flush(publisher)
    assert peer.read(1) == [number(1)]


def test_new_sockets_while_threads_send(make: Make, peer: Peer) -> None:
    """Threads that send while the socket is replaced again and again lose nothing of what is held, in order."""
    publisher = make(send_hwm=100_000)
    done = Event()

    def send() -> None:
        while not done.is_set() and publisher.sent < 90_000:  # on a busy machine it would be full before that
            publisher.send(TOPIC, number(publisher.sent))

    with in_thread(send):
        renewals = 0
        while renewals < 50 or publisher.sent <= 50:  # the other thread may have to wait for a processor
            publisher.renew()
            renewals += 1
        done.set()
    settle(publisher, peer)
    flush(publisher)
    assert peer.read(publisher.sent) == [number(value) for value in range(publisher.sent)]


def test_a_socket_that_cannot_be_made(context: Context, make: Make, peer: Peer) -> None:
    """When no socket can be made renew() raises, which is one more failure; what is held stays, and the next one works."""
    publisher = make()
    publisher.send(TOPIC, number(0))
    sockets: list[Socket] = []
    # The places of its old sockets are free for an instant: it may get those again.
    eventually(lambda: exhaust(context, sockets) and not renews(publisher))
    for failures in range(3):
        status = publisher.status()
        assert (status.up, status.abandoned, status.failures) == (False, True, failures)
        publisher.send(TOPIC, number(failures + 1))
        eventually(lambda: exhaust(context, sockets) == SOCKETS - 1)  # all but the peer's
        assert not renews(publisher)
    for socket in sockets:
        socket.close(linger=0)
    eventually(lambda: renews(publisher))
    settle(publisher, peer)
    flush(publisher)
    assert peer.read(4) == [number(value) for value in range(4)]


def renews(publisher: Publisher) -> bool:
    """Whether the publisher gets a new socket."""
    try:
        publisher.renew()
    except zmq.ZMQError:
        return False
    return True


def exhaust(context: Context, sockets: list[Socket]) -> int:
    """Make sockets until there are no more to be had; how many that are."""
    with suppress(zmq.ZMQError):
        while True:
            sockets.append(context.socket(zmq.PAIR))
    return len(sockets)


# Subscriptions, and closing


def test_an_expected_subscription_is_seen(make: Make, peer: Peer) -> None:
    """has_seen() tells when the subscription to a token has come upstream; one that was forgotten is none to wait for."""
    publisher = make()
    publisher.expect(b"one")
    publisher.expect(b"two")
    assert not publisher.has_seen(b"one")
    peer.subscribe(b"one")
    eventually(lambda: publisher.has_seen(b"one"))
    assert not publisher.has_seen(b"two")
    publisher.forget(b"two")
    publisher.forget(b"never expected")
    assert publisher.has_seen(b"two")


def test_closed_is_closed(make: Make, drops: DropLog) -> None:
    """After close() sending raises NotConnected, what is held is gone, and everything else is harmless."""
    publisher = make()
    publisher.send(TOPIC, number(0))
    publisher.send(TOPIC, number(1))
    publisher.close(0)
    assert drops.counts == {DropReason.CLOSED: 2}
    with pytest.raises(NotConnected):
        publisher.send(TOPIC, number(2))
    publisher.hold()
    publisher.renew()
    publisher.drain()
    assert publisher.flush()
    with pytest.raises(NotConnected):
        publisher.send(TOPIC, number(3))
    publisher.close(0)
    assert drops.counts == {DropReason.CLOSED: 2}
    assert (publisher.sent, publisher.fileno(), publisher.status().up) == (2, -1, False)


def test_closing_ends_a_send_that_waits(make: Make, drops: DropLog) -> None:
    """A send() that waits for room raises NotConnected when the publisher is closed."""
    publisher = make(send_hwm=1)

    def send() -> None:
        publisher.send(TOPIC, number(0))
        with pytest.raises(NotConnected):
            publisher.send(TOPIC, number(1))

    with in_thread(send) as sending:
        eventually(lambda: is_held_up(sending), PATIENCE)
        publisher.close(0)
        assert drops.counts == {DropReason.CLOSED: 1}


def test_close_flushes_what_the_socket_has(make: Make, peer: Peer, drops: DropLog) -> None:
    """Messages that the socket has taken before close() still arrive."""
    publisher = make()
    flush(publisher)
    for value in range(1_000):
        publisher.send(TOPIC, number(value))
    publisher.close(PATIENCE)
    assert drops.counts == {}
    assert peer.read(1_000) == [number(value) for value in range(1_000)]


# What a signal handler leaves behind


def test_what_nobody_knows_ends_with_the_context(dead_ports: tuple[int, int]) -> None:
    """A publisher that an exception out of a signal handler has cut off from its owner is closed with the context."""
    with leaving_nothing():
        use = shared_context.acquire()
        Publisher(use.context, f"tcp://127.0.0.1:{dead_ports[0]}", ZeroMQOptions(**QUICK), DropLog())
        gc.collect()  # a socket that was collected would warn, which is an error here
        shared_context.release(use, PATIENCE)


# What a signal handler that emits has to wait for: the code that it has interrupted may hold any other lock


@pytest.mark.parametrize("act", [Publisher.renew, lambda publisher: publisher.close(0)], ids=["renew", "close"])
@pytest.mark.parametrize("kind", [Publisher, NumberedPublisher, PackingPublisher])
def test_the_lock_is_free_for_who_has_asked_for_the_status(
    context: Context, peer: Peer, drops: DropLog, kind: type[Publisher], act: Callable[[Publisher], object]
) -> None:
    """A thread that replaces or closes the socket does not keep others from emitting while it waits for the monitor."""
    publisher = kind(context, f"tcp://127.0.0.1:{peer.port}", ZeroMQOptions(**QUICK), drops)
    with ExitStack() as stack:
        monitor = stack.enter_context(ExitStack())
        monitor.enter_context(publisher._monitor.lock)  # as `status` holds it
        stack.enter_context(in_thread(lambda: act(publisher)))

        def is_held() -> bool:
            taken = publisher._lock.acquire(blocking=False)
            if taken:
                publisher._lock.release()
            return not taken

        eventually(is_held, what="the thread waits for the monitor")
        eventually(lambda: not is_held(), what="it lets others emit meanwhile")
        monitor.close()
    publisher.close(0)


@pytest.mark.parametrize("kind", [Publisher, NumberedPublisher, PackingPublisher])
def test_the_lock_is_free_while_drops_are_told(context: Context, peer: Peer, drops: DropLog, kind: type[Publisher]) -> None:
    """What is dropped is counted, logged and told to hooks without the lock that emitting takes."""
    publisher = kind(context, f"tcp://127.0.0.1:{peer.port}", ZeroMQOptions(**QUICK), drops)
    publisher.send(TOPIC, b"held")
    told: list[DropReason] = []

    def listener(reason: DropReason, count: int) -> None:
        def look() -> None:
            with publisher._lock:
                told.append(reason)

        with in_thread(look):
            pass

    drops.listener = listener
    publisher.close(0)
    assert told == [DropReason.CLOSED]
    assert drops.counts == {DropReason.CLOSED: 1}
