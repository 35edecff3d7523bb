"""Measure this library side by side with the same job done by hand and in the obvious way, and print the ratios.

    uv run python -m tests.benchmarks [--quick] [--compare] [--keep]

Every figure is the median of rounds in which the contenders take turns, so that what else the machine does hits all alike.
"""

import argparse
import statistics
import subprocess
import sys
import threading
import time

from eventbus.cli import bench
from eventbus.cli.bench import EVENT_BY_EVENT, PACKED
from tests.benchmarks.contenders import BY_HAND, IN_C, NUMBERED, OBVIOUS
from tests.benchmarks.packing import PACKED_ALL, PACKED_ALL_NUMBERED
from tests.benchmarks.ratios import Ratio, keep, kept, regressions


def main() -> None:
    """Run everything and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the events and two rounds: a look, not a measurement"
    )
    parser.add_argument(
        "--compare", action="store_true", help="say what is slower than in the file of ratios, and exit with 1"
    )
    parser.add_argument("--keep", action="store_true", help="write the ratios of this measurement to that file")
    arguments = parser.parse_args()
    quick: bool = arguments.quick
    ratios: dict[str, Ratio] = {}
    rounds, events = (2, 30_000) if quick else (7, 300_000)

    print(f"throughput: {events:,} events of 154 bytes in each of {rounds} rounds", flush=True)
    fast = (BY_HAND, IN_C, OBVIOUS, EVENT_BY_EVENT, NUMBERED, PACKED, PACKED_ALL, PACKED_ALL_NUMBERED)
    rates: dict[str, list[float]] = {contender.name: [] for contender in fast}
    for _ in range(rounds):
        for contender in fast:
            rates[contender.name].append(bench.throughput(contender, events))
    others = [rates[contender.name] for contender in (BY_HAND, IN_C, OBVIOUS)]
    _row("", "events/s", "× hand-tuned", "× past API", "× obvious")
    for name, values in rates.items():
        _row(name, f"{statistics.median(values):,.0f}", *(_ratio(values, other) for other in others))
        ratios[f"{name}: throughput"] = Ratio.of(values, rates[BY_HAND.name])

    count = 500 if quick else 3_000
    print(f"\nlatency: {count:,} events at 1,000/s in each of {rounds} rounds", flush=True)
    steady = (BY_HAND, IN_C, OBVIOUS, EVENT_BY_EVENT, NUMBERED)
    medians: dict[str, list[float]] = {contender.name: [] for contender in steady}
    tails: dict[str, list[float]] = {contender.name: [] for contender in steady}
    for _ in range(rounds):
        for contender in steady:
            measured = bench.latencies(contender, count, 1_000)
            medians[contender.name].append(statistics.median(measured))
            tails[contender.name].append(measured[len(measured) * 99 // 100])
    _row("", "p50", "p99", "p50 × hand-tuned")
    for name, values in medians.items():
        p50, p99 = statistics.median(values) * 1e6, statistics.median(tails[name]) * 1e6
        _row(name, f"{p50:.0f} µs", f"{p99:.0f} µs", _ratio(values, medians[BY_HAND.name]))
        ratios[f"{name}: p50"] = Ratio.of(values, medians[BY_HAND.name], higher_is_better=False)

    print()
    _connect(20 if quick else 100)
    _import(3 if quick else 15)
    if arguments.compare:
        worse = list(regressions(ratios, kept()))
        print("\n" + ("\n".join(worse) or "nothing is slower than the kept ratios by more than the noise"))
        if worse:
            sys.exit(1)
    if arguments.keep:
        keep(ratios)


def _row(name: str, *cells: str) -> None:
    print(f"{name:26}" + "".join(f"{cell:>18}" for cell in cells), flush=True)


def _ratio(values: list[float], base: list[float]) -> str:
    """The median of the rounds' ratios."""
    return f"{statistics.median(value / other for value, other in zip(values, base, strict=True)):.2f}"


def _connect(times: int) -> None:
    """The time that connect() takes, and the threads of a connected client that consumes."""
    taken = []
    with bench.proxy_process() as ports:
        for _ in range(times):
            bus = bench.client(*ports)
            start = time.perf_counter()
            bus.connect()
            taken.append(time.perf_counter() - start)
            bus.close()
        before = threading.active_count()
        clients = [bench.client(*ports) for _ in range(10)]
        for bus in clients:
            bus.connect()
            bus.start_consumer()
        threads = (threading.active_count() - before) / len(clients)
        for bus in clients:
            bus.close()
    print(f"connect(): {statistics.median(taken) * 1000:.1f} ms median, {max(taken) * 1000:.1f} ms at most, of {times}")
    print(f"threads per consuming client, beside the shared context's two: {threads:g}")


def _import(times: int) -> None:
    """The time of importing, beside what every service with one pydantic model and a ZeroMQ socket imports anyway."""
    anyway = "import zmq\nfrom pydantic import BaseModel, Field\nclass Model(BaseModel):\n    x: int = Field(default=0)"
    taken: dict[str, list[float]] = {anyway: [], "import eventbus": []}
    for _ in range(times):
        for statement, values in taken.items():
            code = f"import time; start = time.perf_counter()\n{statement}\nprint(time.perf_counter() - start)"
            run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            values.append(float(run.stdout))
    ours, base = taken["import eventbus"], taken[anyway]
    print(
        f"import eventbus: {statistics.median(ours) * 1000:.0f} ms, {_ratio(ours, base)} × zmq and a pydantic model "
        f"({statistics.median(base) * 1000:.0f} ms)"
    )


if __name__ == "__main__":
    main()
