"""``eventbus bench``: measures how many events per second this machine carries, and how late they are.

One publisher, one proxy and one subscriber run in three processes. A contender is one way to do their job, so that
``tests/benchmarks`` can measure other ways side by side with this library's.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import auto
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from typing import Any, Unpack

from eventbus._base.deadline import Deadline
from eventbus.cli.stopping import exit_when_stopped
from eventbus.cli.terminal import ProgressBar
from eventbus.client import EventBusClient
from eventbus.events import BaseEvent, BaseEventTopic, BaseEventType
from eventbus.options import ZeroMQArguments
from eventbus.proxy.proxy import EventBusProxy

HWM = 100_000  # messages

_PROCESSES = multiprocessing.get_context("spawn")  # sockets do not survive a fork

_TIMEOUT_S = 120.0  # for any step
_PROGRESS_INTERVAL_S = 0.1
_CHUNK_EVENTS = 512  # from one check of the subscriber's progress to the next
_MAX_EVENTS_UNDER_WAY = 20_000  # so that no queue overflows and no event is lost
_BACKLOG_POLL_INTERVAL_S = 0.0002
_MIN_LATENCY_EVENTS = 100
_LATENCY_SECONDS = 2.0  # unless another time is asked for
_OTHERS_IN_PROCESS = 10
_TRIAL_EVENTS = 20_000  # which show how many fit into the time

type Ports = tuple[int, int]

# Called in the measuring process with the number of events that have arrived.
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


# Sends an event a number of times.
type Send = Callable[[BenchEvent, int], None]
type Callback = Callable[[BenchEvent], object]
type Client = EventBusClient[BenchEvent, BenchType, BenchTopic]


@dataclass(frozen=True)
class Contender:
    """One way to do the job.

    Attributes:
        name: shown beside its figures.
        publish: connects, and returns the function that sends.
        subscribe: connects, calls `ready` and then the callback for each event, and never returns.
        proxy: further arguments of the `EventBusProxy` between them, such as keys.
        others: how many further subscribers there are, whose events nobody counts.
    """

    name: str
    publish: Callable[[int, int], Send]
    subscribe: Callable[[int, int, Callback, Callable[[], None]], None]
    proxy: Mapping[str, Any] = field(default_factory=dict)
    others: int = 0


def client(pub_port: int, sub_port: int, **options: Unpack[ZeroMQArguments]) -> Client:
    """A client of this library for the benchmark's events, with these further options, not connected yet."""
    options.setdefault("send_hwm", HWM)
    options.setdefault("receive_hwm", HWM)
    return EventBusClient(BenchEvent, "127.0.0.1", pub_port, sub_port, **options)


def publish_events(pub_port: int, sub_port: int, **options: Unpack[ZeroMQArguments]) -> Send:
    """Publish with `emit_event`."""
    bus = client(pub_port, sub_port, **options)
    bus.connect()
    topic = BenchTopic.plant

    def send_many(event: BenchEvent, count: int) -> None:
        for _ in range(count):
            bus.emit_event(event, topic)

    return send_many


def publish_packed(pub_port: int, sub_port: int) -> Send:
    """Publish with `emit_events`."""
    bus = client(pub_port, sub_port)
    bus.connect()

    def send_many(event: BenchEvent, count: int) -> None:
        bus.emit_events([event] * count, BenchTopic.plant)

    return send_many


def subscribe_client(
    pub_port: int, sub_port: int, callback: Callback, ready: Callable[[], None], **options: Unpack[ZeroMQArguments]
) -> None:
    """Subscribe with `attach_callback`."""
    bus = client(pub_port, sub_port, **options)
    bus.attach_callback(BenchType.reading, callback)
    bus.connect()
    bus.subscribe(BenchTopic.plant)
    bus.start_consumer()
    ready()
    wait_for_parent()


def wait_for_parent() -> None:
    """Wait as long as the measuring process is there: if it is killed, nobody else ends this one."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
    threading.Event().wait()


EVENT_BY_EVENT = Contender("eventbus, emit_event", publish_events, subscribe_client)
PACKED = Contender("eventbus, emit_events", publish_packed, subscribe_client)


def bench(events: int, rate: int, seconds: float | None = None) -> None:
    """Measure both ways to emit, and print their figures; on a terminal, with a progress bar meanwhile.

    Args:
        events: the number to send as fast as possible.
        rate: events per second while latencies are measured.
        seconds: for how long each figure is measured, regardless of `events`; None: as long as that many take.
    """
    with exit_when_stopped():
        _bench(events, rate, seconds)


def _bench(events: int, rate: int, seconds: float | None) -> None:
    for contender in (EVENT_BY_EVENT, PACKED):
        if seconds is not None:  # a trial shows how many events fit into that time
            events = max(2, round(throughput(contender, _TRIAL_EVENTS) * seconds))
        with ProgressBar(contender.name, events, sys.stderr) as progress:
            per_second = throughput(contender, events, progress)
        print(f"{contender.name:24}{per_second:12,.0f} events/s", flush=True)
    name = f"latency at {rate:,}/s"
    count = max(_MIN_LATENCY_EVENTS, round((_LATENCY_SECONDS if seconds is None else seconds) * rate))
    with ProgressBar(name, count, sys.stderr) as progress:
        measured = latencies(EVENT_BY_EVENT, count, rate, progress)
    p50, p99 = measured[len(measured) // 2] * 1e6, measured[len(measured) * 99 // 100] * 1e6
    print(f"{name:24}{p50:12,.0f} µs p50, {p99:,.0f} µs p99")


def throughput(contender: Contender, events: int, progress: Progress | None = None) -> float:
    """Return events per second, from the first to the last that the callback got, sent as fast as possible."""
    times = _measure(contender, events, target=_publish_fast, progress=progress)
    return events / (times[-1] - times[0])


def latencies(contender: Contender, events: int, rate: int, progress: Progress | None = None) -> list[float]:
    """Return seconds from before sending to inside the callback, sorted, at `rate` events per second."""
    return sorted(_measure(contender, events, target=_publish_steadily, arguments=(rate,), progress=progress))


@contextmanager
def proxy_process(options: Mapping[str, Any] | None = None) -> Iterator[Ports]:
    """A proxy in a process of its own, with these further arguments; yields its two ports."""
    here, there = _PROCESSES.Pipe()
    with _process(run_proxy, there, options or {}):
        yield _receive(here)


def _measure(
    contender: Contender,
    events: int,
    *,
    target: Callable[..., None],
    arguments: tuple[object, ...] = (),
    progress: Progress | None,
) -> list[float]:
    """Run all three processes and return what the subscriber measured."""
    arrived = _PROCESSES.Value(ctypes.c_long, 0)
    ready = _PROCESSES.Event()
    here, there = _PROCESSES.Pipe()
    with ExitStack() as stack:
        ports = stack.enter_context(proxy_process(contender.proxy))
        keep_latencies = target is _publish_steadily
        stack.enter_context(_process(_subscribe, contender, ports, events, keep_latencies, arrived, ready, there))
        if not ready.wait(_TIMEOUT_S):
            raise TimeoutError(f"{contender.name}: the subscriber did not get ready")
        for first in range(0, contender.others, _OTHERS_IN_PROCESS):
            count = min(_OTHERS_IN_PROCESS, contender.others - first)
            are_ready = [_PROCESSES.Event() for _ in range(count)]
            stack.enter_context(_process(_subscribe_others, contender, ports, are_ready))
            if not all(one.wait(_TIMEOUT_S) for one in are_ready):
                raise TimeoutError(f"{contender.name}: further subscribers did not get ready")
        stack.enter_context(_process(target, contender, ports, events, arrived, *arguments))
        if progress is not None:
            counter, deadline = arrived.get_obj(), Deadline(_TIMEOUT_S)
            progress(0)
            while not here.poll(_PROGRESS_INTERVAL_S) and not deadline.passed():
                progress(counter.value)
        return _receive(here)


@contextmanager
def _process(target: Callable[..., None], *arguments: object) -> Iterator[None]:
    process = _PROCESSES.Process(target=target, args=arguments, daemon=True, name=target.__name__)
    with ExitStack() as stack:
        # The child inherits blocked signals: they reach the measuring process only, which then kills the child.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
        try:
            process.start()
            stack.callback(process.join)
            stack.callback(process.kill)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        yield


def _receive[Value](connection: "Connection[object, Value]") -> Value:
    if not connection.poll(_TIMEOUT_S):
        raise TimeoutError("a benchmark process has not answered")
    return connection.recv()


# What follows runs in the three processes.


def run_proxy(ports: "Connection[Ports, object]", options: Mapping[str, Any]) -> None:
    """Run a proxy with these further arguments, and send its two ports."""
    with EventBusProxy(pub_port=0, sub_port=0, **options) as proxy:
        ports.send((proxy.pub_port, proxy.sub_port))
        time.sleep(_TIMEOUT_S)


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
        if not count % _CHUNK_EVENTS:
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


def _subscribe_others(contender: Contender, ports: Ports, are_ready: "list[multiprocessing.synchronize.Event]") -> None:
    def ignore(event: BenchEvent) -> None:
        pass

    for ready in are_ready:
        threading.Thread(target=contender.subscribe, args=(*ports, ignore, ready.set), daemon=True).start()
    wait_for_parent()


def _publish_fast(contender: Contender, ports: Ports, events: int, arrived: "Synchronized[int]") -> None:
    send = contender.publish(*ports)
    counter = arrived.get_obj()
    event = BenchEvent()
    for sent in range(0, events, _CHUNK_EVENTS):
        while sent - counter.value > _MAX_EVENTS_UNDER_WAY:
            time.sleep(_BACKLOG_POLL_INTERVAL_S)
        send(event, min(_CHUNK_EVENTS, events - sent))
    time.sleep(_TIMEOUT_S)


def _publish_steadily(contender: Contender, ports: Ports, events: int, arrived: "Synchronized[int]", rate: int) -> None:
    send = contender.publish(*ports)
    start = time.perf_counter()
    for number in range(events):
        time.sleep(max(0.0, start + number / rate - time.perf_counter()))
        send(BenchEvent(sent=time.perf_counter()), 1)
    time.sleep(_TIMEOUT_S)
