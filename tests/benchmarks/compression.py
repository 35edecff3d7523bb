"""Measure each compression on events of three sizes and print the table of docs/compression.md.

    uv run python -m tests.benchmarks.compression

Ratio is JSON to payload; rates are events per second of one thread. The yardstick is pydantic, which encodes and decodes the
same event.
"""

import random
import time
from collections.abc import Callable, Iterable
from functools import partial

from pydantic import BaseModel

from eventbus import BaseEvent, BaseEventType, Compression
from eventbus.wire.codec import Codec
from eventbus.wire.compression import Compressor, inflate

SIZES = {"1 KiB": 1_024, "10 KiB": 10_240, "1 MiB": 1_048_576}
AREAS = ["boiler", "turbine", "feedwater", "condenser", "cooling", "stack", "storage"]
KINDS = {"PT": ("kPa", 850.0, 40.0), "TT": ("degC", 212.0, 15.0), "FT": ("m3/h", 64.0, 9.0), "LT": ("%", 55.0, 20.0)}

LIMIT = 16 << 20  # bytes
ROUNDS, SECONDS = 15, 0.1


class PlantEventType(BaseEventType):
    measured = "measured"


class Reading(BaseModel):
    tag: str
    value: float
    unit: str
    quality: str


class Measured(BaseEvent[PlantEventType]):
    time: str
    plant: str
    sequence: int
    readings: list[Reading]


def measured(size: int, seed: int = 1) -> Measured:
    """The readings of a plant at one moment, in about this number of bytes of JSON."""
    source = random.Random(seed)
    moment = f"2026-01-31T12:{source.randrange(60):02}:{source.randrange(60):02}.{source.randrange(10**6):06}+00:00"
    event = Measured(
        type=PlantEventType.measured,
        time=moment,
        plant=f"north-{source.randrange(9)}",
        sequence=source.randrange(10**6),
        readings=[],
    )
    left = size - len(event.model_dump_json())
    while left > 0:
        kind = source.choice(list(KINDS))
        unit, mean, spread = KINDS[kind]
        reading = Reading(
            tag=f"{source.choice(AREAS)}.{kind}-{source.randrange(400):03}",
            value=round(source.gauss(mean, spread), source.choice([1, 2, 3])),
            unit=unit,
            quality=source.choices(["good", "uncertain", "bad"], [95, 4, 1])[0],
        )
        event.readings.append(reading)
        left -= len(reading.model_dump_json()) + 1
    event.readings.pop()
    return event


def main() -> None:
    """Measure everything and print one table."""
    codec = Codec(Measured)
    encode = codec.encoder_for(measured(100))
    print("| JSON | compression | ratio | compress, events/s | inflate, events/s |")
    print("|---|---|---|---|---|")
    for name, size in SIZES.items():
        event = measured(size)
        json = encode(event)
        ratios = {"(pydantic alone)": 1.0}
        actions: list[Callable[[], object]] = [partial(encode, event), partial(codec.decode_one, json)]
        for compression in (Compression.ZLIB, Compression.ZSTD, Compression.LZ4):
            compressor = Compressor(compression, 1)
            payload = compressor.shrink(json)
            ratios[f"`{compression}`"] = len(json) / len(payload)
            actions += [partial(compressor.shrink, json), partial(inflate, payload, LIMIT)]
        figures = iter(per_second(actions))
        for label, ratio in ratios.items():
            print(f"| {name} | {label} | {ratio:.1f} | {next(figures)} | {next(figures)} |", flush=True)


def per_second(actions: Iterable[Callable[[], object]]) -> list[str]:
    """The rate of each function by its best round; they take turns, so that the machine's other work hits all alike."""
    counts = {action: max(1, round(SECONDS / _seconds(action, 1))) for action in actions}
    rounds = [{action: _seconds(action, count) for action, count in counts.items()} for _ in range(ROUNDS)]
    rates = [count / min(seconds[action] for seconds in rounds) for action, count in counts.items()]
    return [f"{float(f'{rate:.2g}'):,.0f}" for rate in rates]  # more digits would be noise


def _seconds(action: Callable[[], object], count: int) -> float:
    action()  # not the first time
    start = time.perf_counter()
    for _ in range(count):
        action()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
