"""Chooses the events to show when more come than people can read: some of each kind, so that rare ones are seen. Pure."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from eventbus.wire.frames import ARRAY

_WINDOW_S = 0.5
_MAX_KINDS = 10_000  # that are remembered within a window
_LOOK_BYTES = 1_024  # of a single event: its type comes early
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

    Each kind has an equal share of the events that may be shown. What others leave is given to nobody within a window of
    half a second, but shares follow the number of kinds. A kind that is new in a window is shown once even if the others
    have used up everything, up to twice the rate.

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

    def choose(self, topics: Sequence[bytes], payloads: Iterable[bytes], now: float) -> list[Choice]:
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
            self._total = self._looked = 0
        chosen: list[Choice] = []
        for index, (topic, payload) in enumerate(zip(topics, payloads, strict=False)):
            if self._total >= 2 * self._budget or len(self._used) >= _MAX_KINDS:
                break
            wanted = self._wanted(topic, payload)
            if wanted:
                chosen.append(Choice(index, wanted))
        return chosen

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
