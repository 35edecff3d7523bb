"""Joining: single events of one topic that wait to be sent anyway share a message, as a JSON array. Pure."""

from collections.abc import Callable, Sequence
from itertools import takewhile
from operator import itemgetter

from eventbus.wire.frames import MAX_PACKED_BYTES, pack

MAX_JOINED = 256
"""How many events share a message at most: more would make it no cheaper."""

_OBJECT = b"{"  # how the JSON of one event begins; an array begins otherwise, and so does what is compressed
_first_byte = itemgetter(0)

type Waiting = tuple[bytes, bytes, int]
"""A message that waits to be sent: its first frame, its payload, and how many events it carries."""


# A message that takes the place of some that wait: its first frame, its payload, how many events it carries, and how many
# messages' place it takes. A plain tuple, because one is made for each message.
type Joined = tuple[bytes, bytes, int, int]


class Joiner:
    """Joins messages. Any thread may use it.

    Args:
        limit: the largest array, in bytes of JSON.
        shrink: makes a payload smaller, if it can.
    """

    def __init__(self, limit: int = MAX_PACKED_BYTES, shrink: Callable[[bytes], bytes] = bytes) -> None:
        self._limit = min(limit, MAX_PACKED_BYTES)
        self._shrink = shrink

    def join(self, waiting: Sequence[Waiting], accepted: int | None = None) -> Joined:
        """Return the message that takes the place of the first ones of these, of which there is at least one.

        Messages are joined that follow each other, have equal first frames, so the same topic and headers, and carry one
        event each. An event that is larger than the limit by itself stays as it is.

        Args:
            waiting: messages, the oldest first.
            accepted: the largest payload that the other side passes on, in bytes; None: no limit is known.
        """
        first, payload, events = waiting[0]
        if len(waiting) == 1:
            return first, payload, events, 1
        limit = self._limit
        if accepted is not None and accepted < MAX_PACKED_BYTES:
            limit = min(limit, accepted // 2)  # as `emit_events` does: the limit may be a guess, and too high
        payloads = _joinable(waiting)
        count = len(payloads)
        if sum(map(len, payloads)) + count < limit:
            payload = b"[" + b",".join(payloads) + b"]" if count > 1 else payload
        else:
            payload, count = next(pack(list(payloads), limit))
        return (first, self._shrink(payload), count, count) if count > 1 else (first, payload, events, 1)


def _joinable(waiting: Sequence[Waiting]) -> Sequence[bytes]:
    """Return the payloads of the first messages that can be one, at least that of the first; all loops are in C."""
    firsts, payloads, events = zip(*waiting, strict=True)
    first, count = firsts[0], len(firsts)
    if firsts.count(first) < count:
        count = len(list(takewhile(first.__eq__, firsts)))
    if events.count(1) < len(events):
        count = len(list(takewhile((1).__eq__, events[:count])))
    try:
        begins = bytes(map(_first_byte, payloads[:count]))
    except IndexError:  # an empty payload, which is no event
        return payloads[:1]
    count = len(begins) - len(begins.lstrip(_OBJECT))
    return payloads[: max(1, count)]
