"""Messages within one process, without sockets: for tests, and for services that are put together into one program."""

from collections import deque
from threading import Condition, Lock

from eventbus.deadline import Deadline
from eventbus.errors import NotConnected, SendTimeout
from eventbus.wire import Batch

_BATCH = 256  # messages


class MemoryHub:
    """What a proxy is to the ZeroMQ transport: transports of the same hub hear each other. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._members: list[MemoryTransport] = []

    def join(self, member: "MemoryTransport") -> None:
        """Let a transport hear what is sent from now on."""
        with self._lock:
            if member not in self._members:
                self._members.append(member)

    def leave(self, member: "MemoryTransport") -> None:
        """Undo `join`."""
        with self._lock:
            if member in self._members:
                self._members.remove(member)

    def deliver(self, topic: bytes, payload: bytes, deadline: Deadline) -> bool:
        """Hand the message to every member that subscribes to it; False, and nothing handed over, if one stays full."""
        with self._lock:
            members = [member for member in self._members if member.wants(topic)]
            if not all(member.wait_for_room(deadline) for member in members):
                return False
            for member in members:
                member.put(topic, payload)
            return True


class MemoryTransport:
    """Fulfils `eventbus.transport.Transport` within one process. A full queue holds back its senders; nothing is dropped.

    Args:
        hub: what connects it with others; None for a hub of its own, where it hears only itself.
        queue: how many messages wait for `receive`.
        send_timeout: how many seconds `send` waits for room in a receiver's queue.
    """

    def __init__(self, hub: MemoryHub | None = None, *, queue: int = 100_000, send_timeout: float = 5.0) -> None:
        self._hub = hub or MemoryHub()
        self._limit = queue
        self._send_timeout = send_timeout
        self._changed = Condition()
        self._messages: deque[tuple[bytes, bytes]] = deque()
        self._topics: set[bytes] = set()
        self._open = False
        self._woken = False
        self._sending = Lock()
        self._sent = 0

    @property
    def endpoints(self) -> str:
        return "memory"

    @property
    def sent(self) -> int:
        return self._sent

    @property
    def malformed(self) -> int:
        return 0

    def open(self, timeout: float) -> None:
        with self._changed:
            if self._open:
                return
            self._messages.clear()
            self._open = True
            self._woken = False
        self._hub.join(self)

    def ensure_open(self) -> None:
        if not self._open:
            raise NotConnected(self.endpoints)

    def send(self, topic: bytes, payload: bytes, count: int = 1) -> None:
        self.ensure_open()
        if not self._hub.deliver(topic, payload, Deadline(self._send_timeout)):
            raise SendTimeout(self.endpoints, self._send_timeout, self._limit)
        with self._sending:
            self._sent += count

    def subscribe(self, topic: bytes) -> None:
        with self._changed:
            self._topics.add(topic)

    def unsubscribe(self, topic: bytes) -> None:
        with self._changed:
            self._topics.discard(topic)

    def receive(self) -> Batch | None:
        with self._changed:
            self._changed.wait_for(lambda: self._messages or self._woken or not self._open)
            if not self._open:
                return None
            self._woken = False
            batch = [self._messages.popleft() for _ in range(min(len(self._messages), _BATCH))]
            self._changed.notify_all()
            return [topic for topic, _ in batch], [payload for _, payload in batch]

    def wake(self) -> None:
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def is_connected(self) -> bool:
        return self._open

    def close(self, timeout: float) -> None:
        self._hub.leave(self)
        with self._changed:
            self._open = False
            self._changed.notify_all()

    # The hub's side.

    def wants(self, topic: bytes) -> bool:
        """Whether a subscription matches the topic frame, by prefix as ZeroMQ does."""
        with self._changed:
            return topic.startswith(tuple(self._topics))

    def wait_for_room(self, deadline: Deadline) -> bool:
        """Wait until another message fits in; False if the deadline passed."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self._messages) < self._limit or not self._open, deadline.left())

    def put(self, topic: bytes, payload: bytes) -> None:
        """Queue the message for `receive`. Only the hub calls it, after `wait_for_room`."""
        with self._changed:
            self._messages.append((topic, payload))
            self._changed.notify_all()
