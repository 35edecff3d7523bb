"""The messages that a publisher keeps beside its socket: those that wait, and those that may have to be sent again. Pure."""

from collections import deque
from collections.abc import Callable
from itertools import islice, repeat, starmap
from typing import NamedTuple

_MESSAGE_BYTES = 256  # what keeping a message costs beside its payload, about


# A message that the socket was not given yet: its first frame, without a number; its payload; how many events it carries.
# A plain tuple, because one is made for each message.
type WaitingMessage = tuple[bytes, bytes, int]


class Outbox:
    """The messages that wait until the link is ready, or until the socket has room, oldest first.

    Any thread may call `append`; one thread at a time all else.

    Args:
        limit: how many may wait.
        in_events: whether the limit counts events instead of messages.

    Attributes:
        append: adds a message with one event without looking at the limit. A method in C, and so atomic.
    """

    def __init__(self, limit: int, *, in_events: bool = False) -> None:
        self._limit = limit
        self._in_events = in_events
        self._more = 0  # how many events the waiting messages carry beyond one each
        self._messages: deque[WaitingMessage] = deque()
        self.append: Callable[[WaitingMessage], None] = self._messages.append

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def events(self) -> int:
        """How many events the waiting messages carry."""
        return len(self._messages) + self._more

    def put(self, topic: bytes, payload: bytes, count: int) -> bool:
        """Let a message wait behind the others; return False if the outbox is full."""
        if len(self._messages) + (self._more if self._in_events else 0) >= self._limit:
            return False
        self._more += count - 1  # first, because a signal handler may raise as soon as the message is there
        self._messages.append((topic, payload, count))
        return True

    def oldest(self, most: int = 1) -> list[WaitingMessage]:
        """Return up to `most` of the oldest messages, which stay."""
        while True:
            try:
                return list(islice(self._messages, most))
            except RuntimeError:  # a thread or a signal handler has appended just between these two calls
                continue

    def remove(self, oldest: WaitingMessage, messages: int = 1) -> bool:
        """Remove the oldest messages, because they were sent; return False if they were removed already.

        Args:
            oldest: the first of them: it tells whether they are still there.
            messages: how many they are. If more than one, each carries one event.
        """
        removing = starmap(self._messages.popleft, repeat((), messages))
        if not self._messages or self._messages[0] is not oldest:
            return False
        self._more -= oldest[2] - 1
        deque(removing, maxlen=0)  # in C, so that no signal handler can interrupt it half-way, nor just before
        return True

    def clear(self) -> None:
        """Remove all messages."""
        self._messages.clear()
        self._more = 0


# A numbered message that the socket was given: when, in seconds; the first frame, with its number; and the payload. A plain
# tuple, because one is made for each message.
type SentMessage = tuple[float, bytes, bytes]


class _Block(NamedTuple):
    """Messages that are kept, and forgotten, together: most of what keeping a message costs is done once for all of them.

    Attributes:
        time: when the last of them was sent, in seconds.
        size: the bytes of all of them.
        largest: the bytes of the largest payload.
        messages: their first frames and payloads, the oldest first.
    """

    time: float
    size: int
    largest: int
    messages: list[tuple[bytes, bytes]]


class ResendBuffer:
    """Numbered messages that may not have arrived, oldest first: those sent recently, and those to be sent again.

    The caller tells the time, in seconds. One thread at a time.

    Args:
        max_bytes: the most bytes of recent messages; when they have more, the oldest are forgotten.

    Attributes:
        recent_bytes: the bytes of all recent messages: of their payloads, and 256 for each.
        keep: keeps a first frame and a payload that the socket was given just now; a method in C. Call `date` soon: messages
            that are not dated count neither in time nor in bytes.
    """

    def __init__(self, max_bytes: int) -> None:
        self.recent_bytes = 0
        self._fresh: list[tuple[bytes, bytes]] = []  # what was kept since the last call of `date`
        self.keep: Callable[[tuple[bytes, bytes]], None] = self._fresh.append
        self._dating = False
        self._max_bytes = max_bytes
        self._recent: deque[_Block] = deque()
        self._again: deque[SentMessage] = deque()
        # To find messages that the proxy refuses; see `refused`.
        self._lost = 0  # how many messages at the beginning of `_again` the last connection was given
        self._blamed: set[bytes] = set()  # first frames of messages with which a connection has ended
        self._largest_passed = 0  # bytes of the largest payload that has passed the proxy

    @property
    def has_more(self) -> bool:
        """Whether messages are to be sent again."""
        return bool(self._again)

    def sent(self, now: float, first: bytes, payload: bytes) -> None:
        """Keep a message that the socket was given just now."""
        self._fresh.append((first, payload))
        self.date(now)

    def date(self, now: float) -> None:
        """Note that what has no date was sent by now; forget the oldest messages if there are too many bytes."""
        if self._fresh and not self._dating:  # a signal handler that sends meanwhile must not get before what it interrupts
            self._dating = True
            try:
                self._date(now)
            finally:
                self._dating = False

    def _date(self, now: float) -> None:
        messages = self._fresh[:]
        sizes = [len(payload) for _, payload in messages]
        block = _Block(now, sum(sizes) + _MESSAGE_BYTES * len(messages), max(sizes), messages)
        # Here and below signal handlers find all done, or nothing: none is called before that of `deque` has returned.
        self.recent_bytes += block.size
        del self._fresh[: len(messages)]
        self._recent.append(block)
        while self.recent_bytes > self._max_bytes:
            self.recent_bytes -= self._recent[0].size
            self._recent.popleft()
            if not self._recent:  # the block itself has too many
                del messages[: 1 + len(messages) // 2]
                self._fresh[:0] = messages
                if messages:
                    self._date(now)

    def forget_before(self, time: float) -> None:
        """Forget the recent messages that were sent before that time: they have passed the proxy."""
        recent = self._recent
        while recent and recent[0].time < time:
            passed = recent[0]
            self.recent_bytes -= passed.size
            recent.popleft()
            self._largest_passed = max(self._largest_passed, passed.largest)

    def connection_lost(self) -> None:
        """Send all recent messages again, before those that are to be sent again already."""
        self.date(self._recent[-1].time if self._recent else 0.0)
        lost = [(block.time, first, payload) for block in self._recent for first, payload in block.messages]
        if lost:
            self._lost = len(lost)
            self._again.extendleft(reversed(lost))
            self._recent.clear()
            self.recent_bytes = 0

    def oldest(self) -> SentMessage:
        """Return the oldest message that is to be sent again."""
        return self._again[0]

    def sent_again(self, now: float) -> None:
        """Note that the oldest message was sent again just now."""
        _, first, payload = self._again.popleft()
        self.sent(now, first, payload)

    def remove_oldest(self) -> None:
        """Do not send the oldest message again."""
        self._again.popleft()

    def refused(self, at_least: int) -> SentMessage | None:
        """Note that the proxy, which still runs, has ended the last connection; return a message that is given up for it.

        A proxy ends a connection when a payload is too large for it, and does not say so. If any of the messages that the
        connection was given is too large, the largest is. It is given up if a second connection has ended with it.

        Args:
            at_least: the size of a payload in bytes that no proxy refuses. No larger payload than one that has passed is
                refused either.
        """
        given = islice(self._again, self._lost)
        self._lost = 0
        largest = max(given, key=_size, default=None)
        if largest is None or _size(largest) <= max(at_least, self._largest_passed):
            return None
        if largest[1] not in self._blamed:
            self._blamed.add(largest[1])
            return None
        self._blamed.discard(largest[1])
        self._again.remove(largest)
        return largest

    def proxy_replaced(self) -> None:
        """Forget what was learned of the proxy: another one may have another limit."""
        self._lost = 0
        self._blamed.clear()
        self._largest_passed = 0


def _size(message: SentMessage) -> int:
    return len(message[2])
