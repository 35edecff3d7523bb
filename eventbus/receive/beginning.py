"""Beginning a subscription with what was emitted before: stored messages first, then live ones, each once.

For each beginning the client sends one query, on a topic to which nobody but itself and the historian subscribes. The proxy
passes messages on one after the other, so this query has one place among all others: what has passed before it, and nothing
else, is in the answer. The client receives its own query among the live messages, too. So it leaves out what came before it,
and goes on with what comes after: no gap, and nothing twice, with numbers or without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import RLock

from pydantic_core import from_json, to_json

from eventbus._base.deadline import Deadline
from eventbus._base.log import Log
from eventbus.errors import CompressionMissing, EventBusError, HistorianMissing, PayloadDamaged, PayloadTooLarge
from eventbus.policies import Start
from eventbus.wire.compression import inflate, is_compressed
from eventbus.wire.frames import ARRAY, MAX_PACKED_BYTES, Batch, topic_of
from eventbus.wire.history import Query, Stored
from eventbus.wire.starts import From

_MARK_TIMEOUT_S = 5.0  # how long the client's own query may take through the proxy
_EVERYTHING = b""

type Read = Callable[[Query, bytes], Iterator[list[Stored]]]
"""Sends a query on a topic; yields what it asks for, in portions."""


class Beginnings:
    """The topics of a client that begin with stored messages.

    `register` and `begin` may be called from any thread, the rest on the consumer's only.

    Args:
        read: asks the historian.
        subscribe: subscribes the transport to a topic; returns when the subscription is in force.
        unsubscribe: undoes that.
        new_topic: makes a topic for a query.
        deliver: handles a batch.
        replay: handles a batch that was stored.
        endpoints: for the log.
        is_ready: whether the historian can be asked now. As long as it cannot, because no proxy is there, it is not asked;
            the consumer is to be woken when that changes.
    """

    def __init__(
        self,
        read: Read,
        subscribe: Callable[[bytes], None],
        unsubscribe: Callable[[bytes], None],
        new_topic: Callable[[], bytes],
        deliver: Callable[[Batch], None],
        replay: Callable[[Batch], None],
        endpoints: str,
        is_ready: Callable[[], bool] = lambda: True,
    ) -> None:
        self._read = read
        self._subscribe = subscribe
        self._unsubscribe = unsubscribe
        self._new_topic = new_topic
        self._deliver = deliver
        self._replay = replay
        self._is_ready = is_ready
        self._log = Log(endpoints=endpoints)
        self._changing = RLock()
        self._registered: dict[bytes, From] = {}  # whose live messages are held
        self._ready: set[bytes] = set()  # of them, those whose subscription is in force
        self._held: list[tuple[bytes, bytes]] = []
        self._marks: dict[bytes, _Cut] = {}

    def register(self, topic: bytes, start: From) -> None:
        """Hold what comes on this topic (an empty one: on every topic) from now on, until the historian has answered.

        To be called before the topic is subscribed.
        """
        with self._changing:
            known = self._registered.get(topic)
            self._registered[topic] = start if known is None else start.wider(known)

    def begin(self, topic: bytes) -> None:
        """Note that the subscription is in force. The consumer is to be woken then."""
        with self._changing:
            if topic in self._registered:
                self._ready.add(topic)

    def forget(self, topic: bytes) -> None:
        """Begin nothing on this topic: it is unsubscribed."""
        with self._changing:
            self._registered.pop(topic, None)
            self._ready.discard(topic)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is registered and all cuts are made."""
        return not (self._registered or self._marks or self._held)

    def take(self, batch: Batch, is_stopped: Callable[[], bool]) -> Batch:
        """Return those messages of a batch that are to be handled now. Delivers stored ones before."""
        batch = self._split(batch)
        self._renew_cuts(is_stopped)
        while True:
            if is_stopped() or not self._is_ready():
                return batch
            with self._changing:
                ready = {topic: self._registered[topic] for topic in self._ready}
                self._ready.clear()
            if not ready:
                return batch
            by_start: dict[From, list[bytes]] = {}
            for topic, start in ready.items():
                by_start.setdefault(start, []).append(topic)
            for start, topics in by_start.items():
                self._run(start, frozenset(topics), is_stopped)

    def _run(self, start: From, topics: frozenset[bytes], is_stopped: Callable[[], bool], after: int = 0) -> None:
        """Deliver what is stored on these topics. Afterwards their live messages before the mark are left out."""
        mark = self._new_topic()
        cut = _Cut(start, topics, Deadline(_MARK_TIMEOUT_S), after)
        only_last = start.kind is Start.LAST and not after
        try:
            self._subscribe(mark)
            for portion in self._read(start.query(None if cut.everything else tuple(topics), after), mark):
                if is_stopped():
                    break
                if portion:
                    cut.position = portion[-1].position
                    self._replay(_batch_of(portion, only_last=only_last))
            self._marks[mark] = cut
            self._held = [message for message in self._held if not cut.covers(topic_of(message[0]))]
        except EventBusError as error:
            self._unsubscribe(mark)
            what = "there is no historian" if isinstance(error, HistorianMissing) else "the historian could not be asked"
            self._log.warning(
                "%s, so %d topics begin with what is emitted from now on: %s",
                what,
                len(topics),
                error,
                count=len(topics),
                error=type(error).__name__,
            )
            self._release(cut)
        with self._changing:
            for topic in topics:
                self._registered.pop(topic, None)

    def _release(self, cut: _Cut) -> None:
        """Deliver what was held of these topics."""
        held, self._held = self._held, []
        out: Batch = [], []
        for first, payload in held:
            if cut.covers(topic_of(first)):
                out[0].append(first)
                out[1].append(payload)
            else:
                self._held.append((first, payload))
        if out[0]:
            self._deliver(out)

    def _split(self, batch: Batch) -> Batch:
        """Hold or leave out what is not to be handled; return the rest."""
        frames: list[bytes] = []
        payloads: list[bytes] = []
        holding, marks = self._registered, self._marks
        for first, payload in zip(*batch, strict=True):
            topic = topic_of(first)
            if topic in marks:
                del marks[topic]
                self._unsubscribe(topic)
            elif any(cut.covers(topic) for cut in marks.values()):
                pass
            elif topic in holding or _EVERYTHING in holding:
                self._held.append((first, payload))
            else:
                frames.append(first)
                payloads.append(payload)
        return frames, payloads

    def _renew_cuts(self, is_stopped: Callable[[], bool]) -> None:
        """Ask again, for what has come since, where a mark does not come: the proxy may have been restarted."""
        for mark in [mark for mark, cut in self._marks.items() if cut.deadline.passed()]:
            cut = self._marks.pop(mark)
            self._unsubscribe(mark)
            self._run(cut.start, cut.topics, is_stopped, cut.position)


@dataclass(slots=True)
class _Cut:
    """Topics whose live messages are left out until the mark comes, because they were in the answer.

    Attributes:
        start: where they begin.
        topics: the topics.
        deadline: when the mark is overdue.
        position: the historian's position of the last message in the answer; 0: there was none.
    """

    start: From
    topics: frozenset[bytes]
    deadline: Deadline
    position: int

    @property
    def everything(self) -> bool:
        """Whether all topics are meant."""
        return _EVERYTHING in self.topics

    def covers(self, topic: bytes) -> bool:
        """Whether this topic is one of them."""
        return topic in self.topics or _EVERYTHING in self.topics


def _batch_of(portion: list[Stored], *, only_last: bool) -> Batch:
    payloads = [_last_in(message.payload) if only_last else message.payload for message in portion]
    return [message.first for message in portion], payloads


def _last_in(payload: bytes) -> bytes:
    """The last event in a payload."""
    try:
        json = inflate(payload, MAX_PACKED_BYTES) if is_compressed(payload) else payload
        if json[:1] != ARRAY:
            return payload
        return to_json(from_json(json)[-1], inf_nan_mode="constants")
    except (ValueError, IndexError, PayloadTooLarge, PayloadDamaged, CompressionMissing):
        return payload  # a single large event, or nothing that can be read: receiving decides
