"""Signal handlers that interrupt a transport of their own thread, at each moment at which Python lets them."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from threading import Event

import pytest
import zmq

from eventbus import EventBusError, EventBusProxy, NotConnected
from eventbus._base.deadline import Deadline
from eventbus._base.zmq_sockets import Context
from eventbus.observe.state import ClientState
from eventbus.observe.stats import DropLog
from eventbus.options import ZeroMQOptions
from eventbus.transports.zeromq import ZeroMQTransport
from eventbus.transports.zeromq.link import ProxyLink
from eventbus.transports.zeromq.numbered_publisher import NumberedPublisher
from eventbus.transports.zeromq.publisher import Publisher
from tests.eventbus.transports.moments import NoSuchMoment, interrupted
from tests.eventbus.transports.zeromq.upstream import QUICK, TOPIC, Peer, flush, settle
from tests.support import PATIENCE, eventually, in_thread

MANY = 10  # there are at least so many moments
LARGE = b" " * 5_000  # is noted at once


@pytest.fixture
def context() -> Iterator[Context]:
    made: Context = zmq.Context()
    yield made
    made.destroy(linger=0)


# Of callbacks of weak references, which may run at any moment, exceptions are told and ignored.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def interrupt(handled: object) -> None:
    raise KeyboardInterrupt


# While it flushes


def emit(publisher: Publisher, payload: bytes = b"more") -> None:
    with suppress(EventBusError):  # the handler may not emit while the code that it interrupts gives the socket a message
        publisher.send(TOPIC, payload)


@pytest.mark.parametrize("handler", [emit, interrupt, lambda publisher: publisher.close(0)], ids=["emit", "raise", "close"])
@pytest.mark.parametrize("kind", [Publisher, NumberedPublisher])
def test_flushing(context: Context, kind: type[Publisher], handler: Callable[[Publisher], None]) -> None:
    """A handler that emits, raises or closes while its thread flushes: nothing is doubled, lost or out of order."""
    peer = Peer(context)
    for moment in count():
        publisher = kind(context, f"tcp://127.0.0.1:{peer.port}", ZeroMQOptions(**QUICK), DropLog())
        try:
            settle(publisher, peer)
            for number in range(3):
                publisher.send(TOPIC, b"%d" % number)
            with suppress(KeyboardInterrupt, NotConnected):
                interrupted(publisher.flush, lambda: handler(publisher), moment)  # noqa: B023 # called within
            if not publisher._closed:
                flush(publisher)
                publisher.send(TOPIC, b"last")
                found: list[bytes] = []
                while not found or found[-1] != b"last":
                    found.append(peer.socket.recv_multipart()[-1])
                assert found == [b"0", b"1", b"2", *[b"more"] * (b"more" in found), b"last"]
                assert (publisher.sent, publisher.held) == (len(found), 0)
        except NoSuchMoment:
            assert moment > MANY
            return
        finally:
            publisher.close(0)


# While it keeps what it may have to send again


def test_keeping(context: Context) -> None:
    """A handler that emits while its thread notes what was sent: all is sent again in the order of its numbers."""
    peer = Peer(context)
    for moment in count():
        publisher = NumberedPublisher(context, f"tcp://127.0.0.1:{peer.port}", ZeroMQOptions(**QUICK), DropLog())
        try:
            settle(publisher, peer)
            flush(publisher)
            publisher.send(TOPIC, b"first")
            interrupted(lambda: publisher.send(TOPIC, LARGE), lambda: emit(publisher, LARGE), moment)  # noqa: B023 # within
            sent = [peer.socket.recv_multipart() for _ in range(publisher.sent)]
            publisher.connection_lost()
            settle(publisher, peer)
            flush(publisher)
            assert [peer.socket.recv_multipart() for _ in range(publisher.sent)] == sorted(sent)
        except NoSuchMoment:
            assert moment > MANY
            return
        finally:
            publisher.close(0)


# While it subscribes


def subscribe_to_another(transport: ZeroMQTransport) -> None:
    transport.subscribe(b"another")


@pytest.mark.parametrize(
    "handler", [subscribe_to_another, interrupt, lambda transport: transport.close(0)], ids=["subscribe", "raise", "close"]
)
def test_subscribing(proxy: EventBusProxy, handler: Callable[[ZeroMQTransport], None]) -> None:
    """A handler that subscribes, raises or closes while its thread subscribes: the transport goes on, or is closed."""

    for moment in count():
        transport = ZeroMQTransport("127.0.0.1", proxy.pub_port, proxy.sub_port, ZeroMQOptions(connect_timeout=PATIENCE))
        transport.subscribe(b"t")
        transport.open(PATIENCE)
        try:
            expect_to_go_on(transport, lambda: handler(transport), moment)  # noqa: B023 # called within
        except NoSuchMoment:
            assert moment > MANY
            return
        finally:
            transport.close(0)


def expect_to_go_on(transport: ZeroMQTransport, handler: Callable[[], None], moment: int) -> None:
    received: list[bytes] = []

    def receive() -> None:
        while (batch := transport.receive()) is not None:
            received.extend(batch[1])

    def subscribe() -> None:
        with suppress(KeyboardInterrupt, EventBusError):
            interrupted(lambda: transport.subscribe(b"u"), handler, moment)

    with in_thread(receive):
        with in_thread(subscribe):  # which must not wait without end
            pass
        if transport.status.state is not ClientState.CLOSED:
            assert transport.status.wait_ready(Deadline(PATIENCE))
            transport.send(b"t", b"{}")
            eventually(lambda: received == [b"{}"], PATIENCE)
            transport.close(0)


@pytest.mark.patience
def test_subscribing_while_the_supervisor_waits(proxy: EventBusProxy) -> None:
    """A handler that subscribes while its thread emits does not wait for the supervisor, which waits for its thread."""
    transport = ZeroMQTransport("127.0.0.1", proxy.pub_port, proxy.sub_port, ZeroMQOptions(connect_timeout=PATIENCE))
    transport.open(PATIENCE)
    link = transport._link
    assert link is not None
    supervising = Event()
    had: list[bool] = []

    def supervise() -> None:
        with link._lock:
            supervising.set()
            had.append(link.publisher._lock.acquire(timeout=PATIENCE))
            if had[0]:
                link.publisher._lock.release()

    with in_thread(supervise), link.publisher._lock:  # as while it emits
        assert supervising.wait(PATIENCE)
        transport.subscribe(b"t")
    assert had == [True]
    transport.close(0)


# While it receives


def test_receiving(proxy: EventBusProxy) -> None:
    """A handler that closes while its thread receives: receive() returns what it has, or None."""
    for moment in count():
        transport = ZeroMQTransport("127.0.0.1", proxy.pub_port, proxy.sub_port, ZeroMQOptions(connect_timeout=PATIENCE))
        transport.subscribe(b"t")
        transport.open(PATIENCE)
        try:
            transport.send(b"t", b"{}")
            interrupted(transport.receive, lambda: transport.close(0), moment)  # noqa: B023 # called within
            assert transport.receive() is None
        except NoSuchMoment:
            assert moment > 1
            return
        finally:
            transport.close(0)


# While it closes


def test_closing(proxy: EventBusProxy) -> None:
    """A handler that raises while its thread closes: if it is still open it can be closed, and a receiver hears of it."""
    for moment in count():
        transport = ZeroMQTransport("127.0.0.1", proxy.pub_port, proxy.sub_port, ZeroMQOptions(connect_timeout=PATIENCE))
        transport.open(PATIENCE)
        link = transport._link
        assert link is not None

        def receive(transport: ZeroMQTransport = transport) -> None:
            while transport.receive() is not None:
                pass

        def interrupt_closing(link: ProxyLink = link) -> None:
            if not link.closed:  # else it is as good as closed
                raise KeyboardInterrupt

        with in_thread(receive):
            try:
                with suppress(KeyboardInterrupt):
                    interrupted(lambda: transport.close(0), interrupt_closing, moment)  # noqa: B023 # called within
            except NoSuchMoment:
                assert moment > MANY
                return
            finally:
                transport.close(0)
                assert link.closed
