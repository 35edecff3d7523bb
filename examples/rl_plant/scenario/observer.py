"""Hears everything that services say, as any further service of the bus could."""

from threading import Event, Lock
from types import TracebackType
from typing import Self

from coreio.events import IOEvent, IOEventTopic, IOEventType
from corerl.event_bus import RLEventBusClient
from corerl.events import RLEvent, RLEventTopic, RLEventType
from counts import counts_of
from eventbus import ClientState, EventBusClient
from eventbus.container.bus import transport_of
from eventbus.settings import EventBusSettings
from eventbus.transports import Transport
from scenario.course import Course
from scenario.processes import nats_settings


def _nats_transport() -> Transport | None:
    """The transport that the environment chooses; None: ZeroMQ."""
    if not (settings := nats_settings()):
        return None
    made = EventBusSettings(_env_file=None, connect_required=False, numbered=True, **settings)
    return transport_of(made)


class Observer:
    """Two clients without a container, one for each event family, that tell a `Course` what they hear.

    Both wait for the proxy as long as it takes. Handlers run in the clients' two threads, under one lock.

    Args:
        course: what to tell.
        pub_port: the proxy's port for publishers.
        sub_port: the one for subscribers.
    """

    def __init__(self, course: Course, pub_port: int, sub_port: int) -> None:
        self._course = course
        self._lock = Lock()
        self.finished = Event()
        """Is set as soon as all steps of the course are done."""
        self.ended = Event()
        """Is set as soon as both services that end by themselves were heard to stop."""
        self._rl = RLEventBusClient(
            host="127.0.0.1",
            pub_port=pub_port,
            sub_port=sub_port,
            connect_required=False,
            numbered=True,
            transport=_nats_transport(),
        )
        self._io = EventBusClient[IOEvent, IOEventType, IOEventTopic](
            IOEvent,
            "127.0.0.1",
            pub_port,
            sub_port,
            connect_required=False,
            numbered=True,
            transport=_nats_transport(),
        )
        self._rl.attach_callbacks(dict.fromkeys(RLEventType, self._hear_rl))
        self._io.attach_callbacks(dict.fromkeys(IOEventType, self._hear_io))
        for topic in RLEventTopic:  # not all topics: a client knows the events of one family
            self._rl.subscribe(topic)
        for io_topic in IOEventTopic:
            self._io.subscribe(io_topic)

    def is_ready(self) -> bool:
        """Whether both clients receive what is emitted at this moment."""
        return self._rl.state is ClientState.READY and self._io.state is ClientState.READY

    def heard(self) -> set[str]:
        """The services from which anything has arrived."""
        with self._lock:
            return set(self._course.heard)

    def say_exit(self) -> None:
        """Ask corerl and coreio to end."""
        self._rl.emit_event(RLEventType.exit, RLEventTopic.corerl)
        self._io.emit_event(IOEventType.exit, IOEventTopic.coreio)

    def counts(self) -> dict[str, int]:
        """The counts of both clients together; also when they are closed."""
        return counts_of(self._rl, self._io)

    def __enter__(self) -> Self:
        for client in (self._rl, self._io):
            client.connect()
            client.start_consumer()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._rl.close()
        self._io.close()

    def _hear_rl(self, event: RLEvent) -> None:
        with self._lock:
            self._course.add_rl(event)
            self._note()

    def _hear_io(self, event: IOEvent) -> None:
        with self._lock:
            self._course.add_io(event)
            self._note()

    def _note(self) -> None:
        if self._course.done >= self._course.steps:
            self.finished.set()
        if self._course.ended == {"corerl", "coreio"}:
            self.ended.set()
