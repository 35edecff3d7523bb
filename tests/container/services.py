"""Helpers for the tests of services: events that have a life cycle, and services that do as they should."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from enum import auto
from threading import Event
from typing import Any

from eventbus import BaseEvent, BaseEventTopic, BaseEventType, EventBusClient
from eventbus.container import AsyncService, RestartPolicy, Service
from eventbus.transports.memory import MemoryHub, MemoryTransport


class LifeType(BaseEventType):
    service_started = auto()
    service_stopped = auto()
    service_error = auto()
    tick = auto()
    exit = auto()


class LifeTopic(BaseEventTopic):
    life = auto()
    orders = auto()


class LifeEvent(BaseEvent[LifeType]):
    reason: str = ""


type LifeBus = EventBusClient[LifeEvent, LifeType, LifeTopic]

AGAIN = RestartPolicy(limit=3, window=1000, interval=0)


class Boom(Exception):
    """An error raised on purpose."""


class Worker(Service[LifeEvent, LifeType, LifeTopic]):
    """Fails this number of times, then runs until it is to stop."""

    def __init__(self, bus: LifeBus, failures: int = 0, **options: Any) -> None:
        super().__init__(bus, LifeTopic.life, **{"restart": AGAIN} | options)
        self.failures = failures
        self.runs = 0
        self.running = Event()

    def run(self) -> None:
        self.runs += 1
        if self.runs <= self.failures:
            raise Boom(f"the {self.runs}. time")
        self.running.set()
        while not self.pause(1000):
            pass


class AsyncWorker(AsyncService[LifeEvent, LifeType, LifeTopic]):
    """The same on an event loop."""

    def __init__(self, bus: LifeBus, failures: int = 0, **options: Any) -> None:
        super().__init__(bus, LifeTopic.life, **{"restart": AGAIN} | options)
        self.failures = failures
        self.runs = 0
        self.running = asyncio.Event()
        self.cleaned_up = False

    async def run(self) -> None:
        self.runs += 1
        if self.runs <= self.failures:
            raise Boom(f"the {self.runs}. time")
        self.running.set()
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(0)
            self.cleaned_up = True


@contextmanager
def told() -> Iterator[tuple[LifeBus, list[str]]]:
    """A connected client, and the life cycle events that another one hears of it."""
    hub = MemoryHub()
    heard: list[str] = []
    with (
        EventBusClient[LifeEvent, LifeType, LifeTopic](LifeEvent, transport=MemoryTransport(hub)) as bus,
        EventBusClient[LifeEvent, LifeType, LifeTopic](LifeEvent, transport=MemoryTransport(hub)) as listener,
    ):
        listener.subscribe(LifeTopic.life)
        for event_type in LifeType:
            listener.attach_callback(event_type, lambda event: heard.append(event.type.removeprefix("service_")))
        listener.start_consumer()
        yield bus, heard


@contextmanager
def signals_elsewhere() -> Iterator[None]:
    """Have the system hand SIGTERM to a thread that runs before the block: in this one it interrupts nothing."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
