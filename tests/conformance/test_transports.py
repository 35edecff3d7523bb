"""Every transport of the package passes the suite that ships for the authors of others."""

from collections.abc import Iterator
from threading import Thread

import pytest

from eventbus import EventBusProxy, NotConnected
from eventbus.policies import Packing
from eventbus.testing.conformance import Features, MakeTransport, TransportConformance
from eventbus.transports.memory import MemoryHub, MemoryTransport
from eventbus.transports.nats.core import CoreTransport
from eventbus.transports.nats.jetstream import JetStreamTransport
from eventbus.transports.zeromq import ZeroMQOptions, ZeroMQTransport
from tests.nats import Server, running
from tests.support import PATIENCE, eventually, in_thread, is_waiting, run_script


class TestZeroMQ(TransportConformance):
    """ZeroMQ through a proxy."""

    # A proxy reads for its subscribers, so a slow one holds nobody back; tests/eventbus/test_client.py stops the proxy.
    features = Features(bounded_send=False)

    @pytest.fixture
    def make_transport(self) -> Iterator[MakeTransport]:
        with EventBusProxy(pub_port=0, sub_port=0) as proxy:
            yield lambda: ZeroMQTransport(
                "127.0.0.1", proxy.pub_port, proxy.sub_port, ZeroMQOptions(connect_timeout=PATIENCE)
            )


@pytest.fixture(scope="module")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests of this module."""
    with running(tmp_path_factory.mktemp("nats"), "max_payload: 8MB") as server:
        yield server


@pytest.mark.process
class TestNats(TransportConformance):
    """NATS without JetStream."""

    features = Features(bounded_send=False, prefixes=False)

    @pytest.fixture
    def make_transport(self, nats_server: Server) -> MakeTransport:
        return lambda: CoreTransport(nats_server.options(), ZeroMQOptions(connect_timeout=PATIENCE))


@pytest.mark.process
class TestJetStream(TransportConformance):
    """NATS with JetStream. Each test has a bus of its own on the server; nothing is packed, so that messages are counted."""

    features = Features(bounded_send=False, prefixes=False, knows_subscribers=False)

    @pytest.fixture
    def make_transport(self, nats_server: Server) -> Iterator[MakeTransport]:
        with nats_server.stream() as options:
            yield lambda: JetStreamTransport(options, ZeroMQOptions(connect_timeout=PATIENCE, packing=Packing.NONE))


class TestMemory(TransportConformance):
    """One process, without sockets."""

    @pytest.fixture
    def make_transport(self) -> MakeTransport:
        hub = MemoryHub()
        return lambda: MemoryTransport(hub, queue=20_000, send_timeout=0.05)


# The memory transport's own


def test_a_full_receiver_can_close_while_a_sender_waits_for_it() -> None:
    """MemoryTransport: close() of a receiver whose queue is full lets the sender go on, rather than wait for it."""
    hub = MemoryHub()
    sender, receiver = MemoryTransport(hub, send_timeout=3600), MemoryTransport(hub, queue=1)
    sender.open(0)
    receiver.open(0)
    receiver.subscribe(b"t")
    sender.send(b"t", b"{1}")
    sending = Thread(target=sender.send, args=(b"t", b"{2}"), daemon=True)
    sending.start()
    eventually(lambda: is_waiting(sending), what="the sender waits for room")
    closing = Thread(target=receiver.close, args=(1,), daemon=True)
    closing.start()
    closing.join(PATIENCE)
    assert not closing.is_alive(), "close() waits for the sender, which waits for the receiver"
    sending.join(PATIENCE)
    assert not sending.is_alive()


@pytest.mark.parametrize("own", [False, True], ids=["of another", "of its own"])
def test_a_sender_that_waits_can_close(own: bool) -> None:
    """MemoryTransport: a send() that waits for room raises NotConnected when its transport is closed, and sends nothing."""
    hub = MemoryHub()
    receiver = MemoryTransport(hub, queue=1, send_timeout=3600)
    sender = receiver if own else MemoryTransport(hub, send_timeout=3600)
    receiver.open(0)
    sender.open(0)
    receiver.subscribe(b"t")
    sender.send(b"t", b"{1}")
    raised: list[type[Exception]] = []

    def send() -> None:
        try:
            sender.send(b"t", b"{2}")
        except NotConnected as error:
            raised.append(type(error))

    with in_thread(send) as sending:
        eventually(lambda: is_waiting(sending), what="the sender waits for room")
        sender.close(1)
    assert (raised, sender.sent) == ([NotConnected], 1)
    receiver.close(0)


FORK = """
import os
from threading import Thread
from eventbus import ForkedClient
from eventbus.transports.memory import MemoryHub, MemoryTransport

hub = MemoryHub()
transport = MemoryTransport(hub)
transport.open(0)
transport.subscribe(b"t")

def in_child():
    for call in (
        lambda: transport.open(1), transport.ensure_open, lambda: transport.send(b"t", b"{}"),
        lambda: transport.subscribe(b"u"), lambda: transport.unsubscribe(b"t"), transport.status.raise_failure,
    ):
        try:
            call()
        except ForkedClient:
            continue
        raise AssertionError("not refused")
    assert transport.receive() is None
    transport.close(0)
    own = MemoryTransport(hub)
    own.open(0)
    own.subscribe(b"t")
    own.send(b"t", b"{}")
    assert own.receive() == ([b"t"], [b"{}"])
    own.close(0)

def fork():
    pid = os.fork()
    if not pid:
        try:
            in_child()
        except BaseException as error:
            os.write(2, repr(error).encode())
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0

with hub._changed:  # as any thread may hold it
    forking = Thread(target=fork)
    forking.start()
    forking.join()
transport.send(b"t", b"{}")
assert transport.receive() == ([b"t"], [b"{}"])
print("done")
"""


@pytest.mark.process
def test_a_fork_refuses_what_its_parent_opened() -> None:
    """MemoryTransport: a child is refused with ForkedClient by what its parent opened; the hub serves one of its own."""
    assert run_script(FORK, options=("-W", "ignore::DeprecationWarning")).stdout == "done\n"
