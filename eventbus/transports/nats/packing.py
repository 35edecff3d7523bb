"""Events that wait anyway share a message: a JSON array of those of one topic that follow each other. Pure."""

from collections.abc import Iterator, Sequence
from operator import itemgetter, methodcaller
from typing import NamedTuple

from eventbus.transports.nats.outgoing import Waiting
from eventbus.wire.frames import MARK, MAX_PACKED_BYTES, pack

_EVENT = b"{"
_FIRST, _PAYLOAD, _EVENTS = itemgetter(0), itemgetter(1), itemgetter(2)  # of a waiting message
_is_event = methodcaller("startswith", _EVENT)


class Packed(NamedTuple):
    """What becomes one message.

    Attributes:
        first: the first frame.
        payload: an event, an array of events, or what the caller has sent.
        events: how many events are in it.
        items: how many of the waiting messages.
    """

    first: bytes
    payload: bytes
    events: int
    items: int


def packed(waiting: Sequence[Waiting], limit: int = MAX_PACKED_BYTES) -> Iterator[Packed]:
    """Join single events of a topic that follow each other, in order.

    Args:
        waiting: messages, oldest first. Those with headers, with several events or with a compressed payload stay alone.
        limit: the largest array, in bytes.
    """
    if (only := _only_topic(waiting)) is not None:
        # Nearly always, when many wait. The loops are in C.
        for payload, events in pack(list(map(_PAYLOAD, waiting)), limit):
            yield Packed(only, payload, events, events)
        return
    topic, joined, size = b"", list[bytes](), 0
    for first, payload, events in waiting:
        alone = events != 1 or payload[:1] != _EVENT or MARK in first
        if joined and (alone or first != topic or size + len(payload) + 2 > limit):
            yield _join(topic, joined)
            joined, size = [], 0
        if alone:
            yield Packed(first, payload, events, 1)
        else:
            topic = first
            joined.append(payload)
            size += len(payload) + 1
    if joined:
        yield _join(topic, joined)


def _only_topic(waiting: Sequence[Waiting]) -> bytes | None:
    """The topic, if all of these are single events of one topic that may share messages."""
    firsts: set[bytes] = set(map(_FIRST, waiting))
    if len(firsts) != 1 or set(map(_EVENTS, waiting)) != {1}:
        return None
    (first,) = firsts
    if MARK in first or not all(map(_is_event, map(_PAYLOAD, waiting))):
        return None
    return first


def _join(topic: bytes, payloads: list[bytes]) -> Packed:
    if len(payloads) == 1:
        return Packed(topic, payloads[0], 1, 1)
    return Packed(topic, b"[" + b",".join(payloads) + b"]", len(payloads), len(payloads))
