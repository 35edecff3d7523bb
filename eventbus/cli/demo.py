"""``eventbus demo``: two services in processes of their own, joined by a proxy, and what they print as it happens."""

import os
import signal
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from selectors import EVENT_READ, DefaultSelector
from typing import IO

from eventbus._base.deadline import Deadline
from eventbus.cli.stopping import exit_when_stopped
from eventbus.cli.terminal import Paint, Style, understands_codes, wants_colours

_TIMEOUT_S = 30.0  # until a service that does not end counts as failed
_SILENCE_S = 0.2  # after which a dot shows that something happens
_SERVICES = {"sensor": Style.CYAN, "watcher": Style.GREEN}
_STYLES = {"ALARM": Style.RED, "alarm": Style.YELLOW}  # of lines that have this word first
_GO_ON = """\
Go on, each in a terminal of its own:
  eventbus proxy                              runs a bus on this machine
  eventbus tail                               prints every event that passes
  eventbus emit plant '{"type": "started"}'   emits one
The page "Quickstart" of the documentation shows how two services like these are written."""


type Services = Sequence["subprocess.Popen[str]"]


def demo(seconds: float) -> bool:
    """Start a proxy and both services, show what they print, and wait for them. Return whether every reading has arrived.

    Args:
        seconds: for how long the sensor emits.
    """
    paint = Paint(wants_colours(sys.stdout))
    print(f"demo: starting a proxy and two services, for {seconds:g} s", flush=True)  # before anything is imported
    with exit_when_stopped():
        return _demo(seconds, paint)


def _demo(seconds: float, paint: Paint) -> bool:
    from eventbus.proxy import EventBusProxy

    with EventBusProxy(pub_port=0, sub_port=0) as proxy, ExitStack() as stack:
        print(f"{'proxy':9}on ports {proxy.pub_port} and {proxy.sub_port}", flush=True)
        where = {"EVENTBUS_PUB_PORT": str(proxy.pub_port), "EVENTBUS_SUB_PORT": str(proxy.sub_port)}
        # Only these, so that the demonstration does not depend on the settings of this machine's real bus.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("EVENTBUS_")} | where
        sensor, watcher = (_start(stack, name, seconds, environment) for name in _SERVICES)
        if not _are_ready((sensor, watcher), paint):
            return False
        print(f"{'demo':9}both services are connected, the sensor begins", flush=True)
        assert sensor.stdin is not None  # a pipe was asked for
        sensor.stdin.close()  # it may begin
        with closing(_lines((sensor, watcher), Deadline(seconds + _TIMEOUT_S))) as lines:
            for line in lines:
                if line:
                    print(_painted(line, paint), flush=True)
        if any(service.wait(_TIMEOUT_S) for service in (sensor, watcher)):
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


def _are_ready(services: Services, paint: Paint) -> bool:
    """Wait until all services have said that they are ready, with dots meanwhile on a terminal; show what else they say."""
    with_dots = understands_codes(sys.stdout)
    if with_dots:
        print(f"{'demo':9}the services start ", end="", flush=True)
    count = 0
    with closing(_lines(services, Deadline(_TIMEOUT_S))) as lines:
        for line in lines:
            if not line:
                if with_dots:
                    print(".", end="", flush=True)
                if any(service.poll() is not None for service in services):
                    break
            elif line == "ready":
                count += 1
                if count == len(services):
                    break
            else:
                print(_painted(line, paint), flush=True)
    if with_dots:
        print()
    return count == len(services)


def _lines(services: Services, deadline: Deadline) -> Generator[str]:
    """Yield what the services print, line by line as it comes, until all have closed their output; empty lines meanwhile.

    To be closed by the caller: Python ignores Ctrl-C that comes while it closes a generator that nobody refers to any more.
    """
    begun = {_output(service).fileno(): b"" for service in services}
    with DefaultSelector() as selector:
        for descriptor in begun:
            selector.register(descriptor, EVENT_READ)
        while selector.get_map() and not deadline.passed():
            ready = selector.select(_SILENCE_S)
            if not ready:
                yield ""
            for key, _ in ready:
                part = os.read(key.fd, 65_536)
                if not part:
                    selector.unregister(key.fd)
                *lines, begun[key.fd] = (begun[key.fd] + part).split(b"\n")
                yield from (line.decode() for line in lines)


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
