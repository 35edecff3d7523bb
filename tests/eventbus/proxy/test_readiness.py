"""Whether a proxy is ready: an echo through its own ports."""

import logging
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Event, current_thread
from typing import Any

import pytest
import zmq

from eventbus import EventBusProxy
from eventbus.keys import reveal
from eventbus.proxy import Connections
from eventbus.proxy.readiness import Readiness
from tests.container.support import leaving_nothing
from tests.security import Guarded, logged
from tests.support import PATIENCE, RawPeers, eventually, in_thread, run_script, run_threads


def new(proxy: EventBusProxy) -> Readiness:
    """A readiness whose proofs are not valid any more when they are made: each call makes another."""
    return Readiness(proxy, valid_for=0.0)


@pytest.fixture
def readiness(proxy: EventBusProxy) -> Iterator[Readiness]:
    with new(proxy) as made:
        yield made


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    """A proxy that enforces rules."""
    made = Guarded(tmp_path)
    made.admit("bound", publish=["plant"], subscribe=["plant"])
    with made:
        yield made


def proves(readiness: Readiness) -> bool:
    """Whether an echo arrives, however long that takes."""
    taken = readiness.prove(PATIENCE)
    assert taken is None or 0 < taken < PATIENCE
    return taken is not None


def test_a_proxy_that_runs_is_ready(proxy: EventBusProxy, readiness: Readiness) -> None:
    """An echo arrives, again and again, on the same two connections, which do not count as clients'."""
    assert readiness.connections == 0
    for _ in range(5):
        assert proves(readiness)
    assert readiness.connections == 1
    eventually(lambda: proxy.health().connections == Connections(1, 1), PATIENCE)
    assert proxy.health().subscriptions == 0
    readiness.close()
    assert readiness.connections == 0
    eventually(lambda: proxy.health().connections == Connections(0, 0), PATIENCE)


def test_many_threads_ask(readiness: Readiness) -> None:
    """Any thread may ask at any time, also while others close, which abandons proofs under way."""

    def use(number: int) -> None:
        for _ in range(10):
            proved = proves(readiness)
            if number == 0:
                assert proved
                readiness.close()

    run_threads(5, use)
    assert proves(readiness)


def test_a_proof_is_valid_for_a_while(proxy: EventBusProxy) -> None:
    """A second call soon returns the same result and sends publishers nothing, unless the proxy has stopped in between."""
    with Readiness(proxy, valid_for=PATIENCE) as readiness:
        taken = readiness.prove(PATIENCE)
        assert taken is not None
        eventually(lambda: proxy.health().to_publishers.frames == 2)
        for _ in range(5):
            assert readiness.prove(PATIENCE) == taken
        assert proxy.health().to_publishers.frames == 2
        proxy.stop()
        assert readiness.prove(0.05) is None


@pytest.mark.patience
def test_close_abandons_a_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    """close() does not wait for the timeout of a proof that fails."""
    go = Event()
    monkeypatch.setattr(zmq, "proxy_steerable", lambda *_: go.wait())
    with EventBusProxy(pub_port=0, sub_port=0) as proxy, new(proxy) as readiness:
        try:
            with in_thread(lambda: readiness.prove(2 * PATIENCE)):
                eventually(lambda: readiness._path is not None)
                run_threads(1, lambda _: readiness.close())
        finally:
            go.set()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_reader_that_fails(proxy: EventBusProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the reading thread fails, there is no proof, and nothing hangs or is left."""
    receive = zmq.Socket.recv

    def fail(socket: zmq.Socket[bytes], *arguments: Any, **named: Any) -> object:
        if current_thread().name == "eventbus-readiness":
            raise zmq.ZMQError(zmq.EFAULT)
        return receive(socket, *arguments, **named)

    monkeypatch.setattr(zmq.Socket, "recv", fail)
    readiness = new(proxy)
    with leaving_nothing():
        run_threads(1, lambda _: readiness.prove(0.05))


def test_nothing_is_left(proxy: EventBusProxy) -> None:
    """After close() no thread and no descriptor is left; closing twice is harmless."""
    with leaving_nothing():
        with new(proxy) as readiness:
            assert proves(readiness)
        readiness.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "*", "::1", "::", "localhost"])
def test_any_host(host: str, caplog: pytest.LogCaptureFixture) -> None:
    """It connects to whatever the proxy is bound to: all addresses, a name, either family of addresses."""
    caplog.set_level(logging.CRITICAL, "eventbus")  # the warning that it listens beyond this machine
    with EventBusProxy(host, 0, 0) as proxy, new(proxy) as readiness:
        assert proves(readiness)


def test_a_proxy_that_does_not_run_is_not_ready() -> None:
    """Before start() and after stop() the proxy is not ready, in between it is, on any ports."""
    proxy = EventBusProxy(pub_port=0, sub_port=0)
    with new(proxy) as readiness:
        for _ in range(2):
            assert not proves(readiness)
            with proxy:
                assert proves(readiness)
            assert readiness.prove(0.05) is None  # the proxy has closed the connections
            assert readiness.connections == 0


@pytest.mark.patience
def test_a_proxy_that_hangs_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """If its ports are bound and nothing passes, the proxy is not ready."""
    go = Event()
    monkeypatch.setattr(zmq, "proxy_steerable", lambda *_: go.wait())
    with EventBusProxy(pub_port=0, sub_port=0) as proxy, new(proxy) as readiness:
        try:
            assert proxy.is_running()
            assert readiness.prove(0.05) is None
            assert readiness.connections == 0
        finally:
            go.set()


def test_a_port_that_is_cut_off_is_noticed(proxy: EventBusProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """If only one of the two ports can be reached, the proxy is not ready."""
    with socket.socket() as silent, new(proxy) as readiness:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for port in ("pub_port", "sub_port"):
            with monkeypatch.context() as patch:
                patch.setattr(EventBusProxy, port, silent.getsockname()[1])
                assert readiness.prove(0.05) is None
            assert proves(readiness)
            readiness.close()


def test_with_keys_and_rules(guarded: Guarded) -> None:
    """With CURVE and rules its key is admitted without being on the list; nothing is counted as refused or denied."""
    with new(guarded.proxy) as readiness:
        assert proves(readiness)
        guarded.admit("another")
        assert proves(readiness)
        assert guarded.proxy.protection == "encrypted, 2 clients may connect, with rules"
    health = guarded.proxy.health()
    assert (health.refused, health.denied, health.subscriptions) == (0, {}, 0)
    assert health.handshake_failures.auth == 0


def test_its_key_is_good_for_tokens_only(guarded: Guarded) -> None:
    """Under rules the readiness key may neither publish nor subscribe to anything but tokens."""
    assert guarded.proxy.readiness_keys is not None
    prober, boss = guarded.raw(guarded.proxy.readiness_keys), guarded.raw(guarded.admit())
    everything = boss.subscriber(b"")
    thief = prober.subscriber(b"")
    thief.subscribe(b"plant")
    prober.settle(thief)
    for topic in (b"plant", b"\xff" + bytes(16)):
        prober.publisher(b"").send_multipart([topic, b"{}"])
    eventually(lambda: sum(guarded.proxy.health().denied.values()) == 4, PATIENCE)
    boss.publisher(b"").send_multipart([b"plant", b"{}"])
    assert everything.recv_multipart()[0].startswith(b"plant")
    prober.settle(thief)
    assert not thief.poll(0)


def test_a_secret_is_not_shown(guarded: Guarded) -> None:
    """No repr contains the readiness keys' secret."""
    keys = guarded.proxy.readiness_keys
    assert keys is not None
    assert reveal(keys.secret_key) not in repr(keys)


def test_a_proxy_that_restarts_is_ready_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """When the first rule makes a proxy restart, the same readiness object proves it ready again."""
    with Guarded(tmp_path) as guarded, new(guarded.proxy) as readiness:
        assert proves(readiness)
        guarded.admit("bound", publish=[])
        eventually(lambda: logged(caplog.records, "has rules now"), PATIENCE)
        eventually(lambda: guarded.proxy.health().running and guarded.proxy.protection.endswith("with rules"), PATIENCE)
        eventually(lambda: readiness.prove() is not None, PATIENCE)
        assert len(logged(caplog.records, "has rules now")) == 1


_EXHAUST = """
import os, resource
from eventbus import DescriptorsExhausted, EventBusProxy
from eventbus.proxy.readiness import Readiness

with EventBusProxy(pub_port=0, sub_port=0) as proxy, Readiness(proxy, valid_for=0) as readiness:
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
    taken = []
    try:
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass
    for left in range(30):
        try:
            assert readiness.prove(20) is not None
        except DescriptorsExhausted:
            print("refused")
        else:
            print("proved")
        readiness.close()
        os.close(taken.pop())
"""


@pytest.mark.process
def test_without_descriptors() -> None:
    """However few descriptors are left, a proof works or raises DescriptorsExhausted; libzmq never aborts."""
    done = run_script(_EXHAUST)
    assert done.returncode == 0
    outcomes = done.stdout.split()
    assert len(outcomes) == 30
    # In between either may come: libzmq closes what a proof had in its own time.
    assert outcomes[:9] == ["refused"] * 9
    assert outcomes[-10:] == ["proved"] * 10


def test_subscriptions_of_others_are_no_proof(proxy: EventBusProxy, readiness: Readiness) -> None:
    """Subscriptions and tokens of other clients prove nothing, and do not disturb."""
    with closing(RawPeers(proxy.pub_port, proxy.sub_port)) as raw:
        assert proves(readiness)
        subscriber = raw.subscriber(b"plant")
        for number in range(500):
            subscriber.subscribe(b"\xff%016d" % number)
        raw.settle(subscriber)
        assert proves(readiness)
