"""Events that wait anyway share a message: a JSON array of those of one topic that follow each other. Pure."""

from collections.abc import Iterator
from operator import itemgetter
from typing import NamedTuple

from eventbus.transports.nats.outgoing import Taken
from eventbus.wire.frames import MARK, MAX_PACKED_BYTES, pack

_EVENT = b"{"
_STARTS_OF_EVENTS = set(_EVENT)
_start = itemgetter(0)  # of a payload


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


def packed(waiting: Taken, limit: int = MAX_PACKED_BYTES) -> Iterator[Packed]:
    """Join single events of a topic that follow each other, in order.

    Args:
        waiting: messages, oldest first. Those with headers, with several events or with a compressed payload stay alone.
        limit: the largest array, in bytes.
    """
    if _is_one_topic(waiting):  # nearly always, when many wait
        for payload, events in pack(waiting.payloads, limit):
            yield Packed(waiting.firsts[0], payload, events, events)
        return
    topic, joined, size = b"", list[bytes](), 0
    for first, payload, events in zip(*waiting, strict=True):
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


def _is_one_topic(waiting: Taken) -> bool:
    """Whether all of these are single events of one topic that may share messages. The loops are in C."""
    firsts, payloads, events = waiting
    if not firsts or firsts.count(firsts[0]) != len(firsts) or events.count(1) != len(events) or MARK in firsts[0]:
        return False
    try:
        return set(map(_start, payloads)) == _STARTS_OF_EVENTS
    except IndexError:  # one is empty
        return False


def _join(topic: bytes, payloads: list[bytes]) -> Packed:
    if len(payloads) == 1:
        return Packed(topic, payloads[0], 1, 1)
    return Packed(topic, b"[" + b",".join(payloads) + b"]", len(payloads), len(payloads))
