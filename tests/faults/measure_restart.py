"""Measures the outage of a killed proxy and its cost: ``uv run python -m tests.faults.measure_restart``.

Two publishers emit in processes of their own. In each round the proxy is killed and started again, and a line tells for
how long there was none, how soon after that the first new event arrived, and how many were lost, without numbers and with.
"""

import argparse
import logging
from statistics import median
from time import monotonic
from typing import NamedTuple

from tests.faults.peers import Scene, scene
from tests.faults.proxies import ProxyProcess, running_proxy


class Round(NamedTuple):
    """The cost of one restart: seconds without a proxy, seconds from its start to the first new event, events."""

    outage: float
    recovery: float
    lost: int


def measure(rounds: int, rate: float, *, numbered: bool) -> list[Round]:
    """Kill and start the proxy this number of times."""
    found: list[Round] = []
    with running_proxy() as proxy, scene(proxy, rate=rate, numbered=numbered) as running:
        for _ in range(rounds):
            before = running.books.missing()
            outage, recovery = restart(proxy, running)
            found.append(Round(outage, recovery, running.books.missing() - before))
        running.finish()
    return found


def restart(proxy: ProxyProcess, scene: Scene) -> tuple[float, float]:
    """Kill the proxy and start it again; return how long there was none, and how long the first event after that took."""
    killed = monotonic()
    proxy.kill()
    restarted = proxy.start()
    arrivals = [scene.wait_for(emitter.number, restarted) for emitter in scene.emitters]
    scene.client.wait_ready()
    scene.flows()
    return restarted - killed, max(arrival.received for arrival in arrivals) - restarted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=10, help="how often the proxy is killed")
    parser.add_argument("--rate", type=float, default=2_000.0, help="events a second, of two publishers together")
    arguments = parser.parse_args()
    logging.getLogger("eventbus").addHandler(logging.NullHandler())  # that connections go down is meant to be
    plain, numbered = (measure(arguments.rounds, arguments.rate, numbered=numbered) for numbered in (False, True))
    print(f"{'':10}{'plain':>30}{'numbered':>33}")
    print(f"{'round':>10}" + 2 * f"{'outage':>12}{'recovery':>12}{'lost':>9}")
    for number, pair in enumerate(zip(plain, numbered, strict=True), start=1):
        print(f"{number:>10}" + "".join(f"{one.outage:>10.2f} s{one.recovery:>10.2f} s{one.lost:>9}" for one in pair))
    print(
        f"{'median':>10}"
        + "".join(
            f"{median(one.outage for one in all_of):>10.2f} s"
            f"{median(one.recovery for one in all_of):>10.2f} s"
            f"{median(one.lost for one in all_of):>9g}"
            for all_of in (plain, numbered)
        )
    )


if __name__ == "__main__":
    main()
