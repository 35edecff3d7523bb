"""Requests and answers as messages, without event classes: what `Asker` builds on, and the command line and others use."""

from collections.abc import Callable, Iterator
from threading import RLock

from eventbus._base.deadline import Deadline
from eventbus._base.native_threads import require_native_threads
from eventbus.ask.inbox import Inbox
from eventbus.ask.replies import raise_failure
from eventbus.ask.waiting import Answer, Waiting, WaitingForParts
from eventbus.errors import NoAnswer, NobodyAnswers, NotConnected, ProxyUnreachable
from eventbus.transports.contract import KnowsSubscribers, KnowsWatchers, Transport
from eventbus.wire.first_frame import with_headers
from eventbus.wire.requests import MORE, new_reply_topic, owner_of, request_headers

_CHECK_S = 1.0  # at most, to make sure that nobody subscribes


class RequestLink:
    """Sends requests over a transport, and receives answers in an inbox of its own. Any thread may use it.

    The first request opens the inbox.

    Args:
        transport: what requests are sent over; the caller opens and closes it.
        public_key: the client's own, if it has keys.
        watchers_answer: whether those that only watch may answer, as a historian does.
    """

    def __init__(self, transport: Transport, public_key: str | None = None, *, watchers_answer: bool = False) -> None:
        self._transport = transport
        self._has_anybody: Callable[[bytes, float], bool | None] | None = None
        if isinstance(transport, KnowsWatchers) and not watchers_answer:
            self._has_anybody = transport.has_answerer
        elif isinstance(transport, KnowsSubscribers):
            self._has_anybody = transport.has_subscriber
        self._public_key = public_key
        self._opening = RLock()  # reentrant, because a signal handler may ask while its thread opens the inbox
        self._inbox: Inbox | None = None

    def ensure_open(self) -> None:
        """Return if the transport is open; see `Transport.ensure_open`."""
        self._transport.ensure_open()

    def is_anybody_known(self, topic: bytes) -> bool:
        """Whether somebody subscribes to the topic, or it cannot be told; False: `has_anybody` has to find out.

        Does not block.
        """
        return self._has_anybody is None or self._has_anybody(topic, 0.0) is not False

    def has_anybody(self, topic: bytes, deadline: Deadline) -> bool:
        """Whether somebody subscribes to the topic, or it cannot be told. Makes sure before it says that nobody does.

        Raises:
            NotConnected, ReconnectFailed, ForkedClient: the transport is not open.
        """
        self._transport.ensure_open()
        return self._has_anybody is None or self._has_anybody(topic, min(_CHECK_S, deadline.left())) is not False

    @property
    def open_inbox(self) -> Inbox | None:
        """The inbox, if it is open."""
        inbox = self._inbox
        return inbox if inbox is not None and inbox.failure is None else None

    def inbox(self, deadline: Deadline) -> Inbox:
        """Return the inbox, open; the first call opens it.

        Raises:
            ProxyUnreachable, HandshakeFailed, NotConnected, DescriptorsExhausted, ForkedClient: it cannot be opened.
            MonkeyPatched: gevent has replaced Python's threads; waiting for answers would block the process.
        """
        if (opened := self.open_inbox) is not None:
            return opened
        require_native_threads()
        if not self._opening.acquire(timeout=deadline.left()):
            raise ProxyUnreachable(self._transport.endpoints, deadline.timeout, "another thread is still connecting")
        try:
            if (opened := self.open_inbox) is not None:
                return opened
            topic = new_reply_topic(owner_of(self._public_key))
            inbox = Inbox(self._transport.sibling(), topic, self._transport.drops)
            # No call from here to the assignment: a signal handler in this thread may open one, too.
            if (other := self._inbox) is not None and other.failure is None:
                return other
            self._inbox = inbox
            try:
                inbox.open(deadline.left())
                self._transport.ensure_open()  # else it was closed meanwhile, perhaps before there was an inbox
                if self._inbox is not inbox and self.open_inbox is None:  # closed meanwhile, and the transport opened again
                    raise NotConnected(self._transport.endpoints)
            except BaseException:
                inbox.close()
                raise
            if (opened := self.open_inbox) is not None and opened is not inbox:  # by a signal handler in this thread
                inbox.close()
                return opened
            return inbox
        finally:
            self._opening.release()

    def ask(self, topic: bytes, event_type: str, payload: bytes, timeout: float) -> Answer:
        """Send a request with this payload, and wait for the first answer.

        Raises:
            NobodyAnswers, NoAnswer, RequestFailed: as `EventBusClient.request`.
        """
        return next(self._ask(topic, event_type, payload, timeout, Waiting()))

    def ask_all(self, topic: bytes, event_type: str, payload: bytes, timeout: float) -> list[Answer]:
        """Send a request with this payload, and return all answers that come in time, also those that say that they failed.

        Raises:
            NobodyAnswers: nobody subscribes to the topic.
            NotConnected: the transport is not open, or was closed meanwhile.
        """
        waiting, deadline = Waiting(None), Deadline(timeout)
        inbox, correlation_id = self._send(topic, event_type, payload, waiting, deadline)
        try:
            waiting.wait(deadline)
        finally:
            inbox.forget(correlation_id)
        waiting.raise_failure()
        return list(waiting.answers)

    def ask_for_parts(self, topic: bytes, event_type: str, payload: bytes, timeout: float) -> Iterator[Answer]:
        """Send a request with this payload, and yield the messages of one answer that comes in several, as they come.

        The first call of `next` sends it. See `Answerer.answer` and its `more`.

        Args:
            topic: the frame of the topic.
            event_type: for errors.
            payload: the payload of the request.
            timeout: up to how many seconds each message may take.

        Raises:
            NobodyAnswers, NoAnswer, RequestFailed: as `EventBusClient.request`.
        """
        return self._ask(topic, event_type, payload, timeout, WaitingForParts())

    def close(self) -> None:
        """Let all who wait raise NotConnected at once, and close the inbox. The next request opens another one."""
        inbox, self._inbox = self._inbox, None
        if inbox is not None:
            inbox.close()

    def _ask(self, topic: bytes, event_type: str, payload: bytes, timeout: float, waiting: Waiting) -> Iterator[Answer]:
        name, deadline = topic.decode(errors="replace"), Deadline(timeout)
        inbox, correlation_id = self._send(topic, event_type, payload, waiting, deadline)
        try:
            while True:
                waiting.wait(deadline)
                if not waiting.answers:
                    waiting.raise_failure()
                    raise NoAnswer(name, event_type, timeout)
                while waiting.answers:
                    answer = waiting.answers.popleft()
                    raise_failure(answer, name, event_type)
                    yield answer
                    if MORE not in answer.headers:
                        return
                deadline = Deadline(timeout)
        finally:
            inbox.forget(correlation_id)

    def _send(
        self, topic: bytes, event_type: str, payload: bytes, waiting: Waiting, deadline: Deadline
    ) -> tuple[Inbox, str]:
        """Send a request; return the inbox and the correlation id by which it is to be forgotten."""
        if not self.has_anybody(topic, deadline):
            raise NobodyAnswers(topic.decode(errors="replace"), event_type)
        inbox = self.inbox(deadline)
        correlation_id = inbox.expect(waiting)
        try:
            self._transport.send(with_headers(topic, request_headers(inbox.topic, correlation_id)), payload)
        except BaseException:
            inbox.forget(correlation_id)
            raise
        return inbox, correlation_id
