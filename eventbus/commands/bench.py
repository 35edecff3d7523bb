"""``eventbus bench``: what this machine carries, and how fast."""

from eventbus import bench


def measure(events: int, rate: int) -> None:
    """Measure and print.

    Args:
        events: how many to send as fast as they go.
        rate: events per second for the latency.
    """
    for contender in (bench.EVENT_BY_EVENT, bench.PACKED):
        print(f"{contender.name:24}{bench.throughput(contender, events):12,.0f} events/s", flush=True)
    late = bench.latencies(bench.EVENT_BY_EVENT, max(100, 2 * rate), rate)
    p50, p99 = late[len(late) // 2] * 1e6, late[len(late) * 99 // 100] * 1e6
    print(f"{f'latency at {rate:,}/s':24}{p50:12,.0f} µs p50, {p99:,.0f} µs p99")
