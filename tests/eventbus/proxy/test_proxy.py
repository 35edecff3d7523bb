"""The proxy: starting, stopping, and letting messages through."""

import dataclasses
import logging
import os
import signal
import socket
import threading
import time
import uuid
from contextlib import closing
from threading import Event

import pytest
import zmq

from eventbus import AddressInUse, EventBusProxy, ProxyHealth
from eventbus.proxy import Traffic
from eventbus.proxy.guard import ConnectionGuard
from tests.support import (
    PATIENCE,
    MyEventTopic,
    RawPeers,
    Recorder,
    client_of,
    event,
    eventually,
    in_thread,
    open_descriptors,
    read_until,
    run_threads,
)


def resources() -> tuple[int, int, set[threading.Thread]]:
    """The resources that this process has open: descriptors, native threads, Python threads."""
    return len(open_descriptors()), len(os.listdir("/proc/self/task")), set(threading.enumerate())


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def eventually_no_more_than(before: tuple[int, int, set[threading.Thread]]) -> None:
    """Return as soon as no more is open than before. It may be less: a thread of an earlier test was ending then."""

    def nothing_new() -> bool:
        now = resources()
        return now[0] <= before[0] and now[1] <= before[1] and now[2] <= before[2]

    eventually(nothing_new, what=f"no more than {before}")


def test_port_0_picks_free_ports() -> None:
    """Port 0 means a free port, which the properties return while the proxy runs; two proxies get different ones."""
    with EventBusProxy(pub_port=0, sub_port=0) as one, EventBusProxy(pub_port=0, sub_port=0) as two:
        ports = {one.pub_port, one.sub_port, two.pub_port, two.sub_port}
        assert len(ports) == 4
        assert 0 not in ports
    assert (one.pub_port, one.sub_port) == (0, 0)


def test_start_and_stop_are_idempotent() -> None:
    """Starting twice is one proxy on the same ports; stopping twice, or before starting, is harmless."""
    proxy = EventBusProxy(pub_port=0, sub_port=0)
    proxy.stop()
    assert not proxy.is_running()
    proxy.start()
    ports = proxy.pub_port, proxy.sub_port
    run_threads(4, lambda _: proxy.start())
    assert proxy.is_running()
    assert (proxy.pub_port, proxy.sub_port) == ports
    run_threads(4, lambda _: proxy.stop())
    assert not proxy.is_running()


def test_with_starts_and_stops() -> None:
    """`with` gives a running proxy and leaves a stopped one, also after an error."""
    proxy = EventBusProxy(pub_port=0, sub_port=0)
    with proxy as running:
        assert running is proxy
        assert proxy.is_running()
    assert not proxy.is_running()
    with pytest.raises(ZeroDivisionError), proxy:
        1 / 0  # noqa: B018 # it raises
    assert not proxy.is_running()


def test_stop_leaves_nothing_and_frees_the_ports(ports: tuple[int, int]) -> None:
    """After stop() no thread, no descriptor and no port is taken; a new proxy gets the same ports at once."""
    before = resources()
    with EventBusProxy("127.0.0.1", *ports) as first:
        assert (first.pub_port, first.sub_port) == ports
    eventually_no_more_than(before)
    with EventBusProxy("127.0.0.1", *ports) as second:
        assert (second.pub_port, second.sub_port) == ports


@pytest.mark.parametrize("variable", ["EVENTBUS_PUB_PORT", "EVENTBUS_SUB_PORT"])
def test_a_taken_port_is_named(proxy: EventBusProxy, variable: str) -> None:
    """AddressInUse names the port and the variable to set, and leaves nothing open; the other port is free again."""
    taken = proxy.pub_port
    ports = (taken, 0) if variable == "EVENTBUS_PUB_PORT" else (0, taken)
    second = EventBusProxy("127.0.0.1", *ports)
    before = resources()
    with pytest.raises(AddressInUse, match=rf"port {taken} is taken.*{variable}") as caught:
        second.start()
    assert caught.value.port == taken
    assert str(taken) in caught.value.endpoint
    assert isinstance(caught.value, OSError)
    assert not second.is_running()
    eventually_no_more_than(before)


def test_a_foreign_host_is_an_os_error() -> None:
    """A host that is no address of this machine raises OSError and leaves nothing open."""
    proxy = EventBusProxy("192.0.2.1", 0, 0)
    before = resources()
    with pytest.raises(OSError, match=r"192\.0\.2\.1"):
        proxy.start()
    eventually_no_more_than(before)


def test_stop_with_clients_attached() -> None:
    """stop() returns although clients are connected and queues are not empty; the clients can still close."""
    with EventBusProxy(pub_port=0, sub_port=0) as proxy:
        lazy, busy = client_of(proxy), client_of(proxy)
        for client in (lazy, busy):
            client.connect(20)
            client.subscribe(MyEventTopic.my_service)
        for number in range(2_000):
            busy.emit_event(event(number), MyEventTopic.my_service)
        proxy.stop()
        assert not proxy.is_running()
        for client in (lazy, busy):
            eventually(lambda client=client: not client.is_connected())  # type: ignore[misc] # a lambda's default
            client.close()


def test_plain_messages_flow(raw: RawPeers) -> None:
    """Frames of plain ZeroMQ peers pass unchanged, whatever their number and content, in order."""
    subscriber = raw.subscriber(b"t")
    publisher = raw.publisher(b"t")
    messages = [[b"t%d" % number, b"\xff\0", b""][: 1 + number % 3] for number in range(300)]
    for message in messages:
        publisher.send_multipart(message)
    assert [subscriber.recv_multipart() for _ in messages] == messages


def test_every_one_of_3000_topics_is_live(proxy: EventBusProxy, raw: RawPeers) -> None:
    """No subscription is lost, however many there are: they count against no high-water mark."""
    topics = [b"topic%04d" % number for number in range(3_000)]
    with zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
        subscriber.set(zmq.SNDHWM, 0)
        subscriber.set(zmq.RCVHWM, 0)
        subscriber.set(zmq.RCVTIMEO, 10_000)
        subscriber.connect(f"tcp://127.0.0.1:{proxy.sub_port}")
        for topic in topics:
            subscriber.subscribe(topic)
        token = b"\xff" + uuid.uuid4().bytes
        subscriber.subscribe(token)
        publisher = raw.publisher(token)
        for topic in topics:
            publisher.send_multipart([topic, b"{}"])
        assert [subscriber.recv_multipart()[0] for _ in topics] == topics


def test_a_client_with_3000_topics(proxy: EventBusProxy) -> None:
    """A client that subscribes to 3,000 topics from the start receives the events of all of them."""
    topics = [f"topic{number:04}" for number in range(3_000)]
    client = client_of(proxy, topics=topics)
    recorder = Recorder()
    raw = RawPeers(proxy.pub_port, proxy.sub_port)
    try:
        with client:
            for event_type in type(event().type):
                client.attach_callback(event_type, recorder)
            client.start_consumer()
            publisher = raw.publisher(topics[-1].encode())
            for number, topic in enumerate(topics):
                publisher.send_multipart([topic.encode(), event(number).model_dump_json().encode()])
            assert recorder.wait_for(3_000) == list(range(3_000))
    finally:
        raw.close()


# Health


def thread_of(proxy: EventBusProxy) -> threading.Thread:
    """The thread of the only proxy that runs in this process."""
    assert proxy.is_running()
    [found] = [thread for thread in threading.enumerate() if thread.name == "eventbus-proxy"]
    return found


def pass_one_message(raw: RawPeers) -> None:
    """Subscribe, send a message of two frames with six bytes, and receive it."""
    subscriber = raw.subscriber(b"t")
    raw.publisher(b"t").send_multipart([b"t", b"12345"])
    assert subscriber.recv_multipart() == [b"t", b"12345"]


def test_health_counts_what_passes(proxy: EventBusProxy, raw: RawPeers) -> None:
    """health() counts the frames and bytes of each direction since start()."""
    assert proxy.health().from_publishers == proxy.health().to_subscribers == Traffic()
    pass_one_message(raw)
    health = proxy.health()
    assert health.running
    assert health.from_publishers == health.to_subscribers == Traffic(frames=2, bytes=6)
    assert health.from_subscribers == health.to_publishers
    assert health.from_subscribers.frames >= 1
    pass_one_message(raw)
    assert proxy.health().from_publishers == Traffic(frames=4, bytes=12)


def test_health_counts_a_message_once(proxy: EventBusProxy, raw: RawPeers) -> None:
    """A message to two subscribers counts once, because the proxy passes it on once."""
    one, two = raw.subscriber(b"t"), raw.subscriber(b"t")
    raw.publisher(b"t").send_multipart([b"t", b"12345"])
    assert one.recv_multipart() == two.recv_multipart() == [b"t", b"12345"]
    assert proxy.health().to_subscribers == Traffic(frames=2, bytes=6)


def test_health_of_a_proxy_that_does_not_run() -> None:
    """Before start() nothing runs and no traffic has passed; after stop() the last counts stay until the next start()."""
    proxy = EventBusProxy(pub_port=0, sub_port=0)
    assert proxy.health() == ProxyHealth()
    with proxy:
        with closing(RawPeers(proxy.pub_port, proxy.sub_port)) as raw:
            pass_one_message(raw)
        assert 0 < proxy.health().uptime < proxy.health().uptime < 60
    last = proxy.health()
    assert not last.running
    assert last.from_publishers == Traffic(frames=2, bytes=6)
    assert proxy.health() == last
    with proxy:
        assert proxy.health().running
        assert proxy.health().from_publishers == Traffic()
        assert proxy.health().uptime < last.uptime + 60


def test_health_cannot_be_changed(proxy: EventBusProxy) -> None:
    """Health is a value of one moment."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        proxy.health().running = False  # type: ignore[misc] # that is what is tested


@pytest.mark.patience
def test_health_from_many_threads() -> None:
    """Any thread may ask at any time, also while others start and stop the proxy."""
    proxy = EventBusProxy(pub_port=0, sub_port=0)
    stopped = Event()

    def use(number: int) -> None:
        if number == 0:
            for _ in range(10):
                proxy.start()
                assert proxy.health().running
                proxy.stop()
            stopped.set()
        while not stopped.is_set():
            assert proxy.health().uptime < 60

    run_threads(5, use)
    assert not proxy.health().running


def test_a_signal_does_not_reset_the_counts(proxy: EventBusProxy, raw: RawPeers) -> None:
    """A signal that is sent to the proxy's thread disturbs neither it nor its counts."""
    pass_one_message(raw)
    handled = Event()
    before = signal.signal(signal.SIGUSR1, lambda *_: handled.set())
    try:
        identity = thread_of(proxy).ident
        assert identity is not None
        signal.pthread_kill(identity, signal.SIGUSR1)
        pass_one_message(raw)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert handled.wait(10)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert proxy.health().from_publishers == Traffic(frames=4, bytes=12)


def test_what_no_subscriber_sends(proxy: EventBusProxy, raw: RawPeers, caplog: pytest.LogCaptureFixture) -> None:
    """A message of which libzmq takes the last frame for a subscription costs the proxy no message and no count; who goes on
    is disconnected."""
    subscriber, publisher = raw.subscriber(b"t"), raw.publisher(b"t")
    for number in range(10):
        publisher.send_multipart([b"t", b"%d" % number])
        subscriber.recv_multipart()
    assert proxy.health().from_publishers == Traffic(frames=20, bytes=20)
    hostile = raw._socket(zmq.XSUB)
    hostile.connect(raw.sub_endpoint)
    # Once, and nobody subscribes meanwhile: libzmq would take that for the last frame of this message.
    eventually(lambda: proxy.health().from_subscribers.frames == 3)  # with the end of the token's subscription
    hostile.send_multipart([b"x", b"\x01t"])
    eventually(lambda: "what no subscriber sends" in caplog.text)
    publisher.send_multipart([b"t", b"!"])
    assert subscriber.recv_multipart() == [b"t", b"!"]
    health = proxy.health()
    assert health.running
    assert health.from_publishers == health.to_subscribers == Traffic(frames=22, bytes=22)

    def is_ended() -> bool:
        for _ in range(100):  # with a little pause after each
            hostile.send_multipart([b"x", b"\x01t"])
            if proxy.health().disconnected["misuse"]:
                return True
        return False

    eventually(is_ended)
    publisher.send_multipart([b"t", b"!"])
    assert subscriber.recv_multipart() == [b"t", b"!"]


def test_counts_after_misuse(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was counted before is not forgotten, also if more has passed since when the counts are asked for next."""
    monkeypatch.setattr(ConnectionGuard, "interval_s", 3600.0)  # nobody else asks for them
    with EventBusProxy(pub_port=0, sub_port=0) as proxy, closing(RawPeers(proxy.pub_port, proxy.sub_port)) as raw:
        running = proxy._running
        assert running is not None
        subscriber, publisher = raw.subscriber(b"t"), raw.publisher(b"t")
        hostile = raw._socket(zmq.XSUB)
        hostile.connect(raw.sub_endpoint)
        eventually(lambda: proxy.health().from_subscribers.frames == 3)  # as above
        frames = 0
        for messages in (1, 5):
            begun = running._begun
            hostile.send_multipart([b"x", b"\x01t"])
            eventually(lambda: running._begun > begun)  # noqa: B023 # called within the round
            for _ in range(messages):
                publisher.send_multipart([b"t", b"!"])
                assert subscriber.recv_multipart() == [b"t", b"!"]
                frames += 2
            assert proxy.health().from_publishers.frames == frames


@pytest.mark.patience
def test_health_of_a_proxy_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the proxy's thread does not answer, health() says within a second that it does not run, to each of many threads."""
    go = Event()
    monkeypatch.setattr(zmq, "proxy_steerable", lambda *_: go.wait())
    with EventBusProxy(pub_port=0, sub_port=0) as proxy:

        def ask(_number: int) -> None:
            start = time.monotonic()
            assert not proxy.health().running
            assert time.monotonic() - start < PATIENCE / 4

        try:
            run_threads(4, ask)
        finally:
            go.set()
    assert not proxy.health().running


def test_a_proxy_that_fails(
    ports: tuple[int, int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If libzmq's proxy fails, that is logged and shown, the ports are free, and start() starts it again."""

    def fail(*_: object) -> None:
        raise zmq.ZMQError(zmq.EFAULT)

    before = resources()
    failing = EventBusProxy("127.0.0.1", *ports)
    with monkeypatch.context() as patch:
        patch.setattr(zmq, "proxy_steerable", fail)
        failing.start()
        eventually(lambda: not failing.is_running() and "has failed" in caplog.text)
    health = failing.health()
    assert not health.running
    assert failing.health().uptime == health.uptime
    [logged] = [entry for entry in caplog.records if entry.levelno == logging.ERROR]
    assert "the proxy" in logged.getMessage()
    assert "has failed" in logged.getMessage()
    assert logged.exc_info
    eventually(lambda: not any(map(listens, ports)))
    failing.start()
    assert failing.is_running()
    assert failing.health().running
    failing.stop()
    eventually_no_more_than(before)


# Settling


@pytest.mark.patience
def test_subscribers_come_first_on_fixed_ports(ports: tuple[int, int]) -> None:
    """On fixed ports start() lets subscribers in first, and publishers `settle` seconds later."""
    proxy = EventBusProxy("127.0.0.1", *ports, settle=1.5)
    with in_thread(proxy.start):
        eventually(lambda: listens(ports[1]))
        assert not listens(ports[0])
        assert proxy.health() == ProxyHealth()
    assert listens(ports[0])
    proxy.stop()


def test_start_does_not_wait_on_a_picked_port() -> None:
    """No publisher knew a picked port before, so none has kept events for it: start() does not wait."""
    start = time.monotonic()
    with EventBusProxy(pub_port=0, sub_port=0, settle=30):
        assert time.monotonic() - start < 10


# Limits


@pytest.mark.parametrize("size", [2_000, 2_001])
def test_the_largest_event(size: int) -> None:
    """A payload of `max_event_bytes` passes; the publisher of a larger one is disconnected, reconnects, and goes on."""
    with (
        EventBusProxy(pub_port=0, sub_port=0, max_event_bytes=2_000) as proxy,
        closing(RawPeers(proxy.pub_port, proxy.sub_port)) as raw,
    ):
        subscriber = raw.subscriber(b"t")
        publisher = raw.publisher(b"t")
        publisher.send_multipart([b"t", bytes(size)])

        def goes_on() -> int:
            publisher.send_multipart([b"tt", b""])
            return subscriber.poll(10)

        eventually(goes_on)
        assert read_until(subscriber, b"tt") == ([[b"t", bytes(size)]] if size <= 2_000 else [])


def test_a_tiny_limit_still_lets_clients_in() -> None:
    """However small `max_event_bytes` is, clients can connect, subscribe and emit small events."""
    with EventBusProxy(pub_port=0, sub_port=0, max_event_bytes=1) as proxy, client_of(proxy) as client:
        client.subscribe(MyEventTopic.my_service)
        client.emit_event(event(1), MyEventTopic.my_service)
        received = client.recv_event(20)
        assert received is not None
        assert received.value == 1
