"""The cost of keeping events, and the time that a late joiner takes to get them.

    uv run python -m tests.benchmarks.history [--quick]

Keeping is measured side by side with a proxy that keeps nothing.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from eventbus.cli import bench
from eventbus.cli.bench import EVENT_BY_EVENT, PACKED, BenchEvent, BenchTopic, BenchType, proxy_process
from eventbus.client import EventBusClient
from eventbus.events import BaseEventTopic
from eventbus.policies import Start
from tests.benchmarks.cpu import CpuMeter
from tests.support import eventually

STORED, TOPICS = 100_000, 100
PATIENCE_S = 30.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a look, not a measurement")
    rounds, events = (2, 100_000) if parser.parse_args().quick else (7, 300_000)
    keeping(rounds, events)
    for packed in (False, True):
        joined = statistics.median(late_joiner(packed=packed) for _ in range(rounds))
        print(
            f"{STORED:,} stored events, {'packed' if packed else 'one by one'}, to a late joiner: {joined:.2f} s", flush=True
        )
    later = statistics.median(last_of_all() for _ in range(rounds))
    print(f"connect() with START=last over {TOPICS} topics, until all are there: {1e3 * later:.0f} ms more", flush=True)


def keeping(rounds: int, events: int) -> None:
    """Print what keeping costs the path of an event."""
    with tempfile.TemporaryDirectory() as directory:
        in_memory = {"history": 1_000}
        in_file = in_memory | {"history_file": str(Path(directory, "bus.db"))}
        for base in (EVENT_BY_EVENT, PACKED):
            kinds = {
                "nothing": base,
                "in memory": replace(base, proxy=in_memory),
                "in a file, too": replace(base, proxy=in_file),
            }
            rates: dict[str, list[float]] = {kind: [] for kind in kinds}
            costs: dict[str, list[float]] = {kind: [] for kind in kinds}
            for _ in range(rounds):
                for kind, contender in kinds.items():
                    meter = CpuMeter()
                    rates[kind].append(bench.throughput(contender, events, meter))
                    costs[kind].append(meter.per_event() * 1e6)
            print(f"{base.name}: {events:,} events in each of {rounds} rounds", flush=True)
            for kind in kinds:
                ratio = statistics.median(one / other for one, other in zip(rates[kind], rates["nothing"], strict=True))
                rate, cost = statistics.median(rates[kind]), statistics.median(costs[kind])
                print(
                    f"  kept: {kind:16}{rate:12,.0f} events/s {ratio:8.2f} × nothing {cost:8.1f} µs of CPU per event",
                    flush=True,
                )


def late_joiner(*, packed: bool) -> float:
    """Return the seconds from asking for all stored events to having the last one."""
    with proxy_process({"history": STORED}) as ports, bench.client(*ports) as publisher:
        for _ in range(STORED // 1_000):
            if packed:
                publisher.emit_events([BenchEvent()] * 1_000, BenchTopic.plant)
            else:
                for _ in range(1_000):
                    publisher.emit_event(BenchEvent(), BenchTopic.plant)
            publisher.last(BenchTopic.plant)  # the historian has kept up
        with bench.client(*ports) as late:
            began = time.perf_counter()
            assert sum(1 for _ in late.history(BenchTopic.plant, timeout=PATIENCE_S)) == STORED
            return time.perf_counter() - began


def last_of_all() -> float:
    """Return the seconds that beginning with the last event of each topic takes, beyond a plain `connect()`."""
    topics: list[BaseEventTopic] = list(cast(Any, BaseEventTopic)("Many", {f"t{n}": f"t{n}" for n in range(TOPICS)}))
    with proxy_process({"history": 10}) as ports, _client(ports, topics, Start.NEW) as publisher:
        for topic in topics:
            publisher.emit_event(BenchEvent(), topic)
        eventually(lambda: publisher.last(topics[-1]) is not None, PATIENCE_S)
        return _seconds(ports, topics, Start.LAST) - _seconds(ports, topics, Start.NEW)


def _seconds(ports: bench.Ports, topics: list[BaseEventTopic], start: Start) -> float:
    """Connect a client; return the seconds until it is connected and has what it begins with."""
    received: list[float] = []
    began = time.perf_counter()
    with _client(ports, topics, start) as client:
        client.attach_callback(BenchType.reading, lambda _: received.append(time.perf_counter()))
        client.start_consumer()
        connected = time.perf_counter()
        if start is Start.LAST:
            eventually(lambda: len(received) == TOPICS, PATIENCE_S)
        return max([connected, *received]) - began


@contextmanager
def _client(
    ports: bench.Ports, topics: list[BaseEventTopic], start: Start
) -> Iterator[EventBusClient[BenchEvent, BenchType, Any]]:
    with EventBusClient[BenchEvent, BenchType, Any](
        BenchEvent, "127.0.0.1", *ports, topics=[topic.value for topic in topics], start=start
    ) as client:
        yield client


if __name__ == "__main__":
    main()
