"""Helpers for the tests of the container: services, resources that keep a log, what a process has open."""

import os
import random
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dependency_injector import containers, providers

from eventbus import on
from eventbus.container import EventBusContainer
from tests.support import Bus, MyEvent, MyEventTopic, MyEventType, eventually, open_descriptors

STARTED, UPDATED, STOPPED = MyEventType.started, MyEventType.updated, MyEventType.stopped
TOPIC, OTHER = MyEventTopic.my_service, MyEventTopic.other


class Listener:
    """A service that keeps the updates of one topic."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.values: list[float] = []

    @on(UPDATED, topic=TOPIC)
    def keep(self, event: MyEvent) -> None:
        self.values.append(event.value)


class App(containers.DeclarativeContainer):
    """A service's container."""

    bus = providers.Container(EventBusContainer, event_class=MyEvent)
    listener = providers.Singleton(Listener, bus=bus.client)


def received(listener: Listener, values: list[float]) -> bool:
    """Whether it has got exactly these."""
    return listener.values == values


def consumers() -> int:
    """The number of clients of this process that consume."""
    return sum(thread.name == "eventbus-consumer" for thread in threading.enumerate())


def open_things() -> tuple[list[str], int, int]:
    """The threads of Python, the number of all threads, libzmq's too, and that of descriptors in this process."""
    threads = sorted(thread.name for thread in threading.enumerate())
    return threads, len(os.listdir("/proc/self/task")), len(open_descriptors())


@contextmanager
def leaving_nothing() -> Iterator[None]:
    """The block leaves neither a thread nor a descriptor behind."""
    before = open_things()
    yield

    def nothing_new() -> bool:
        # It may be less: a thread of an earlier test was ending then.
        (names, threads, descriptors), (names_then, threads_then, descriptors_then) = open_things(), before
        return not Counter(names) - Counter(names_then) and threads <= threads_then and descriptors <= descriptors_then

    eventually(nothing_new, what=f"back to {before}, not {open_things()}")


# Tests run in several processes at once, each of which has ports of its own.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))


def free_ports() -> tuple[int, int]:
    """Two ports that are free, and that neither the kernel nor this function gives to anybody else meanwhile."""
    found: list[int] = []
    while len(found) < 2:
        port = random.randrange(20_000 + _WORKER, 30_000, _WORKERS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found[0], found[1]


class Log:
    """The log of events, in order."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def resource(self, name: str, *, on_stop: Callable[[], object] = lambda: None) -> Callable[..., Iterator[str]]:
        """A resource that notes its start and its stop, whatever it depends on."""

        def open_it(*_: Any) -> Iterator[str]:
            self.lines.append(f"start {name}")
            yield name
            self.lines.append(f"stop {name}")
            on_stop()

        return open_it

    def names(self, action: str) -> list[str]:
        """The resources that started, or stopped, in order."""
        return [line.removeprefix(f"{action} ") for line in self.lines if line.startswith(f"{action} ")]
