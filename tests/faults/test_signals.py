"""A signal handler that closes the client, at random moments of whatever the main thread is doing with it.

Each case is a program of its own, for only a main thread can be interrupted: ``python -m tests.faults.test_signals``.
"""

import os
import random
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import batched
from threading import Event, Thread
from time import monotonic
from types import FrameType

import pytest

from eventbus import EventBusProxy, NotConnected, Packing, ProxyUnreachable
from tests.faults.programs import end_within, expect_resources, ignore_log, resources, run_program, stop_process
from tests.support import PATIENCE, Bus, MyEvent, MyEventTopic, MyEventType, event, proxy_process

pytestmark = pytest.mark.process

TOPIC = MyEventTopic.my_service
CLOSE_TIMEOUT = 1.0
SLACK = PATIENCE / 4  # seconds; for a machine that has other things to do
LATEST = 0.01  # seconds until the signal, at most
SECONDS = 0.3  # for each action

type Action = Callable[[Bus], object]


def listen(client: Bus) -> None:
    for _ in client.listen_forever():
        pass


def subscribe(client: Bus) -> None:
    client.subscribe(MyEventTopic.other)
    client.unsubscribe(MyEventTopic.other)


def connect_to_nothing(client: Bus) -> None:
    with suppress(ProxyUnreachable):  # when the signal comes before it has begun to connect
        client.connect(PATIENCE / 10)


def attach(client: Bus) -> None:
    client.attach_callback(MyEventType.updated, repr)
    client.detach_callback(MyEventType.updated, repr)


def start_and_stop(client: Bus) -> None:
    client.start_consumer()
    client.stop_consumer(CLOSE_TIMEOUT)


# What is interrupted on a connected client with a consumer, while events arrive.
ACTIONS: dict[str, Action] = {
    "connect": lambda client: client.connect(PATIENCE),
    "subscribe": subscribe,
    "connect to nothing": connect_to_nothing,
    "attach": attach,
    "emit": lambda client: client.emit_event(event(1), MyEventTopic.other),
    "emit many": lambda client: client.emit_events([event(number) for number in range(50)], MyEventTopic.other),
    "receive": lambda client: client.recv_event(None),
    "listen": listen,
    "start and stop": start_and_stop,
    "stats": lambda client: client.stats(),
    "look": lambda client: (client.is_connected(), client.state, client.topics, repr(client)),
    "wait": lambda client: client.wait_ready(PATIENCE),
}


@pytest.mark.parametrize("actions", list(batched(ACTIONS, 4)), ids=", ".join)
def test_close_from_a_signal_handler(proxy: EventBusProxy, actions: tuple[str, ...], soak_seconds: float | None) -> None:
    """It returns within its timeout; what it has interrupted ends, at most with NotConnected, and nothing is left."""
    run("busy", actions, proxy.pub_port, proxy.sub_port, soak_seconds or len(actions) * SECONDS)


def test_close_from_a_signal_handler_while_events_share_messages(proxy: EventBusProxy, soak_seconds: float | None) -> None:
    """So it does while emitted events wait for each other."""
    run("packing", ["emit", "emit many"], proxy.pub_port, proxy.sub_port, soak_seconds or 2 * SECONDS)


def test_close_from_a_signal_handler_without_a_proxy(dead_ports: tuple[int, int], soak_seconds: float | None) -> None:
    """It does the same while `connect` waits for a proxy that does not answer."""
    run("connecting", ["connect to nothing"], *dead_ports, soak_seconds or SECONDS)


def test_close_from_a_signal_handler_while_events_are_held(dead_ports: tuple[int, int], soak_seconds: float | None) -> None:
    """It does the same while `emit_event` waits for room in a buffer that nobody empties."""
    run("holding", ["emit"], *dead_ports, soak_seconds or SECONDS)


def test_close_from_a_signal_handler_while_the_proxy_is_stopped(soak_seconds: float | None) -> None:
    """It does the same while `emit_event` waits because the proxy takes nothing."""
    with proxy_process() as (process, pub_port, sub_port):
        run("stopped", ["emit"], pub_port, sub_port, soak_seconds or SECONDS, process.pid)


def run(scene: str, actions: Sequence[str], pub_port: int, sub_port: int, seconds: float, proxy_pid: int = 0) -> None:
    """Interrupt actions, one after the other, for `seconds` in all, in a process of its own."""
    arguments = scene, ",".join(actions), pub_port, sub_port, seconds, proxy_pid
    run_program("tests.faults.test_signals", *arguments, seconds=seconds)


# The program.


def main(scene: str, actions: list[str], pub_port: int, sub_port: int, seconds: float, proxy_pid: int) -> None:
    end_within(seconds)
    ignore_log()  # close() takes all its time and says so if the consumer waits for what the signal has interrupted
    sys.setswitchinterval(0.0002)
    before = resources()
    for action in actions:
        moments = random.Random(f"{scene} {action}")
        longest, rounds, slow = 0.0, 0, 0
        end = monotonic() + seconds / len(actions)
        while monotonic() < end:
            with SCENES[scene](pub_port, sub_port, proxy_pid) as client:
                took = interrupt(client, ACTIONS[action], moments.uniform(0, LATEST))
            longest, rounds, slow = max(longest, took), rounds + 1, slow + (took > CLOSE_TIMEOUT / 2)
            expect_resources(before)
        print(f"{action}: {rounds} rounds, the longest close() took {longest:.3f} s, {slow} were slow", flush=True)
        assert longest < CLOSE_TIMEOUT + SLACK


def interrupt(client: Bus, action: Action, delay: float) -> float:
    """Repeat the action until the signal has come; return how long close() took in its handler."""
    took: list[float] = []

    def on_alarm(number: int, frame: FrameType | None) -> None:
        began = monotonic()
        client.close(CLOSE_TIMEOUT)
        took.append(monotonic() - began)

    signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, max(delay, 0.00001))
    try:
        while not took:
            action(client)
    except NotConnected:
        assert took, "it is closed by the handler only"
    client.close(CLOSE_TIMEOUT)  # what was interrupted may have connected again
    return took[0]


@contextmanager
def busy(pub_port: int, sub_port: int, _proxy_pid: int) -> Iterator[Bus]:
    """A connected client that receives what another one emits, and whose supervisor is hardly ever at rest."""
    noise = Bus(MyEvent, "127.0.0.1", pub_port, sub_port, linger=0.0)
    noise.connect(PATIENCE)
    client = Bus(MyEvent, "127.0.0.1", pub_port, sub_port, linger=0.0, echo_interval=0.001)
    client.subscribe(TOPIC)
    client.connect(PATIENCE)
    client.start_consumer()
    ended = Event()

    def emit() -> None:
        while not ended.wait(0.0005):
            noise.emit_events([event(number) for number in range(10)], TOPIC)

    thread = Thread(target=emit)
    thread.start()
    try:
        yield client
    finally:
        ended.set()
        thread.join()
        noise.close()


@contextmanager
def packing(pub_port: int, sub_port: int, _proxy_pid: int) -> Iterator[Bus]:
    """A connected client whose events share messages."""
    client = Bus(MyEvent, "127.0.0.1", pub_port, sub_port, topics=["other"], packing=Packing.ALL)
    client.connect(PATIENCE)
    yield client


@contextmanager
def connecting(pub_port: int, sub_port: int, _proxy_pid: int) -> Iterator[Bus]:
    """A client without a proxy."""
    yield Bus(MyEvent, "127.0.0.1", pub_port, sub_port, topics=["my_service"])


@contextmanager
def holding(pub_port: int, sub_port: int, _proxy_pid: int) -> Iterator[Bus]:
    """A client that waits for a proxy, with a small buffer."""
    client = Bus(
        MyEvent, "127.0.0.1", pub_port, sub_port, linger=0.0, connect_required=False, send_hwm=10, send_timeout=PATIENCE
    )
    client.connect(PATIENCE)
    yield client


@contextmanager
def stopped(pub_port: int, sub_port: int, proxy_pid: int) -> Iterator[Bus]:
    """A connected client with a small buffer that is full, whose proxy does not move."""
    client = Bus(MyEvent, "127.0.0.1", pub_port, sub_port, topics=["other"], linger=0.0, send_hwm=1, send_timeout=PATIENCE)
    client.connect(PATIENCE)
    stop_process(proxy_pid)
    try:
        yield client
    finally:
        os.kill(proxy_pid, signal.SIGCONT)


SCENES = {"busy": busy, "packing": packing, "connecting": connecting, "holding": holding, "stopped": stopped}


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2].split(","), int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]), int(sys.argv[6]))
