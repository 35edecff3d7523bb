"""A transport in memory that records what it sends, and a hub on which messages get lost or late on purpose."""

import json
from bisect import insort
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from operator import attrgetter
from threading import RLock, Timer, local
from weakref import WeakSet

from eventbus.errors import ProxyUnreachable
from eventbus.events import BaseEventTopic
from eventbus.observe.state import ClientState
from eventbus.transports.memory import MemoryHub, MemoryTransport, _Member
from eventbus.wire.compression import inflate, is_compressed
from eventbus.wire.first_frame import parse
from eventbus.wire.frames import Batch
from eventbus.wire.headers import Headers, decode_headers
from eventbus.wire.private_topics import PRIVATE_PREFIXES

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
        number: those of its hub that were sent later have higher ones.
    """

    topic: str
    json: bytes
    headers: Headers
    count: int
    number: int = field(default=0, compare=False, repr=False)


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
        self.next_number: Callable[[], int] = count(1).__next__
        self.activity = 0
        """The number of messages sent or received: if it is the same before and after, nothing happened in between."""

    @contextmanager
    def dropping(self, topic: BaseEventTopic | None = None) -> Iterator[list[Message]]:
        """Lose messages on this topic within the block; None: on every topic. Yields the list of those."""
        dropped: list[Message] = []
        fault = _frame(topic), dropped
        self._dropping = [*self._dropping, fault]
        try:
            yield dropped
        finally:
            self._dropping = [one for one in self._dropping if one is not fault]  # another one may be equal

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
            with self._faults:  # what is sent meanwhile comes after what was held
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
                dropped.append(message(topic, payload))
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
        messages: what was sent, oldest first: a message stands before what others have sent because of it.
    """

    def __init__(self, hub: FaultyHub | None = None) -> None:
        self.hub = FaultyHub() if hub is None else hub
        super().__init__(self.hub)
        self.messages: list[Message] = []
        self._unclaimed = local()
        self.hub.add(self)

    def open(self, timeout: float) -> None:
        """See `Transport.open`."""
        if self.hub.is_cut_off:
            raise ProxyUnreachable(self.endpoints, timeout, "cut off on purpose", "leave the block of `disconnected`")
        super().open(timeout)

    def send(self, topic: bytes, payload: bytes, count: int = 1) -> bool:
        """See `Transport.send`."""
        number = self.hub.next_number()  # before others can have it
        if not topic.startswith(PRIVATE_PREFIXES):
            vars(self._unclaimed).setdefault("number", number)
        try:
            sent = super().send(topic, payload, count)
        except BaseException:
            self.claim_number()
            raise
        with self._lock:
            insort(self.messages, message(topic, payload, count, number), key=attrgetter("number"))
        return sent

    def claim_number(self) -> int:
        """Return the number of the first message with events that this thread has sent since it called this before."""
        number: int | None = vars(self._unclaimed).pop("number", None)
        return self.hub.next_number() if number is None else number

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


def message(topic: bytes, payload: bytes, count: int | None = None, number: int = 0) -> Message:
    """Return what is in the two frames of a message.

    Args:
        topic: the first frame.
        payload: the second one.
        count: the number of events; None: as many as the payload has.
        number: its own.
    """
    frame = parse(topic)
    text = inflate(payload, _MAX_INFLATED_BYTES) if is_compressed(payload) else payload
    if count is None:
        count = _count(text)
    return Message(frame.topic.decode(errors="replace"), text, decode_headers(frame.headers), count, number)


def _count(text: bytes) -> int:
    try:
        return len(json.loads(text)) if text.startswith(b"[") else 1
    except ValueError:
        return 1


def _frame(topic: BaseEventTopic | None) -> bytes | None:
    return None if topic is None else topic.value.encode()


def _by_the_system(seconds: float, call: Callable[[], object]) -> None:
    timer = Timer(seconds, call)
    timer.daemon = True
    timer.start()
