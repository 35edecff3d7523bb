"""``eventbus bench``: what this machine carries, and how fast."""

import sys

from eventbus.cli import benchmark as bench
from eventbus.cli.bar import Bar


def measure(events: int, rate: int) -> None:
    """Measure and print; on a terminal, with a bar meanwhile.

    Args:
        events: how many to send as fast as they go.
        rate: events per second for the latency.
    """
    for contender in (bench.EVENT_BY_EVENT, bench.PACKED):
        with Bar(contender.name, events, sys.stderr) as progress:
            per_second = bench.throughput(contender, events, progress)
        print(f"{contender.name:24}{per_second:12,.0f} events/s", flush=True)
    name, count = f"latency at {rate:,}/s", max(100, 2 * rate)
    with Bar(name, count, sys.stderr) as progress:
        late = bench.latencies(bench.EVENT_BY_EVENT, count, rate, progress)
    p50, p99 = late[len(late) // 2] * 1e6, late[len(late) * 99 // 100] * 1e6
    print(f"{name:24}{p50:12,.0f} µs p50, {p99:,.0f} µs p99")
