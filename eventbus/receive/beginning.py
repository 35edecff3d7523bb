"""Beginning a subscription with what was emitted before: stored messages first, then live ones, each once.

Live messages are held until what was stored has been handled. What is stored, and which live messages are in it already, is
told in two ways: by a historian (`from_historian`), or by a transport that stores messages itself (`from_transport`).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from threading import RLock, Thread, current_thread
from typing import NamedTuple

from pydantic_core import from_json, to_json

from eventbus._base.log import Log
from eventbus._base.printable import counted
from eventbus.errors import CompressionMissing, EventBusError, PayloadDamaged, PayloadTooLarge
from eventbus.observe.state import ClientState, Listener, StateChange, Status
from eventbus.wire.compression import inflate, is_compressed
from eventbus.wire.frames import ARRAY, MAX_PACKED_BYTES, Batch, topic_of
from eventbus.wire.history import Stored
from eventbus.wire.starts import From

EVERYTHING = b""
"""The topic that stands for all topics."""


class Reached(NamedTuple):
    """How far a beginning has come that was interrupted.

    Attributes:
        position: that of the last stored message that was handled.
        until: the position of the last one that is wanted; None if that is still to be found out.
    """

    position: int = 0
    until: int | None = None


class Receiver(NamedTuple):
    """The client that receives, as its beginnings see it.

    Attributes:
        deliver: handles a batch.
        replay: handles stored messages.
        status: of the transport. As long as it is not READY, the other side is not there, and nobody is asked.
        wake: makes the consumer call `take`, if only with an empty batch.
        put_in_force: called with topics before the first event of them is handled.
    """

    deliver: Callable[[Batch], object]
    replay: Callable[[list[Stored]], object]
    status: Status
    wake: Callable[[], object]
    put_in_force: Callable[[frozenset[bytes]], object] = lambda topics: None


class Beginnings(ABC):
    """The topics of a client that begin with stored messages.

    The consumer's thread calls `take`. It may be another one by now, while a handler that the last one has called has not
    returned. Any thread may call the rest.

    Args:
        receiver: the client.
    """

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._log = Log(endpoints=receiver.status.endpoints)
        self._listeners: set[Listener] = set()
        receiver.status.listen(self._note_change, kept_by=self._listeners)
        self._changing = RLock()
        self._registered: dict[bytes, From] = {}  # whose live messages are held
        self._ready: set[bytes] = set()  # of them, those whose subscription is in force
        self._known: frozenset[bytes] = frozenset()  # topics that had begun when all topics were registered
        self._interrupted: dict[bytes, Reached] = {}  # topics that have begun in part
        # Those that begin now, and in which thread; who is unsubscribed and registered anew begins once more.
        self._current: dict[bytes, Thread] = {}
        self._held: list[tuple[bytes, bytes]] = []

    def register(self, topic: bytes, start: From, known: Iterable[bytes] = ()) -> None:
        """Hold what comes on this topic (an empty one: on every topic) from now on, until what was stored is there.

        To be called before the topic is subscribed.

        Args:
            topic: the topic.
            start: where it begins; if that was said before, the wider of both.
            known: topics that are received already: they do not begin again.
        """
        with self._changing:
            before = self._registered.get(topic)
            self._registered[topic] = start if before is None else start.wider(before)
            if topic == EVERYTHING:
                self._known = frozenset(known)

    def begin(self, topic: bytes) -> None:
        """Note that the subscription is in force. The consumer is to be woken then."""
        with self._changing:
            if topic in self._registered:
                self._ready.add(topic)

    def forget(self, topic: bytes) -> None:
        """Begin nothing on this topic: it is unsubscribed."""
        with self._changing:
            self._registered.pop(topic, None)
            self._interrupted.pop(topic, None)
            self._ready.discard(topic)
            self._current.pop(topic, None)
            wanted = frozenset(self._registered)
            self._held = [message for message in self._held if self._covers(wanted, topic_of(message[0]))]

    def reopened(self) -> None:  # noqa: B027 # not every one has to do something about it
        """Note that the client was closed and is open again: what was under way to it does not come."""

    def reconnected(self) -> None:  # noqa: B027 # as above
        """Note that the connection was made anew. The consumer is to be woken then."""

    def _note_change(self, change: StateChange) -> None:
        if change.state is ClientState.READY:
            self.reconnected()
        self._receiver.wake()

    def _is_ready(self) -> bool:
        """Whether what is stored can be asked for now."""
        return self._receiver.status.state is ClientState.READY

    @property
    def pending(self) -> dict[bytes, From]:
        """Topics that have not begun."""
        return dict(self._registered)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is registered, and what was held is delivered."""
        return not (self._registered or self._held)

    def take(self, batch: Batch, is_stopped: Callable[[], bool]) -> Batch:
        """Return those messages of a batch that are to be handled now. Delivers stored ones before."""
        batch = self._split(batch)
        while not is_stopped() and (ready := self._take_ready()):
            batch = self._split(batch)  # topics may be new, and have messages here: another topic is a prefix of theirs
            for (start, after), topics in ready.items():
                if wanted := self._own(topics):
                    self._receiver.put_in_force(wanted)
                    self._run(start, wanted, is_stopped, after)
        return batch

    def _take_ready(self) -> dict[tuple[From, Reached], set[bytes]]:
        """Return the topics that can begin now, by where they do."""
        beginnings: dict[tuple[From, Reached], set[bytes]] = {}
        with self._changing:
            if self._can_begin():
                for topic in self._ready & self._registered.keys():
                    after = self._interrupted.pop(topic, Reached())
                    beginnings.setdefault((self._registered[topic], after), set()).add(topic)
                    self._current[topic] = current_thread()
                self._ready = set()
        return beginnings

    def _own(self, topics: Iterable[bytes]) -> frozenset[bytes]:
        """Those of these topics, which this thread has found ready, that were not unsubscribed meanwhile."""
        return frozenset(topic for topic in topics if self._current.get(topic) is current_thread())

    def _can_begin(self) -> bool:
        """Whether topics whose subscription is in force can begin now."""
        return self._is_ready()

    @abstractmethod
    def _run(self, start: From, topics: frozenset[bytes], is_stopped: Callable[[], bool], after: Reached) -> None:
        """Deliver what is stored on these topics and was not delivered yet, and let them go on with live messages."""

    def _handled_elsewhere(self, topic: bytes) -> bool:
        """Whether a message on this topic is to be left out."""
        return False

    def _covers(self, topics: frozenset[bytes], topic: bytes) -> bool:
        """Whether a message on a topic belongs to the beginning of these topics."""
        return topic in topics or (EVERYTHING in topics and topic not in self._known and topic not in self._registered)

    def _go_on_later(self, topics: frozenset[bytes], reached: Reached) -> None:
        """The connection is lost, or the consumer is stopped: these topics have begun as far as this."""
        with self._changing:
            for topic in self._own(topics):
                del self._current[topic]
                self._interrupted[topic] = reached
                self._ready.add(topic)
        self._receiver.wake()  # another thread may have started, and wait for messages

    def _warn(self, topics: frozenset[bytes], what: str, error: EventBusError) -> None:
        """Say that these topics begin without what is stored, or without the rest of it."""
        self._log.warning(
            "%s, so %s with what is emitted from now on: %s",
            what,
            counted(len(topics), "topic begins", "topics begin"),
            error,
            count=len(topics),
            error=type(error).__name__,
        )

    def _replay_portion(self, portion: list[Stored], *, only_last: bool) -> None:
        """Handle stored messages; of several events in one only the last, if so wanted."""
        if portion:
            self._receiver.replay([one._replace(payload=_last_in(one.payload)) for one in portion] if only_last else portion)

    def _go_live(self, topics: frozenset[bytes]) -> None:
        """Deliver what was held of these topics: they have begun, and go on with live messages."""
        while True:
            with self._changing:
                held = self._take_held(topics)
                if not held[0]:
                    for topic in self._own(topics):
                        del self._current[topic]
                        self._registered.pop(topic, None)
                    if EVERYTHING in self._registered:
                        self._known |= topics
                    return
            self._receiver.deliver(held)

    def _take_held(self, topics: frozenset[bytes]) -> Batch:
        """Return what was held of these topics, and hold it no longer."""
        taken: Batch = [], []
        kept: list[tuple[bytes, bytes]] = []
        with self._changing:
            for first, payload in self._held:
                if self._covers(topics, topic_of(first)):
                    taken[0].append(first)
                    taken[1].append(payload)
                else:
                    kept.append((first, payload))
            self._held = kept
        return taken

    def _split(self, batch: Batch) -> Batch:
        """Hold or leave out what is not to be handled; return the rest."""
        frames: list[bytes] = []
        payloads: list[bytes] = []
        with self._changing:
            holding = frozenset(self._registered)
            for first, payload in zip(*batch, strict=True):
                topic = topic_of(first)
                if self._handled_elsewhere(topic):
                    continue
                if self._covers(holding, topic):
                    self._held.append((first, payload))
                else:
                    frames.append(first)
                    payloads.append(payload)
        return frames, payloads


def _last_in(payload: bytes) -> bytes:
    """The last event in a payload."""
    try:
        json = inflate(payload, MAX_PACKED_BYTES) if is_compressed(payload) else payload
        if json[:1] != ARRAY:
            return payload
        return to_json(from_json(json)[-1], inf_nan_mode="constants")
    except (ValueError, IndexError, PayloadTooLarge, PayloadDamaged, CompressionMissing):
        return payload  # a single large event, or nothing that can be read: receiving decides
