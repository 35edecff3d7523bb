"""Messages under way to a stream: which are to be sent again, and when. Pure; the caller tells the time in seconds.

The server acknowledges each message. One whose acknowledgement is missing is sent again with all that follow it (go back N),
in their order and with their identifiers, by which the server recognises those that it has already.
"""

from typing import NamedTuple

_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 5.0


class UnderWay(NamedTuple):
    """A message.

    Attributes:
        data: as it is written.
        subject: where it is published.
        events: how many events it carries.
        items: how many messages of the send buffer are in it.
    """

    data: bytes
    subject: bytes
    events: int
    items: int


class Window:
    """Messages that were sent and are not acknowledged, oldest first. One thread at a time.

    Args:
        limit: how many may be under way.
        max_bytes: how many bytes they may have; one message may have more.

    Attributes:
        items: how many messages of the send buffer are in them.
    """

    def __init__(self, limit: int = 256, max_bytes: int = 8_388_608) -> None:
        self.items = 0
        self._limit = limit
        self._max_bytes = max_bytes
        self._bytes = 0
        self._messages: dict[int, UnderWay] = {}  # by number; dictionaries keep their order
        self._last = 0
        self._sent_at = 0.0  # when the oldest was sent last
        self._wait = _FIRST_WAIT_S
        self._again = False

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def events(self) -> int:
        """How many events are under way."""
        return sum(message.events for message in self._messages.values())

    @property
    def has_room(self) -> bool:
        """Whether one more may be sent; not while others are to be sent again."""
        return len(self._messages) < self._limit and self._bytes < self._max_bytes and not self._again

    @property
    def last(self) -> int:
        """The number of the newest message."""
        return self._last

    def next(self) -> int:
        """The number of the next message."""
        return self._last + 1

    def add(self, message: UnderWay, now: float) -> None:
        """Note that the message with the next number is sent now."""
        if not self._messages:
            self._sent_at, self._wait = now, _FIRST_WAIT_S
        self._last += 1
        self._messages[self._last] = message
        self._bytes += len(message.data)
        self.items += message.items

    def acknowledged(self, number: int, now: float) -> None:
        """The server has stored the message with this number, which may have left already."""
        oldest = next(iter(self._messages), number)
        if self._remove(number) is None:
            return
        if number > oldest:
            self._again = True  # those before it were lost, as in an election
        else:
            self._sent_at, self._wait = now, _FIRST_WAIT_S

    def refused(self, number: int) -> UnderWay | None:
        """The server will never take the message with this number: give it up. Returns it."""
        return self._remove(number)

    def refused_on(self, subject: bytes) -> int:
        """The server takes no message on this subject: give them up. Returns how many events they carry."""
        numbers = [number for number, message in self._messages.items() if message.subject == subject]
        return sum(removed.events for number in numbers if (removed := self._remove(number)) is not None)

    def connection_lost(self) -> None:
        """Nothing more is acknowledged of what was sent: send it again."""
        self._again = bool(self._messages)
        self._wait = _FIRST_WAIT_S

    def look(self, now: float) -> float:
        """Let messages be sent again if the oldest is not acknowledged in time. Returns when to look again."""
        if not self._messages:
            return float("inf")
        due = self._sent_at + self._wait
        if now >= due:
            self._again = True
            return now
        return due

    def resend(self, now: float) -> bytes:
        """Return all messages again, if they are to be sent again; else nothing."""
        if not self._again:
            return b""
        self._again = False
        self._sent_at = now
        self._wait = min(2 * self._wait, _LONGEST_WAIT_S)
        return b"".join(message.data for message in self._messages.values())

    def _remove(self, number: int) -> UnderWay | None:
        message = self._messages.pop(number, None)
        if message is not None:
            self._bytes -= len(message.data)
            self.items -= message.items
        return message
