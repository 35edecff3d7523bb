"""The proxy: starting, stopping, and letting messages through."""

import os
import threading
import uuid

import pytest
import zmq

from eventbus import AddressInUse, EventBusProxy
from tests.support import MyEventTopic, RawPeers, Recorder, client_of, event, eventually, run_threads


def resources() -> tuple[int, int, set[threading.Thread]]:
    """What this process holds: descriptors, native threads, Python threads."""
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")), set(threading.enumerate())


def test_port_0_picks_free_ports() -> None:
    """Port 0 means a free one, which the properties tell while it runs; two proxies get different ones."""
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


def test_stop_leaves_nothing_and_frees_the_ports() -> None:
    """After stop() no thread, no descriptor and no port is taken; a new proxy gets the same ports at once."""
    before = resources()
    with EventBusProxy(pub_port=0, sub_port=0) as first:
        ports = first.pub_port, first.sub_port
    eventually(lambda: resources() == before, what=f"as before: {before}, not {resources()}")
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
    eventually(lambda: resources() == before, what=f"as before: {before}, not {resources()}")


def test_a_host_of_elsewhere_is_an_os_error() -> None:
    """A host that is no address of this machine raises OSError and leaves nothing open."""
    proxy = EventBusProxy("192.0.2.1", 0, 0)
    before = resources()
    with pytest.raises(OSError, match=r"192\.0\.2\.1"):
        proxy.start()
    eventually(lambda: resources() == before, what=f"as before: {before}, not {resources()}")


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
    """Subscriptions are never forgotten, however many there are: they count against no high-water mark."""
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
