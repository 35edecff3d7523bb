"""The same job done three ways: by hand as fast as it goes, in the obvious way, and by this library.

Each contender has a publishing and a subscribing half that run in processes of their own. All of them move the same event
through the same proxy, with the same high-water marks, and call a callback for each event.
"""

import queue
import threading
import time
from collections.abc import Callable
from enum import auto
from typing import cast

import zmq

from eventbus import BaseEvent, BaseEventTopic, BaseEventType, EventBusClient

HWM = 100_000
TOPIC = b"plant"
NO_WAIT = int(zmq.DONTWAIT)
MORE = int(zmq.SNDMORE)
POLLIN = int(zmq.POLLIN)
EVENTS = int(zmq.EVENTS)


class BenchType(BaseEventType):
    """The types of the benchmark's events."""

    reading = auto()


class BenchTopic(BaseEventTopic):
    """The one topic of the benchmark."""

    plant = auto()


class BenchEvent(BaseEvent[BenchType]):
    """An event of 154 bytes as JSON."""

    type: BenchType = BenchType.reading
    id: str = "3f2b8c1e-5d77-4b0e-9a54-0c8f7c2e6a10"
    time: str = "2026-01-31T12:00:00.000000+00:00"
    sensor: str = "tank-01/level"
    value: float = 21.25
    sent: float = 0.0


# Sends an event so many times.
type Send = Callable[[BenchEvent, int], None]
type Callback = Callable[[BenchEvent], object]
type Client = EventBusClient[BenchEvent, BenchType, BenchTopic]


def _socket(kind: int, port: int) -> "zmq.Socket[bytes]":
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
    socket = context.socket(kind)
    socket.set_hwm(HWM)
    if kind == zmq.SUB:
        socket.subscribe(TOPIC)
    socket.connect(f"tcp://127.0.0.1:{port}")
    return socket


def publish_by_hand(pub_port: int, sub_port: int) -> Send:
    """Two raw frames through pyzmq's C method, pydantic's core serializer."""
    socket = _socket(zmq.XPUB, pub_port)
    socket.recv()  # the subscription: the path is live
    send = super(zmq.Socket, socket).send
    to_json = BenchEvent.__pydantic_serializer__.to_json

    def send_many(event: BenchEvent, count: int) -> None:
        for _ in range(count):
            send(TOPIC, MORE)
            send(to_json(event))

    return send_many


def subscribe_by_hand(pub_port: int, sub_port: int, callback: Callback, ready: Callable[[], None]) -> None:
    """Block for one message, drain what else is there, validate with pydantic's core and call, all in one thread."""
    socket = _socket(zmq.SUB, sub_port)
    receive = super(zmq.Socket, socket).recv
    get = super(zmq.Socket, socket).get
    validate = BenchEvent.__pydantic_validator__.validate_json
    ready()
    while True:
        receive()
        batch = [receive()]
        if cast(int, get(EVENTS)) & POLLIN:
            try:
                for _ in range(255):
                    receive(NO_WAIT)
                    batch.append(receive(NO_WAIT))
            except zmq.Again:
                pass
        for payload in batch:
            callback(validate(payload))


def publish_obviously(pub_port: int, sub_port: int) -> Send:
    """`send_multipart` and `model_dump_json` on a PUB socket, after a sleep."""
    socket = _socket(zmq.PUB, pub_port)
    time.sleep(0.5)

    def send_many(event: BenchEvent, count: int) -> None:
        for _ in range(count):
            socket.send_multipart([TOPIC, event.model_dump_json().encode()])

    return send_many


def subscribe_obviously(pub_port: int, sub_port: int, callback: Callback, ready: Callable[[], None]) -> None:
    """A thread with a poller per message, `recv_multipart` and `model_validate_json`, and a `queue.Queue` to the caller."""
    socket = _socket(zmq.SUB, sub_port)
    events: queue.Queue[BenchEvent] = queue.Queue()

    def consume() -> None:
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        while True:
            if dict(poller.poll(100)):
                _topic, payload = socket.recv_multipart()
                events.put(BenchEvent.model_validate_json(payload))

    threading.Thread(target=consume, daemon=True).start()
    ready()
    while True:
        callback(events.get())


def client(pub_port: int, sub_port: int) -> Client:
    """A client of this library."""
    return EventBusClient(BenchEvent, "127.0.0.1", pub_port, sub_port, send_hwm=HWM, receive_hwm=HWM)


def publish_events(pub_port: int, sub_port: int) -> Send:
    """`emit_event`."""
    bus = client(pub_port, sub_port)
    bus.connect()
    topic = BenchTopic.plant

    def send_many(event: BenchEvent, count: int) -> None:
        for _ in range(count):
            bus.emit_event(event, topic)

    return send_many


def publish_packed(pub_port: int, sub_port: int) -> Send:
    """`emit_events`."""
    bus = client(pub_port, sub_port)
    bus.connect()

    def send_many(event: BenchEvent, count: int) -> None:
        bus.emit_events([event] * count, BenchTopic.plant)

    return send_many


def subscribe_client(pub_port: int, sub_port: int, callback: Callback, ready: Callable[[], None]) -> None:
    """`attach_callback`."""
    bus = client(pub_port, sub_port)
    bus.attach_callback(BenchType.reading, callback)
    bus.connect()
    bus.subscribe(BenchTopic.plant)
    bus.start_consumer()
    ready()
    threading.Event().wait()
