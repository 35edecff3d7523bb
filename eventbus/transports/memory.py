"""Messages within one process, without sockets: for tests, and for several services in one program."""

from collections import deque
from threading import Condition, RLock

from eventbus._base.deadline import LONGEST_S
from eventbus._base.forks import register_fork, unregister_fork
from eventbus.errors import ForkedClient, NotConnected, SendBufferFull, SendTimeout
from eventbus.observe.state import ClientState, Status
from eventbus.observe.stats import DropLog
from eventbus.transports.contract import Remedies
from eventbus.transports.waiting import may_wait
from eventbus.wire.frames import Batch
from eventbus.wire.private_topics import EVERYTHING_TOPIC

_MAX_BATCH_MESSAGES = 256
_RECEIVER = "receiver"  # what may be away when there is no room


class MemoryHub:
    """Connects memory transports, as a proxy connects those of ZeroMQ. Any thread may use it."""

    def __init__(self) -> None:
        self._changed = Condition()  # guards all members' queues as well
        self._members: list[_Member] = []
        register_fork(self)

    def join(self, member: "_Member") -> None:
        """Let a member receive what is sent from now on."""
        with self._changed:
            self._members.append(member)

    def leave(self, member: "_Member") -> None:
        """Undo `join`, and wake the threads that wait for room in the member's queue."""
        with self._changed:
            self._members.remove(member)
            self._changed.notify_all()

    def send(self, topic: bytes, payload: bytes, timeout: float, sender: "_Member | None" = None) -> bool:
        """Give a message to each member that subscribes to it; return False, and give it to none, if a queue stays full.

        It does the same as soon as the sender has left, if it is given.
        """

        def interested() -> list[_Member]:
            return [member for member in self._members if topic.startswith(tuple(member.topics))]

        def has_left() -> bool:
            return sender is not None and sender not in self._members

        with self._changed:
            settled = self._changed.wait_for(
                lambda: has_left() or all(member.has_room() for member in interested()), min(timeout, LONGEST_S)
            )
            if not settled or has_left():
                return False
            for member in interested():
                member.messages.append((topic, payload))
            self._changed.notify_all()
            return True

    def has_subscriber(self, topic: bytes) -> bool:
        """Whether a member subscribes to the topic."""
        with self._changed:
            return any(topic.startswith(tuple(member.topics)) for member in self._members)

    def has_answerer(self, topic: bytes) -> bool:
        """Whether one does that may answer; see `KnowsWatchers`."""
        with self._changed:
            return any(
                topic.startswith(tuple(filter(None, member.topics))) or {b"", EVERYTHING_TOPIC} <= set(member.topics)
                for member in self._members
            )

    def receive(self, member: "_Member") -> Batch | None:
        """Wait until the member has messages, is woken or has left; see `Transport.receive`."""
        with self._changed:
            member.receiving = True
            self._changed.wait_for(lambda: member.messages or member.woken or member not in self._members)
            member.receiving = False
            if member not in self._members:
                return None
            member.woken = False
            batch = [member.messages.popleft() for _ in range(min(len(member.messages), _MAX_BATCH_MESSAGES))]
            self._changed.notify_all()
            return [topic for topic, _ in batch], [payload for _, payload in batch]

    def is_idle(self, member: "_Member") -> bool:
        """Whether a thread waits in `receive`, and there is nothing for it."""
        with self._changed:
            return member.receiving and not member.messages and not member.woken

    def wake(self, member: "_Member") -> None:
        """See `Transport.wake`."""
        with self._changed:
            member.woken = True
            self._changed.notify_all()

    def _after_fork(self) -> None:
        """Begin anew: the members are the parent's, and one of its threads may have held the lock."""
        self._changed, self._members = Condition(), []


class _Member:
    """An open transport, as its hub sees it."""

    def __init__(self, topics: frozenset[bytes], limit: int) -> None:
        self.topics = topics
        self.messages: deque[tuple[bytes, bytes]] = deque()
        self.woken = False
        self.receiving = False
        self._limit = limit

    def has_room(self) -> bool:
        return len(self.messages) < self._limit


class MemoryTransport:
    """Fulfils `eventbus.transports.Transport` within one process. A full queue makes its senders wait; nothing is dropped.

    Args:
        hub: transports of the same hub receive from each other; None: a hub of its own.
        queue: the number of messages that wait for `receive`.
        send_timeout: the seconds that `send` waits while a receiver's queue is full.
    """

    endpoints = "memory"
    remedies = Remedies()
    confirms = False
    malformed = 0
    lost = 0
    repeated = 0
    max_payload_bytes = None

    def __init__(self, hub: MemoryHub | None = None, *, queue: int = 100_000, send_timeout: float = 5.0) -> None:
        self._hub = hub or MemoryHub()
        self._limit = queue
        self._send_timeout = send_timeout
        self._lock = RLock()  # reentrant: a signal handler may close the transport whose method it has interrupted
        self._topics: frozenset[bytes] = frozenset()
        self._member: _Member | None = None
        self._forked = False
        self._sent = 0
        self.status = Status(self.endpoints)
        self.drops = DropLog(endpoints=self.endpoints)

    @property
    def sent(self) -> int:
        return self._sent

    def open(self, timeout: float) -> None:
        self._check_process()
        with self._lock:
            if self._member is None:
                register_fork(self)
                self._member = _Member(self._topics, self._limit)
                self._hub.join(self._member)
                self.status.change(ClientState.READY, "opened")

    def ensure_open(self) -> None:
        self._check_process()
        if self._member is None:
            raise NotConnected(self.endpoints)

    def send(self, topic: bytes, payload: bytes, count: int = 1) -> bool:
        member = self._member
        if member is None:
            self._check_process()
            raise NotConnected(self.endpoints)
        if not self._hub.send(topic, payload, timeout := self._send_timeout if may_wait() else 0.0, member):
            if self._member is not member:
                raise NotConnected(self.endpoints)
            if timeout != self._send_timeout:
                raise SendBufferFull(self.endpoints, self._limit, _RECEIVER)
            raise SendTimeout(self.endpoints, self._limit, timeout, _RECEIVER)
        with self._lock:
            self._sent += count
        return True

    def subscribe(self, topic: bytes) -> None:
        self._check_process()
        with self._lock:
            try:
                self._topics |= {topic}
            finally:  # also after a signal handler has raised
                self._tell_member()

    def unsubscribe(self, topic: bytes) -> None:
        self._check_process()
        with self._lock:
            try:
                self._topics -= {topic}
            finally:
                self._tell_member()

    def receive(self) -> Batch | None:
        member = self._member
        return None if member is None else self._hub.receive(member)

    def confirm(self, batch: Batch) -> None: ...

    def wake(self) -> None:
        member = self._member
        if member is not None:
            self._hub.wake(member)

    def is_connected(self) -> bool:
        return self._member is not None

    def sibling(self) -> "MemoryTransport":
        return MemoryTransport(self._hub, queue=self._limit, send_timeout=self._send_timeout)

    def has_subscriber(self, topic: bytes, timeout: float = 0.0) -> bool:
        return self._hub.has_subscriber(topic)

    def has_answerer(self, topic: bytes, timeout: float = 0.0) -> bool:
        return self._hub.has_answerer(topic)

    def close(self, timeout: float) -> None:
        with self._lock:
            member, self._member = self._member, None
            unregister_fork(self)
            self.status.change(ClientState.CLOSED, "closed")
        if member is not None:
            self._hub.leave(member)

    def _check_process(self) -> None:
        if self._forked:
            raise ForkedClient(self.endpoints)

    def _after_fork(self) -> None:
        """Refuse all calls: nobody in this process receives what is sent."""
        self._forked = True
        self._lock, self._member = RLock(), None
        self.status = Status(self.endpoints, lambda: ForkedClient(self.endpoints))
        self.drops = DropLog(endpoints=self.endpoints)

    def _tell_member(self) -> None:
        if self._member is not None:
            self._member.topics = self._topics
