"""A transport in memory that records what it sends, and a hub on which messages get lost or late on purpose."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import RLock, Timer
from weakref import WeakSet

from eventbus.errors import ProxyUnreachable
from eventbus.events import BaseEventTopic
from eventbus.observe.state import ClientState
from eventbus.transports.memory import MemoryHub, MemoryTransport, _Member
from eventbus.wire.compression import inflate, is_compressed
from eventbus.wire.first_frame import parse
from eventbus.wire.frames import Batch
from eventbus.wire.headers import Headers, decode_headers

_MAX_INFLATED_BYTES = 2**31 - 1

type Later = Callable[[float, Callable[[], object]], object]
"""Calls a function after this many seconds."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it travels.

    Attributes:
        topic: the topic's value.
        json: an event, or an array of several events of one call of `emit_events`; not compressed any more.
        headers: texts that travel beside it.
        count: the number of its events.
    """

    topic: str
    json: bytes
    headers: Headers
    count: int


class FaultyHub(MemoryHub):
    """A hub in memory on which messages are lost or late, and transports are cut off, within blocks that say so.

    Any thread may use it.

    Args:
        later: calls a function after this many seconds; None: by the system's clock, in a thread.
    """

    def __init__(self, later: Later | None = None) -> None:
        super().__init__()
        self._later = later or _by_the_system
        self._faults = RLock()
        self._dropping: list[tuple[bytes | None, list[Message]]] = []
        self._delaying: list[tuple[bytes | None, float]] = []
        self._cut_off = 0
        self._held: list[tuple[bytes, bytes]] = []
        self._transports: WeakSet[RecordingTransport] = WeakSet()
        self.activity = 0
        """The number of messages sent or received: if it is the same before and after, nothing happened in between."""

    @contextmanager
    def dropping(self, topic: BaseEventTopic | None = None) -> Iterator[list[Message]]:
        """Lose messages on this topic within the block; None: on every topic. Yields the list of those."""
        dropped: list[Message] = []
        fault = _frame(topic), dropped
        self._dropping.append(fault)
        try:
            yield dropped
        finally:
            self._dropping.remove(fault)

    @contextmanager
    def delaying(self, seconds: float, topic: BaseEventTopic | None = None) -> Iterator[None]:
        """Messages sent within the block, on this topic or (None) on every one, arrive this many seconds later."""
        fault = _frame(topic), seconds
        self._delaying.append(fault)
        try:
            yield
        finally:
            self._delaying.remove(fault)

    @contextmanager
    def disconnected(self) -> Iterator[None]:
        """Cut all `RecordingTransport` off within the block: they are DEGRADED, and what is sent arrives after it."""
        self._cut_off += 1
        for transport in list(self._transports):
            transport.tell_connection()
        try:
            yield
        finally:
            self._cut_off -= 1
            if not self._cut_off:
                held, self._held = self._held, []
                for topic, payload in held:
                    super().send(topic, payload, 0)
            for transport in list(self._transports):
                transport.tell_connection()

    @property
    def is_cut_off(self) -> bool:
        """Whether this is within a block of `disconnected`."""
        return self._cut_off > 0

    def add(self, transport: "RecordingTransport") -> None:
        """Let `disconnected` cut off this transport, too."""
        self._transports.add(transport)

    def send(self, topic: bytes, payload: bytes, timeout: float, sender: _Member | None = None) -> bool:
        """See `MemoryHub.send`."""
        name = parse(topic).topic
        self.activity += 1
        for wanted, dropped in self._dropping:
            if wanted in (None, name):
                dropped.append(message(topic, payload, 1))
                return True
        delays = [seconds for wanted, seconds in self._delaying if wanted in (None, name)]
        if delays:
            self._later(sum(delays), lambda: self._arrive(topic, payload))
            return True
        return self._arrive(topic, payload, timeout, sender)

    def is_anything_waited_for(self) -> bool:
        """Whether there is a message for a thread that waits in `receive`."""
        with self._changed:
            return any(member.receiving and member.messages for member in self._members)

    def receive(self, member: _Member) -> Batch | None:
        """See `MemoryHub.receive`."""
        batch = super().receive(member)
        self.activity += 1
        return batch

    def _arrive(self, topic: bytes, payload: bytes, timeout: float = 0.0, sender: _Member | None = None) -> bool:
        with self._faults:
            if self._cut_off:
                self._held.append((topic, payload))
                return True
        return super().send(topic, payload, timeout, sender)


class RecordingTransport(MemoryTransport):
    """A transport in memory that keeps the messages it has sent. Any thread may use it.

    Args:
        hub: transports of the same hub receive from each other; None: a hub of its own.

    Attributes:
        hub: as given.
        messages: what was sent, oldest first.
    """

    def __init__(self, hub: FaultyHub | None = None) -> None:
        self.hub = FaultyHub() if hub is None else hub
        super().__init__(self.hub)
        self.messages: list[Message] = []
        self.hub.add(self)

    def open(self, timeout: float) -> None:
        """See `Transport.open`."""
        if self.hub.is_cut_off:
            raise ProxyUnreachable(self.endpoints, timeout, "cut off on purpose", "leave the block of `disconnected`")
        super().open(timeout)

    def send(self, topic: bytes, payload: bytes, count: int = 1) -> bool:
        """See `Transport.send`."""
        sent = super().send(topic, payload, count)
        self.messages.append(message(topic, payload, count))
        return sent

    def is_connected(self) -> bool:
        """See `Transport.is_connected`."""
        return super().is_connected() and not self.hub.is_cut_off

    def tell_connection(self) -> None:
        """Change the status to what the hub says."""
        before, now = ClientState.READY, ClientState.DEGRADED
        if not self.hub.is_cut_off:
            before, now = now, before
        self.status.change(now, "cut off on purpose", if_=lambda: self.status.state is before)

    def sibling(self) -> "RecordingTransport":
        """See `Transport.sibling`."""
        return RecordingTransport(self.hub)

    def is_idle(self) -> bool:
        """Whether a thread waits in `receive`, and has handled all that came."""
        member = self._member
        return member is not None and self.hub.is_idle(member)


def message(topic: bytes, payload: bytes, count: int) -> Message:
    """Return what is in the two frames of a message."""
    frame = parse(topic)
    json = inflate(payload, _MAX_INFLATED_BYTES) if is_compressed(payload) else payload
    return Message(frame.topic.decode(errors="replace"), json, decode_headers(frame.headers), count)


def _frame(topic: BaseEventTopic | None) -> bytes | None:
    return None if topic is None else topic.value.encode()


def _by_the_system(seconds: float, call: Callable[[], object]) -> None:
    timer = Timer(seconds, call)
    timer.daemon = True
    timer.start()
