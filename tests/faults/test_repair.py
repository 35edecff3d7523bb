"""Numbered events and a historian: whatever is lost on the way to a subscriber is had again, in order."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from time import monotonic

import pytest

from tests.faults.peers import TOPIC, Receiver, rounds, scene
from tests.faults.programs import stop_process
from tests.faults.proxies import ProxyProcess, running_proxy
from tests.support import PATIENCE, Bus, MyEvent, MyEventType, eventually

pytestmark = pytest.mark.process

KEPT = 100_000  # messages of each topic
SMALL = 10  # messages in a queue
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


@pytest.mark.parametrize("frozen", [False, True], ids=["slow", "frozen"])
def test_what_a_full_queue_has_dropped_is_repaired(frozen: bool, soak_seconds: float | None) -> None:
    """A subscriber that is slow, or whose process stands still, gets in the end all that was emitted, in order."""
    for _ in rounds(1, soak_seconds):
        with (
            running_proxy(plain=True, send_hwm=SMALL) as proxy,
            historian(proxy),
            Receiver(proxy, slow=not frozen, receive_hwm=SMALL, repair_timeout=PATIENCE) as slow,
        ):
            slow.ready()
            if frozen:
                stop_process(slow.pid)
            with Bus(MyEvent, proxy.host, proxy.pub_port, proxy.sub_port, connect_timeout=PATIENCE, numbered=True) as client:
                arrived: list[float] = []
                client.subscribe(TOPIC)
                client.attach_callback(MyEventType.updated, lambda event: arrived.append(event.value))  # type: ignore[misc]
                client.start_consumer()

                def emit(number: int, padding: str) -> None:
                    client.emit_event(MyEvent(type=MyEventType.updated, time="0" + padding, value=number), TOPIC)

                for number in range(FILLED):  # no faster than others take them
                    emit(number, MUCH)
                    eventually(lambda n=number, a=arrived: len(a) > n - SMALL // 2, PATIENCE)  # type: ignore[misc]
                if frozen:
                    os.kill(slow.pid, signal.SIGCONT)
                else:
                    slow.let_go()
                total = FILLED

                def caught_up() -> bool:  # by and by its queue at the proxy has room again, and it sees the gap
                    nonlocal total
                    if slow.look()[0].get(0, [0])[-1] == total - 1 >= FILLED:
                        return True
                    emit(total, "")
                    total += 1
                    return False

                eventually(caught_up, PATIENCE)
                assert slow.look() == ({0: list(range(total))}, 0)


@pytest.mark.parametrize("beside", [False, True], ids=["in the proxy", "beside the proxy"])
def test_a_proxy_that_is_killed_costs_nothing(beside: bool, soak_seconds: float | None) -> None:
    """With a historian in its own process, which dies with it, or in another one."""
    with ExitStack() as stack:
        proxy = stack.enter_context(running_proxy(history=0 if beside else KEPT))
        if beside:
            stack.enter_context(historian(proxy))
        running = stack.enter_context(scene(proxy, numbered=True))
        for chance in rounds(2, soak_seconds):
            proxy.kill()
            end = monotonic() + chance.uniform(0.0, 0.5)
            eventually(lambda e=end: monotonic() > e)  # type: ignore[misc]
            restarted = proxy.start()
            for emitter in running.emitters:
                running.wait_for(emitter.number, restarted)
        running.finish()
        assert (running.books.missing(), running.client.stats().lost) == (0, 0)


def test_a_stop_of_everything_costs_nothing(soak_seconds: float | None) -> None:
    """Not even if clients make new connections meanwhile, by which a proxy without a historian loses events."""
    quick = {"echo_interval": 0.1, "echo_timeout": 0.1}
    with running_proxy() as proxy, historian(proxy) as beside, scene(proxy, numbered=True, **quick) as running:
        for _ in rounds(2, soak_seconds):
            for process in (proxy.pid, beside.pid):
                stop_process(process)
            end = monotonic() + HANG
            eventually(lambda e=end: monotonic() > e, PATIENCE)  # type: ignore[misc]
            for process in (beside.pid, proxy.pid):
                os.kill(process, signal.SIGCONT)
            running.flows()
            running.client.wait_ready(PATIENCE)
        running.finish()
        assert (running.books.missing(), running.client.stats().lost) == (0, 0)
