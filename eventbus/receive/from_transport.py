"""Beginning a subscription with what the transport has stored.

Each message has a position, and the transport tells after which one those begin that the client receives. So the client
reads what is stored up to that one: no gap, and nothing twice.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from time import sleep

from eventbus._base.deadline import Deadline
from eventbus.errors import EventBusError, HandshakeFailed
from eventbus.policies import Start
from eventbus.receive.beginning import EVERYTHING, Beginnings, Reached, Receiver
from eventbus.wire.frames import Batch, topic_of
from eventbus.wire.history import Query, Stored
from eventbus.wire.private_topics import PRIVATE_PREFIXES
from eventbus.wire.starts import From

_PATIENCE_S = 15.0  # without a message, while the other side is there: the election of a leader takes five seconds
_RETRY_INTERVAL_S = 0.1

type Read = Callable[[Query], Iterator[list[Stored]]]
"""Yields what a query asks for, in portions."""


class FromTransport(Beginnings):
    """Reads what is stored by the transport. It goes on where it was if the connection is lost meanwhile.

    Args:
        receiver: the client.
        read: reads from the transport.
        begun_after: see `KeepsHistory.begun_after`.
    """

    def __init__(
        self,
        receiver: Receiver,
        read: Read,
        begun_after: Callable[[bytes], int | None],
    ) -> None:
        super().__init__(receiver)
        self._read = read
        self._begun_after = begun_after
        self._ends: dict[bytes, int] = {}  # of topics that have not begun: the last position before the live messages

    def forget(self, topic: bytes) -> None:
        """Do as `Beginnings.forget`."""
        super().forget(topic)
        self._ends.pop(topic, None)

    def take(self, batch: Batch, is_stopped: Callable[[], bool]) -> Batch:
        """Do as `Beginnings.take`."""
        for topic in self.pending:
            end = self._begun_after(topic)
            if end is not None:
                if end > self._ends.get(topic, end):  # opened again: what was held is among what is stored now
                    self._take_held(frozenset((topic,)))
                self._ends[topic] = end
        return super().take(batch, is_stopped)

    def _can_begin(self) -> bool:
        return self._is_ready() and self._ends.keys() >= self._ready

    def _run(self, start: From, topics: frozenset[bytes], is_stopped: Callable[[], bool], after: Reached) -> None:
        only_last = start.kind is Start.LAST
        ends = {topic: end for topic in topics if (end := self._ends.get(topic)) is not None}
        topics = frozenset(ends)  # without those that were just unsubscribed
        if not topics:
            return
        position = after.position
        query = Query(
            None if EVERYTHING in topics else tuple(topics),
            last=1 if only_last else None,
            since=start.since,
            until=max(ends.values()),
        )
        patience = Deadline(_PATIENCE_S)
        failure: EventBusError | None = None
        complete = False
        while not (complete or failure):
            try:
                for portion in self._read(replace(query, after=position)):
                    if is_stopped():
                        break
                    if not portion:  # nothing has come for a while
                        continue
                    wanted = [one for one in portion if self._is_wanted(one, topics, ends)]
                    self._replay_portion(wanted, only_last=only_last)
                    position, patience = portion[-1].position, Deadline(_PATIENCE_S)
                else:
                    complete = True
            except EventBusError as error:
                if patience.passed() or isinstance(error, HandshakeFailed):
                    failure = error
                else:
                    sleep(_RETRY_INTERVAL_S)
            if not complete and (is_stopped() or not self._is_ready()):
                self._go_on_later(topics, Reached(position))
                return
        if failure is not None:
            self._warn(topics, "what is stored could not be read", failure)
        self._go_live(topics)
        for topic in topics:
            self._ends.pop(topic, None)

    def _is_wanted(self, message: Stored, topics: frozenset[bytes], ends: dict[bytes, int]) -> bool:
        """Whether it is an event of these topics, which have these last positions before the live messages."""
        topic = topic_of(message.first)
        if not self._covers(topics, topic) or topic.startswith(PRIVATE_PREFIXES):
            return False
        return message.position <= ends[topic if topic in ends else EVERYTHING]
