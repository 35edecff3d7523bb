"""The bounded receive buffer that `recv_event()` and `listen_forever()` read."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition, RLock, Thread, current_thread

from eventbus._base.deadline import LONGEST_S
from eventbus.observe.stats import DropLog, DropReason
from eventbus.policies import ReceivePolicy

UNREAD = 1_000
_UNREAD_BYTES = 67_108_864  # of large events

_POLL_INTERVAL_S = 0.2


class ReceiveBuffer[EventClass]:
    """Received events that wait to be read, oldest first. Any thread may use it; one at a time calls `extend`.

    Until a reader is expected, it holds the newest events, at most `UNREAD`, and fewer large ones (see `make_room`): more
    than fit into the processor's cache make every event a tenth slower, and perhaps nobody will ever read. From then on it
    holds up to `limit` events, and follows the policy when it is full.

    Args:
        limit: the number of events that it may hold.
        policy: what happens when it is full.
        drops: counts the events that are dropped while there is a reader; None for one of its own.

    Attributes:
        received: the number of events that have come in.
        unread: the number of these that made room for others before a reader was expected.
        closings: how often it was closed: what a reader waits for ends then, also if it is open again at once.
    """

    def __init__(self, limit: int, policy: ReceivePolicy = ReceivePolicy.DROP_OLDEST, drops: DropLog | None = None) -> None:
        self._limit = limit
        self._policy = ReceivePolicy(policy)
        self._in_force = ReceivePolicy.DROP_OLDEST  # until a reader is expected
        self._drops = DropLog() if drops is None else drops
        self._events: deque[EventClass] = deque(maxlen=min(limit, UNREAD))
        self._lock = RLock()  # a signal handler may close the client while its thread reads
        self._arrived = Condition(self._lock)
        self._taken = Condition(self._lock)
        self._waiting = 0  # readers
        self._wakers: list[Callable[[], object]] = []  # of those readers that wait on event loops
        self._open = False
        self._held = True  # whether `extend` may wait for readers
        self._writer: Thread | None = None  # the thread that called `extend` last, if the policy may make it wait
        self._expected = False
        self.received = 0
        self.unread = 0
        self.closings = 0

    def open(self) -> None:
        """Let readers wait."""
        with self._lock:
            self._open = True

    def close(self) -> None:
        """End the waiting of all readers. Events in the buffer stay readable."""
        with self._lock:
            self._open = False
            self.closings += 1
            self._arrived.notify_all()
            self._wake()

    def hold(self) -> None:
        """Let `extend` wait for readers if the policy is to block, as it does from the start."""
        with self._lock:
            self._held = True

    def release(self) -> None:
        """Let `extend` append events beyond the limit until `hold`, instead of waiting."""
        with self._lock:
            self._held = False
            self._taken.notify_all()

    def expect_reader(self) -> None:
        """Hold up to the limit from now on, and follow the policy, because this thread is going to read."""
        with self._lock:
            self._expected = True
            # The writer cannot wait for a reader in its own thread, such as a callback.
            if self._policy is not ReceivePolicy.BLOCK or current_thread() is not self._writer:
                self._in_force = self._policy
            room = None if self._in_force is ReceivePolicy.BLOCK else self._limit
            if self._events.maxlen != room:
                self._events = deque(self._events, maxlen=room)

    def is_about_to_be_read(self) -> bool:
        """Whether there are events, and a thread that waits for them."""
        with self._lock:
            return bool(self._waiting and self._events)

    def extend(self, events: list[EventClass]) -> None:
        """Append these events, or as many as the policy allows. If the policy is to block, return when all are in."""
        with self._lock:
            dropped = self._append(events) if self._policy is _DROP_OLDEST else self._append_by_policy(events)
        if dropped:
            self._drops.add(DropReason.RECEIVE_BUFFER, dropped)

    def append(self, event: EventClass) -> None:
        """Append one event, as `extend` does."""
        with self._lock:
            if self._policy is not _DROP_OLDEST:
                dropped = self._append_by_policy([event])
            else:
                kept = self._events
                pushed_out = len(kept) == kept.maxlen
                kept.append(event)
                self.received += 1
                if self._waiting:
                    self._tell(1)
                dropped = int(pushed_out and self._expected)
                self.unread += pushed_out - dropped
        if dropped:
            self._drops.add(DropReason.RECEIVE_BUFFER, dropped)

    def make_room(self, size: int) -> None:
        """Hold no more events than make 64 MiB if each is so large, until a reader is expected. Call it before a large one.

        Args:
            size: bytes of the next event as JSON.
        """
        with self._lock:
            if not self._expected:
                while self._events and (len(self._events) + 1) * size > _UNREAD_BYTES:
                    self._events.popleft()
                    self.unread += 1

    def get(self, timeout: float | None, closings: int | None = None) -> EventClass | None:
        """Wait for an event up to `timeout` seconds (None: until `close`). Returns the oldest one; None if none came.

        Args:
            timeout: seconds.
            closings: the count when the reader began; None: now.
        """
        began = self.closings if closings is None else closings

        def is_over() -> bool:
            return bool(self._events) or not self._open or self.closings != began

        wait = _POLL_INTERVAL_S if timeout is None else min(timeout, LONGEST_S)
        with self._lock:
            self._waiting += 1
            try:
                # If a signal handler closes it in this thread just before the wait, nothing wakes this thread.
                while not self._arrived.wait_for(is_over, wait) and timeout is None:
                    pass
            finally:
                self._waiting -= 1
            if not self._events:
                return None
            event = self._events.popleft()
            if self._in_force is ReceivePolicy.BLOCK:
                self._taken.notify()
            return event

    @property
    def is_open(self) -> bool:
        """Whether readers may wait."""
        return self._open

    @contextmanager
    def waking(self, wake: Callable[[], object]) -> Iterator[None]:
        """Call `wake` at most once within the block, as soon as events come in or the buffer is closed.

        It is called under the lock, by the thread that brings them. It must not block or raise.
        """
        with self._lock:
            self._waiting += 1
            self._wakers.append(wake)
        try:
            yield
        finally:
            with self._lock:
                self._waiting -= 1
                if wake in self._wakers:
                    self._wakers.remove(wake)

    def _tell(self, count: int) -> None:
        """Wake so many readers that wait."""
        self._arrived.notify(count)
        if self._wakers:
            self._wake()

    def _wake(self) -> None:
        wakers, self._wakers = self._wakers, []
        for wake in wakers:
            wake()

    def _append(self, events: list[EventClass]) -> int:
        """Append all events. Returns how many others made room that a reader would have got."""
        count = len(events)
        pushed_out = len(self._events) + count
        self._events.extend(events)
        pushed_out -= len(self._events)
        self.received += count
        if self._waiting:
            self._tell(count)
        if self._expected:
            return pushed_out
        self.unread += pushed_out
        return 0

    def _append_by_policy(self, events: list[EventClass]) -> int:
        self._writer = current_thread()
        dropped = 0
        match self._in_force:
            case ReceivePolicy.DROP_NEWEST:
                room = self._limit - len(self._events)
                dropped = max(0, len(events) - room)
                self.received += dropped
                events = events[:room]
            case ReceivePolicy.BLOCK:
                while self._held and len(events) > (room := max(0, self._limit - len(self._events))):
                    self._append(events[:room])
                    events = events[room:]
                    self._taken.wait_for(lambda: not self._held or len(self._events) < self._limit)
            case ReceivePolicy.DROP_OLDEST:
                pass  # the deque does this itself
        return dropped + self._append(events)


_DROP_OLDEST = ReceivePolicy.DROP_OLDEST  # a global is looked up faster than an enum's member
