"""NATS side by side with ZeroMQ and with nats-py: each contender three processes, and the server in between.

    uv run --group bench python -m tests.benchmarks.nats [--quick]

The clients differ by their transport only. `nats-py used directly` publishes and decodes the same typed events by hand.
It gets the best of all cases: its events are published in chunks of one coroutine each.

Compare the processor time for each event, of publisher, server and subscriber together, the least of all rounds: rates
depend on how many cores there are, and on what else they do.

The stream is at its limit, as one is that has run for long. While a stream grows, the server takes new pages of memory for
each event, twice, and what a page costs depends on the machine: on a virtual one they were half of the server's time.
"""

import argparse
import asyncio
import statistics
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

from eventbus.cli import bench
from eventbus.cli.bench import (
    EVENT_BY_EVENT,
    HWM,
    BenchEvent,
    BenchTopic,
    BenchType,
    Callback,
    Client,
    Contender,
    Send,
    publish_events,
    subscribe_client,
)
from eventbus.client import EventBusClient
from eventbus.nats_options import NatsOptions
from eventbus.options import ClientOptions
from eventbus.policies import Packing
from eventbus.transports.nats.core import CoreTransport
from eventbus.transports.nats.jetstream import JetStreamTransport
from tests.benchmarks.cpu import CpuMeter
from tests.nats import Server, running

SUBJECT = "eb.plant"
STORE = "file,64MiB,1h,1"  # which is full before the first round counts
TIMEOUT_S = 20.0
BY_HAND = "nats-py used directly"
PACKING_ALL = "the same, packing all"
SHARED = "JetStream, shared messages"
SINGLE = "JetStream, a message each"


def client(kind: str, url: str) -> Client:
    """A client of this library over NATS."""
    packing = Packing.NONE if kind == "single" else Packing.ALL if kind == "core-packed" else Packing.BATCHES
    options = ClientOptions(
        send_hwm=HWM, receive_hwm=HWM, send_timeout=TIMEOUT_S, connect_timeout=TIMEOUT_S, packing=packing
    )
    nats = NatsOptions(url=url, prefix="eb" if kind.startswith("core") else "js", store=STORE)
    transport = (CoreTransport if kind.startswith("core") else JetStreamTransport)(nats, options)
    return EventBusClient(BenchEvent, transport=transport, options=options)


def publish(pub_port: int, sub_port: int, *, kind: str, url: str) -> Send:
    """Publish with `emit_event`."""
    bus = client(kind, url)
    bus.connect()

    def send_many(event: BenchEvent, count: int) -> None:
        for _ in range(count):
            bus.emit_event(event, BenchTopic.plant)

    return send_many


def subscribe(pub_port: int, sub_port: int, callback: Callback, ready: Callable[[], None], *, kind: str, url: str) -> None:
    """Subscribe with `attach_callback`."""
    bus = client(kind, url)
    bus.attach_callback(BenchType.reading, callback)
    bus.connect()
    bus.subscribe(BenchTopic.plant)
    bus.start_consumer()
    ready()
    Event().wait()


def publish_by_nats_py(pub_port: int, sub_port: int, *, url: str) -> Send:
    """A connection of nats-py on an event loop in a thread; each chunk of events is one coroutine, and flushed."""
    import nats  # of a group of its own

    loop = asyncio.new_event_loop()
    Thread(target=loop.run_forever, daemon=True).start()

    def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(TIMEOUT_S)

    connection = run(nats.connect(url, pending_size=64 * 1_048_576))

    async def send(event: BenchEvent, count: int) -> None:
        for _ in range(count):
            await connection.publish(SUBJECT, event.model_dump_json().encode())
        await connection.flush(TIMEOUT_S)

    return lambda event, count: run(send(event, count))


def subscribe_by_nats_py(pub_port: int, sub_port: int, callback: Callback, ready: Callable[[], None], *, url: str) -> None:
    """A callback of nats-py that validates each message."""
    import nats

    async def main() -> None:
        connection = await nats.connect(url)

        async def take(message: Any) -> None:
            callback(BenchEvent.model_validate_json(message.data))

        await connection.subscribe(SUBJECT, cb=take, pending_msgs_limit=1_000_000, pending_bytes_limit=2**30)
        await connection.flush()
        ready()
        await asyncio.Event().wait()

    asyncio.run(main())


class MeterWithServer(CpuMeter):
    """Counts the server's time, too; None: there is no server."""

    def __init__(self, server: int | None) -> None:
        super().__init__()
        self._servers = [] if server is None else [server]

    def _pids(self) -> list[int | None]:
        return [*super()._pids(), *self._servers]


@contextmanager
def contenders() -> Iterator[tuple[list[Contender], Server]]:
    """All of them, while their server runs."""
    with tempfile.TemporaryDirectory() as directory, running(Path(directory)) as server:
        ours = {
            name: Contender(name, partial(publish, kind=kind, url=server.url), partial(subscribe, kind=kind, url=server.url))
            for name, kind in (
                ("core NATS", "core"),
                (SHARED, "packed"),
                ("core NATS, packing all", "core-packed"),
                (SINGLE, "single"),
            )
        }
        by_hand = Contender(
            BY_HAND, partial(publish_by_nats_py, url=server.url), partial(subscribe_by_nats_py, url=server.url)
        )
        packing = Contender(PACKING_ALL, partial(publish_events, packing=Packing.ALL), subscribe_client)
        core, stored, *others = ours.values()
        yield [EVENT_BY_EVENT, core, by_hand, packing, stored, *others], server  # what is compared follows each other


def main() -> None:
    """Measure all of them in turns, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a look, not a measurement")
    quick = parser.parse_args().quick
    rounds, events, steady = (2, 500_000, 1_000) if quick else (5, 1_000_000, 3_000)
    with contenders() as (fast, server):
        rates: dict[str, list[float]] = {one.name: [] for one in fast}
        costs: dict[str, list[float]] = {one.name: [] for one in fast}
        delays: dict[str, list[float]] = {one.name: [] for one in fast}
        for _ in range(rounds):
            for one in fast:
                # A fifth of the slowest, which leaves less to the disk when the next one is measured.
                count = events // 5 if one.name == SINGLE else events
                bench.throughput(one, count // 2)  # warms up: the server has given back its memory since its last turn
                meter = MeterWithServer(server.pid)
                rates[one.name].append(bench.throughput(one, count, meter))
                costs[one.name].append(meter.per_event())
                delays[one.name].append(statistics.median(bench.latencies(one, steady, 1_000)))
    base = EVENT_BY_EVENT.name
    by_hand = min(costs[BY_HAND])
    print(f"{'':30}{'events/s':>12}{'× zeromq':>10}{'CPU µs':>9}{'× nats-py':>11}{'p50 µs':>9}{'× zeromq':>10}")
    for name in rates:
        ratio = statistics.median(one / other for one, other in zip(rates[name], rates[base], strict=True))
        later = statistics.median(one / other for one, other in zip(delays[name], delays[base], strict=True))
        print(
            f"{name:30}{statistics.median(rates[name]):12,.0f}{ratio:10.2f}{min(costs[name]) * 1e6:9.2f}"
            f"{by_hand / min(costs[name]):11.2f}{statistics.median(delays[name]) * 1e6:9.0f}{later:10.2f}"
        )
    stored = statistics.median(one / other for one, other in zip(rates[SHARED], rates[PACKING_ALL], strict=True))
    print(f"{SHARED}: {stored:.2f} × the events/s of ZeroMQ, packing all")


if __name__ == "__main__":
    main()
