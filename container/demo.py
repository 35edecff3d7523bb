"""The two services of ``eventbus demo``, which runs each in a process of its own, joined by a proxy.

The sensor emits this machine's load, memory and disk use. The watcher handles the readings, raises an alarm when one passes
its threshold, and prints a summary when the sensor has stopped. Containers wire both; neither knows of sockets.
"""

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from enum import auto
from pathlib import Path
from threading import Event

from dependency_injector import containers, providers
from pydantic import Field

from eventbus import BaseEvent, BaseEventTopic, BaseEventType, EventBusClient, now_iso, on
from eventbus._base.printable import counted
from eventbus.container import event_bus, lifespan
from eventbus.settings import EventBusSettings

INTERVAL_S = 0.25  # between readings
TIMEOUT_S = 30.0  # until a service that does not answer counts as failed
# Shares of the whole. That of memory is low, so that every machine raises at least one alarm.
THRESHOLDS = {"load": 0.5, "memory": 0.01, "disk": 0.95}


class HostEventType(BaseEventType):
    """The events of the two services."""

    reading = auto()
    alarm = auto()
    stopped = auto()


class HostTopic(BaseEventTopic):
    """The topics of the two services."""

    readings = auto()
    alarms = auto()


class HostEvent(BaseEvent[HostEventType]):
    """A measurement: which share of a resource is in use. In an event of type `stopped`, the number of readings."""

    type: HostEventType
    time: str = Field(default_factory=now_iso)
    measure: str
    value: float


HostBus = EventBusClient[HostEvent, HostEventType, HostTopic]
# Those of the environment, which `eventbus demo` makes: a file .env is that of another bus.
SETTINGS = providers.Singleton(EventBusSettings, _env_file=None)


class Sensor:
    """Emits readings, and counts alarms."""

    def __init__(self, bus: HostBus) -> None:
        self._bus = bus
        self._alarms: list[str] = []

    def run(self, seconds: float) -> None:
        """Emit readings for this long, then say how many there were."""
        pause = Event()
        count = 0
        for _ in range(max(1, round(seconds / INTERVAL_S))):
            for measure, value in readings():
                event = HostEvent(type=HostEventType.reading, measure=measure, value=value)
                self._bus.emit_event(event, HostTopic.readings)
                count += 1
            pause.wait(INTERVAL_S)
        self._bus.emit_event(HostEvent(type=HostEventType.stopped, measure="readings", value=count), HostTopic.readings)
        _say("sensor", f"emitted {count} readings, heard {counted(len(self._alarms), 'alarm')}{_list(self._alarms)}")

    @on(HostEventType.alarm, topic=HostTopic.alarms)
    def handle_alarm(self, event: HostEvent) -> None:
        """Remember the alarm."""
        self._alarms.append(event.measure)
        _say("sensor", f"alarm heard: {event.measure}")


class Watcher:
    """Handles readings, and raises an alarm when one passes its threshold."""

    def __init__(self, bus: HostBus) -> None:
        self._bus = bus
        self._values: dict[str, list[float]] = {measure: [] for measure in THRESHOLDS}
        self._emitted = 0
        self._stopped = Event()

    @on(HostEventType.reading, topic=HostTopic.readings)
    def handle_reading(self, event: HostEvent) -> None:
        """Keep the value; raise an alarm if it is the first above the threshold after one that was not."""
        values = self._values[event.measure]
        threshold = THRESHOLDS[event.measure]
        _say("watcher", f"{event.type}  {event.measure:8}{event.value:7.1%}")
        if event.value > threshold and (not values or values[-1] <= threshold):
            _say("watcher", f"ALARM    {event.measure:8}{event.value:7.1%} is above {threshold:.0%}")
            self._bus.emit_event(event.model_copy(update={"type": HostEventType.alarm}), HostTopic.alarms)
        values.append(event.value)

    @on(HostEventType.stopped, topic=HostTopic.readings)
    def handle_stopped(self, event: HostEvent) -> None:
        """Keep the number of emitted readings."""
        self._emitted = int(event.value)
        self._stopped.set()

    def run(self, seconds: float) -> bool:
        """Wait until the sensor has stopped, and print a summary. Returns whether every reading was received."""
        if not self._stopped.wait(seconds + TIMEOUT_S):
            _say("watcher", "no events from the sensor")
            return False
        received = sum(map(len, self._values.values()))
        _say("watcher", f"received {received} of {self._emitted} readings")
        for measure, values in self._values.items():
            average = sum(values) / max(1, len(values))
            passed = "alarm" if max(values, default=0.0) > THRESHOLDS[measure] else "fine"
            _say(
                "watcher",
                f"{measure:8}{min(values, default=0):7.1%} to{max(values, default=0):7.1%},"
                f"{average:7.1%} on average, threshold {THRESHOLDS[measure]:.0%}: {passed}",
            )
        return received == self._emitted


class SensorApp(containers.DeclarativeContainer):
    """The service that emits."""

    bus = event_bus(HostBus, settings=SETTINGS)
    sensor = providers.Singleton(Sensor, bus=bus.client)


class WatcherApp(containers.DeclarativeContainer):
    """The service that listens."""

    bus = event_bus(HostBus, settings=SETTINGS)
    watcher = providers.Singleton(Watcher, bus=bus.client)


def readings() -> Iterator[tuple[str, float]]:
    """The load per processor, the memory and the disk in use of this machine, each as a share."""
    yield "load", os.getloadavg()[0] / (os.cpu_count() or 1)
    yield "memory", _memory_in_use()
    disk = shutil.disk_usage("/")
    yield "disk", disk.used / disk.total


def _memory_in_use() -> float:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:  # not Linux
        return 1.0 - os.sysconf("SC_AVPHYS_PAGES") / os.sysconf("SC_PHYS_PAGES")
    amounts = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    return 1.0 - amounts["MemAvailable"] / amounts["MemTotal"]


def _say(who: str, text: str) -> None:
    print(f"{who:9}{text}", flush=True)


def _list(names: list[str]) -> str:
    return f" ({', '.join(names)})" if names else ""


def run_service(name: str, seconds: float) -> int:
    """Be one of the two services, between the line ``ready`` and the end; returns the exit status.

    The sensor begins as soon as it can read a line, because the watcher has to be subscribed by then.
    """
    if name == "sensor":
        with lifespan(SensorApp()) as app:
            print("ready", flush=True)
            sys.stdin.readline()
            app.sensor().run(seconds)
        return 0
    with lifespan(WatcherApp()) as watching:
        print("ready", flush=True)
        return 0 if watching.watcher().run(seconds) else 1


def main() -> int:
    """``demo sensor|watcher SECONDS`` is one of the services."""
    name, seconds = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that everything is cleaned up
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # see `eventbus.cli.demo`
        return run_service(name, float(seconds))
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
