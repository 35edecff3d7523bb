"""``eventbus demo``: two services in processes of their own, joined by a proxy, and what they print as it happens."""

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from threading import Thread
from typing import IO

from eventbus.cli.terminal import Paint, Style, wants_colours

_TIMEOUT_S = 30.0  # until a service that does not end counts as failed
_SERVICES = {"sensor": Style.CYAN, "watcher": Style.GREEN}
_STYLES = {"ALARM": Style.RED, "alarm": Style.YELLOW}  # of lines that have this word first
_GO_ON = """\
Go on, each in a terminal of its own:
  eventbus proxy                              runs a bus on this machine
  eventbus tail                               prints every event that passes
  eventbus emit plant '{"type": "started"}'   emits one
The page "Quickstart" of the documentation shows how two services like these are written."""


def demo(seconds: float) -> bool:
    """Start a proxy and both services, show what they print, and wait for them. Return whether every reading has arrived.

    Args:
        seconds: for how long the sensor emits.
    """
    paint = Paint(wants_colours(sys.stdout))
    print(f"demo: starting a proxy and two services, for {seconds:g} s", flush=True)  # before anything is imported
    # So that everything is cleaned up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    from eventbus.proxy import EventBusProxy

    with EventBusProxy(pub_port=0, sub_port=0) as proxy, ExitStack() as stack:
        print(f"{'proxy':9}on ports {proxy.pub_port} and {proxy.sub_port}", flush=True)
        where = {"EVENTBUS_PUB_PORT": str(proxy.pub_port), "EVENTBUS_SUB_PORT": str(proxy.sub_port)}
        # Only these, so that the demonstration does not depend on the settings of this machine's real bus.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("EVENTBUS_")} | where
        sensor, watcher = (_start(stack, name, seconds, environment) for name in _SERVICES)
        if not (_is_ready(watcher, paint) and _is_ready(sensor, paint)):
            return False
        shown = [Thread(target=_show, args=(_output(service), paint), daemon=True) for service in (sensor, watcher)]
        for thread in shown:
            thread.start()
        print(f"{'demo':9}both services are connected, the sensor begins", flush=True)
        assert sensor.stdin is not None  # a pipe was asked for
        sensor.stdin.close()  # it may begin
        statuses = [service.wait(seconds + _TIMEOUT_S) for service in (sensor, watcher)]
        for thread in shown:
            thread.join(_TIMEOUT_S)
    if any(statuses):
        return False
    print(f"\n{_GO_ON}", flush=True)
    return True


def _start(stack: ExitStack, name: str, seconds: float, environment: dict[str, str]) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "eventbus.container.demo", name, str(seconds)]
    # The service inherits the mask, and takes Ctrl-C as soon as it can: an interpreter that starts would write a traceback.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        service = stack.enter_context(
            subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    stack.callback(service.kill)  # before its own clean-up waits for it; does nothing to one that has ended
    return service


def _is_ready(service: "subprocess.Popen[str]", paint: Paint) -> bool:
    """Wait until the service has said that it is ready; show what it says instead."""
    line = _output(service).readline()
    if line != "ready\n":
        print(_painted(line.rstrip("\n"), paint), flush=True)
    return line == "ready\n"


def _show(output: IO[str], paint: Paint) -> None:
    for line in output:
        print(_painted(line.rstrip("\n"), paint), flush=True)


def _painted(line: str, paint: Paint) -> str:
    """A line of a service: its name, and a word that says what it is about, each in its style."""
    who, _, rest = line.partition(" ")
    rest = rest.lstrip()
    word = rest.partition(" ")[0]
    name = f"{who:9}"
    shown = paint(rest, _STYLES[word]) if word in _STYLES else rest
    return paint(name, _SERVICES[who]) + shown if who in _SERVICES else line


def _output(service: "subprocess.Popen[str]") -> IO[str]:
    assert service.stdout is not None  # a pipe was asked for
    return service.stdout
