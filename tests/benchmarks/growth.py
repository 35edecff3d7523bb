"""What becomes of speed and memory when there is more: subscribers, publishers, topics, bytes, handlers, events.

    uv run python -m tests.benchmarks.growth [--quick] [--plots FOLDER]

Prints a table, and draws a chart of each series as SVG. Alone on the machine; it takes some ten minutes.
"""

import argparse
import multiprocessing
import multiprocessing.connection
import statistics
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple, cast

from eventbus.cli import bench
from eventbus.cli.bench import (
    BenchEvent,
    BenchTopic,
    BenchType,
    Callback,
    Contender,
    Send,
    client,
    publish_events,
    subscribe_client,
)
from eventbus.client import EventBusClient
from eventbus.events import BaseEventTopic
from eventbus.policies import Compression
from eventbus.proxy.memory import resident_bytes
from tests.benchmarks import security
from tests.benchmarks.cpu import CpuMeter
from tests.benchmarks.plots import Points, chart

_PROCESSES = multiprocessing.get_context("spawn")
_ROUNDS = 3
_MAX_SERIES_BYTES = 200_000_000  # of large events, at one point of the series
_MAX_COSTED_EVENTS = 300_000  # the most at one point of the proxy's series
_MEMORY_POINTS = 20
_MIB = 1_048_576


class Series(NamedTuple):
    """What one chart shows."""

    name: str
    title: str
    x: str
    y: str
    lines: dict[str, Points]


def main() -> None:
    """Measure every series, print it and draw it."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few points and events: a look, not a measurement")
    parser.add_argument("--plots", type=Path, help="the folder for the charts; without it there are none")
    arguments = parser.parse_args()
    for series in _all_series(quick=arguments.quick):
        print(f"\n{series.title} ({series.y})", flush=True)
        for line, points in series.lines.items():
            for at, value in points:
                print(f"  {line:20}{at:>14,g}{value:>16,.1f}", flush=True)
        if arguments.plots is not None:
            path = arguments.plots / f"growth-{series.name}.svg"
            path.write_text(chart(series.title, series.x, series.y, series.lines))


def _all_series(*, quick: bool) -> Iterator[Series]:
    events = 20_000 if quick else 200_000
    counts: tuple[int, ...] = (1, 5) if quick else (1, 2, 5, 10, 20, 50, 100, 200)
    speeds = [(count, _rate(publish_events, max(2_000, events // count), others=count - 1)) for count in counts]
    yield Series("subscribers", "More subscribers of one topic", "subscribers", "events/s", {"emit_event": speeds})
    steady = 200 if quick else 2_000
    lines = _delays({count: partial(_latency, steady, others=count - 1) for count in counts})
    yield Series("latency", "Latency at 1,000 events/s, more subscribers", "subscribers", "µs", lines)
    counts = (1, 8) if quick else (1, 4, 16, 64)
    speeds = [(count, _rate(partial(_publish_from_many, publishers=count), events)) for count in counts]
    yield Series("publishers", "More publishers, in threads", "publishers", "events/s of all", {"emit_event": speeds})
    lines = _delays({count: partial(_latency, steady, partial(_publish_in_turns, publishers=count)) for count in counts})
    yield Series("turns", "Latency at 1,000 events/s of all publishers", "publishers", "µs", lines)
    counts = (1, 1_000) if quick else (1, 100, 1_000, 10_000, 100_000)
    speeds = [(count, _rate(partial(_publish_on_topics, topics=count), events, _subscribe_to_all)) for count in counts]
    yield Series("topics", "More topics, in turns", "topics", "events/s", {"emit_event": speeds})
    sizes = (200, 100_000) if quick else (200, 1_000, 10_000, 100_000, 1_000_000, 10_000_000)
    lines = {
        "plain": [(size, _rate_of_size(size, events)) for size in sizes],
        "zlib": [(size, _rate_of_size(size, events, compression=Compression.ZLIB)) for size in sizes if size > 1_000],
    }
    yield Series("sizes", "Larger events", "bytes of JSON", "events/s", lines)
    yield Series(
        "proxy", "The proxy's work", "bytes of JSON", "µs of its processor time per event", _proxy_costs(quick=quick)
    )
    counts = (1, 10) if quick else (1, 3, 10, 30, 100)
    speeds = [
        (count, _rate(publish_events, max(5_000, events // count), partial(_subscribe_with, handlers=count)))
        for count in counts
    ]
    yield Series("handlers", "More handlers of each event", "handlers", "events/s", {"emit_event": speeds})
    total = 100_000 if quick else 10_000_000
    yield Series("memory", "Memory of a subscriber", "events received", "MiB resident", {"subscriber": _memory_over(total)})


def _rate(
    publish: Callable[[int, int], Send],
    events: int,
    subscribe: Callable[[int, int, Callback, Callable[[], None]], None] = subscribe_client,
    *,
    others: int = 0,
) -> float:
    contender = Contender("growth", publish, subscribe, others=others)
    return statistics.median(bench.throughput(contender, events) for _ in range(_ROUNDS))


def _latency(events: int, publish: Callable[[int, int], Send] = publish_events, *, others: int = 0) -> tuple[float, float]:
    """Half and 99 of 100 events are handled within these microseconds."""
    measured = bench.latencies(Contender("growth", publish, subscribe_client, others=others), events, 1_000)
    return measured[len(measured) // 2] * 1e6, measured[len(measured) * 99 // 100] * 1e6


def _delays(measure: Mapping[int, Callable[[], tuple[float, float]]]) -> dict[str, Points]:
    measured = [(count, one()) for count, one in measure.items()]
    return {"p50": [(count, p50) for count, (p50, _) in measured], "p99": [(count, p99) for count, (_, p99) in measured]}


def _rate_of_size(size: int, events: int, **options: Any) -> float:
    count = max(20, min(events, _MAX_SERIES_BYTES // size))
    return _rate(partial(_publish_large, size=size, **options), count)


def _proxy_costs(*, quick: bool) -> dict[str, Points]:
    """The proxy's processor time by the size of events, plain, compressed, with CURVE, and with rules."""
    sizes = (200, 10_000) if quick else (200, 1_000, 10_000, 100_000)

    def cost(size: int, contender: Contender) -> float:
        meter = CpuMeter(bench.run_proxy.__name__)
        bench.throughput(contender, max(20_000, min(_MAX_COSTED_EVENTS, _MAX_SERIES_BYTES // size)), meter)
        return 1e6 * meter.per_event()

    with security.contenders() as groups:
        kinds = [(one.name.partition(", ")[2], one) for one in groups["emit_event"]]
        found: dict[str, Points] = {
            kind: [(size, cost(size, replace(one, publish=_publishing(one, size)))) for size in sizes] for kind, one in kinds
        }
    zlib = partial(_publish_large, compression=Compression.ZLIB)
    found["zlib"] = [
        (size, cost(size, Contender("zlib", partial(zlib, size=size), subscribe_client))) for size in sizes if size > 1_000
    ]
    return found


def _publishing(contender: Contender, size: int) -> Callable[[int, int], Send]:
    """Publish events of this size with the contender's keys."""
    return partial(_publish_large, size=size, **cast("partial[Send]", contender.publish).keywords)


def _memory_over(total: int) -> Points:
    here, there = _PROCESSES.Pipe()
    subscribe = partial(_subscribe_and_report, step=total // _MEMORY_POINTS, results=there)
    bench.throughput(Contender("memory", bench.publish_packed, subscribe), total)
    points: list[tuple[float, float]] = []
    while here.poll():
        points.append(here.recv())
    return points


# What follows runs in other processes.


def _publish_from_many(pub_port: int, sub_port: int, *, publishers: int) -> Send:
    sends = [publish_events(pub_port, sub_port) for _ in range(publishers)]

    def send_many(event: BenchEvent, count: int) -> None:
        shares = [count // publishers + (index < count % publishers) for index in range(publishers)]
        threads = [threading.Thread(target=send, args=(event, share)) for send, share in zip(sends, shares, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return send_many


def _publish_in_turns(pub_port: int, sub_port: int, *, publishers: int) -> Send:
    turns = cycle([publish_events(pub_port, sub_port) for _ in range(publishers)])

    def send_many(event: BenchEvent, count: int) -> None:
        for _ in range(count):
            next(turns)(event, 1)

    return send_many


def _publish_on_topics(pub_port: int, sub_port: int, *, topics: int) -> Send:
    names = {f"topic_{number}": f"topic-{number}" for number in range(topics)}
    members: list[BaseEventTopic] = list(cast(Any, BaseEventTopic)("Many", names))
    bus: EventBusClient[BenchEvent, BenchType, Any] = EventBusClient(BenchEvent, "127.0.0.1", pub_port, sub_port)
    bus.connect()
    sent = 0

    def send_many(event: BenchEvent, count: int) -> None:
        nonlocal sent
        for number in range(sent, sent + count):
            bus.emit_event(event, members[number % topics])
        sent += count

    return send_many


def _subscribe_to_all(pub_port: int, sub_port: int, callback: Callback, ready: Callable[[], None]) -> None:
    bus = client(pub_port, sub_port)
    bus.attach_callback(BenchType.reading, callback)
    bus.connect()
    bus.subscribe(None)
    bus.start_consumer()
    ready()
    threading.Event().wait()


def _publish_large(pub_port: int, sub_port: int, *, size: int, **options: Any) -> Send:
    bus: bench.Client = EventBusClient(BenchEvent, "127.0.0.1", pub_port, sub_port, **options)
    bus.connect()
    words = "the level of tank one is well within its limits "
    text = (words * (size // len(words) + 1))[: max(1, size - 140)]

    def send_many(event: BenchEvent, count: int) -> None:
        large = event.model_copy(update={"sensor": text})
        for _ in range(count):
            bus.emit_event(large, BenchTopic.plant)

    return send_many


def _subscribe_with(
    pub_port: int,
    sub_port: int,
    callback: Callback,
    ready: Callable[[], None],
    *,
    handlers: int,
) -> None:
    bus = client(pub_port, sub_port)
    for _ in range(handlers - 1):
        bus.attach_callback(BenchType.reading, lambda event: None)
    bus.attach_callback(BenchType.reading, callback)
    bus.connect()
    bus.subscribe(BenchTopic.plant)
    bus.start_consumer()
    ready()
    threading.Event().wait()


def _subscribe_and_report(
    pub_port: int,
    sub_port: int,
    callback: Callback,
    ready: Callable[[], None],
    *,
    step: int,
    results: "multiprocessing.connection.Connection[Any, Any]",
) -> None:
    count = 0

    def note(event: BenchEvent) -> None:
        nonlocal count
        count += 1
        if not count % step:
            results.send((count, (resident_bytes() or 0) / _MIB))
        callback(event)

    subscribe_client(pub_port, sub_port, note, ready)


if __name__ == "__main__":
    main()
