"""Messages under way to a stream: which are to be sent again, and when. Pure; the caller tells the time in seconds.

The server acknowledges each message. If an acknowledgement is missing, perhaps the stream has no leader at the moment. Then
the oldest message is sent again alone, with its identifier, by which the server recognises what it has already. Only when it
is stored do all that follow it go again, in their order (go back N). Else those after it could be stored first, by a leader
that has just been elected.
"""

from collections.abc import Callable
from typing import NamedTuple

# For an acknowledgement. The first wait is shorter than an election, which takes 4 s at least: so nothing new is under way
# at the end of one.
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 2.0
_PAUSE_S = 0.1  # after a refusal


class UnderWay(NamedTuple):
    """A message.

    Attributes:
        number: that of its acknowledgement; those that are sent later have higher ones.
        data: as it is written.
        subject: where it is published.
        events: how many events it carries.
        items: how many messages of the send buffer are in it.
    """

    number: int
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
        again: whether `resend` returns anything.
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
        self.again = False
        self._trying = False  # only the oldest, until it is acknowledged

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def events(self) -> int:
        """How many events are under way."""
        return sum(message.events for message in self._messages.values())

    @property
    def has_room(self) -> bool:
        """Whether one more may be sent; not while others are to be sent again."""
        return len(self._messages) < self._limit and self._bytes < self._max_bytes and not (self.again or self._trying)

    @property
    def is_roomy(self) -> bool:
        """Whether as many may be sent again as are under way."""
        return self.has_room and 2 * len(self._messages) < self._limit and 2 * self._bytes < self._max_bytes

    @property
    def last(self) -> int:
        """The number of the newest message."""
        return self._last

    def add(self, message: UnderWay, now: float) -> None:
        """Note that a message is sent now, if that is not known yet."""
        number, size = message.number, len(message.data)
        if number in self._messages:
            return
        if not self._messages:
            self._sent_at, self._wait = now, _FIRST_WAIT_S
        # No calls from here on, so that no signal handler comes between.
        self._last = number
        self._messages[number] = message
        self._bytes += size
        self.items += message.items

    def acknowledged(self, number: int, now: float) -> None:
        """The server has stored the message with this number, which may have left already."""
        oldest = next(iter(self._messages), number)
        if self._remove(number) is None:
            return
        if number > oldest:  # those before it were lost
            self._try_oldest()
        else:
            self._sent_at, self._wait = now, _FIRST_WAIT_S
            self._go_back()

    def not_stored(self, number: int, now: float) -> None:
        """The server does not store the message with this number at the moment: there is no leader, or no space."""
        if number in self._messages:
            self._trying, self.again = True, False
            self._sent_at, self._wait = now, _PAUSE_S

    def refused(self, number: int) -> UnderWay | None:
        """The server will never take the message with this number: give it up. Returns it."""
        removed = self._remove(number)
        self._go_back()
        return removed

    def refused_where(self, is_refused: Callable[[UnderWay], bool]) -> int:
        """The server will never take these messages: give them up. Returns how many events they carry."""
        numbers = [number for number, message in self._messages.items() if is_refused(message)]
        events = sum(removed.events for number in numbers if (removed := self._remove(number)) is not None)
        if numbers:
            self._go_back()
        return events

    def connection_lost(self) -> None:
        """Nothing more is acknowledged of what was sent: send it again."""
        self.again = self._trying = bool(self._messages)
        self._wait = _FIRST_WAIT_S

    def look(self, now: float) -> float:
        """Let messages be sent again if the oldest is not acknowledged in time. Returns when to look again."""
        if not self._messages:
            return float("inf")
        due = self._sent_at + self._wait
        if now >= due:
            self.again = self._trying = True
            return now
        return due

    def resend(self, now: float) -> bytes:
        """Return what is to be sent again: the oldest message, or all of them; else nothing."""
        if not self.again:
            return b""
        self.again = False
        self._sent_at = now
        self._wait = min(2 * self._wait, _LONGEST_WAIT_S)
        again = list(self._messages.values())
        return b"".join(message.data for message in (again[:1] if self._trying else again))

    def _try_oldest(self) -> None:
        if not self._trying:
            self.again = self._trying = True

    def _go_back(self) -> None:
        """The oldest message has left: if it was tried alone, those behind it follow."""
        if self._trying:
            self._trying = False
            self.again = bool(self._messages)

    def _remove(self, number: int) -> UnderWay | None:
        message = self._messages.get(number)
        if message is not None:
            size = len(message.data)
            # As in `add`.
            self._bytes -= size
            self.items -= message.items
            del self._messages[number]
        return message
