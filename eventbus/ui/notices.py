"""What goes wrong on a bus, and what is well again, as a short list that no storm can fill. Pure."""

from collections import OrderedDict
from dataclasses import dataclass
from enum import StrEnum

from eventbus._base.printable import printable

_MAX_TEXT_CHARACTERS = 500
_JOIN_S = 60.0  # the same again within this time is the same notice


class Level(StrEnum):
    """How much a notice matters."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(slots=True)
class Notice:
    """Something that has happened, once or several times.

    Attributes:
        number: its place in the list.
        level: how much it matters.
        kind: one word: ``state``, ``lost``, ``denied``, …
        text: for people, printable.
        first: when it first happened, in seconds since 1970.
        last: when it last happened.
        count: how often.
        version: that of the list at its last change.
    """

    number: int
    level: Level
    kind: str
    text: str
    first: float
    last: float
    count: int
    version: int


class NoticeList:
    """The latest notices. One thread at a time.

    Args:
        limit: how many are kept; the one that changed longest ago is forgotten first.

    Attributes:
        version: grows with each change.
    """

    def __init__(self, limit: int = 200) -> None:
        self.version = 0
        self._limit = limit
        self._made = 0
        self._notices: OrderedDict[int, Notice] = OrderedDict()  # by number; what changed last is the last
        self._numbers: dict[tuple[str, str], int] = {}  # of the latest notice of a kind with a text

    def add(self, level: Level, kind: str, text: str, time: float, count: int = 1) -> None:
        """Add something that happened; the same within a minute only counts.

        Args:
            level: how much it matters.
            kind: one word.
            text: for people; the same text of the same kind is the same notice.
            time: now, in seconds since 1970.
            count: how often it has happened.
        """
        text = printable(text, _MAX_TEXT_CHARACTERS)
        self.version += 1
        known = self._notices.get(self._numbers.get((kind, text), 0))
        if known is not None and time - known.last <= _JOIN_S:
            known.count += count
            known.last = time
            known.version = self.version
            self._notices.move_to_end(known.number)
            return
        self._made += 1
        self._numbers[kind, text] = self._made
        self._notices[self._made] = Notice(self._made, level, kind, text, time, time, count, self.version)
        while len(self._notices) > self._limit:
            number, old = self._notices.popitem(last=False)
            if self._numbers[old.kind, old.text] == number:
                del self._numbers[old.kind, old.text]

    def since(self, version: int) -> list[Notice]:
        """The notices that have changed after this version of the list, the latest last."""
        return [notice for notice in self._notices.values() if notice.version > version]
