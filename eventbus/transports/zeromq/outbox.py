"""What a publisher keeps beside its socket: messages that wait, and messages that may have to be sent again. Pure."""

from collections import deque
from typing import NamedTuple


class WaitingMessage(NamedTuple):
    """A message that the socket was not given yet.

    Attributes:
        topic: the first frame, without a number.
        payload: the second frame.
        events: how many events it carries.
    """

    topic: bytes
    payload: bytes
    events: int


class Outbox:
    """The messages that wait until the link is ready, oldest first. One thread at a time.

    Args:
        limit: how many messages may wait.

    Attributes:
        events: how many events the waiting messages carry.
    """

    def __init__(self, limit: int) -> None:
        self.events = 0
        self._limit = limit
        self._messages: deque[WaitingMessage] = deque()

    def __bool__(self) -> bool:
        return bool(self._messages)

    def put(self, topic: bytes, payload: bytes, count: int) -> bool:
        """Let a message wait behind the others; return False if the outbox is full."""
        if len(self._messages) >= self._limit:
            return False
        self._messages.append(WaitingMessage(topic, payload, count))
        self.events += count
        return True

    def oldest(self) -> WaitingMessage:
        """Return the oldest message, which stays."""
        return self._messages[0]

    def remove_oldest(self) -> None:
        """Remove the oldest message, because it was sent."""
        self.events -= self._messages.popleft().events

    def clear(self) -> None:
        """Remove all messages."""
        self._messages.clear()
        self.events = 0


# A numbered message that the socket was given: when, in seconds; the first frame, with its number; and the payload. A plain
# tuple, because one is made for each message.
type SentMessage = tuple[float, bytes, bytes]


class ResendBuffer:
    """Numbered messages that may not have arrived, oldest first: those sent recently, and those to be sent again.

    The caller tells the time, in seconds. One thread at a time.

    Args:
        limit: how many recent messages are kept; when there are more, the oldest are forgotten.
        period: how many seconds a recent message is kept.
    """

    def __init__(self, limit: int, period: float) -> None:
        self._period = period
        self._recent: deque[SentMessage] = deque(maxlen=limit)
        self._again: deque[SentMessage] = deque()

    @property
    def has_more(self) -> bool:
        """Whether messages are to be sent again."""
        return bool(self._again)

    def sent(self, now: float, first: bytes, payload: bytes) -> None:
        """Keep a message that the socket was given just now."""
        recent = self._recent
        recent.append((now, first, payload))
        if recent[0][0] < now - self._period:
            self.forget_before(now - self._period)

    def forget_before(self, time: float) -> None:
        """Forget the recent messages that were sent before that time: they have arrived."""
        recent = self._recent
        while recent and recent[0][0] < time:
            recent.popleft()

    def connection_lost(self) -> None:
        """Send all recent messages again, before those that are to be sent again already."""
        self._again.extendleft(reversed(self._recent))
        self._recent.clear()

    def oldest(self) -> SentMessage:
        """Return the oldest message that is to be sent again."""
        return self._again[0]

    def sent_again(self, now: float) -> None:
        """Note that the oldest message was sent again just now."""
        _, first, payload = self._again.popleft()
        self._recent.append((now, first, payload))
