"""The receiving half of JetStream: a consumer on the server, which is asked for messages. What both kinds have in common."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from threading import RLock, Thread
from time import monotonic
from typing import Any

from eventbus._base.backoff import backoff
from eventbus._base.deadline import Deadline
from eventbus._base.log import Log
from eventbus._base.log_throttle import LogThrottle, more
from eventbus.errors import EventBusError, HandshakeFailed, JetStreamMissing, NatsRefused, StreamDiffers
from eventbus.nats_options import NatsOptions
from eventbus.transports.nats import streams
from eventbus.transports.nats.connection import ConnectionLost
from eventbus.transports.nats.delivered import FromStream
from eventbus.transports.nats.first_frames import Carried
from eventbus.transports.nats.inbox import Inbox
from eventbus.transports.nats.link import NatsLink
from eventbus.transports.nats.pings import Proof
from eventbus.transports.nats.protocol import NO_RESPONDERS, Message, parse_headers, publish, subscribe

PULL_SID = b"2"  # of the inbox to which pulls are answered
_EXPIRES_S = 30.0  # of a pull
_SILENT_HEARTBEATS = 2.5  # without any, after which the consumer is looked for
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0  # between two attempts to make it anew
_MISSING_PAUSE_S = 0.5  # before a stream is looked for that has taken no message
_RENEWAL_S = 5.0
_ANSWER_S = 2.0  # after which a request is repeated
_HEARTBEAT, _NO_MESSAGES, _TIMED_OUT = 100, 404, 408  # statuses
_NOT_READY = {10008, 10009, 10023, 10074}  # errors of a server that has just started, or has no leader at the moment


class StreamConsumer:
    """Asks for messages and takes them. Any thread may call any method, unless it says otherwise.

    Two locks: one change of the consumer at a time, for as long as the server takes to answer; and one for what the reader's
    thread and the link's thread both look at, which is never held while waiting.

    Args:
        options: the group, where to begin, how the stream is made.
        carried: makes first frames of subjects.
        log: where it is said what is wrong.
        count: called with how many more messages are lost, and how many came again and were skipped.
        room: how many messages may wait to be received; no more are asked for ahead.

    Attributes:
        receiving: whether messages are asked for: from the first `receive` on.
        heartbeat: seconds between two signs of a consumer that has no messages.
    """

    most = 1_024
    """Messages that are asked for ahead, if there is room for so many."""

    def __init__(
        self, options: NatsOptions, carried: Carried, log: Log, count: Callable[[int, int], None], room: int = most
    ) -> None:
        self.most = min(self.most, room)
        self._half = (self.most + 1) // 2
        self.receiving = False
        self.heartbeat = 5.0
        self._options = options
        self._carried = carried
        self._everything = carried.subject(b"").decode()
        self._log = log
        self._count = count
        self._changing = RLock()
        self._restoring = False
        self._wanted: set[str] = set()  # subjects
        self._taking = RLock()  # reentrant, because a signal handler may close the transport whose method it has interrupted
        self._name = ""  # of the consumer; empty: there is none
        self._filters: set[str] = set()  # what it has been told
        self._created = ""  # when the stream was made: another one has other numbers
        self._inbox: Inbox | None = None
        self._credit = 0  # messages that were asked for and have not come
        self._last_batch = 0  # how many of them by the last pull
        self._heard = 0.0  # when the consumer gave its last sign
        self._pulls = 0
        self._pauses = 0
        self._first_pull = 1  # of the consumer as it is now
        self._leaving = False  # whether the transport is being closed
        self._renewing = False
        self._renew_at = float("inf")
        self._failures = 0
        self._refusals = LogThrottle()

    @property
    def is_low(self) -> bool:
        """Whether more messages are to be asked for."""
        # First what is nearly always enough to know, because it is asked for each batch.
        return (
            self._credit < self._half and self.receiving and bool(self._name) and self._credit + self._waiting < self._half
        )

    @property
    def owes(self) -> bool:
        """Whether the server is still to be told what becomes of a message."""
        return False

    @property
    def _open_pulls(self) -> int:
        """How many pulls the server may have that are not answered in full: the last one, and a part of the one before."""
        return (self._credit > 0) + (self._credit > self._last_batch)

    @property
    def _waiting(self) -> int:
        """How many messages have come and are not received."""
        return 0 if self._inbox is None else len(self._inbox)

    # Changes, which wait for the server

    def restore(self, link: NatsLink, inbox: Inbox, subjects: Callable[[], set[str]], deadline: Deadline) -> None:
        """There is a new connection: find or make the stream, and a consumer that goes on where the last one was.

        Args:
            link: the link, which is restored then.
            inbox: where messages are put.
            subjects: returns those that are wanted, which may change meanwhile.
            deadline: when to give up.

        Raises:
            HandshakeFailed: that is not possible.
            OSError: the server does not answer, or is not ready.
        """
        self._inbox = inbox
        with self._changing:
            self._wanted = subjects()
            self._restoring = True
            try:
                self._renew(link, deadline)
            finally:
                self._restoring = False
            link.restored = True  # from here on others do not leave it to this thread to look once more
            self._wanted = subjects()
            if self._wanted != self._filters:
                self._ensure(link, deadline)

    def change(self, link: NatsLink, subjects: Callable[[], set[str]], deadline: Deadline) -> None:
        """Other topics are wanted: tell the server, unless `restore` is still to come or to end. Arguments as there.

        Raises:
            HandshakeFailed: that is not possible.
            OSError: the server does not answer; it is asked again later.
        """
        if not link.restored:
            return
        with self._changing:
            before, self._wanted = self._wanted, subjects()
            if self._wanted != self._filters:
                try:
                    self._ensure_in_time(link, deadline)
                except HandshakeFailed:
                    self._wanted = before
                    raise

    def change_soon(self, link: NatsLink, subjects: Callable[[], set[str]]) -> None:
        """Other topics may be wanted, and the last change has ended anywhere: make the consumer again, in a thread."""
        with self._changing:
            self._wanted = subjects()
        self.renew_soon()
        link.wake()

    @abstractmethod
    def begin(self, link: NatsLink, deadline: Deadline) -> None:
        """Ask for messages from now on: no more topics are expected at the moment. Raises as `change`."""

    def begun_after(self, subject: str) -> int | None:
        """The number of the last message before those that come on a subject; None: it is not known."""
        return None

    @abstractmethod
    def _ensure(self, link: NatsLink, deadline: Deadline) -> None:
        """Find or make the consumer, with the topics that are wanted."""

    @abstractmethod
    def _note_other_stream(self) -> None:
        """The stream was made anew: numbers of the old one mean nothing. The caller holds the lock."""

    def _newest(self) -> int:
        """The highest number of a message that came; 0: none did. The caller holds the lock."""
        return 0

    def _was_given_again(self, link: NatsLink, number: int, deadline: Deadline) -> bool:
        """Whether another message has the number of the newest one that came."""
        return False

    def _note_lost_end(self) -> None:
        """The stream has lost messages that came. The caller holds the lock."""

    def _ensure_in_time(self, link: NatsLink, deadline: Deadline) -> None:
        try:
            self._ensure(link, deadline)
        except HandshakeFailed:
            raise
        except OSError:  # perhaps there is no leader, and the connection lasts
            self.renew_soon()
            link.wake()
            raise

    def renew_soon(self) -> None:
        """Find or make the consumer again, in a thread; the link is to be woken then."""
        with self._taking:
            self._renew_at = min(self._renew_at, monotonic() + _FIRST_PAUSE_S)

    def stream_is_missing(self) -> None:
        """Nobody has taken a message for the stream. A client that receives is told of that by its consumer."""
        with self._taking:
            if not (self.receiving and self._name) and not self._renewing and self._renew_at == float("inf"):
                self._renew_at = monotonic() + _MISSING_PAUSE_S

    def _renew(self, link: NatsLink, deadline: Deadline) -> None:
        with self._changing:
            self._ensure_stream(link, deadline)
            self._ensure(link, deadline)

    def _ensure_stream(self, link: NatsLink, deadline: Deadline) -> None:
        name, subjects = self._options.stream, [self._everything]
        with self._taking:
            newest = self._newest()  # before the question: more may come at any time
        answer, error = self._ask(link, f"STREAM.INFO.{name}", b"", deadline)
        if error is not None and error.code == streams.STREAM_NOT_FOUND:
            request = streams.stream_config(self._options, subjects)
            answer, error = self._ask(link, f"STREAM.CREATE.{name}", request, deadline)
            if error is None:
                self._log.info("made the stream %s at %s", name, _endpoint(link), stream=name)
            elif error.code == streams.NAME_TAKEN:  # another client has just made it
                answer, error = self._ask(link, f"STREAM.INFO.{name}", b"", deadline)
            elif error.code == streams.SUBJECTS_OVERLAP:
                raise StreamDiffers(_endpoint(link), name, (), tuple(subjects))
        if error is not None:
            raise self._failure(link, error)
        found = answer.get("config", {}).get("subjects") or []
        if found != subjects:
            raise StreamDiffers(_endpoint(link), name, tuple(map(str, found)), tuple(subjects))
        created, last = str(answer.get("created", "")), int(answer.get("state", {}).get("last_seq") or 0)
        with self._taking:
            if self._created and self._created != created:
                self._note_other_stream()
                newest = 0
            self._created = created
        if newest and (last < newest or self._was_given_again(link, newest, deadline)):
            with self._taking:
                self._note_lost_end()

    def _made(self, name: str, filters: set[str], *, goes_on: bool = False) -> None:
        """The consumer is there, as it should be. The caller holds the lock.

        Args:
            name: its name.
            filters: the subjects that it has been told.
            goes_on: it is the one that there was, and answers what it was asked for.
        """
        self._name, self._filters = name, set(filters)
        if not goes_on:
            self._credit, self._first_pull = 0, self._pulls + 1
        self._heard = monotonic()
        self._renew_at = float("inf")

    def _ask(
        self, link: NatsLink, subject: str, payload: bytes, deadline: Deadline
    ) -> tuple[dict[str, Any], streams.ApiError | None]:
        if not (link.restored or self._restoring):
            raise ConnectionLost("the connection is not restored yet")  # which waits for the lock that this thread holds
        while True:
            try:
                message = link.request(streams.API + subject.encode(), payload, Deadline(min(_ANSWER_S, deadline.left())))
                break
            except TimeoutError:  # perhaps there was no leader who would have answered
                if deadline.passed():
                    raise
        if message.headers and parse_headers(message.headers).status == NO_RESPONDERS:
            return {}, streams.ApiError(NO_RESPONDERS, "nobody answers")
        return streams.answer_of(message.payload)

    def _failure(self, link: NatsLink, error: streams.ApiError) -> Exception:
        connection = link.connection
        stores = connection is not None and connection.info.jetstream
        if error.code in streams.NOT_ENABLED or (error.code == NO_RESPONDERS and not stores):
            return JetStreamMissing(_endpoint(link), error.text)
        if error.code in (NO_RESPONDERS, *_NOT_READY):
            return ConnectionLost(f"JetStream is not ready: {error.text}")
        remedy = ": lower the bytes in EVENTBUS_STORE, which are reserved" if error.code in streams.NO_SPACE else ""
        return NatsRefused(_endpoint(link), f"{error.text} (error {error.code} of JetStream){remedy}")

    # Messages

    @abstractmethod
    def take(self, messages: list[FromStream], inbox: Inbox) -> bool:
        """Take messages of the stream; return whether there is something for `look` to do now."""

    def confirm(self, link: NatsLink, acks: Sequence[bytes]) -> None:
        """These messages were handled."""

    def give_back(self, link: NatsLink, acks: Sequence[bytes]) -> None:
        """These messages were not handled."""

    def pause(self, link: NatsLink, inbox: Inbox) -> None:
        """Nobody receives for now."""

    def farewell(self, link: NatsLink) -> None:
        """The transport is about to be closed."""

    def lost(self) -> None:
        """The connection is lost: what was asked for does not come any more."""
        with self._taking:
            self._name, self._credit = "", 0

    def told(self, message: Message) -> None:
        """The server has answered a pull with a status."""
        token = message.subject.rpartition(b".")[2]
        if not token.isdigit() or not message.headers:
            return
        headers = parse_headers(message.headers)
        with self._taking:
            if int(token) < self._first_pull:
                return
            self._heard = monotonic()
            if headers.status == _HEARTBEAT:
                return
            pending = headers.get("Nats-Pending-Messages")
            self._credit = max(0, self._credit - int(pending)) if pending.isdigit() else 0
            if headers.status not in (_NO_MESSAGES, _TIMED_OUT) and "completed" not in headers.description.lower():
                # It was deleted, has another leader, or nobody knows it.
                self._renew_at = min(self._renew_at, self._heard + _FIRST_PAUSE_S)

    def look(self, link: NatsLink, now: float) -> float:
        """Ask for more messages, for more time, or for the consumer itself, as is due. On the link's thread."""
        data: list[bytes] = []
        due = float("inf")
        with self._taking:
            due = min(due, self._look_after(data, now))
            if self.receiving and self._name:
                waiting = self._credit + self._waiting
                if waiting < self._half and self._renew_at == float("inf") and not self._renewing:
                    data.append(self._pull(link, self.most - waiting))
                    self._heard = now
                if self._credit:
                    silent_at = self._heard + _SILENT_HEARTBEATS * self.heartbeat
                    if now >= silent_at:
                        self._renew_at = min(self._renew_at, now)  # if it is being renewed, the end of that wakes the link
                    else:
                        due = min(due, silent_at)
            renew = now >= self._renew_at and not self._renewing
            if renew:
                self._renewing, self._renew_at = True, float("inf")
            elif not self._renewing:
                due = min(due, self._renew_at)
        if data:
            link.post(b"".join(data), Proof() if self._leaving else None)
        if renew:
            Thread(target=self._renew_in_thread, args=(link,), name="eventbus-nats-consumer", daemon=True).start()
        return due

    def _look_after(self, data: list[bytes], now: float) -> float:
        """Add what is due to `data`; return when to look again. The caller holds the lock."""
        return float("inf")

    def subscription(self, link: NatsLink) -> bytes:
        """What subscribes to the answers to pulls."""
        return subscribe(self._pull_inbox(link) + b".*", PULL_SID)

    def _pull_inbox(self, link: NatsLink) -> bytes:
        """The beginning of the subjects to which pulls are answered: a worker that ends leaves this inbox first.

        After a pause it is another one, or the server would go on with the pulls from before.
        """
        return b"%bp%d" % (link.inbox, self._pauses)

    def _pull(self, link: NatsLink, batch: int) -> bytes:
        self._pulls += 1
        self._credit += batch
        self._last_batch = batch
        subject = streams.API + f"CONSUMER.MSG.NEXT.{self._options.stream}.{self._name}".encode()
        reply = b"%b.%d" % (self._pull_inbox(link), self._pulls)
        return publish(subject, streams.pull(batch, _EXPIRES_S, self.heartbeat), reply=reply)

    def _renew_in_thread(self, link: NatsLink) -> None:
        try:
            self._renew(link, Deadline(_RENEWAL_S))
            self._failures = 0
        except (OSError, EventBusError) as error:
            if isinstance(error, HandshakeFailed):
                held_back = self._refusals.admit(type(error).__name__)
                if held_back is not None:
                    self._log.error("%s%s", error, more(held_back), error=type(error).__name__, held_back=held_back)
            if link.is_up():  # else a new connection restores everything
                self._renew_at = monotonic() + backoff(self._failures, _FIRST_PAUSE_S, _LONGEST_PAUSE_S)
                self._failures += 1
        finally:
            self._renewing = False
            link.wake()


def _endpoint(link: NatsLink) -> str:
    connection = link.connection
    return "" if connection is None else str(connection.server)
