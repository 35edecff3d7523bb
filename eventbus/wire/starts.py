"""Where a subscription begins, as it is said and as it is asked of a historian. Pure."""

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from eventbus._base.moments import moment_of
from eventbus.policies import Start
from eventbus.wire.history import Query

_RANKS = {Start.ALL: 0, None: 1, Start.LAST: 2, Start.NEW: 3}


@dataclass(frozen=True, slots=True)
class From:
    """Where a subscription begins.

    Attributes:
        kind: a `Start`, or None for a time.
        since: that time, in seconds since 1970.
    """

    kind: Start | None
    since: float | None = None

    def wider(self, other: Self) -> Self:
        """Return the one of both that has more events."""
        return min(self, other, key=lambda one: one.rank)

    @property
    def rank(self) -> tuple[int, float]:
        """Lower is wider."""
        return _RANKS[self.kind], self.since or 0.0

    def query(self, topics: tuple[bytes, ...] | None) -> Query:
        """The query for it."""
        return Query(topics, last=1 if self.kind is Start.LAST else None, since=self.since)


def start_of(start: str | datetime | timedelta) -> From:
    """Read where a subscription is to begin: a `Start`, a time, or how long ago; see `eventbus._base.moments`.

    Raises:
        InvalidSettings: it is neither.
    """
    if isinstance(start, str) and start in set(Start):
        return From(Start(start))
    return From(None, moment_of(start, time.time()))
