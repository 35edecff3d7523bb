"""Numbered events and a historian: whatever is lost on the way to a subscriber is had again, in order."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

import pytest

from tests.faults.peers import TOPIC, Receiver, Scene, rounds, scene
from tests.faults.programs import stop_process
from tests.faults.proxies import ProxyProcess, running_proxy
from tests.support import PATIENCE, Bus, MyEvent, MyEventType, eventually

pytestmark = pytest.mark.process

KEPT = 100_000  # messages of each topic
SMALL = 10  # messages in the queue of a slow subscriber
QUEUE = 100  # messages in each queue of the proxy
BURST = 25  # events, fewer than such a queue holds
MUCH = " " * 50_000  # makes events fill the buffers of the system soon
FILLED = 1_000  # events of 50 kB: more than those buffers hold
HANG = 1.0  # seconds


@contextmanager
def historian(proxy: ProxyProcess) -> Iterator[subprocess.Popen[str]]:
    """`eventbus historian` beside a proxy; it keeps all from now on."""
    ports = ["--pub-port", str(proxy.pub_port), "--sub-port", str(proxy.sub_port)]
    command = [sys.executable, "-m", "eventbus", "historian", *ports, "--history", str(KEPT)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("historian of"), process.wait(PATIENCE)
        try:
            yield process
        finally:
            process.kill()


def overrun(frozen: bool) -> None:
    """Let a subscriber lose most of a thousand large events, and expect that it gets them all, in order."""
    with (
        running_proxy(plain=True, send_hwm=QUEUE) as proxy,
        historian(proxy),
        Receiver(proxy, slow=not frozen, receive_hwm=SMALL, repair_timeout=PATIENCE) as slow,
        Bus(MyEvent, proxy.host, proxy.pub_port, proxy.sub_port, connect_timeout=PATIENCE, numbered=True) as client,
    ):
        slow.ready()
        if frozen:
            stop_process(slow.pid)
        total = 0

        def emit(padding: str = "") -> None:
            nonlocal total
            client.emit_event(MyEvent(type=MyEventType.updated, time="0" + padding, value=total), TOPIC)
            total += 1

        def is_kept() -> bool:
            last = client.last(TOPIC, timeout=PATIENCE)
            return last is not None and last.value == total - 1

        while total < FILLED:  # no faster than the historian takes them
            for _ in range(BURST):
                emit(MUCH)
            eventually(is_kept, PATIENCE)
        if frozen:
            os.kill(slow.pid, signal.SIGCONT)
        else:
            slow.let_go()

        def caught_up() -> bool:  # by and by its queue at the proxy has room again, and it sees the gap
            if slow.look()[0].get(0, [0])[-1] == total - 1 > FILLED:
                return True
            emit()
            return False

        eventually(caught_up, PATIENCE)
        assert slow.look() == ({0: list(range(total))}, 0)


@pytest.mark.parametrize("frozen", [False, True], ids=["slow", "frozen"])
def test_what_a_full_queue_has_dropped_is_repaired(frozen: bool, soak_seconds: float | None) -> None:
    """A subscriber that is slow, or whose process stands still, gets in the end all that was emitted, in order."""
    for _ in rounds(1, soak_seconds):
        overrun(frozen)


def test_kills_and_stops_of_the_proxy_cost_nothing(soak_seconds: float | None) -> None:
    """With a historian beside it, not even a stop in which clients make new connections."""
    quick = {"echo_interval": 0.1, "echo_timeout": 0.1}
    with running_proxy() as proxy, historian(proxy) as beside, scene(proxy, numbered=True, **quick) as running:
        for chance in rounds(1, soak_seconds):
            kill(proxy, running, chance.uniform(0.0, 0.5))
            for process in (proxy.pid, beside.pid):
                stop_process(process)
            wait(HANG)
            for process in (beside.pid, proxy.pid):
                os.kill(process, signal.SIGCONT)
            running.flows()
            running.client.wait_ready(PATIENCE)
        running.finish()
        assert (running.books.missing(), running.client.stats().lost) == (0, 0)


def test_kills_of_a_proxy_with_a_history_cost_nothing(soak_seconds: float | None) -> None:
    """The history in its process dies with it; publishers send again what was under way, and the new one has that."""
    if soak_seconds is None:
        pytest.skip("the suite has the same without a history; this one is for long searches")
    with running_proxy(history=KEPT) as proxy, scene(proxy, numbered=True) as running:
        for chance in rounds(1, soak_seconds):
            kill(proxy, running, chance.uniform(0.0, 0.5))
        running.finish()
        assert (running.books.missing(), running.client.stats().lost) == (0, 0)


def kill(proxy: ProxyProcess, running: Scene, down: float) -> None:
    """Kill the proxy, start it again after so many seconds, and wait for events that are emitted after that."""
    proxy.kill()
    wait(down)
    restarted = proxy.start()
    for emitter in running.emitters:
        running.wait_for(emitter.number, restarted)


def wait(seconds: float) -> None:
    """Return after so many seconds."""
    end = monotonic() + seconds
    eventually(lambda: monotonic() > end, seconds + PATIENCE)
