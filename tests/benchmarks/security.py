"""The cost of encryption and rules, side by side: each contender three processes, publisher, proxy and subscriber.

    uv run python -m tests.benchmarks.security [--quick]

Raw messages show what the proxy itself can do; events what is left of it when they are encoded, decoded and handled.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import zmq

from eventbus.cli import bench
from eventbus.cli.bench import HWM, BenchEvent, BenchTopic, Callback, Contender, Send, publish_events, subscribe_client
from eventbus.keys import ClientKeys, reveal, write_pair

TOPIC = BenchTopic.plant.value.encode()
PAYLOAD = BenchEvent().model_dump_json().encode()
MORE = int(zmq.SNDMORE)

CLIENT = "[clients.{name}]\npublic_key = {key!r}\n"
RULES = "publish = ['plant']\nsubscribe = ['plant*']\n"


def publish_raw(pub_port: int, sub_port: int, *, keys: ClientKeys | None) -> Send:
    """The frames of one event, over and over."""
    socket = _socket(zmq.XPUB, pub_port, keys)
    socket.set(zmq.XPUB_NODROP, 1)
    socket.recv()  # the subscription: the path is live
    send = super(zmq.Socket, socket).send

    def send_many(event: BenchEvent, count: int) -> None:
        for _ in range(count):
            send(TOPIC, MORE)
            send(PAYLOAD)

    return send_many


def subscribe_raw(
    pub_port: int, sub_port: int, callback: Callback, ready: Callable[[], None], *, keys: ClientKeys | None
) -> None:
    """Receive, and decode nothing."""
    socket = _socket(zmq.SUB, sub_port, keys)
    socket.subscribe(TOPIC)
    # Another one, which returns when the first is in force.
    receive, event = super(zmq.Socket, socket).recv, BenchEvent()
    publisher = _socket(zmq.XPUB, pub_port, keys)
    token = b"\xff" + bytes(16)
    socket.subscribe(token)
    while publisher.recv() != b"\x01" + token:
        pass
    publisher.close()
    ready()
    while True:
        receive()
        receive()
        callback(event)


def _socket(kind: int, port: int, keys: ClientKeys | None) -> "zmq.Socket[bytes]":
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
    socket = context.socket(kind)
    socket.set_hwm(HWM)
    if keys is not None:
        socket.set(zmq.CURVE_SERVERKEY, keys.server_public_key.encode())
        socket.set(zmq.CURVE_PUBLICKEY, keys.public_key.encode())
        socket.set(zmq.CURVE_SECRETKEY, reveal(keys.secret_key).encode())
    socket.connect(f"tcp://127.0.0.1:{port}")
    return socket


@contextmanager
def contenders() -> Iterator[dict[str, list[Contender]]]:
    """Plain, with CURVE, and with rules, for raw messages and for events."""
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        proxy, client = write_pair("proxy", directory), write_pair("client", directory)
        keys = ClientKeys(proxy.public_key, client.secret_file.read_text())
        entry = CLIENT.format(name="client", key=client.public_key)
        (directory / "curve.toml").write_text(entry)
        (directory / "rules.toml").write_text(entry + RULES)
        secret_key = proxy.secret_file.read_text()
        kinds = {
            "plain": (None, {}),
            "CURVE": (keys, {"secret_key": secret_key, "allow_list": directory / "curve.toml"}),
            "CURVE and rules": (keys, {"secret_key": secret_key, "allow_list": directory / "rules.toml"}),
        }
        yield {
            what: [
                Contender(f"{what}, {kind}", partial(publish, keys=used), partial(subscribe, keys=used), options)
                for kind, (used, options) in kinds.items()
            ]
            for what, publish, subscribe in (
                ("raw messages", publish_raw, subscribe_raw),
                ("emit_event", publish_events, subscribe_client),
            )
        }


def main() -> None:
    """Run everything and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer events and two rounds: a look, not a measurement")
    rounds, events = (2, 50_000) if parser.parse_args().quick else (7, 300_000)
    with contenders() as groups:
        print(f"{events:,} events of {len(PAYLOAD)} bytes in each of {rounds} rounds, through one proxy", flush=True)
        print(f"{'':32}{'events/s':>12}{'× plain':>12}{'× CURVE':>12}{'p50 at 1,000/s':>18}")
        for group in groups.values():
            rates: list[list[float]] = [[] for _ in group]
            for _ in range(rounds):
                for contender, rate in zip(group, rates, strict=True):
                    rate.append(bench.throughput(contender, events))
            plain, curve, _ = rates
            for contender, rate in zip(group, rates, strict=True):
                # Raw messages carry no time.
                late = "" if "raw" in contender.name else f"{_p50(contender, 300 * rounds) * 1e6:.0f} µs"
                print(
                    f"{contender.name:32}{statistics.median(rate):>12,.0f}{_ratio(rate, plain):>12}{_ratio(rate, curve):>12}"
                    f"{late:>18}",
                    flush=True,
                )


def _ratio(values: list[float], base: list[float]) -> str:
    """The median of the rounds' ratios."""
    return f"{statistics.median(value / other for value, other in zip(values, base, strict=True)):.2f}"


def _p50(contender: Contender, events: int) -> float:
    return statistics.median(bench.latencies(contender, events, 1_000))


if __name__ == "__main__":
    main()
