"""Measuring: one publisher, one proxy and one subscriber in three processes; how many events per second, and how late.

A contender is a way to do that job, so that others can be measured side by side with this library's (``tests/benchmarks``).
"""

import ctypes
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import auto
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from typing import Any

from eventbus._base.deadline import Deadline
from eventbus.client import EventBusClient
from eventbus.events import BaseEvent, BaseEventTopic, BaseEventType
from eventbus.keys import ClientKeys
from eventbus.proxy.proxy import EventBusProxy

HWM = 100_000  # messages

mp = multiprocessing.get_context("spawn")  # sockets do not survive a fork

TIMEOUT = 120.0  # seconds, for any step
CHUNK = 512  # events between two looks at how far the subscriber is
WINDOW = 20_000  # events under way at most, so that no queue overflows and none is lost

_LOOK = 0.1  # seconds between two looks at how far the subscriber is, for those who want to know

type Ports = tuple[int, int]

# Is told, in the measuring process, how many events have arrived.
type Progress = Callable[[int], object]


class BenchType(BaseEventType):
    """The types of the benchmark's events."""

    reading = auto()


class BenchTopic(BaseEventTopic):
    """The one topic of the benchmark."""

    plant = auto()


class BenchEvent(BaseEvent[BenchType]):
    """An event of 154 bytes as JSON."""

    type: BenchType = BenchType.reading
    id: str = "3f2b8c1e-5d77-4b0e-9a54-0c8f7c2e6a10"
    time: str = "2026-01-31T12:00:00.000000+00:00"
    sensor: str = "tank-01/level"
    value: float = 21.25
    sent: float = 0.0


# Sends an event so many times.
type Send = Callable[[BenchEvent, int], None]
type Callback = Callable[[BenchEvent], object]
type Client = EventBusClient[BenchEvent, BenchType, BenchTopic]


@dataclass(frozen=True)
class Contender:
    """One way to do the job.

    Attributes:
        name: what it is called.
        publish: connects, and returns what sends.
        subscribe: connects, says when it is ready, and calls back for ever.
        proxy: further arguments of the `EventBusProxy` that it runs through, such as keys.
    """

    name: str
    publish: Callable[[int, int], Send]
    subscribe: Callable[[int, int, Callback, Callable[[], None]], None]
    proxy: Mapping[str, Any] = field(default_factory=dict)


def client(pub_port: int, sub_port: int, *, numbered: bool = False, keys: ClientKeys | None = None) -> Client:
    """A client of this library."""
    return EventBusClient(
        BenchEvent, "127.0.0.1", pub_port, sub_port, send_hwm=HWM, receive_hwm=HWM, numbered=numbered, keys=keys
    )


def publish_events(pub_port: int, sub_port: int, *, numbered: bool = False, keys: ClientKeys | None = None) -> Send:
    """`emit_event`."""
    bus = client(pub_port, sub_port, numbered=numbered, keys=keys)
    bus.connect()
    topic = BenchTopic.plant

    def send_many(event: BenchEvent, count: int) -> None:
        for _ in range(count):
            bus.emit_event(event, topic)

    return send_many


def publish_numbered(pub_port: int, sub_port: int) -> Send:
    """`emit_event` of a client that numbers its messages."""
    return publish_events(pub_port, sub_port, numbered=True)


def publish_packed(pub_port: int, sub_port: int) -> Send:
    """`emit_events`."""
    bus = client(pub_port, sub_port)
    bus.connect()

    def send_many(event: BenchEvent, count: int) -> None:
        bus.emit_events([event] * count, BenchTopic.plant)

    return send_many


def subscribe_client(
    pub_port: int, sub_port: int, callback: Callback, ready: Callable[[], None], *, keys: ClientKeys | None = None
) -> None:
    """`attach_callback`."""
    bus = client(pub_port, sub_port, keys=keys)
    bus.attach_callback(BenchType.reading, callback)
    bus.connect()
    bus.subscribe(BenchTopic.plant)
    bus.start_consumer()
    ready()
    threading.Event().wait()


EVENT_BY_EVENT = Contender("eventbus, emit_event", publish_events, subscribe_client)
NUMBERED = Contender("eventbus, numbered", publish_numbered, subscribe_client)
PACKED = Contender("eventbus, emit_events", publish_packed, subscribe_client)


def throughput(contender: Contender, events: int, progress: Progress | None = None) -> float:
    """Events per second from the first to the last that a callback got, sent as fast as they go."""
    arrived = mp.Value(ctypes.c_long, 0)
    times = _run(contender, events, arrived, target=_publish_fast, progress=progress)
    return events / (times[-1] - times[0])


def latencies(contender: Contender, events: int, rate: int, progress: Progress | None = None) -> list[float]:
    """Seconds from before sending to inside the callback, sorted, at so many events per second."""
    arrived = mp.Value(ctypes.c_long, 0)
    return sorted(_run(contender, events, arrived, target=_publish_steadily, arguments=(rate,), progress=progress))


@contextmanager
def proxy_process(options: Mapping[str, Any] | None = None) -> Iterator[Ports]:
    """A proxy in a process of its own, with further arguments; yields its two ports."""
    here, there = mp.Pipe()
    with _process(_run_proxy, there, options or {}):
        yield _receive(here)


def _run(
    contender: Contender,
    events: int,
    arrived: "Synchronized[int]",
    *,
    target: Callable[..., None],
    arguments: tuple[object, ...] = (),
    progress: Progress | None = None,
) -> list[float]:
    """Run all three processes and return what the subscriber measured."""
    ready = mp.Event()
    here, there = mp.Pipe()
    with ExitStack() as stack:
        ports = stack.enter_context(proxy_process(contender.proxy))
        keep_times = target is _publish_steadily
        stack.enter_context(_process(_subscribe, contender, ports, events, keep_times, arrived, ready, there))
        if not ready.wait(TIMEOUT):
            raise TimeoutError(f"{contender.name}: the subscriber did not get ready")
        stack.enter_context(_process(target, contender, ports, events, arrived, *arguments))
        if progress is not None:
            counter, deadline = arrived.get_obj(), Deadline(TIMEOUT)
            progress(0)
            while not here.poll(_LOOK) and not deadline.passed():
                progress(counter.value)
        return _receive(here)


@contextmanager
def _process(target: Callable[..., None], *arguments: object) -> Iterator[None]:
    process = mp.Process(target=target, args=arguments, daemon=True)
    # Ctrl-C is for the measuring process, which ends this one: it inherits what is blocked.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        yield
    finally:
        process.kill()
        process.join()


def _receive[Value](connection: "Connection[object, Value]") -> Value:
    if not connection.poll(TIMEOUT):
        raise TimeoutError("a benchmark process has not answered")
    return connection.recv()


# What runs in the processes.


def _run_proxy(ports: "Connection[Ports, object]", options: Mapping[str, Any]) -> None:
    with EventBusProxy(pub_port=0, sub_port=0, **options) as proxy:
        ports.send((proxy.pub_port, proxy.sub_port))
        time.sleep(TIMEOUT)


def _subscribe(
    contender: Contender,
    ports: Ports,
    events: int,
    keep_latencies: bool,
    arrived: "Synchronized[int]",
    ready: "multiprocessing.synchronize.Event",
    results: "Connection[list[float], object]",
) -> None:
    counter = arrived.get_obj()
    count = 0
    times: list[float] = []

    def measure_throughput(event: BenchEvent) -> None:
        nonlocal count
        count += 1
        if not count % CHUNK:
            counter.value = count
        if count == 1 or count == events:
            times.append(time.perf_counter())
            if count == events:
                results.send(times)

    def measure_latency(event: BenchEvent) -> None:
        times.append(time.perf_counter() - event.sent)
        counter.value = len(times)
        if len(times) == events:
            results.send(times)

    contender.subscribe(*ports, measure_latency if keep_latencies else measure_throughput, ready.set)


def _publish_fast(contender: Contender, ports: Ports, events: int, arrived: "Synchronized[int]") -> None:
    send = contender.publish(*ports)
    counter = arrived.get_obj()
    event = BenchEvent()
    for sent in range(0, events, CHUNK):
        while sent - counter.value > WINDOW:
            time.sleep(0.0002)
        send(event, min(CHUNK, events - sent))
    time.sleep(TIMEOUT)


def _publish_steadily(contender: Contender, ports: Ports, events: int, arrived: "Synchronized[int]", rate: int) -> None:
    send = contender.publish(*ports)
    start = time.perf_counter()
    for number in range(events):
        time.sleep(max(0.0, start + number / rate - time.perf_counter()))
        send(BenchEvent(sent=time.perf_counter()), 1)
    time.sleep(TIMEOUT)
