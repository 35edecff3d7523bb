"""Many clients at one proxy: each gets every event, however many there are and however suddenly they come."""

import resource
import signal
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.faults import zmtp
from tests.support import (
    Bus,
    MyEvent,
    MyEventTopic,
    MyEventType,
    RawPeers,
    Recorder,
    event,
    json_of,
    proxy_process,
    run_threads,
)

pytestmark = pytest.mark.process

MANY = 200
EVENTS = 200
TOPIC = MyEventTopic.my_service


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    """Let this process have as many descriptors as its clients need."""
    needed = 20 * MANY
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"needs {needed} descriptors, and may have {hard}")
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def ports() -> Iterator[tuple[int, int]]:
    """The ports of a proxy in a process of its own."""
    with proxy_process() as (_process, pub_port, sub_port):
        yield pub_port, sub_port


def recorder_of(client: Bus) -> Recorder:
    """Subscribe and consume."""
    recorder = Recorder()
    client.subscribe(TOPIC)
    client.attach_callback(MyEventType.updated, recorder)
    client.start_consumer()
    return recorder


def test_each_of_200_subscribers_gets_every_event(ports: tuple[int, int]) -> None:
    """Hundreds of plain subscribers and a few clients of ours all receive the same, in order."""
    with closing(RawPeers(*ports)) as raw, ExitStack() as stack:
        plain = [raw.subscriber(b"my_service") for _ in range(MANY)]
        clients = [stack.enter_context(Bus(MyEvent, "127.0.0.1", *ports, connect_timeout=20)) for _ in range(3)]
        recorders = [recorder_of(client) for client in clients]
        for number in range(EVENTS):
            clients[0].emit_event(event(number), TOPIC)
        expected = [[b"my_service", json_of(number)] for number in range(EVENTS)]
        for recorder in recorders:
            assert recorder.wait_for(EVENTS) == list(range(EVENTS))
        for subscriber in plain:
            assert [subscriber.recv_multipart() for _ in range(EVENTS)] == expected


def test_200_clients_connect_at_once(ports: tuple[int, int]) -> None:
    """Hundreds of clients that connect and subscribe at the same moment all get in, and each gets every event."""
    with ExitStack() as stack:
        clients = [Bus(MyEvent, "127.0.0.1", *ports, connect_timeout=20) for _ in range(MANY)]
        for client in clients:
            stack.callback(client.close)
        recorders: dict[int, Recorder] = {}

        def come(number: int) -> None:
            clients[number].connect()
            recorders[number] = recorder_of(clients[number])

        run_threads(MANY, come)
        clients[0].connect()  # and is sure to know the topic
        for number in range(10):
            clients[0].emit_event(event(number), TOPIC)
        for recorder in recorders.values():
            assert recorder.wait_for(10) == list(range(10))
        assert len(recorders) == MANY


def test_200_connections_wait_while_the_proxy_is_held_up() -> None:
    """A fleet that comes while the proxy cannot accept anybody, such as after a reboot, waits; nobody is turned away."""
    if int(Path("/proc/sys/net/core/somaxconn").read_text()) < MANY:
        pytest.skip("this machine lets fewer connections wait")
    with proxy_process() as (process, pub_port, _sub_port), ExitStack() as stack:
        process.send_signal(signal.SIGSTOP)
        waiting = [stack.enter_context(zmtp.connect(pub_port)) for _ in range(MANY)]
        process.send_signal(signal.SIGCONT)
        for connection in waiting:
            assert zmtp.read(connection, len(zmtp.SIGNATURE))  # it is greeted
