"""One publisher, one proxy and one subscriber in three processes; how fast and how late events arrive."""

import ctypes
import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized

from contenders import BenchEvent, Callback, Send

from eventbus import EventBusProxy

mp = multiprocessing.get_context("spawn")  # sockets do not survive a fork

TIMEOUT = 120.0  # seconds, for any step
CHUNK = 512  # events between two looks at how far the subscriber is
WINDOW = 20_000  # events under way at most, so that no queue overflows and none is lost

type Ports = tuple[int, int]


@dataclass(frozen=True)
class Contender:
    """One way to do the job."""

    name: str
    publish: Callable[[int, int], Send]
    subscribe: Callable[[int, int, Callback, Callable[[], None]], None]


def throughput(contender: Contender, events: int) -> float:
    """Events per second from the first to the last that a callback got, sent as fast as they go."""
    arrived = mp.Value(ctypes.c_long, 0)
    times = _run(contender, events, arrived, target=_publish_fast)
    return events / (times[-1] - times[0])


def latencies(contender: Contender, events: int, rate: int) -> list[float]:
    """Seconds from before sending to inside the callback, sorted, at so many events per second."""
    arrived = mp.Value(ctypes.c_long, 0)
    return sorted(_run(contender, events, arrived, target=_publish_steadily, arguments=(rate,)))


@contextmanager
def proxy_process() -> Iterator[Ports]:
    """A proxy in a process of its own; yields its two ports."""
    here, there = mp.Pipe()
    with _process(_run_proxy, there):
        yield _receive(here)


def _run(
    contender: Contender,
    events: int,
    arrived: "Synchronized[int]",
    *,
    target: Callable[..., None],
    arguments: tuple[object, ...] = (),
) -> list[float]:
    """Run all three processes and return what the subscriber measured."""
    ready = mp.Event()
    here, there = mp.Pipe()
    with ExitStack() as stack:
        ports = stack.enter_context(proxy_process())
        keep_times = target is _publish_steadily
        stack.enter_context(_process(_subscribe, contender, ports, events, keep_times, arrived, ready, there))
        if not ready.wait(TIMEOUT):
            raise TimeoutError(f"{contender.name}: the subscriber did not get ready")
        stack.enter_context(_process(target, contender, ports, events, arrived, *arguments))
        return _receive(here)


@contextmanager
def _process(target: Callable[..., None], *arguments: object) -> Iterator[None]:
    process = mp.Process(target=target, args=arguments, daemon=True)
    process.start()
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


def _run_proxy(ports: "Connection[Ports, object]") -> None:
    with EventBusProxy(pub_port=0, sub_port=0) as proxy:
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
