"""Chooses the events to show when more come than people can read: some of each kind, so that rare ones are seen. Pure."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from eventbus.wire.frames import ARRAY

_WINDOW_S = 0.5
_MAX_KINDS = 10_000  # that are remembered within a window
_LOOK_BYTES = 1_024  # of a single event: its type comes early
_MAX_LOOKS = 5_000  # messages within a window; beyond that, not each one of a fast topic is looked at
_FEW_MESSAGES = 4  # of a topic in a batch, which are looked at in any case
_MAX_LOOK_BYTES = 4_194_304  # of all payloads within a window; beyond that, types are not looked for
_TYPE = re.compile(rb'"type"\s*:\s*"([^"\\]{1,200})"')

ANY_TYPE = b""


class Choice(NamedTuple):
    """A message to show.

    Attributes:
        place: its index in its batch.
        wanted: how many of its events to show, by type; `ANY_TYPE` stands for every type.
    """

    place: int
    wanted: dict[bytes, int]


class Sampler:
    """Chooses messages. A kind is a topic with a type. One thread at a time. Times are seconds on a monotonic clock.

    Each kind has an equal share of the events that may be shown in half a second; shares follow the number of kinds. A kind
    that is new is shown once even if the others have used up everything, up to twice the rate. Above 10,000 messages per
    second, a rare type on a fast topic may be missed; a rare topic is not.

    Args:
        per_second: how many events to show.
        now: the start.
    """

    def __init__(self, per_second: int, now: float) -> None:
        self._budget = max(1, round(per_second * _WINDOW_S))
        self._began = now
        self._share = self._budget
        self._used: Counter[tuple[bytes, bytes]] = Counter()
        self._total = 0
        self._looked = 0
        self._passed = 0  # messages in this window
        self._stride = 1

    def choose(self, topics: Sequence[bytes], payloads: Sequence[bytes], now: float) -> list[Choice]:
        """Return which messages of a batch to show, in their order.

        Args:
            topics: the topic of each.
            payloads: as many.
            now: when they came.
        """
        if now - self._began >= _WINDOW_S:
            self._began = now
            self._share = max(1, self._budget // max(1, len(self._used)))
            self._used.clear()
            self._stride = 1 + self._passed // _MAX_LOOKS
            self._total = self._looked = self._passed = 0
        self._passed += len(topics)
        chosen: list[Choice] = []
        for place in self._places(topics):
            if self._total >= 2 * self._budget or len(self._used) >= _MAX_KINDS:
                break
            wanted = self._wanted(topics[place], payloads[place])
            if wanted:
                chosen.append(Choice(place, wanted))
        return chosen

    def _places(self, topics: Sequence[bytes]) -> Sequence[int]:
        """Which messages to look at: all as long as there are not too many, then some of those on fast topics."""
        if self._stride == 1:
            return range(len(topics))
        rare = {topic for topic, count in Counter(topics).items() if count <= _FEW_MESSAGES}
        some = range(0, len(topics), self._stride)
        return sorted({*some, *(place for place, topic in enumerate(topics) if topic in rare)}) if rare else some

    def _wanted(self, topic: bytes, payload: bytes) -> dict[bytes, int]:
        wanted: dict[bytes, int] = {}
        for kind, count in self._kinds(payload).items():
            used = self._used[topic, kind]
            limit = self._share if self._total < self._budget else 1
            take = min(count, limit - used, 2 * self._budget - self._total)
            self._used[topic, kind] += max(0, take)
            if take > 0:
                self._total += take
                wanted[kind] = take
        return wanted

    def _kinds(self, payload: bytes) -> dict[bytes, int]:
        """How many events of each type seem to be in a payload. It is not decoded, so this is a guess."""
        if self._looked > _MAX_LOOK_BYTES:
            return {ANY_TYPE: 1}
        if payload[:1] == ARRAY:
            self._looked += len(payload)
            return Counter(_TYPE.findall(payload)) or {ANY_TYPE: self._share}
        self._looked += min(len(payload), _LOOK_BYTES)
        found = _TYPE.search(payload, 0, _LOOK_BYTES)
        return {found[1] if found else ANY_TYPE: 1}
