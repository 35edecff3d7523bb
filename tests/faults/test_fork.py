"""Processes that fork: the child's client refuses to work, the parent goes on; also those of multiprocessing.

Each case is a program of its own, because the tests' own process has too many threads: ``python -m tests.faults.test_fork``.
"""

import faulthandler
import multiprocessing
import os
import random
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread
from time import monotonic
from typing import Any

import pytest

from eventbus import ClientState, EventBusProxy, ForkedClient, Packing
from tests.faults.programs import end_within, expect_resources, ignore_log, resources, run_program
from tests.support import (
    PATIENCE,
    Bus,
    MyEvent,
    MyEventTopic,
    MyEventType,
    Recorder,
    event,
    eventually,
    proxy_process,
)

pytestmark = pytest.mark.process

TOPIC, OTHER = MyEventTopic.my_service, MyEventTopic.other


@pytest.mark.parametrize("end", ["exit", "os._exit", "return"])
def test_fork_of_a_connected_client(proxy: EventBusProxy, end: str) -> None:
    """The child's use of the inherited client raises ForkedClient at once, one of its own works; the parent goes on.

    However the child ends, it harms nothing and says nothing.
    """
    run_program("tests.faults.test_fork", "ready", proxy.pub_port, proxy.sub_port, end)


def test_fork_of_a_connecting_client(proxy: EventBusProxy, dead_ports: tuple[int, int]) -> None:
    """The same holds when the client has not found its proxy yet, and holds events."""
    run_program("tests.faults.test_fork", "connecting", *dead_ports, "exit")


def test_fork_of_a_degraded_client() -> None:
    """The same holds when the client has lost its proxy, and holds events."""
    with proxy_process() as (process, *ports):
        run_program("tests.faults.test_fork", "degraded", *ports, "exit", process.pid)


@pytest.mark.parametrize("packing", [Packing.BATCHES, Packing.ALL])
def test_forks_at_any_moment(proxy: EventBusProxy, packing: Packing, soak_seconds: float | None) -> None:
    """The same holds at any moment of its emitting, subscribing and receiving; the parent loses nothing."""
    seconds = soak_seconds or 1.5
    run_program("tests.faults.test_fork", "storm", proxy.pub_port, proxy.sub_port, seconds, packing, seconds=seconds)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_multiprocessing(proxy: EventBusProxy, bus: Bus, method: str) -> None:
    """Processes that multiprocessing starts afresh connect clients of their own, whatever the parent has."""
    recorder = Recorder()
    bus.attach_callback(MyEventType.updated, recorder)
    bus.start_consumer()
    context: Any = multiprocessing.get_context(method)
    processes = [context.Process(target=emit_one, args=(proxy.pub_port, proxy.sub_port, number)) for number in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE)
        assert process.exitcode == 0
    assert sorted(recorder.wait_for(2)) == [0, 1]


def emit_one(pub_port: int, sub_port: int, number: int) -> None:
    with Bus(MyEvent, "127.0.0.1", pub_port, sub_port) as client:
        client.emit_event(event(number), TOPIC)


# The program.


def use(client: Bus) -> list[Callable[[], object]]:
    """Everything that needs the connection."""
    return [
        lambda: client.emit_event(event(1), TOPIC),
        lambda: client.emit_events([event(1)], TOPIC),
        lambda: client.subscribe(TOPIC),
        lambda: client.subscribe(OTHER),
        lambda: client.unsubscribe(TOPIC),
        lambda: client.unsubscribe(OTHER),
        lambda: client.connect(PATIENCE),
        lambda: client.wait_ready(PATIENCE),
        lambda: client.start_consumer(),
        lambda: client.recv_event(PATIENCE),
        lambda: client.listen_forever(),
    ]


def in_child(client: Bus, own: Callable[[], object]) -> None:
    """Try an inherited client in a child, and then one of its own."""
    began = monotonic()
    assert client.topics == {"my_service"}
    for _ in range(2):
        for call in use(client):
            with pytest.raises(ForkedClient):
                call()
    assert client.topics == {"my_service"}, "what is refused changes nothing"
    assert client.state is ClientState.CLOSED
    assert not client.is_connected()
    client.attach_callback(MyEventType.stopped, repr)
    client.detach_callback(MyEventType.stopped, repr)
    client.stats()
    client.stop_consumer()
    client.close()
    assert monotonic() - began < PATIENCE / 2, "no call waits"
    own()


def fork(action: Callable[[], None], end: str = "os._exit") -> None:
    """Do something in a child, and wait until it has ended well."""
    faulthandler.cancel_dump_traceback_later()  # the child would wait for its thread, which is the parent's
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        child = os.fork()
    if not child:
        end_within(-PATIENCE / 2)
        try:
            action()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        match end:
            case "os._exit":
                os._exit(0)
            case "exit":
                sys.exit(0)
            case _:
                raise ReturnFromMain
    end_within(0)
    _, status = os.waitpid(child, 0)
    assert status == 0


class ReturnFromMain(BaseException):
    """Ends the program as its last line does."""


def once(state: str, pub_port: int, sub_port: int, end: str, proxy_pid: int = 0) -> None:
    """Fork with a client in one state, with a listener, a consumer and an event loop for its callbacks."""

    async def callback(_: MyEvent) -> None:
        pass

    def own() -> None:
        if state == "ready":
            with Bus(MyEvent, "127.0.0.1", pub_port, sub_port, topics=["my_service"]) as mine:
                mine.start_consumer()
                mine.emit_event(event(10), TOPIC)
                received = mine.recv_event(PATIENCE)
                assert received is not None
                assert received.value == 10
            with pytest.raises(ForkedClient):
                next(listening)

    before = resources()
    client = Bus(MyEvent, "127.0.0.1", pub_port, sub_port, topics=["my_service"], connect_required=state != "connecting")
    client.attach_callback(MyEventType.started, callback)
    client.connect(PATIENCE)
    told = Event()
    client.on_state_change(lambda change: told.set())
    listening = client.listen_forever()
    if state == "ready":
        client.emit_event(event(1, MyEventType.started), TOPIC)
        assert next(listening).value == 1
        eventually(lambda: client.stats().handled)
        client.emit_event(event(2), TOPIC)
        eventually(lambda: client.stats().received == 2)  # it waits to be read
    if proxy_pid:
        os.kill(proxy_pid, 9)
        eventually(lambda: client.state is ClientState.DEGRADED)
    fork(lambda: in_child(client, own), end)
    assert client.state is ClientState(state)
    client.emit_event(event(20), TOPIC)
    client.subscribe(OTHER)
    if state == "ready":
        assert next(listening).value == 2
        values = [next(listening).value]
        if values == [10]:
            values = [next(listening).value]
        assert values == [20]
    told.clear()
    client.close(0.1)
    assert told.wait(PATIENCE)
    expect_resources(before)


def storm(pub_port: int, sub_port: int, seconds: float, packing: Packing) -> None:
    """Fork again and again while threads emit, subscribe and receive."""
    sys.setswitchinterval(0.0002)
    before = resources()
    client = Bus(MyEvent, "127.0.0.1", pub_port, sub_port, topics=["my_service"], receive_buffer=1_000_000, packing=packing)
    client.connect(PATIENCE)
    client.start_consumer()
    ended = Event()
    emitted = 0
    received: list[float] = []

    def emit() -> None:
        nonlocal emitted
        while not ended.wait(0.0002):
            for _ in range(10):
                emitted += 1
                client.emit_event(event(emitted), TOPIC)

    def subscribe() -> None:
        while not ended.wait(0.0001):
            client.subscribe(OTHER)
            client.unsubscribe(OTHER)
            client.attach_callback(MyEventType.updated, repr)
            client.detach_callback(MyEventType.updated, repr)
            client.stats()

    def receive() -> None:
        received.extend(found.value for found in client.listen_forever())

    threads = [Thread(target=target) for target in (emit, subscribe)]
    receiver = Thread(target=receive)
    for thread in (*threads, receiver):
        thread.start()
    moments, pause = random.Random(1), Event()
    end = monotonic() + seconds
    forks = 0
    while monotonic() < end:
        pause.wait(moments.uniform(0, 0.005))
        fork(lambda: in_child_of_storm(client))
        forks += 1
    ended.set()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    eventually(lambda: len(received) == emitted, what="all events")
    client.close()
    receiver.join(PATIENCE)
    assert received == list(range(1, emitted + 1))
    expect_resources(before)
    print(f"{forks} forks, {emitted} events")


def in_child_of_storm(client: Bus) -> None:
    for call in use(client):
        with pytest.raises(ForkedClient):
            call()
    client.stats()
    client.close()


def main(action: str, *arguments: str) -> None:
    if action == "storm":
        end_within(float(arguments[2]))
        ignore_log()
        storm(int(arguments[0]), int(arguments[1]), float(arguments[2]), Packing(arguments[3]))
    else:
        end_within(0)
        ignore_log()
        once(action, int(arguments[0]), int(arguments[1]), arguments[2], *map(int, arguments[3:]))


if __name__ == "__main__":
    with suppress(ReturnFromMain):
        main(*sys.argv[1:])
