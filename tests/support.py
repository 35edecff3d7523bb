"""Helpers of all tests: waiting for conditions, a service's event classes, plain ZeroMQ peers, other processes."""

import logging
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import auto
from threading import Thread
from time import monotonic
from typing import Any

import zmq

from eventbus import BaseEvent, BaseEventTopic, BaseEventType, EventBusClient, EventBusProxy
from eventbus.keys import ClientKeys, reveal
from eventbus.testing._waiting import eventually as eventually
from eventbus.testing._waiting import in_thread as in_thread
from eventbus.testing._waiting import is_waiting as is_waiting
from eventbus.testing._waiting import run_threads as run_threads

PATIENCE = 20.0  # seconds; only ever used up by a failing test


class MyEventType(BaseEventType):
    started = auto()
    updated = auto()
    stopped = auto()


class MyEventTopic(BaseEventTopic):
    my_service = auto()
    my_service_scheduler = auto()
    other = auto()


class MyEvent(BaseEvent[MyEventType]):
    time: str
    value: float = 0.0


type MyCallback = Callable[[MyEvent], object]

Bus = EventBusClient[MyEvent, MyEventType, MyEventTopic]


def event(value: float = 0.0, event_type: MyEventType = MyEventType.updated) -> MyEvent:
    """An event that a number tells from others."""
    return MyEvent(type=event_type, time="2026-01-31T12:00:00+00:00", value=value)


def json_of(value: float = 0.0, event_type: str = "updated") -> bytes:
    """The payload of `event`, written as the original client writes it."""
    return b'{"type":"%s","time":"2026-01-31T12:00:00+00:00","value":%s}' % (event_type.encode(), str(float(value)).encode())


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """The fields of this package that a line of the log has."""
    return {name: value for name, value in vars(record).items() if name.startswith("eventbus_") and value is not None}


class Recorder:
    """A callback that keeps its events."""

    def __init__(self) -> None:
        self.events: list[MyEvent] = []

    def __call__(self, event: MyEvent) -> None:
        self.events.append(event)

    @property
    def values(self) -> list[float]:
        return [event.value for event in self.events]

    def wait_for(self, count: int, timeout: float = PATIENCE) -> list[float]:
        """The values of the events, as soon as there are `count` of them."""
        eventually(lambda: len(self.events) >= count, timeout, f"{count} events")
        return self.values


def is_joining(thread: Thread) -> bool:
    """Whether the thread waits for another one to end at this moment."""
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None and frame.f_code.co_filename == threading.__file__:
        if frame.f_code.co_name == "join":  # itself, or on Python 3.12 around what it calls
            return True
        frame = frame.f_back
    return False


class RawPeers:
    """Sockets of plain pyzmq at a proxy: peers that know nothing of this package."""

    def __init__(self, pub_port: int, sub_port: int, keys: ClientKeys | None = None) -> None:
        self._keys = keys
        self._context = zmq.Context()
        self._sockets: list[zmq.Socket[bytes]] = []  # collected early, they would warn that nobody has closed them
        self.pub_endpoint = f"tcp://127.0.0.1:{pub_port}"
        self.sub_endpoint = f"tcp://127.0.0.1:{sub_port}"

    def close(self) -> None:
        self._context.destroy(linger=0)

    def publisher(self, awaited: bytes, kind: int = zmq.XPUB) -> "zmq.Socket[bytes]":
        """A publisher that knows from the proxy of a subscriber to `awaited`."""
        made = self._socket(kind)
        made.set(zmq.SNDHWM, 0)
        made.set(zmq.RCVHWM, 0)
        made.connect(self.pub_endpoint)
        self.await_subscription(made, awaited)
        return made

    @staticmethod
    def await_subscription(publisher: "zmq.Socket[bytes]", awaited: bytes) -> None:
        """Read upstream frames until the subscription has come."""
        end = monotonic() + PATIENCE
        while publisher.poll(max(0, round((end - monotonic()) * 1000))):
            if publisher.recv() == b"\x01" + awaited:
                return
        raise AssertionError(f"the subscription to {awaited!r} never came upstream")

    def subscriber(self, topic: bytes = b"") -> "zmq.Socket[bytes]":
        """A plain SUB whose subscription is in force at the proxy. A client sends to it once it has (re-)connected."""
        made = self._socket(zmq.SUB)
        made.set(zmq.RCVHWM, 0)
        made.set(zmq.RCVTIMEO, round(PATIENCE * 1000))
        made.subscribe(topic)
        made.connect(self.sub_endpoint)
        self.settle(made)
        return made

    def settle(self, subscriber: "zmq.Socket[bytes]") -> None:
        """Return when the proxy has done all that the subscriber has asked for until now."""
        token = b"\xff" + uuid.uuid4().bytes
        subscriber.subscribe(token)
        self.publisher(token).close(linger=0)
        subscriber.unsubscribe(token)

    def _socket(self, kind: int) -> "zmq.Socket[bytes]":
        made = self._context.socket(kind)
        if self._keys is not None:
            made.set(zmq.CURVE_SERVERKEY, self._keys.server_public_key.encode())
            made.set(zmq.CURVE_PUBLICKEY, self._keys.public_key.encode())
            made.set(zmq.CURVE_SECRETKEY, reveal(self._keys.secret_key).encode())
        self._sockets.append(made)
        return made


def read_until(subscriber: "zmq.Socket[bytes]", last: bytes) -> list[list[bytes]]:
    """The messages that came before one on topic `last`."""
    messages = []
    while (message := subscriber.recv_multipart())[0] != last:
        messages.append(message)
    return messages


PROXY_PROCESS = """
import sys
from eventbus.proxy import EventBusProxy
with EventBusProxy(pub_port=0, sub_port=0) as proxy:
    print(proxy.pub_port, proxy.sub_port, flush=True)
    sys.stdin.read()
"""


@contextmanager
def proxy_process() -> Iterator[tuple[subprocess.Popen[str], int, int]]:
    """A proxy in a process of its own, with its two ports."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROXY_PROCESS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        pub_port, sub_port = map(int, process.stdout.readline().split())
        try:
            yield process, pub_port, sub_port
        finally:
            process.kill()


def run_script(code: str, *arguments: object, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own; the test's failure shows what it wrote."""
    done = subprocess.run(
        [sys.executable, *options, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    print(done.stdout, done.stderr, sep="\n")
    return done


def client_of(proxy: EventBusProxy, **options: Any) -> Bus:
    """A client for this proxy, not connected yet."""
    return Bus(MyEvent, "127.0.0.1", proxy.pub_port, proxy.sub_port, **options)


def open_descriptors() -> list[str]:
    """The numbers of this process's descriptors, without the second ones of the same socket.

    An embedded proxy has those of the connections of its publishers, from a moment of its own on.
    """
    sockets: set[str] = set()
    found: list[str] = []
    for name in sorted(os.listdir("/proc/self/fd"), key=int):
        with suppress(OSError):  # closed meanwhile
            target = os.readlink(f"/proc/self/fd/{name}")
            if target not in sockets:
                found.append(name)
            if target.startswith("socket:"):
                sockets.add(target)
    return found
