"""The programs to compare with: the same job done by hand as fast as it goes, and in the obvious way.

Each contender has a publishing and a subscribing half that run in processes of their own. All of them move the same event
through the same proxy, with the same high-water marks, and call a callback for each event.
"""

import queue
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import cast

import zmq

from eventbus.cli.bench import HWM, BenchEvent, Callback, Contender, Send, publish_events, subscribe_client

TOPIC = b"plant"
NO_WAIT = int(zmq.DONTWAIT)
MORE = int(zmq.SNDMORE)
POLLIN = int(zmq.POLLIN)
EVENTS = int(zmq.EVENTS)


def _socket(kind: int, port: int) -> "zmq.Socket[bytes]":
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
    socket = context.socket(kind)
    socket.set_hwm(HWM)
    if kind == zmq.SUB:
        socket.subscribe(TOPIC)
    socket.connect(f"tcp://127.0.0.1:{port}")
    return socket


def publish_by_hand(pub_port: int, sub_port: int) -> Send:
    """Two raw frames, pydantic's core serializer."""
    socket = _socket(zmq.XPUB, pub_port)
    return _publishing(socket, socket.send)


def publish_in_c(pub_port: int, sub_port: int) -> Send:
    """The same with pyzmq's method in C, past its Python layer."""
    socket = _socket(zmq.XPUB, pub_port)
    return _publishing(socket, super(zmq.Socket, socket).send)


def _publishing(socket: "zmq.Socket[bytes]", send: Callable[..., object]) -> Send:
    socket.recv()  # the subscription: the path is live
    to_json = BenchEvent.__pydantic_serializer__.to_json

    def send_many(event: BenchEvent, count: int) -> None:
        for _ in range(count):
            send(TOPIC, MORE)
            send(to_json(event))

    return send_many


def subscribe_by_hand(pub_port: int, sub_port: int, callback: Callback, ready: Callable[[], None]) -> None:
    """Block for one message, drain what else is there, validate with pydantic's core and call, all in one thread."""
    socket = _socket(zmq.SUB, sub_port)
    _subscribing(socket.recv, socket.get, callback, ready)


def subscribe_in_c(pub_port: int, sub_port: int, callback: Callback, ready: Callable[[], None]) -> None:
    """The same with pyzmq's methods in C, past its Python layer."""
    socket = _socket(zmq.SUB, sub_port)
    _subscribing(super(zmq.Socket, socket).recv, super(zmq.Socket, socket).get, callback, ready)


def _subscribing(
    receive: Callable[..., bytes], get: Callable[[int], object], callback: Callback, ready: Callable[[], None]
) -> None:
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


BY_HAND = Contender("hand-tuned loop", publish_by_hand, subscribe_by_hand)
IN_C = Contender("the same past pyzmq's API", publish_in_c, subscribe_in_c)
OBVIOUS = Contender("obvious design", publish_obviously, subscribe_obviously)
NUMBERED = Contender("eventbus, numbered", partial(publish_events, numbered=True), subscribe_client)
