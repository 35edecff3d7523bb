"""Beginning a subscription with what a historian has stored.

For each beginning the client sends one query, on a topic to which nobody but itself and the historian subscribes. The proxy
passes messages on one after the other, so this query has one place among all others: what has passed before it, and nothing
else, is in the answer. The client receives its own query among the live messages, too. So it leaves out what came before it,
and goes on with what comes after: no gap, and nothing twice, with numbers or without.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from eventbus._base.deadline import Deadline
from eventbus.errors import EventBusError, HistorianMissing
from eventbus.policies import Start
from eventbus.receive.beginning import EVERYTHING, Beginnings
from eventbus.wire.frames import Batch, topic_of
from eventbus.wire.history import Query, Stored
from eventbus.wire.starts import From

_MARK_TIMEOUT_S = 5.0  # how long the client's own query may take through the proxy

type Read = Callable[[Query, bytes], Iterator[list[Stored]]]
"""Sends a query on a topic; yields what it asks for, in portions."""


class FromHistorian(Beginnings):
    """Asks a historian.

    Args:
        read: sends a query.
        subscribe: subscribes the transport to a topic; returns when the subscription is in force.
        unsubscribe: undoes that.
        new_topic: makes a topic for a query.
        deliver: as for `Beginnings`, as are the following.
    """

    def __init__(
        self,
        read: Read,
        subscribe: Callable[[bytes], None],
        unsubscribe: Callable[[bytes], None],
        new_topic: Callable[[], bytes],
        deliver: Callable[[Batch], None],
        replay: Callable[[list[Stored]], None],
        endpoints: str,
        is_ready: Callable[[], bool] = lambda: True,
    ) -> None:
        super().__init__(deliver, replay, endpoints, is_ready)
        self._read = read
        self._subscribe = subscribe
        self._unsubscribe = unsubscribe
        self._new_topic = new_topic
        self._marks: dict[bytes, _Cut] = {}

    @property
    def is_idle(self) -> bool:
        """As for `Beginnings`, and all cuts are made."""
        return super().is_idle and not self._marks

    def take(self, batch: Batch, is_stopped: Callable[[], bool]) -> Batch:
        """Do as `Beginnings.take`, and ask again where the answer and what is live do not meet."""
        batch = super().take(batch, is_stopped)
        if self._is_ready():
            self._renew_cuts(is_stopped)
        return batch

    def _run(self, start: From, topics: frozenset[bytes], is_stopped: Callable[[], bool], after: int) -> None:
        """Deliver what is stored on these topics. Afterwards their live messages before the mark are left out."""
        mark = self._new_topic()
        cut = _Cut(start, topics, Deadline(_MARK_TIMEOUT_S), after)
        only_last = start.kind is Start.LAST and not after
        try:
            self._subscribe(mark)
            for portion in self._read(start.query(None if EVERYTHING in topics else tuple(topics), after), mark):
                if is_stopped():
                    self._unsubscribe(mark)
                    self._go_on_later(topics, cut.position)
                    return
                if portion:
                    cut.position = portion[-1].position
                    wanted = (
                        [one for one in portion if self._covers(topics, topic_of(one.first))] if self._known else portion
                    )
                    self._replay_portion(wanted, only_last=only_last)
            self._marks[mark] = cut
            self._drop_held(topics)
        except EventBusError as error:
            self._unsubscribe(mark)
            if not self._is_ready():  # ask again when the proxy is back
                self._go_on_later(topics, cut.position)
                return
            what = "there is no historian" if isinstance(error, HistorianMissing) else "the historian could not be asked"
            self._warn(topics, what, error)
            self._release(topics)
        self._done(topics)

    def _handled_elsewhere(self, topic: bytes) -> bool:
        """Whether a message is a mark, or is left out because it was in an answer."""
        if topic in self._marks:
            del self._marks[topic]
            self._unsubscribe(topic)
            return True
        return any(self._covers(cut.topics, topic) for cut in self._marks.values())

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
