"""What has arrived and waits for `receive`: the link's reader puts messages in, the consumer takes them out in batches."""

from collections import deque
from collections.abc import Callable, Sequence
from threading import Condition, RLock

# Messages. The objects of so many events, three or more each, are fewer than those after which Python's garbage collector
# looks at them all: it takes up to a third of a subscriber's time otherwise.
_MAX_BATCH = 256


class Delivery(tuple[list[bytes], list[bytes]]):
    """A batch, with what confirms each of its messages.

    Attributes:
        acks: as many as there are messages; empty if nothing is to be confirmed.
    """

    acks: tuple[bytes, ...] = ()


class Inbox:
    """A queue with a limit. Any thread may use it; one at a time may `get`.

    Args:
        limit: how many messages may wait.

    Attributes:
        interrupt: see `reading.Awaited`.
    """

    interrupt: Callable[[], object] | None = None

    def __init__(self, limit: int) -> None:
        self._limit = limit
        # Reentrant, because a signal handler may wake the thread that it interrupts. Not entered as a Condition: its methods
        # are functions in Python, which take long if they run once in a millisecond.
        self._lock = RLock()
        self._changed = Condition(self._lock)
        self._waits = False  # whether `get` waits
        self._batches: deque[Delivery] = deque()
        self._messages = 0
        self._woken = False
        self._closed = False

    def __len__(self) -> int:
        return self._messages

    @property
    def is_due(self) -> bool:
        """Whether `get` would return at once."""
        return bool(self._batches) or self._woken or self._closed

    def put(self, firsts: list[bytes], payloads: list[bytes], acks: Sequence[bytes] = ()) -> int:
        """Put messages in; return how many of them there was no room for."""
        with self._lock:
            count, dropped = len(firsts), 0
            if self._messages + count > self._limit:
                count = self._limit - self._messages
                dropped = len(firsts) - count
                firsts, payloads, acks = firsts[:count], payloads[:count], acks[:count]
            self._messages += count
            batches = self._batches
            if batches and len((last := batches[-1])[0]) + count <= _MAX_BATCH:
                last[0].extend(firsts)
                last[1].extend(payloads)
                if acks:
                    last.acks += tuple(acks)
            elif count <= _MAX_BATCH:
                batches.append(made := Delivery((firsts, payloads)))
                if acks:
                    made.acks = tuple(acks)
            else:
                for start in range(0, count, _MAX_BATCH):
                    part = slice(start, start + _MAX_BATCH)
                    batches.append(made := Delivery((firsts[part], payloads[part])))
                    if acks:
                        made.acks = tuple(acks[part])
            if self._waits or self.interrupt is not None:
                self._notify()
            return dropped

    def get(self) -> Delivery | None:
        """Wait for messages; an empty batch after `wake`, None once closed."""
        with self._lock:
            while not (self._batches or self._woken or self._closed):
                self._waits = True
                self._changed.wait()
            self._waits = False
            if self._closed:
                return None
            self._woken = False
            if not self._batches:
                return Delivery(([], []))
            batch = self._batches.popleft()
            self._messages -= len(batch[0])
            return batch

    def take_back(self) -> list[bytes]:
        """Take out all that waits; return what would confirm it."""
        with self._lock:
            acks = [ack for batch in self._batches for ack in batch.acks]
            self._batches.clear()
            self._messages = 0
            return acks

    def wake(self) -> None:
        """Make a `get` that waits, or else the next one, return."""
        with self._lock:
            self._woken = True
            self._notify()

    def close(self) -> None:
        """Drop what waits; every `get` returns None from now on."""
        with self._lock:
            self._closed = True
            self._batches.clear()
            self._messages = 0
            self._notify()

    def _notify(self) -> None:
        if self._waits:
            self._changed.notify_all()
        if (interrupt := self.interrupt) is not None:
            interrupt()
