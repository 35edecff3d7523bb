"""Clients over NATS, and what they have received."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import Event, Thread
from time import monotonic

from eventbus.nats_options import NatsOptions
from eventbus.options import ClientOptions, ZeroMQOptions
from eventbus.transports.nats.core import CoreTransport
from eventbus.transports.nats.jetstream import JetStreamTransport
from eventbus.transports.nats.transport import NatsTransport
from tests.support import PATIENCE, Bus, MyEvent, MyEventTopic, MyEventType, event, eventually

TOPIC = MyEventTopic.my_service
QUICK = ZeroMQOptions(connect_timeout=PATIENCE, send_timeout=PATIENCE, echo_interval=0.2, echo_timeout=0.5)
"""Options with which failures are noticed soon."""


def transport_of(kind: str, nats: NatsOptions, options: ZeroMQOptions = QUICK) -> NatsTransport:
    return CoreTransport(nats, options) if kind == "core" else JetStreamTransport(nats, options)


@contextmanager
def client(transport: NatsTransport, *topics: MyEventTopic) -> Iterator[Bus]:
    """A connected client with these topics."""
    options = ClientOptions(connect_timeout=PATIENCE, topics=topics, close_timeout=PATIENCE, linger=PATIENCE)
    with Bus(MyEvent, transport=transport, options=options) as bus:  # type: ignore[arg-type] # of one kind or the other
        yield bus


class Values:
    """The values of the events that a client has handled, in their order."""

    def __init__(self, bus: Bus) -> None:
        self.all: list[int] = []
        bus.attach_callback(MyEventType.updated, self._take)
        bus.start_consumer()

    def _take(self, one: MyEvent) -> None:
        self.all.append(int(one.value))

    def wait_for(self, count: int) -> list[int]:
        eventually(lambda: len(self.all) >= count, PATIENCE, f"{count} events")
        return self.all


@contextmanager
def emitting(bus: Bus, rate: int = 2_000, first: int = 0) -> Iterator[Callable[[], int]]:
    """Emit events with ascending values at a rate; yields what tells the next value."""
    done = Event()
    emitted = first

    def emit() -> None:
        nonlocal emitted
        began = monotonic()
        while not done.wait(0.005):
            while emitted - first < rate * (monotonic() - began):
                bus.emit_event(event(float(emitted)), TOPIC)
                emitted += 1

    thread = Thread(target=emit, daemon=True)
    thread.start()
    try:
        yield lambda: emitted
    finally:
        done.set()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def with_options(**changes: object) -> ZeroMQOptions:
    return replace(QUICK, **changes)  # type: ignore[arg-type] # of a test
