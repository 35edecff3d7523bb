"""The bounded receive buffer that `recv_event()` and `listen_forever()` read."""

from collections import deque
from threading import Condition

UNREAD = 1_000

_LOOK = 0.2  # seconds


class ReceiveBuffer[EventClass]:
    """The newest `limit` received events, oldest first. Any thread may use it.

    When it is full the oldest event makes room, so memory stays flat when nobody reads. Until a reader is
    expected it holds at most `UNREAD` events: keeping more than fit into the processor's cache costs every event a tenth.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._events: deque[EventClass] = deque(maxlen=min(limit, UNREAD))
        self._changed = Condition()
        self._waiting = 0  # readers
        self._open = False
        self.received = 0  # how many have come in
        self.pushed_out = 0  # how many of them had to make room

    def open(self) -> None:
        """Let readers wait."""
        with self._changed:
            self._open = True

    def close(self) -> None:
        """Send every waiting reader home. What is in the buffer stays readable."""
        with self._changed:
            self._open = False
            self._changed.notify_all()

    def expect_reader(self) -> None:
        """Hold as many events as allowed from now on: somebody is going to read them."""
        with self._changed:
            if self._events.maxlen != self._limit:
                self._events = deque(self._events, maxlen=self._limit)

    def extend(self, events: list[EventClass]) -> None:
        """Append these events; old ones make room for them."""
        with self._changed:
            kept = len(self._events)
            self._events.extend(events)
            self.received += len(events)
            self.pushed_out += kept + len(events) - len(self._events)
            if self._waiting:
                self._changed.notify(len(events))

    def get(self, timeout: float | None) -> EventClass | None:
        """Return the oldest event, waiting for one up to `timeout` seconds (None: until `close()`); None when none came."""

        def is_over() -> bool:
            return bool(self._events) or not self._open

        with self._changed:
            self._waiting += 1
            try:
                # A signal handler in this thread that closes just before it waits cannot wake it.
                while not self._changed.wait_for(is_over, _LOOK if timeout is None else timeout) and timeout is None:
                    pass
            finally:
                self._waiting -= 1
            return self._events.popleft() if self._events else None
