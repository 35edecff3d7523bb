"""Services and their proxy, started in any order."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import permutations
from pathlib import Path
from typing import IO

import pytest

from tests.faults.proxies import ProxyProcess
from tests.support import PATIENCE, eventually

pytestmark = pytest.mark.process

EVENTS = 100

# A service that emits, or one that listens, of the container's tests; each says when it has begun and what has become of it.
SERVICE = """
import json, sys
from dependency_injector import containers
from eventbus.container import lifespan
from tests.container.support import App, TOPIC
from tests.support import PATIENCE, event, eventually

role, count = sys.argv[1], int(sys.argv[2])
with lifespan(App()) as app:
    if role == "emit":
        bus = app.bus.client()
        for number in range(count):
            bus.emit_event(event(number), TOPIC)
        print(json.dumps(bus.state), flush=True)
        sys.stdin.read()
    else:
        listener = app.listener()
        print(json.dumps(listener.bus.state), flush=True)
        eventually(lambda: len(listener.values) >= count, 2 * PATIENCE)
        print(json.dumps(listener.values), flush=True)
"""


def environment(proxy: ProxyProcess) -> dict[str, str]:
    """The variables of this process, with only those of ours that a service needs which may come before the proxy."""
    clean = {name: value for name, value in os.environ.items() if not name.upper().startswith("EVENTBUS_")}
    ours = {
        "host": proxy.host,
        "pub_port": proxy.pub_port,
        "sub_port": proxy.sub_port,
        "connect_required": "false",
        "close_timeout": 2 * PATIENCE,
        "linger": PATIENCE,  # a service that has nothing more to emit waits for a proxy
    }
    return clean | {f"EVENTBUS_{name.upper()}": str(value) for name, value in ours.items()}


@contextmanager
def proxies() -> Iterator[ProxyProcess]:
    """A proxy that does not run yet, and no longer at the end of the block."""
    proxy = ProxyProcess()
    try:
        yield proxy
    finally:
        proxy.kill()


def started(stack: ExitStack, command: list[str], proxy: ProxyProcess) -> "subprocess.Popen[str]":
    """A service in a process of its own, killed at the end of the stack if it has not ended by then."""
    process = subprocess.Popen(
        [sys.executable, *command], env=environment(proxy), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    stack.enter_context(process)
    stack.callback(process.kill)
    return process


def line_of(process: "subprocess.Popen[str]") -> str:
    output: IO[str] | None = process.stdout
    assert output is not None
    line = output.readline()
    assert line, f"ended with status {process.wait(PATIENCE)}"
    return line


def test_services_before_their_proxy() -> None:
    """Two services start without a proxy; what one has emitted by then arrives at the other once there is one, in order."""
    with proxies() as proxy, ExitStack() as stack:
        services = [started(stack, ["-c", SERVICE, role, str(EVENTS)], proxy) for role in ("emit", "listen")]
        assert [json.loads(line_of(service)) for service in services] == ["connecting", "connecting"]
        proxy.start()
        assert json.loads(line_of(services[1])) == list(range(EVENTS))
        assert services[1].wait(PATIENCE) == 0
        services[0].communicate()
        assert services[0].returncode == 0


DEMO = ["-m", "eventbus.container.demo"]


def connects(process: subprocess.Popen[str]) -> bool:
    """Whether a process tries to connect: libzmq's threads run."""
    return any(path.read_text().startswith("ZMQbg/IO") for path in Path(f"/proc/{process.pid}/task").glob("*/comm"))


@pytest.mark.parametrize("order", list(permutations(["proxy", "watcher", "sensor"])), ids="-".join)
def test_the_demonstration_starts_in_any_order(order: tuple[str, ...]) -> None:
    """Both services of the demonstration come together with the proxy, and end well.

    The watcher gets every reading if the sensor or the proxy comes after it; else those since it came.
    """
    all_of_it = order.index("watcher") < max(order.index("sensor"), order.index("proxy"))
    seconds = "0.5" if all_of_it else "6"  # a process may take long to start
    with proxies() as proxy, ExitStack() as stack:
        services: dict[str, subprocess.Popen[str]] = {}
        for name in order:
            if name == "proxy":
                eventually(lambda: all(map(connects, services.values())))
                proxy.start()
            else:
                service = services[name] = started(stack, [*DEMO, name, seconds], proxy)
                if name == "sensor":
                    assert service.stdin is not None
                    service.stdin.close()  # it may begin as soon as it can
                    service.stdin = None
                elif order.index("proxy") < order.index("watcher"):
                    assert line_of(service) == "ready\n"
        sensor, watcher = (services[name].communicate(timeout=PATIENCE)[0] for name in ("sensor", "watcher"))
        received, emitted = map(int, re.findall(r"received (\d+) of (\d+) readings", watcher)[0])
        assert re.findall(r"emitted (\d+) readings", sensor) == [str(emitted)]
        assert (services["sensor"].returncode, services["watcher"].returncode) == (0, 0 if received == emitted else 1)
        assert received == emitted if all_of_it else 0 < received <= emitted
