"""A client as services have had it until now: a PUB and a SUB socket, a thread that polls, pyzmq and pydantic alone.

It imports nothing of this package, and stands for a peer that does not either. It has what is known of that client: its
methods, its wire format, its slow joining. A topic travels by the *name* of its member, an event type by its *value*. What
that client does with a message that it cannot read is not known: this one skips it. Run as a program it sends back what it
receives.
"""

import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from enum import StrEnum, auto
from queue import Empty, Queue
from threading import Event, Lock, Thread

import zmq
from pydantic import BaseModel, Field

_POLL_INTERVAL_MS = 20


class RLEventType(StrEnum):
    started = auto()
    measured = auto()
    stopped = auto()
    RESET = auto()  # the value is "reset"


class RLEventTopic(StrEnum):
    corerl = auto()
    corerl_scheduler = auto()
    PLANT = auto()  # the value is "plant"


class Place(BaseModel):
    name: str
    hall: int | None = None


class RLEvent(BaseModel):
    time: datetime
    type: RLEventType
    value: float = 0.0
    note: str | None = None
    places: list[Place] = Field(default_factory=list)


class EventBusClient[EventClass: BaseModel, EventTypeClass: StrEnum, EventTopicClass: StrEnum]:
    """Subscribe and attach before `start_consumer`.

    Attributes:
        messages: all received messages, as frames.
        skipped: how many of them were no event.
        host: as given, as are `pub_port` and `sub_port`.
    """

    def __init__(
        self, event_class: type[EventClass], host: str = "localhost", pub_port: int = 5559, sub_port: int = 5560
    ) -> None:
        self.messages: list[list[bytes]] = []
        self.skipped = 0
        self.host, self.pub_port, self.sub_port = host, pub_port, sub_port
        self._event_class = event_class
        self._endpoints = f"tcp://{host}:{pub_port}", f"tcp://{host}:{sub_port}"
        self._callbacks: dict[EventTypeClass, list[Callable[[EventClass], object]]] = {}
        self._events: Queue[EventClass] = Queue()
        self._stopped = Event()
        self._sending = Lock()
        self._thread: Thread | None = None
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None

    def connect(self) -> None:
        self._context = zmq.Context()
        self._publisher, self._subscriber = self._context.socket(zmq.PUB), self._context.socket(zmq.SUB)
        self._publisher.connect(self._endpoints[0])
        self._subscriber.connect(self._endpoints[1])

    def close(self) -> None:
        self.stop_consumer()
        if self._context is not None:
            self._context.destroy(linger=5_000)
            self._context = None

    def is_connected(self) -> bool:
        return self._context is not None

    def subscribe(self, topic: EventTopicClass) -> None:
        self.subscribe_prefix(topic.name)

    def subscribe_prefix(self, prefix: str) -> None:
        """Subscribe as ZeroMQ does: to all topics that begin with this."""
        self._subscriber.setsockopt(zmq.SUBSCRIBE, prefix.encode())

    def attach_callback(self, event_type: EventTypeClass, cb: Callable[[EventClass], object]) -> None:
        self._callbacks.setdefault(event_type, []).append(cb)

    def attach_callbacks(self, cbs: dict[EventTypeClass, Callable[[EventClass], object]]) -> None:
        for event_type, cb in cbs.items():
            self.attach_callback(event_type, cb)

    def start_consumer(self) -> None:
        self._stopped.clear()
        self._thread = Thread(target=self._consume, daemon=True)
        self._thread.start()

    def stop_consumer(self) -> None:
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def emit_event(self, event: EventClass | EventTypeClass, topic: EventTopicClass) -> None:
        whole = event if isinstance(event, BaseModel) else self._event_class.model_validate({"type": event})
        self.send([topic.name.encode(), whole.model_dump_json().encode()])

    def send(self, frames: list[bytes]) -> None:
        """Send any frames."""
        with self._sending:
            self._publisher.send_multipart(frames)

    def recv_event(self, timeout: float = 0.5) -> EventClass | None:
        try:
            return self._events.get(timeout=timeout)
        except Empty:
            return None

    def listen_forever(self) -> Iterator[EventClass]:
        while not self._stopped.is_set():
            event = self.recv_event()
            if event is not None:
                yield event

    def _consume(self) -> None:
        while not self._stopped.is_set():
            if self._subscriber.poll(_POLL_INTERVAL_MS):
                message = self._subscriber.recv_multipart()
                self.messages.append(message)
                try:
                    _topic, payload = message
                    event = self._event_class.model_validate_json(payload)
                except ValueError:  # pydantic's errors are some too
                    self.skipped += 1
                    continue
                self._events.put(event)
                for callback in self._callbacks.get(event.type, ()):  # type: ignore[attr-defined] # every event has one
                    callback(event)


class RLEventBusClient(EventBusClient[RLEvent, RLEventType, RLEventTopic]):
    """A client of a service's own."""

    def __init__(self, host: str, pub_port: int, sub_port: int) -> None:
        super().__init__(RLEvent, host, pub_port, sub_port)


def main(pub_port: str, sub_port: str) -> None:
    """Send each event of one topic back on the other, up to an event of type `stopped`."""
    client = RLEventBusClient("127.0.0.1", int(pub_port), int(sub_port))
    client.connect()
    # The longer name: the shorter one is its prefix, and would bring back what this program sends.
    client.subscribe(RLEventTopic.corerl_scheduler)
    client.start_consumer()
    for event in client.listen_forever():
        client.emit_event(event, RLEventTopic.corerl)
        if event.type is RLEventType.stopped:
            break
    client.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
