"""A process that dies and comes back, while events flow: the proxy, a subscriber, a publisher."""

from itertools import pairwise
from time import monotonic

import pytest

from eventbus import Packing
from tests.faults.peers import Emitter, Receiver, Scene, rounds, scene
from tests.faults.proxies import ProxyProcess, running_proxy
from tests.support import PATIENCE, eventually

pytestmark = pytest.mark.process

ROUNDS = 2
HANG = 2.5  # seconds
RECOVERY = PATIENCE / 4  # seconds that the first event after a restart may take on a busy machine; on others it is 2
# Events that may be lost in a restart: what a killed process still takes until its sockets are closed. Of 2,000 a second
# that is a few; where others want the processors too, it may be those of a quarter of a second, less than a proxy is away.
MOST = 500


def restart(proxy: ProxyProcess, scene: Scene, down: float) -> tuple[float, dict[int, int]]:
    """Kill the proxy, start it again after `down` seconds, and wait for events that are emitted after that.

    Returns how long the first of those took, and the number of one of each publisher.
    """
    proxy.kill()
    end = monotonic() + down
    eventually(lambda: monotonic() > end)
    restarted = proxy.start()
    arrivals = [scene.wait_for(emitter.number, restarted) for emitter in scene.emitters]
    scene.client.wait_ready(PATIENCE)  # its publishing half, which emits nothing, may take longer
    return max(arrival.received for arrival in arrivals) - restarted, scene.flows()


@pytest.mark.parametrize(("packing", "rate"), [(Packing.BATCHES, 2_000.0), (Packing.ALL, 20_000.0)])
def test_numbered_publishers_lose_nothing(packing: Packing, rate: float, soak_seconds: float | None) -> None:
    """A proxy killed and restarted costs numbered publishers no event, none comes twice or late; receivers count no loss."""
    with running_proxy() as proxy, scene(proxy, numbered=True, packing=packing, rate=rate, echo_timeout=PATIENCE) as running:
        times = 0
        for chance in rounds(ROUNDS, soak_seconds):
            restart(proxy, running, chance.uniform(0.0, 0.5))
            times += 1
        reports = running.finish()
        assert (running.books.missing(), running.client.stats().lost) == (0, 0)
        for states in (running.states, *(report.states for report in reports)):
            assert states == ["degraded", "ready"] * times


def test_numbered_publishers_lose_nothing_in_restarts_that_follow_each_other(soak_seconds: float | None) -> None:
    """Nor does it when it is killed again in the moment in which they send again what was under way."""
    with running_proxy() as proxy, scene(proxy, numbered=True) as running:
        for chance in rounds(1, soak_seconds):
            for _ in range(chance.randint(2, 4)):
                proxy.kill()
                restarted = proxy.start()
                eventually(lambda r=restarted: running.books.latest() > r, PATIENCE)  # type: ignore[misc]
            restart(proxy, running, 0.0)
        running.finish()
        assert (running.books.missing(), running.client.stats().lost) == (0, 0)


def test_numbered_publishers_lose_nothing_if_it_hung_before(soak_seconds: float | None) -> None:
    """Nor does it when it had hung for a while, as one that a watchdog kills: what was sent meanwhile comes again, too."""
    with running_proxy() as proxy, scene(proxy, numbered=True, rate=500.0, echo_timeout=PATIENCE) as running:
        for _ in rounds(1, soak_seconds):
            proxy.stop()
            end = monotonic() + HANG
            eventually(lambda end=end: monotonic() > end)  # type: ignore[misc]
            restart(proxy, running, 0.0)
        running.finish()
        assert (running.books.missing(), running.client.stats().lost) == (0, 0)


def test_plain_publishers_lose_what_was_in_the_proxy(soak_seconds: float | None) -> None:
    """Without numbers only the moment of the kill is lost; within two seconds all flows again, in order, none twice."""
    with running_proxy() as proxy, scene(proxy) as running:
        recoveries, missing = [], [0]
        for chance in rounds(2 * ROUNDS, soak_seconds):
            recoveries.append(restart(proxy, running, chance.uniform(0.0, 0.5))[0])
            missing.append(running.books.missing())
        running.finish()
        # A busy machine may take longer for once.
        assert min(recoveries) < RECOVERY
        assert min(after - before for before, after in pairwise(missing)) <= MOST


@pytest.mark.parametrize("send_hwm", [1_000, 0])
def test_numbered_publishers_at_a_plain_proxy(send_hwm: int, soak_seconds: float | None) -> None:
    """A proxy that lets publishers in before subscribers are back costs nothing but what its queues cannot hold.

    By default they do not hold what publishers have kept, which comes all at once; each lost event is counted.
    """
    with running_proxy(plain=True, send_hwm=send_hwm) as proxy, scene(proxy, numbered=True) as running:
        for chance in rounds(ROUNDS, soak_seconds):
            restart(proxy, running, chance.uniform(0.0, 0.5))
        running.finish()
        assert running.client.stats().lost == running.books.missing()
        assert send_hwm or running.books.missing() == 0


def test_a_subscriber_that_dies(soak_seconds: float | None) -> None:
    """Publishers and other subscribers do not notice; one that comes again gets all from then on."""
    with running_proxy() as proxy, scene(proxy, numbered=True, echo_timeout=PATIENCE) as running:
        for _ in rounds(ROUNDS, soak_seconds):
            with Receiver(proxy, numbered=True) as receiver:
                receiver.ready()
                running.flows()
                receiver.kill()
        with Receiver(proxy, numbered=True) as receiver:
            receiver.ready()
            first = running.flows()  # emitted once it was subscribed
            reports = running.finish()
            expected = {number: report.emitted - 1 for number, report in enumerate(reports)}
            eventually(lambda: {number: came[-1] for number, came in receiver.look()[0].items()} == expected, PATIENCE)
            for number, came in receiver.look()[0].items():
                assert came == list(range(came[0], reports[number].emitted))
                assert came[0] <= first[number]
        assert running.books.missing() == 0
        assert [state for report in reports for state in report.states] == running.states == []


def test_a_publisher_that_dies_in_a_burst(soak_seconds: float | None) -> None:
    """Its events come in order up to some moment, and those of others are not affected."""
    with running_proxy() as proxy, scene(proxy, numbered=True, echo_timeout=PATIENCE) as running:
        for number, _ in enumerate(rounds(ROUNDS, soak_seconds), start=10):
            with Emitter(number, proxy, 20_000, numbered=True) as emitter:
                emitter.ready()
                running.wait_for(number, monotonic())
                emitter.kill()
        running.finish()
        assert (running.books.missing(), running.client.stats().lost) == (0, 0)
        assert running.states == []
