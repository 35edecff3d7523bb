"""Shared by the tests of interoperability: the same events on our side, proxies, and peers that know of each other."""

import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta, timezone
from enum import auto
from itertools import count
from threading import Thread
from typing import Any, NamedTuple

import zmq
from pydantic import BaseModel, Field

from eventbus import BaseEvent, BaseEventTopic, BaseEventType, EventBusClient
from tests.commands import command, output
from tests.interop import original
from tests.support import PATIENCE, eventually


class RLEventType(BaseEventType):
    started = auto()
    measured = auto()
    stopped = auto()
    RESET = auto()


class RLEventTopic(BaseEventTopic):
    corerl = auto()
    corerl_scheduler = auto()
    PLANT = "PLANT"  # the original client sends the name


class Place(BaseModel):
    name: str
    hall: int | None = None


class RLEvent(BaseEvent[RLEventType]):
    time: datetime
    value: float = 0.0
    note: str | None = None
    places: list[Place] = Field(default_factory=list)


Bus = EventBusClient[RLEvent, RLEventType, RLEventTopic]

TOPIC, LONGER = RLEventTopic.corerl, RLEventTopic.corerl_scheduler  # ZeroMQ's own subscription to the one is one to both
OLD_TOPIC, OLD_LONGER = original.RLEventTopic.corerl, original.RLEventTopic.corerl_scheduler

_greetings = count(1)  # the numbers of those are below zero

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)

# What JSON, text and time can do to an event on its way; numbered by `value`, but where that itself is the matter.
SAMPLES: list[dict[str, Any]] = [
    *({"type": "measured", "time": NOON, "value": value} for value in (0.1, 1e300, 5e-324, 1e16, 123456789.123456789, 3)),
    *(
        {"type": "measured", "time": time}
        for time in (
            NOON.replace(microsecond=1),
            NOON.replace(tzinfo=None),
            NOON.astimezone(timezone(timedelta(hours=-3, minutes=-30))),
        )
    ),
    *(
        {"type": "measured", "time": NOON, "note": note}
        for note in ("", "Größe 3 µm ✓ 日本 𝄞", 'a "b" \\ {c} [d]', "\0\n\t\x1f\x7f\u2028", "null", None)
    ),
    {"type": "measured", "time": NOON, "places": [{"name": "Süd", "hall": 7}, {"name": "", "hall": None}]},
    {"type": "measured", "time": NOON, "note": "large " * 200_000},
    {"type": "measured", "time": NOON, "value": 100.0},
]


def new_event(value: float, event_type: RLEventType = RLEventType.measured, **fields: Any) -> RLEvent:
    """An event of ours that a number tells from others."""
    return RLEvent(type=event_type, time=NOON, value=value, **fields)


def old_event(
    value: float, event_type: original.RLEventType = original.RLEventType.measured, **fields: Any
) -> original.RLEvent:
    """The same event, of the original's class."""
    return original.RLEvent(type=event_type, time=NOON, value=value, **fields)


def contents(events: Sequence[BaseModel]) -> list[dict[str, Any]]:
    """The content of these events, whose classes may differ, without the greetings among them."""
    return [content for event in events if (content := event.model_dump())["value"] >= 0]


class Ports(NamedTuple):
    """The address of a proxy."""

    pub_port: int
    sub_port: int


class Old:
    """A connected client of the original kind, which keeps what it receives if it subscribes to anything.

    Args:
        ports: of the proxy.
        topics: topics, or prefixes of them.
    """

    def __init__(self, ports: Ports, *topics: original.RLEventTopic | str) -> None:
        self.events: list[original.RLEvent] = []
        self.client = original.RLEventBusClient("127.0.0.1", *ports)
        self.client.connect()
        for topic in topics:
            if isinstance(topic, original.RLEventTopic):
                self.client.subscribe(topic)
            else:
                self.client.subscribe_prefix(topic)
        self.client.attach_callbacks(dict.fromkeys(original.RLEventType, self.events.append))
        if topics:
            self.client.start_consumer()

    @staticmethod
    def event(value: float) -> original.RLEvent:
        """An event that it can emit."""
        return old_event(value)

    def emit(self, event: BaseModel, topic: original.RLEventTopic = OLD_TOPIC) -> None:
        """Emit an event of the original's class."""
        assert isinstance(event, original.RLEvent)
        self.client.emit_event(event, topic)

    def close(self) -> None:
        self.client.close()

    def introduce(self, events: Sequence[BaseModel], topic: original.RLEventTopic = OLD_TOPIC) -> None:
        """Greet until that is among the events that another has received: the original joins slowly."""
        greet(lambda greeting: self.emit(old_event(greeting), topic), events)


class New:
    """A connected client of ours, which keeps what it receives if it subscribes to anything.

    Args:
        ports: of the proxy.
        topics: to subscribe to; None for all.
        options: of the client.
    """

    def __init__(self, ports: Ports, *topics: RLEventTopic | None, **options: Any) -> None:
        self.events: list[RLEvent] = []
        self.client = Bus(RLEvent, "127.0.0.1", *ports, connect_timeout=PATIENCE, **options)
        for topic in topics:
            self.client.subscribe(topic)
        self.client.attach_callbacks(dict.fromkeys(RLEventType, self.events.append))
        self.client.connect()
        if topics:
            self.client.start_consumer()

    @staticmethod
    def event(value: float) -> RLEvent:
        """An event that it can emit."""
        return new_event(value)

    def emit(self, event: BaseModel, topic: RLEventTopic = TOPIC) -> None:
        """Emit an event of our class."""
        assert isinstance(event, RLEvent)
        self.client.emit_event(event, topic)

    def close(self) -> None:
        self.client.close()

    def introduce(self, events: Sequence[BaseModel], topic: RLEventTopic = TOPIC) -> None:
        """Greet until that is among the events that another has received, which may have only just subscribed."""
        greet(lambda greeting: self.emit(new_event(greeting), topic), events)


def old(ports: Ports, *topics: original.RLEventTopic | str) -> "closing[Old]":
    """An `Old`, closed at the end of the block."""
    return closing(Old(ports, *topics))


def new(ports: Ports, *topics: RLEventTopic | None, **options: Any) -> "closing[New]":
    """A `New`, closed at the end of the block."""
    return closing(New(ports, *topics, **options))


def greet(emit: Callable[[float], object], events: Sequence[BaseModel]) -> None:
    """Emit a greeting, with a number of its own, until it is among these events."""
    greeting = float(-next(_greetings))

    def arrived() -> bool:
        emit(greeting)
        return any(event.model_dump()["value"] == greeting for event in events)

    eventually(arrived, PATIENCE, "the first event between two peers")


def numbers_in(events: Sequence[BaseModel], number: int) -> list[float]:
    """The numbers of the events, without greetings, as soon as there are `number` of them."""
    eventually(lambda: len(contents(events)) >= number, PATIENCE, f"{number} events")
    return [content["value"] for content in contents(events)]


def expect(events: Sequence[BaseModel], emitted: Sequence[BaseModel]) -> None:
    """Wait until as many have come as were emitted, and check that they are the same."""
    numbers_in(events, len(emitted))
    assert contents(events) == contents(emitted)


@contextmanager
def bare_proxy() -> Iterator[Ports]:
    """libzmq's proxy in a thread, with nothing set: what a supervising service runs in a few lines."""
    context = zmq.Context()
    front, back = context.socket(zmq.XSUB), context.socket(zmq.XPUB)
    ports = Ports(front.bind_to_random_port("tcp://127.0.0.1"), back.bind_to_random_port("tcp://127.0.0.1"))

    def run() -> None:
        try:
            zmq.proxy(front, back)
        except zmq.ContextTerminated:
            front.close(linger=0)
            back.close(linger=0)

    running = Thread(target=run, daemon=True)
    running.start()
    try:
        yield ports
    finally:
        context.term()
        running.join(PATIENCE)
        assert not running.is_alive()


@contextmanager
def proxy_command() -> Iterator[Ports]:
    """``eventbus proxy``, in a process of its own."""
    with subprocess.Popen(
        command("proxy", "--host=127.0.0.1", "--pub-port=0", "--sub-port=0"), stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Ports(*map(int, re.findall(r"port (\d+)", output(process).readline())))
        finally:
            process.terminate()
    assert process.returncode == 0
