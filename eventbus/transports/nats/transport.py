"""What both transports over NATS have in common: their life, the send buffer, what has arrived."""

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from sys import maxsize
from threading import RLock
from time import monotonic
from typing import NoReturn, Protocol

from eventbus._base.deadline import Deadline
from eventbus._base.forks import register_fork, unregister_fork
from eventbus._base.log import Log
from eventbus._base.log_throttle import LogThrottle, more
from eventbus._base.native_threads import require_usable_threads
from eventbus._base.printable import printable
from eventbus.errors import (
    DescriptorsExhausted,
    EventBusError,
    ForkedClient,
    HandshakeFailed,
    NotConnected,
    PermissionDenied,
    ProxyUnreachable,
    ReconnectFailed,
)
from eventbus.nats_options import NatsOptions
from eventbus.observe.state import ClientState, Status
from eventbus.observe.stats import DropLog, DropReason
from eventbus.options import ZeroMQOptions
from eventbus.transports.contract import Remedies
from eventbus.transports.nats.connection import Connection
from eventbus.transports.nats.credentials import user_of
from eventbus.transports.nats.first_frames import Carried, block_of
from eventbus.transports.nats.inbox import Inbox
from eventbus.transports.nats.link import NatsLink
from eventbus.transports.nats.outgoing import Limits, Outgoing
from eventbus.transports.nats.protocol import Arrived, Info, Parser
from eventbus.wire.frames import MARK, Batch

_HEADER_RESERVE_BYTES = 256  # for the headers that most messages have: a number, an identifier, a trace
_POLL_S = 0.05
_RESUBSCRIBE_S = 5.0
_MAX_DENIALS = 1_000  # subjects that are remembered: each asker has a private one, and answers may not be permitted

_REMEDIES = Remedies(
    peer="NATS server",
    unreachable="start one (`nats-server`), or set EVENTBUS_URL",
    too_large="raise max_payload in the configuration of the NATS server",
)


class _Send(Protocol):
    def __call__(self, topic: bytes, payload: bytes, count: int = 1) -> bool: ...


class NatsTransport:
    """The common part of `CoreTransport` and `JetStreamTransport`, which fulfil `eventbus.transports.contract.Transport`.

    Args:
        nats: where the servers are, and what is asked of them.
        options: how the connection behaves.

    Raises:
        InvalidSettings: the URL or another option cannot be right.
    """

    remedies = _REMEDIES
    confirms = False
    malformed = 0
    is_stored = False
    """Whether the server keeps what it gets."""
    _own_header_bytes = 0
    """Of headers that this transport adds to a message, at most."""

    def __init__(self, nats: NatsOptions | None = None, options: ZeroMQOptions | None = None) -> None:
        self._nats = nats or NatsOptions()
        self._options = options or ZeroMQOptions()
        self._carried = Carried(self._nats.prefix, numbered=self._nats.group is None)
        self._topics: set[bytes] = set()
        # Both are reentrant, because a signal handler may close the transport whose method it has interrupted.
        self._changing = RLock()  # guards _topics and _link together, and is never held while waiting
        self._opening = RLock()  # one open() at a time
        self._link: NatsLink | None = None
        self._buffer: Outgoing | None = None  # of the link
        self._inbox = self._new_inbox()
        self._inbox.close()
        self._closings = 0
        self._forked = False
        self._sent_before = 0
        self._denials: dict[str, str] = {}  # subjects, and what was denied there
        self._denied = LogThrottle()
        self._resubscribe_at = float("inf")
        self.lost = 0
        self.repeated = 0
        self.status = Status(self.endpoints)
        self.drops = DropLog(endpoints=self.endpoints)
        self._log = Log(endpoints=self.endpoints)
        # While the transport is open this is the send buffer's own method, which saves a call for every event.
        self.send: _Send = self._refuse

    @property
    def endpoints(self) -> str:
        return ", ".join(map(str, self._nats.servers))

    @property
    def sent(self) -> int:
        with self._changing:
            return self._sent_before + (self._buffer.sent if self._buffer is not None else 0)

    @property
    def max_payload_bytes(self) -> int | None:
        buffer = self._buffer
        return None if buffer is None or buffer.limits is None else buffer.limits.payload

    def open(self, timeout: float) -> None:
        self._check_process()
        require_usable_threads()
        deadline, closings = Deadline(timeout), self._closings
        if not self._opening.acquire(timeout=deadline.left()):
            raise self._unreachable(timeout, "another thread is still connecting")
        try:
            self._open(deadline, closings)
        finally:
            self._opening.release()

    def ensure_open(self) -> None:
        self._check_process()
        with self._changing:
            if self._link is None:
                self._refuse(b"", b"")

    def subscribe(self, topic: bytes) -> None:
        self._check_process()
        if topic in self._topics:
            return
        try:
            link = self._note_topic(topic, wanted=True)
            if link is not None:
                self._changed(link, topic)
        except BaseException:  # the server has refused it, or a signal handler has raised
            self._settle(topic, wanted=False)
            raise

    def unsubscribe(self, topic: bytes) -> None:
        self._check_process()
        if topic not in self._topics:
            return
        try:
            link = self._note_topic(topic, wanted=False)
            if link is not None:
                self._changed(link, None)
        except BaseException as error:
            self._settle(topic, wanted=isinstance(error, HandshakeFailed))
            raise

    def receive(self) -> Batch | None:
        inbox, link = self._inbox, self._link
        if link is not None:
            link.receive(inbox)
        return inbox.get()

    def confirm(self, batch: Batch) -> None: ...

    def wake(self) -> None:
        self._inbox.wake()

    def is_connected(self) -> bool:
        link = self._link
        return link is not None and link.is_up()

    def close(self, timeout: float) -> None:
        self._closings += 1
        link = self._link
        if link is not None:
            self._leave(link, timeout, "closed")

    # What the two transports do in their own way.

    @abstractmethod
    def _changed(self, link: NatsLink, added: bytes | None) -> None:
        """The topics have changed, and there is a link: tell the server, and wait until it knows.

        Args:
            link: the link.
            added: the topic that was added; None if one was removed.
        """

    @abstractmethod
    def _change_anew(self, link: NatsLink) -> None:
        """The last `_changed` has ended anywhere: let the server know of all topics, without waiting for that."""

    @abstractmethod
    def restore(self, link: NatsLink) -> None:
        """See `Carrier`."""

    @abstractmethod
    def take(self) -> bytes:
        """See `Carrier`."""

    def accepts(self) -> bool:
        """See `Carrier`."""
        return True

    def gathers(self) -> bool:
        """See `Carrier`."""
        return False

    @abstractmethod
    def written(self) -> int:
        """See `Carrier`."""

    @abstractmethod
    def proven(self, mark: int) -> None:
        """See `Carrier`."""

    @abstractmethod
    def lost_connection(self) -> None:
        """See `Carrier`."""

    @abstractmethod
    def is_flushed(self) -> bool:
        """See `Carrier`."""

    @abstractmethod
    def look(self, now: float) -> float:
        """See `Carrier`."""

    @abstractmethod
    def arrived(self, arrived: Arrived) -> None:
        """See `Carrier`."""

    @abstractmethod
    def _parser(self, inbox: bytes) -> Parser:
        """Return what reads a new connection, on which subjects that begin with the inbox are for this client alone."""

    def _left(self) -> int:
        """How many events are neither waiting nor known to have arrived, when the transport is closed."""
        return 0

    def _forget(self) -> None:
        """A link begins: forget what belonged to the last one."""

    def _farewell(self) -> None:
        """The transport is about to be closed: say what the server should know."""

    # Common

    def _note_topic(self, topic: bytes, *, wanted: bool) -> NatsLink | None:
        """Add or remove a topic; return the link that is to be told."""
        with self._changing:
            if wanted:
                self._topics.add(topic)
            else:
                self._topics.discard(topic)
            return self._link

    def _settle(self, topic: bytes, *, wanted: bool) -> None:
        """Let a topic be subscribed or not, whatever an interrupted change has done before."""
        link = self._note_topic(topic, wanted=wanted)
        if link is not None:
            self._change_anew(link)

    def informed(self, info: Info) -> None:
        """See `Carrier`."""
        buffer, most = self._buffer, info.max_payload
        if buffer is not None:
            buffer.limit(Limits(most, max(most - _HEADER_RESERVE_BYTES, most // 2)))

    def complained(self, text: str) -> None:
        """The server does not permit something; see `Carrier`."""
        action = "subscribe" if "subscription" in text.lower() else "publish"
        subject = text.split('"')[1] if text.count('"') >= 2 else ""
        if len(self._denials) >= _MAX_DENIALS:
            self._denials.clear()
        self._denials[subject] = action
        self._note_denied(action, subject)
        if action == "subscribe" and self._buffer is not None:
            self._resubscribe_at = min(self._resubscribe_at, monotonic() + _RESUBSCRIBE_S)
            self._buffer.wake()
        held_back = self._denied.admit(action, 1)
        if held_back is not None:
            is_topic = subject.startswith(self._nats.prefix + ".")
            topic = self._carried.topic(subject.encode()) if is_topic else subject.encode()
            shown = printable(topic.decode(errors="backslashreplace"), 255)
            self._log.warning(
                "the NATS server does not permit this client to %s on %s %r%s",
                action,
                "topic" if is_topic else "subject",
                shown,
                more(held_back, "more denied"),
                action=action,
                topic=shown,
                count=held_back + 1,
            )

    def _note_denied(self, action: str, subject: str) -> None:
        if action == "publish":
            self.drops.add(DropReason.DENIED, 1)

    @abstractmethod
    def _subscriptions(self, link: NatsLink) -> bytes:
        """What makes all subscriptions of the connection again."""

    def _look_after_subscriptions(self, now: float) -> float:
        """Make again what the server has denied: its permissions may have changed. Returns when to look again."""
        link = self._link
        if link is not None and now >= self._resubscribe_at:
            self._resubscribe_at = float("inf")
            link.post(self._subscriptions(link))
            self._resubscribed()
        return self._resubscribe_at

    def _resubscribed(self) -> None:
        """All subscriptions are made again."""

    def _check_denied(self, connection: Connection, subject: str) -> None:
        """Raise if the server has said that this subject must not be subscribed to."""
        if self._denials.get(subject) == "subscribe":
            raise PermissionDenied(str(connection.server), "subscribe", subject, user_of(self._nats, connection.server))

    def _header_bytes(self, first: bytes) -> int:
        """How many bytes the headers of a message take, at most; raises if those of its first frame cannot be sent."""
        own = self._own_header_bytes
        return own if MARK not in first else own + len(block_of(self._carried.outward(first)[1]))

    def _take_info(self, connection: Connection) -> None:
        """Note what the server that has let the client in takes; what another one has denied does not matter any more."""
        buffer = self._buffer
        if buffer is None:  # the transport is closed, and the time of the link is up
            return
        self._denials.clear()
        self._resubscribe_at = float("inf")
        self.informed(connection.info)
        most = connection.info.max_payload
        wanted = self._nats.max_event_bytes
        if wanted is not None and wanted > most:
            self._log.warning(
                "EVENTBUS_MAX_EVENT_BYTES is %d, the NATS server takes %d: raise its max_payload, or lower the setting",
                wanted,
                most,
                size=wanted,
            )

    def _open(self, deadline: Deadline, closings: int) -> None:
        required = self._options.connect_required
        with self._changing:
            opened_here = self._link is None
            link = self._link or self._new_link()
            if opened_here and not required:
                assert self._buffer is not None
                self.send = self._buffer.send
                link.opened = True
        kept = False
        try:
            proven = self._await_ready(link, deadline, closings, opened_here=opened_here)
            if closings != self._closings or self._link is not link:
                self.status.raise_failure()
                raise NotConnected(self.endpoints)
            if required and not proven:
                if self.status.diagnosis is not None:
                    raise self.status.diagnosis()
                raise self._unreachable(deadline.timeout, link.hint)
            with self._changing:
                if self._link is link and self._buffer is not None:
                    self.send = self._buffer.send
            kept = link.opened = True
        finally:
            if opened_here and not kept:
                self._leave(link, 0.0, "no NATS server answered")

    def _await_ready(self, link: NatsLink, deadline: Deadline, closings: int, *, opened_here: bool) -> bool:
        """Wait until messages pass; if no server is required, until the first attempt has failed."""
        required = self._options.connect_required

        def goes_on() -> bool:
            return (
                closings == self._closings
                and self._link is link
                and self.status.diagnosis is None
                and (required or not link.failures)
            )

        while goes_on() and not deadline.passed():
            if self.status.wait_ready(Deadline(min(_POLL_S, deadline.left()))):
                return opened_here or link.prove(deadline, while_=goes_on)
        return False

    def _new_link(self) -> NatsLink:
        register_fork(self)
        buffer = self._new_outgoing()
        link = NatsLink(
            _Carrier(self),
            buffer,
            self._options,
            self._nats,
            self.status,
            partial(self._give_up, buffer),
            self._parser,
            stored=self.is_stored,
        )
        self._buffer, self._inbox = buffer, self._new_inbox()
        self._denials.clear()
        self._forget()
        self.status.change(ClientState.CONNECTING, "opened")
        self._link = link
        try:
            link.start()
        except RuntimeError as error:  # the system lets no more threads start
            self._link = self._buffer = None
            self.status.change(ClientState.CLOSED, str(error))
            raise DescriptorsExhausted(2, 0) from error
        except BaseException:  # a signal handler has raised, before the thread runs or later
            self._leave(link, 0.0, "interrupted")
            raise
        return link

    def _new_outgoing(self) -> Outgoing:
        return Outgoing(self.endpoints, self._options, self.drops, self.remedies, self._refusal, self._header_bytes)

    def _new_inbox(self) -> Inbox:
        # A stream is asked for no more than there is room for. What is under way beyond that must not be dropped.
        return Inbox(maxsize if self.is_stored else self._options.receive_hwm)

    def _give_up(self, buffer: Outgoing) -> None:
        """Close for good, on the link's thread."""
        attempts = self._options.reconnect_attempts
        link = self._link
        if link is not None and self._buffer is buffer:
            self._leave(link, 0.0, "given up", lambda: ReconnectFailed(self.endpoints, attempts, self.remedies.peer))

    def _leave(self, link: NatsLink, linger: float, reason: str, failure: Callable[[], EventBusError] | None = None) -> None:
        """Close this link, unless another thread does."""
        begun: Outgoing | None = None  # its buffer, as soon as this thread has taken it
        try:
            with self._changing:
                if self._link is not link:
                    return
                inbox = self._inbox
                begun, self._link = self._buffer, None
                self.send = self._refuse
                unregister_fork(self)
                # Inside the lock: a listener that opens the transport again, or a thread that is refused, finds this done.
                link.stop_reporting()
                if failure is None:
                    self.status.change(ClientState.CLOSED, reason)
                else:
                    self.status.fail(failure)
            inbox.close()
            if link.is_up():
                self._farewell()
            link.close(linger)
        except BaseException:  # a signal handler has raised: if the link is not this transport's any more, it has to end
            if begun is not None:
                unregister_fork(self)
                link.stop_reporting()
                self.status.change(ClientState.CLOSED, reason)
                inbox.close()
                link.close(0.0)
                self._count_left(begun)
            raise
        assert begun is not None
        self._count_left(begun)

    def _count_left(self, buffer: Outgoing) -> None:
        """Count what was sent, and what of it has not left: the link is closed."""
        left = buffer.clear() + self._left()
        with self._changing:
            self._sent_before += buffer.sent
            if self._buffer is buffer:
                self._buffer = None
        if left:
            self.drops.add(DropReason.CLOSED, left)
        self.drops.flush()

    def _unreachable(self, timeout: float, hint: str) -> ProxyUnreachable:
        return ProxyUnreachable(self.endpoints, timeout, hint, self.remedies.unreachable, self.remedies.peer)

    def _refuse(self, topic: bytes, payload: bytes, count: int = 1) -> NoReturn:
        raise self._refusal()

    def _refusal(self) -> EventBusError:
        """Return the error that says why nothing can be sent."""
        if self._forked:
            return ForkedClient(self.endpoints)
        with self._changing:
            failure = self.status.failure
        return failure or NotConnected(self.endpoints)

    def _check_process(self) -> None:
        if self._forked:
            raise ForkedClient(self.endpoints)

    def _after_fork(self) -> None:
        """Refuse all calls: the connection is the parent's."""
        self._forked = True
        self.send = self._refuse
        if self._link is not None:
            self._link.abandon()
        # New ones of all that has a lock, which another thread may have held.
        self._changing, self._opening = RLock(), RLock()
        self.status = Status(self.endpoints, lambda: ForkedClient(self.endpoints))
        self.drops = DropLog(endpoints=self.endpoints)
        self._inbox = self._new_inbox()
        self._inbox.close()
        self._link = self._buffer = None


class _Carrier:
    """Hands the calls of a link on to a transport: two of its names mean something else there."""

    def __init__(self, transport: NatsTransport) -> None:
        self.restore = transport.restore
        self.take = transport.take
        self.accepts = transport.accepts
        self.written = transport.written
        self.proven = transport.proven
        self.lost = transport.lost_connection
        self.is_flushed = transport.is_flushed
        self.look = transport.look
        self.arrived = transport.arrived
        self.gathers = transport.gathers
        self.informed = transport.informed
        self.complained = transport.complained
