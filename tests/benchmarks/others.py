"""What people would use instead, side by side: the same typed event, from one process to another.

    uv run --group bench python -m tests.benchmarks.others [--quick]

Each contender is written as its own documentation shows it, and validates each event with the same model. Redis is measured
if there is a `redis-server`. Compare the processor time for each event, of publisher, server and subscriber together: rates
depend on how many cores there are.
"""

import argparse
import asyncio
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

from eventbus.cli import bench
from eventbus.cli.bench import EVENT_BY_EVENT, BenchEvent, Callback, Contender, Send
from tests.benchmarks.contenders import OBVIOUS, TOPIC
from tests.benchmarks.nats import MeterWithServer, publish_by_nats_py, subscribe_by_nats_py
from tests.benchmarks.packing import PACKED_ALL
from tests.nats import running
from tests.support import PATIENCE, eventually

CHANNEL = "plant"
TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Other:
    """A contender, and the process of its server; None: there is none but the proxy."""

    contender: Contender
    server: int | None = None


class OnLoop:
    """An event loop in a thread, for what has no calls that block."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        Thread(target=self._loop.run_forever, daemon=True).start()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run it there, and return what it returns."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(TIMEOUT_S)


# zmq.asyncio, through the proxy.


def publish_by_zmq_asyncio(pub_port: int, sub_port: int) -> Send:
    """`await socket.send_multipart`, after a sleep."""
    import zmq.asyncio

    on_loop = OnLoop()

    async def connect() -> Any:
        connected = zmq.asyncio.Context.instance().socket(zmq.PUB)
        connected.set_hwm(bench.HWM)
        connected.connect(f"tcp://127.0.0.1:{pub_port}")
        await asyncio.sleep(0.5)
        return connected

    connected = on_loop.run(connect())

    async def send(event: BenchEvent, count: int) -> None:
        for _ in range(count):
            await connected.send_multipart([TOPIC, event.model_dump_json().encode()])

    return lambda event, count: on_loop.run(send(event, count))


def subscribe_by_zmq_asyncio(pub_port: int, sub_port: int, callback: Callback, ready: Callable[[], None]) -> None:
    """`await socket.recv_multipart`."""
    import zmq.asyncio

    async def main() -> None:
        connected = zmq.asyncio.Context.instance().socket(zmq.SUB)
        connected.set_hwm(bench.HWM)
        connected.subscribe(TOPIC)
        connected.connect(f"tcp://127.0.0.1:{sub_port}")
        ready()
        while True:
            _topic, payload = await connected.recv_multipart()
            callback(BenchEvent.model_validate_json(payload))

    asyncio.run(main())


# FastStream, on NATS.


def publish_by_faststream(pub_port: int, sub_port: int, *, url: str) -> Send:
    """`await broker.publish(event, subject)`."""
    from faststream.nats import NatsBroker

    on_loop, broker = OnLoop(), NatsBroker(url, logger=None)
    on_loop.run(broker.connect())

    async def send(event: BenchEvent, count: int) -> None:
        for _ in range(count):
            await broker.publish(event, CHANNEL)

    return lambda event, count: on_loop.run(send(event, count))


def subscribe_by_faststream(
    pub_port: int, sub_port: int, callback: Callback, ready: Callable[[], None], *, url: str
) -> None:
    """`@broker.subscriber(subject)` on a function whose argument is the event."""
    from faststream.nats import NatsBroker

    async def main() -> None:
        broker = NatsBroker(url, logger=None)

        @broker.subscriber(CHANNEL, pending_msgs_limit=1_000_000, pending_bytes_limit=2**30)
        async def handle(event: BenchEvent) -> None:
            callback(event)

        await broker.start()
        ready()
        await asyncio.Event().wait()

    asyncio.run(main())


# redis-py.


def publish_by_redis(pub_port: int, sub_port: int, *, port: int, pipelined: bool) -> Send:
    """`publish`, which waits for the server's answer each time; or a pipeline, which waits once for a chunk of events."""
    import redis

    connection = redis.Redis(port=port)

    def send_each(event: BenchEvent, count: int) -> None:
        for _ in range(count):
            connection.publish(CHANNEL, event.model_dump_json())

    def send_pipelined(event: BenchEvent, count: int) -> None:
        pipeline = connection.pipeline(transaction=False)
        for _ in range(count):
            pipeline.publish(CHANNEL, event.model_dump_json())
        pipeline.execute()

    return send_pipelined if pipelined else send_each


def subscribe_by_redis(pub_port: int, sub_port: int, callback: Callback, ready: Callable[[], None], *, port: int) -> None:
    """`for message in pubsub.listen()`."""
    import redis

    pubsub: Any = redis.Redis(port=port).pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call] # theirs
    pubsub.subscribe(CHANNEL)
    pubsub.get_message(timeout=TIMEOUT_S)  # that it is subscribed
    ready()
    for message in pubsub.listen():
        callback(BenchEvent.model_validate_json(message["data"]))


# Zenoh, from peer to peer: there is no server.


def publish_by_zenoh(pub_port: int, sub_port: int, *, port: int) -> Send:
    """`publisher.put`, which waits for room instead of dropping."""
    import zenoh

    session = zenoh.open(_zenoh(connect=port))
    publisher: Any = session.declare_publisher(CHANNEL, congestion_control=zenoh.CongestionControl.BLOCK)
    eventually(lambda: publisher.matching_status.matching, PATIENCE)

    def send(session: object, event: BenchEvent, count: int) -> None:
        for _ in range(count):
            publisher.put(event.model_dump_json())

    return partial(send, session)  # which ends as soon as nobody refers to it


def subscribe_by_zenoh(pub_port: int, sub_port: int, callback: Callback, ready: Callable[[], None], *, port: int) -> None:
    """A callback, which Zenoh calls on a thread of its own."""
    import zenoh

    def take(sample: Any) -> None:
        callback(BenchEvent.model_validate_json(sample.payload.to_bytes()))

    with zenoh.open(_zenoh(listen=port)) as session, session.declare_subscriber(CHANNEL, take):
        ready()
        while True:
            time.sleep(TIMEOUT_S)


def _zenoh(**endpoints: int) -> Any:
    import zenoh

    config = zenoh.Config()
    config.insert_json5("mode", '"peer"')
    config.insert_json5("scouting/multicast/enabled", "false")
    for key in ("listen", "connect"):
        config.insert_json5(f"{key}/endpoints", f'["tcp/127.0.0.1:{endpoints[key]}"]' if key in endpoints else "[]")
    return config


def free_port() -> int:
    """A port of loopback that nobody uses."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@contextmanager
def redis_server(program: str, directory: str) -> Iterator[tuple[int, int]]:
    """A server without a store; yields its port and its process."""
    port = free_port()
    arguments = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", directory]
    # A subscriber may be behind by as much as those of the others may.
    arguments += ["--client-output-buffer-limit", "pubsub", "0", "0", "0"]
    with subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL) as process:
        try:
            eventually(lambda: _answers(port), PATIENCE)
            yield port, process.pid
        finally:
            process.kill()


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextmanager
def contenders() -> Iterator[list[Other]]:
    """All of them, while their servers run."""
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        nats = stack.enter_context(running(Path(directory)))
        assert nats.process is not None
        server, url, zenoh = nats.process.pid, nats.url, free_port()
        others = [
            Other(EVENT_BY_EVENT),
            Other(PACKED_ALL),
            Other(OBVIOUS),
            Other(Contender("zmq.asyncio", publish_by_zmq_asyncio, subscribe_by_zmq_asyncio)),
            Other(
                Contender("nats-py", partial(publish_by_nats_py, url=url), partial(subscribe_by_nats_py, url=url)), server
            ),
            Other(
                Contender(
                    "FastStream on NATS",
                    partial(publish_by_faststream, url=url),
                    partial(subscribe_by_faststream, url=url),
                ),
                server,
            ),
            Other(Contender("Zenoh", partial(publish_by_zenoh, port=zenoh), partial(subscribe_by_zenoh, port=zenoh))),
        ]
        program = shutil.which("redis-server")
        if program is None:
            print("redis-py is left out: there is no redis-server")
        else:
            port, redis = stack.enter_context(redis_server(program, directory))
            others += [
                Other(
                    Contender(
                        name,
                        partial(publish_by_redis, port=port, pipelined=pipelined),
                        partial(subscribe_by_redis, port=port),
                    ),
                    redis,
                )
                for name, pipelined in (("redis-py", False), ("redis-py, pipelined", True))
            ]
        yield others


class Measured:
    """The figures of one contender, one of each kind for each round."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.costs: list[float] = []
        self.medians: list[float] = []
        self.tails: list[float] = []

    def measure(self, other: Other, seconds: float) -> None:
        """Measure for about so many seconds, the number of events that a trial of 5,000 shows; at least 20,000."""
        events = max(20_000, round(bench.throughput(other.contender, 5_000) * seconds))
        meter = MeterWithServer(other.server)
        self.rates.append(bench.throughput(other.contender, events, meter))
        self.costs.append(meter.per_event())
        delays = bench.latencies(other.contender, round(1_000 * seconds), 1_000)
        self.medians.append(statistics.median(delays))
        self.tails.append(delays[len(delays) * 99 // 100])


def main() -> None:
    """Measure all of them in turns, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a look, not a measurement")
    quick = parser.parse_args().quick
    rounds, seconds = (1, 1.0) if quick else (5, 2.0)
    with contenders() as others:
        measured = {other.contender.name: Measured() for other in others}
        for _ in range(rounds):
            for other in others:
                measured[other.contender.name].measure(other, seconds)
    base = measured[EVENT_BY_EVENT.name]
    print(f"{'':28}{'events/s':>12}{'× ours':>9}{'CPU µs':>9}{'p50 µs':>9}{'p99 µs':>9}{'p50 × ours':>12}")
    for name, figures in measured.items():
        faster = statistics.median(one / other for one, other in zip(figures.rates, base.rates, strict=True))
        later = statistics.median(one / other for one, other in zip(figures.medians, base.medians, strict=True))
        cost, median, tail = (statistics.median(x) * 1e6 for x in (figures.costs, figures.medians, figures.tails))
        rate = statistics.median(figures.rates)
        print(f"{name:28}{rate:12,.0f}{faster:9.2f}{cost:9.1f}{median:9.0f}{tail:9.0f}{later:12.2f}")


if __name__ == "__main__":
    main()
