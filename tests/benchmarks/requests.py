"""Measure requests: how long one takes beside the one-way latency, and how many one client has answered in a second.

    uv run python -m tests.benchmarks.requests [--quick]

The asker, the answerer and the proxy are processes of their own. Latencies are measured in turns, so that what else the
machine does hits both alike.
"""

import argparse
import asyncio
import multiprocessing
import os
import statistics
import time
from multiprocessing.synchronize import Event

from eventbus.cli import bench
from eventbus.cli.bench import EVENT_BY_EVENT, BenchEvent
from tests.benchmarks.cpu import clock_of

_RATE = 1_000  # requests per second while latency is measured


def answer(pub_port: int, sub_port: int, ready: Event, end: Event) -> None:
    """The answering process."""
    bus = bench.client(pub_port, sub_port)
    bus.connect()
    bus.subscribe(bench.BenchTopic.plant)
    bus.attach_callback(bench.BenchType.reading, lambda event: event, topic=bench.BenchTopic.plant, answers=True)
    bus.start_consumer()
    ready.set()
    end.wait()
    bus.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a look, not a measurement")
    quick = parser.parse_args().quick
    rounds, count, many = (2, 500, 10_000) if quick else (7, 2_000, 60_000)
    context = multiprocessing.get_context("spawn")
    ready, end = context.Event(), context.Event()
    with bench.proxy_process() as ports:
        answering = context.Process(target=answer, args=(*ports, ready, end))
        answering.start()
        ready.wait()
        bus = bench.client(*ports)
        bus.connect()
        ratios, medians = [], []
        for _ in range(rounds):
            one_way = statistics.median(bench.latencies(EVENT_BY_EVENT, count, _RATE))
            request = statistics.median(latencies(bus, count))
            ratios.append(request / one_way)
            medians.append(request)
        print(f"latency, p50: {statistics.median(medians) * 1e6:.0f} µs, {statistics.median(ratios):.2f} × one way")
        for window in (1, 100, 1_000):
            print(asyncio.run(pipelined(bus, many if window > 1 else many // 10, window, answering.pid)))
        bus.close()
        end.set()
        answering.join()


def latencies(bus: bench.Client, count: int) -> list[float]:
    """The seconds that each of many requests takes, at a steady rate."""
    event, taken = BenchEvent(), []
    due = time.perf_counter()
    for _ in range(count):
        due += 1 / _RATE
        time.sleep(max(0.0, due - time.perf_counter()))
        start = time.perf_counter()
        bus.request(event, topic=bench.BenchTopic.plant, reply=BenchEvent)
        taken.append(time.perf_counter() - start)
    return taken


async def pipelined(bus: bench.Client, count: int, window: int, answering: int | None) -> str:
    """Requests per second with so many under way at once, and the processor time of each."""
    event, left = BenchEvent(), count

    async def ask() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await bus.arequest(event, topic=bench.BenchTopic.plant, reply=BenchEvent, timeout=30)

    began, asked, answered = time.perf_counter(), time.process_time(), time.clock_gettime(clock_of(answering))
    async with asyncio.TaskGroup() as group:
        for _ in range(window):
            group.create_task(ask())
    seconds = time.perf_counter() - began
    asked, answered = time.process_time() - asked, time.clock_gettime(clock_of(answering)) - answered
    return (
        f"{window:5} under way: {count / seconds:7,.0f} requests/s; processor time of each: "
        f"{asked / count * 1e6:.0f} µs asking, {answered / count * 1e6:.0f} µs answering"
    )


if __name__ == "__main__":
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} processors")
    main()
