"""Beginning a subscription with what a historian has stored.

For each beginning the client sends one query, on a topic to which nobody but itself and the historian subscribes. The proxy
passes messages on one after the other, so this query has one place among all others: what has passed before it, and nothing
else, is in the answer. The client receives its own query among the live messages, too. So it leaves out what came before it,
and goes on with what comes after: no gap, and nothing twice, with numbers or without.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from time import sleep

from eventbus._base.deadline import Deadline
from eventbus.errors import EventBusError, HistorianMissing, NotConnected, ProxyUnreachable
from eventbus.policies import Start
from eventbus.receive.beginning import EVERYTHING, Beginnings, Reached, Receiver
from eventbus.wire.frames import topic_of
from eventbus.wire.history import Portion, Query
from eventbus.wire.starts import From

_MARK_TIMEOUT_S = 5.0  # how long the client's own query may take through the proxy
_PATIENCE_S = 10.0  # without a portion, once one has come: the historian may be restarting
_RETRY_INTERVAL_S = 0.1

type Read = Callable[[Query, bytes | None], Iterator[Portion]]
"""Sends a query on a topic (None: on any); yields what it asks for, in portions."""


class FromHistorian(Beginnings):
    """Asks a historian.

    Args:
        receiver: the client.
        read: sends a query.
        subscribe: subscribes the transport to a topic; returns when the subscription is in force.
        unsubscribe: undoes that.
        new_topic: makes a topic for a query.
    """

    def __init__(
        self,
        receiver: Receiver,
        read: Read,
        subscribe: Callable[[bytes], None],
        unsubscribe: Callable[[bytes], None],
        new_topic: Callable[[], bytes],
    ) -> None:
        super().__init__(receiver)
        self._read = read
        self._subscribe = subscribe
        self._unsubscribe = unsubscribe
        self._new_topic = new_topic
        self._marks: dict[bytes, _Cut] = {}

    @property
    def is_idle(self) -> bool:
        """As for `Beginnings`, and all cuts are made."""
        return super().is_idle and not self._marks

    def forget(self, topic: bytes) -> None:
        """Do as `Beginnings.forget`."""
        with self._changing:
            super().forget(topic)
            for cut in list(self._marks.values()):
                cut.topics -= {topic}

    def reopened(self) -> None:
        """Do as `Beginnings.reopened`: no mark comes, and what comes was sent after those queries."""
        with self._changing:
            marks, self._marks = self._marks, {}
        for mark in marks:
            self._unsubscribe(mark)

    def reconnected(self) -> None:
        """Do as `Beginnings.reconnected`: marks may be lost."""
        with self._changing:
            for cut in self._marks.values():
                cut.deadline = Deadline(0.0)

    def _take_ready(self) -> dict[tuple[From, Reached], set[bytes]]:
        """Do as `Beginnings._take_ready`, and ask again where the answer and what is live do not meet."""
        self._renew_cuts()
        return super()._take_ready()

    def _run(self, start: From, topics: frozenset[bytes], is_stopped: Callable[[], bool], after: Reached) -> None:
        """Deliver what is stored on these topics. Their live messages before the mark are left out.

        The first portion shows up to where the answer goes. A historian that is restarted is asked for the rest up to there,
        and for no more: it has missed what has passed while it was away, and that is among the live messages.
        """
        query = start.query(None if EVERYTHING in topics else tuple(topics))
        position, until = after
        mark: bytes | None = None  # until the first portion is there
        patience = Deadline(_PATIENCE_S)
        failure: EventBusError | None = None
        status = self._receiver.status
        while True:
            connections = status.connections
            try:
                if until is None:
                    mark = self._new_topic()
                    self._subscribe(mark)
                for portion, kept in self._read(replace(query, after=position, until=until), mark):
                    if is_stopped():
                        if mark is not None:  # another thread may have received it by now
                            self._unsubscribe(mark)
                        self._go_on_later(topics, Reached(position, until))
                        return
                    if mark is not None:
                        until = kept
                        with self._changing:
                            self._marks[mark] = _Cut(topics, until)
                            self._take_held(topics)  # it is in the answer
                        mark = None
                    if portion:
                        wanted = (
                            [one for one in portion if self._covers(topics, topic_of(one.first))] if self._known else portion
                        )
                        self._replay_portion(wanted, only_last=start.kind is Start.LAST)
                        position, patience, failure = portion[-1].position, Deadline(_PATIENCE_S), None
                break
            except EventBusError as error:
                failure = error
                if mark is not None:
                    self._unsubscribe(mark)
                is_closing = isinstance(error, NotConnected)
                if is_closing:
                    sleep(_RETRY_INTERVAL_S)  # the consumer is stopped a moment later
                if is_stopped() or not self._is_ready():  # ask again when the proxy is back
                    self._go_on_later(topics, Reached(position, until))
                    return
                is_cut_off = is_closing or status.connections != connections  # query or answer may be lost
                may_come_back = until is not None and isinstance(error, HistorianMissing | ProxyUnreachable)
                if patience.passed() or not (may_come_back or is_cut_off):
                    break
            sleep(_RETRY_INTERVAL_S)
        if failure is not None:
            self._warn(topics, _what_failed(failure, has_begun=until is not None), failure)
        self._go_live(topics)

    def _handled_elsewhere(self, topic: bytes) -> bool:
        """Whether a message is a mark, or is left out because it was in an answer."""
        if topic in self._marks:
            del self._marks[topic]
            self._unsubscribe(topic)
            return True
        return any(self._covers(cut.topics, topic) for cut in self._marks.values())

    def _renew_cuts(self) -> None:
        """Ask again, for what has come since, where a mark does not come: it was lost, as all messages may be."""
        lost: list[bytes] = []
        with self._changing:
            for mark, cut in self._marks.items():
                if cut.topics & self._registered.keys():
                    continue  # what they begin with is still being read
                if cut.deadline is None:
                    cut.deadline = Deadline(_MARK_TIMEOUT_S)
                elif cut.deadline.passed():
                    lost.append(mark)
                    self._registered |= dict.fromkeys(cut.topics, From(Start.ALL))
                    self._interrupted |= dict.fromkeys(cut.topics, Reached(cut.until))
                    self._ready |= cut.topics
            for mark in lost:
                del self._marks[mark]
        for mark in lost:
            self._unsubscribe(mark)


@dataclass(slots=True)
class _Cut:
    """Topics whose live messages are left out until the mark comes, because they are in the answer.

    Attributes:
        topics: the topics.
        until: the position of the last message in the answer.
        deadline: when the mark is overdue; None while the answer is read.
    """

    topics: frozenset[bytes]
    until: int
    deadline: Deadline | None = None


def _what_failed(failure: EventBusError, *, has_begun: bool) -> str:
    if has_begun:
        return "the historian has not answered to the end"
    return "there is no historian" if isinstance(failure, HistorianMissing) else "the historian could not be asked"
