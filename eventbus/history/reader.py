"""Asking a historian."""

from collections.abc import Iterator, Mapping

from eventbus.ask.link import RequestLink
from eventbus.ask.waiting import Answer
from eventbus.errors import HistorianMissing, HistoryDamaged, NoAnswer, NobodyAnswers
from eventbus.history.lookup import may_have_historian
from eventbus.transports.contract import Transport
from eventbus.wire.history import (
    NEXT,
    PART,
    QUERY_TYPE,
    STATUS,
    UNTIL,
    Kept,
    Portion,
    Query,
    Stored,
    new_history_topic,
    unpack,
)
from eventbus.wire.requests import owner_of


class HistoryReader:
    """Asks the historian of a bus. Any thread may use it. The first query opens a connection for answers.

    Args:
        transport: what queries are sent over; the caller opens and closes it.
        public_key: the client's own, if it has keys.

    Attributes:
        topic: where it sends its queries. Whoever subscribes to it sees where they have passed.
    """

    def __init__(self, transport: Transport, public_key: str | None = None) -> None:
        self.topic = new_history_topic(owner_of(public_key))
        self._transport = transport
        self._link = RequestLink(transport, public_key, watchers_answer=True)

    def read(self, query: Query, timeout: float, topic: bytes | None = None) -> Iterator[list[Stored]]:
        """Do as `portions`, and yield the messages alone."""
        return (portion.messages for portion in self.portions(query, timeout, topic))

    def portions(self, query: Query, timeout: float, topic: bytes | None = None) -> Iterator[Portion]:
        """Send a query, and yield what it asks for in portions, oldest first. The first call of `next` sends it.

        If it is more than one page, one query for each follows, on the reader's own topic; the first one's moment counts for
        all of them.

        Args:
            query: what is asked for.
            timeout: up to how many seconds each portion may take.
            topic: where the first one is sent, instead of the reader's own topic.

        Raises:
            HistorianMissing: there is no historian, or it has not answered in time.
            RequestFailed: the historian refuses the query.
            HistoryDamaged: an answer cannot be read.
            NotConnected: the client is not connected, or was closed meanwhile.
            ProxyUnreachable, HandshakeFailed: the connection for answers could not be opened.
        """
        topic = topic or self.topic
        self._check_historian(timeout)
        until = query.until
        while True:
            headers: Mapping[str, str] = {}
            try:
                for place, answer in enumerate(self._link.ask_for_parts(topic, QUERY_TYPE, query.encode(), timeout)):
                    headers = answer.headers
                    if self._number(headers, PART) != place:
                        raise HistoryDamaged(self._transport.endpoints, "a part of it is missing")
                    if until is None:
                        until = self._number(headers, UNTIL)
                    yield Portion(self._unpacked(answer), until)
            except (NobodyAnswers, NoAnswer) as error:
                raise self._missing(timeout) from error
            if NEXT not in headers or until is None:
                return
            if (end := self._number(headers, NEXT)) <= query.after:
                raise HistoryDamaged(self._transport.endpoints, f"{NEXT} does not go on")
            query, topic = query.following(end, until), self.topic

    def status(self, timeout: float) -> Kept:
        """Return what the historian keeps. Raises as `read`."""
        self._check_historian(timeout)
        try:
            headers = self._link.ask(self.topic, QUERY_TYPE, Query((), last=0).encode(), timeout).headers
        except (NobodyAnswers, NoAnswer) as error:
            raise self._missing(timeout) from error
        try:
            return Kept.decode(headers.get(STATUS, ""))
        except ValueError as error:
            raise HistoryDamaged(self._transport.endpoints, str(error)) from error

    def close(self) -> None:
        """Let all who wait raise NotConnected at once."""
        self._link.close()

    def _check_historian(self, timeout: float) -> None:
        self._transport.ensure_open()
        if not may_have_historian(self._transport, timeout):
            raise self._missing(0.0)

    def _missing(self, timeout: float) -> HistorianMissing:
        return HistorianMissing(self._transport.endpoints, timeout)

    def _unpacked(self, answer: Answer) -> list[Stored]:
        try:
            return unpack(answer.payload)
        except ValueError as error:
            raise HistoryDamaged(self._transport.endpoints, str(error)) from error

    def _number(self, headers: Mapping[str, str], name: str) -> int:
        try:
            return int(headers[name])
        except (KeyError, ValueError):
            raise HistoryDamaged(self._transport.endpoints, f"{name} is missing, or no number") from None
