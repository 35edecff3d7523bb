"""Unpacking: messages as they arrive become JSON with its topic and headers.

Numbers are read and taken off, repeated messages are left out, payloads are inflated, and what is too large, damaged or no
text is refused. Nothing is decoded yet: the consumer makes events of the JSON, ``eventbus tail`` prints it.
"""

from collections.abc import Callable, Iterator
from itertools import repeat
from typing import NamedTuple, Protocol

from eventbus.errors import CompressionMissing, PayloadDamaged, PayloadTooLarge
from eventbus.receive.repair import Repairer
from eventbus.wire.complexity import ValueCounter, has_more_values
from eventbus.wire.compression import inflated, is_compressed, joined
from eventbus.wire.frames import ARRAY, MAX_PACKED_BYTES, MAX_TOPIC_BYTES, is_text
from eventbus.wire.numbering import Gaps
from eventbus.wire.rejects import Reject, RejectReason

_NO_LIMIT = 2**31 - 1  # bytes, inflated


class Report(Protocol):
    """Takes note of what does not become an event."""

    def lost(self, topic: bytes, count: int) -> None:
        """Note that this many more numbered events have never arrived on the topic; negative: fewer than noted before."""

    def forged(self, topic: bytes, count: int) -> None:
        """Note this many messages on the topic whose number cannot be the publisher's own, or followed one."""

    def repeated(self, count: int) -> None:
        """Note this many messages that had arrived before."""

    def rejected(self, topic: bytes, reject: Reject) -> None:
        """A message, or some of several events in it, are not events."""


class Numbered(NamedTuple):
    """Messages whose numbers have been read.

    Attributes:
        topics: the topic of each.
        payloads: as many, as they came.
        headers: the encoded headers of each; None if none has any.
    """

    topics: list[bytes]
    payloads: list[bytes]
    headers: list[bytes] | None


class Content(NamedTuple):
    """The content of one message.

    Attributes:
        topic: the topic, which is UTF-8 and not longer than topics may be.
        headers: the encoded headers; empty if there are none.
        json: an event, or an array of events, no larger than allowed; not decoded.
        size: bytes of the payload as it came.
    """

    topic: bytes
    headers: bytes
    json: bytes
    size: int


class Unpacker:
    """Unpacks messages of the topics that the client takes. One thread at a time, but `forget` may be called from any.

    An array of events is refused if it is larger than publishers make any, `frames.MAX_PACKED_BYTES`: decoding one may cost
    work for each of its elements.

    Args:
        takes: whether a topic is wanted.
        report: what takes note of the rest.
        max_event_bytes: the largest event as JSON; None for no limit.
        max_event_values: the most values in an event; None for no limit.
    """

    def __init__(
        self,
        takes: Callable[[bytes], bool],
        report: Report,
        max_event_bytes: int | None,
        max_event_values: int | None = None,
    ) -> None:
        self._takes = takes
        self._report = report
        self._max_event_bytes = max_event_bytes
        self._max_event_values = max_event_values
        self._gaps = Gaps()
        self._repairer: Repairer | None = None
        self._forgotten: set[bytes] = set()  # topics to forget before the next numbers are read

    def repair_with(self, repairer: Repairer) -> None:
        """Let this one fetch from now on what is missing."""
        self._repairer = repairer

    def forget(self, topic: bytes) -> None:
        """Count nothing as missing on this topic (an empty one: on any) that is sent before the next message arrives."""
        self._forgotten.add(topic)

    def read_numbers(self, frames: list[bytes], payloads: list[bytes]) -> Numbered:
        """Return the messages without those that arrived before, and report what is missing."""
        while self._forgotten:
            self._gaps.forget(self._forgotten.pop())
        repairer = self._repairer
        reading = self._gaps.read(frames, self._takes, unless_gaps=repairer is not None)
        if repairer is not None and reading.gaps:
            frames = list(frames)
            repairer.mend(reading.gaps, frames, payloads)
            reading = self._gaps.read(frames, self._takes)
        topics, lost, repeated, headers, forged, _ = reading
        for topic, count in lost.items():
            self._report.lost(topic, count)
        for topic, count in forged.items():
            self._report.forged(topic, count)
        if repeated:
            self._report.repeated(len(repeated))
        for index in reversed(repeated):
            del topics[index], payloads[index]
            if headers is not None:
                del headers[index]
        return Numbered(topics, payloads, headers)

    def contents(self, topics: list[bytes], payloads: list[bytes], headers: list[bytes] | None) -> Iterator[Content]:
        """Yield the content of each message on a wanted topic, in order; report those that have none."""
        for topic, payload, of_message in zip(topics, payloads, headers or repeat(b""), strict=False):
            if self._takes(topic):
                json = self._json(topic, payload)
                if json is not None:
                    yield Content(topic, of_message, json, len(payload))

    def _json(self, topic: bytes, payload: bytes) -> bytes | None:
        """The JSON in a payload; None, after a report, if there is none that may be decoded."""
        if len(topic) > MAX_TOPIC_BYTES:  # as no client has one; topics that carry events are remembered
            self._report.rejected(topic[:MAX_TOPIC_BYTES], Reject(RejectReason.TOPIC, f"the topic has {len(topic)} bytes"))
            return None
        if not is_text(topic):
            self._report.rejected(topic, Reject(RejectReason.TOPIC, "the topic is not UTF-8"))
            return None
        try:
            json, excess = self._inflate(payload) if is_compressed(payload) else (payload, self._excess_of(payload))
        except PayloadTooLarge as error:
            self._report.rejected(topic, Reject(RejectReason.TOO_LARGE, str(error)))
            return None
        except (PayloadDamaged, CompressionMissing) as error:
            self._report.rejected(topic, Reject(RejectReason.COMPRESSION, str(error)))
            return None
        if excess:
            self._report.rejected(topic, Reject(RejectReason.TOO_LARGE, excess))
            return None
        return json

    def _inflate(self, payload: bytes) -> tuple[bytes, str]:
        """Return the content of a compressed payload, and what is too much of it; then the rest is not inflated."""
        # Whether it is an array, whose limits are others, is seen only once it is inflated.
        largest = _NO_LIMIT if self._max_event_bytes is None else max(self._max_event_bytes, MAX_PACKED_BYTES)
        pieces: list[bytes] = []
        size = 0
        is_known = False
        limit: int | None = None
        most: int | None = None
        counter: ValueCounter | None = None
        for piece in inflated(payload, largest):
            if not is_known and piece.lstrip():
                is_known = True
                limit, most = self._limits_of(piece)
                counter = None if most is None else ValueCounter(most)
            pieces.append(piece)
            size += len(piece)
            if limit is not None and size > limit:
                return b"", f"at least {size} bytes, the limit is {limit}"
            if counter is not None and counter.exceeds(piece):
                return b"", f"more values than the limit, which is {most}"
        return joined(pieces), ""

    def _excess_of(self, json: bytes) -> str:
        """Say what is too much of an event, or of an array of events; empty: nothing."""
        limit, most = self._limits_of(json)
        if limit is not None and len(json) > limit:
            return f"{len(json)} bytes, the limit is {limit}"
        if most is not None and has_more_values(json, most):
            return f"more values than the limit, which is {most}"
        return ""

    def _limits_of(self, json: bytes) -> tuple[int | None, int | None]:
        """Return the limits of bytes and of values for a content that begins so; None: there is none."""
        if json.lstrip()[:1] == ARRAY:
            return MAX_PACKED_BYTES, None
        return self._max_event_bytes, self._max_event_values
