"""What packing is worth, side by side with the same job done by hand: EVENTBUS_PACKING, numbers, encryption, threads.

    uv run python -m tests.benchmarks.packing [--quick]

Rates are ratios of the rounds, in which the contenders take turns. Processor time is that of publisher, proxy and subscriber
together, for each event: it depends less on what else the machine does.
"""

import argparse
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from time import sleep
from typing import Unpack

from eventbus.cli import bench
from eventbus.cli.bench import (
    EVENT_BY_EVENT,
    PACKED,
    BenchEvent,
    BenchTopic,
    Contender,
    Send,
    client,
    publish_events,
    subscribe_client,
)
from eventbus.keys import ClientKeys, write_pair
from eventbus.options import ZeroMQArguments
from eventbus.policies import Packing
from tests.benchmarks.contenders import IN_C, NUMBERED
from tests.benchmarks.cpu import CpuMeter

_THREADS = 64
_RATES = 1_000, 10_000
_QUEUE_POLL_INTERVAL_S = 0.0005

PACKED_ALL = Contender("packing all", partial(publish_events, packing=Packing.ALL), subscribe_client)
PACKED_ALL_NUMBERED = Contender(
    "packing all, numbered", partial(publish_events, packing=Packing.ALL, numbered=True), subscribe_client
)


def publish_from_threads(pub_port: int, sub_port: int, *, threads: int, **options: Unpack[ZeroMQArguments]) -> Send:
    """Publish with `emit_event` of one client in many threads, each of which emits hundreds of events in a row."""
    bus = client(pub_port, sub_port, **options)
    bus.connect()
    tasks: SimpleQueue[tuple[BenchEvent, int]] = SimpleQueue()

    def run() -> None:
        while True:
            event, count = tasks.get()
            for _ in range(count):
                bus.emit_event(event, BenchTopic.plant)

    for _ in range(threads):
        Thread(target=run, daemon=True).start()

    def send_many(event: BenchEvent, count: int) -> None:
        while tasks.qsize() > threads:
            sleep(_QUEUE_POLL_INTERVAL_S)
        tasks.put((event, count))

    return send_many


def from_threads(threads: int, packing: Packing) -> Contender:
    """A contender that emits from this many threads."""
    publish = partial(publish_from_threads, threads=threads, packing=packing)
    return Contender(f"{threads} threads, packing {packing}", publish, subscribe_client)


@contextmanager
def encrypted() -> Iterator[Contender]:
    """Numbered and encrypted events that share messages."""
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        proxy, member = write_pair("proxy", directory), write_pair("client", directory)
        keys = ClientKeys(proxy.public_key, member.secret_file.read_text())
        allowed = directory / "allow.toml"
        allowed.write_text(f"[clients.client]\npublic_key = {member.public_key!r}\n")
        yield Contender(
            "packing all, numbered, CURVE",
            partial(publish_events, packing=Packing.ALL, numbered=True, keys=keys),
            partial(subscribe_client, keys=keys),
            {"secret_key": proxy.secret_file.read_text(), "allow_list": allowed},
        )


def main() -> None:
    """Run everything and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer events and rounds: a look, not a measurement")
    rounds, events, moments = (3, 300_000, 1) if parser.parse_args().quick else (7, 400_000, 3)
    threads = [from_threads(count, packing) for packing in (Packing.BATCHES, Packing.ALL) for count in (1, _THREADS)]
    with encrypted() as curve:
        contenders = [IN_C, EVENT_BY_EVENT, NUMBERED, PACKED, PACKED_ALL, PACKED_ALL_NUMBERED, curve, *threads]
        print(f"{events:,} events of 154 bytes in each of {rounds} rounds", flush=True)
        print(f"{'':32}{'events/s':>12}{'× by hand':>12}{'CPU per event':>16}")
        rates: dict[str, list[float]] = {contender.name: [] for contender in contenders}
        cpu: dict[str, list[float]] = {contender.name: [] for contender in contenders}
        for _ in range(rounds):
            for contender in contenders:
                meter = CpuMeter()
                rates[contender.name].append(bench.throughput(contender, events, meter))
                cpu[contender.name].append(meter.per_event())
        for name, values in rates.items():
            ratio = statistics.median(one / other for one, other in zip(values, rates[IN_C.name], strict=True))
            used = f"{statistics.median(cpu[name]) * 1e6:.1f} µs"
            print(f"{name:32}{statistics.median(values):>12,.0f}{ratio:>12.2f}{used:>16}", flush=True)
    for rate in _RATES:
        print(f"\nlatency at {rate:,}/s, in each of {rounds} rounds\n{'':32}{'p50':>12}{'p99':>12}{'p50 × by hand':>16}")
        found: dict[str, list[tuple[float, float]]] = {}
        for _ in range(rounds):
            for contender in (IN_C, EVENT_BY_EVENT, PACKED_ALL):
                late = bench.latencies(contender, rate * moments, rate)
                found.setdefault(contender.name, []).append((late[len(late) // 2], late[len(late) * 99 // 100]))
        for name, pairs in found.items():
            ratio = statistics.median(one / other for (one, _), (other, _) in zip(pairs, found[IN_C.name], strict=True))
            p50, p99 = (f"{statistics.median(values) * 1e6:.0f} µs" for values in zip(*pairs, strict=True))
            print(f"{name:32}{p50:>12}{p99:>12}{ratio:>16.2f}", flush=True)


if __name__ == "__main__":
    main()
