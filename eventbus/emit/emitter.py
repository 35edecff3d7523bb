"""Emitting, except for a single event of a client without observers: `EventBusClient.emit_event` sends that itself."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from eventbus.emit.topics import Topics
from eventbus.errors import EventTooLarge, SendBufferFull, TooManyValues
from eventbus.events import BaseEvent, BaseEventTopic, BaseEventType
from eventbus.handle.middleware import Choosing, Emission, EmitNext, Measuring, Middleware, around, overrides
from eventbus.observe.hooks import Hooks
from eventbus.policies import Packing
from eventbus.transports.contract import Transport
from eventbus.wire.codec import Codec
from eventbus.wire.complexity import has_more_values
from eventbus.wire.compression import Compressor
from eventbus.wire.first_frame import with_headers
from eventbus.wire.frames import MAX_PACKED_BYTES, pack, topic_of
from eventbus.wire.headers import Headers, encode_headers
from eventbus.wire.notices import MIN_PAYLOAD_LIMIT


class CountingSender:
    """Sends messages, and counts the events that the transport has taken. Any thread may use it.

    Args:
        transport: sends them.
        hooks: have what counts.
    """

    def __init__(self, transport: Transport, hooks: Hooks) -> None:
        self._transport = transport
        self._emitting = hooks.emitting

    def send(self, topic: bytes, payload: bytes, count: int) -> None:
        """Send one message that carries `count` events; see `Transport.send`."""
        if self._transport.send(topic, payload, count):
            self._emitting[topic](len(payload), count)


class Emitter:
    """Sends events over a transport. Any thread may use it.

    Args:
        codec: encodes the events.
        transport: sends them.
        topics: has their frames.
        middleware: those of it that override `emit` are called around `emit`, the outermost first.
        hooks: called after `emit` and `emit_one` have sent.
        compressor: makes large payloads smaller.
        max_event_bytes: the largest event, as JSON.
        max_event_values: the most values in an event.
        packing: which events may share a message; those of `emit_event` are the transport's matter.

    Attributes:
        as_it_is: the largest payload that is sent without `shrink`, in bytes of JSON: every proxy accepts it.
    """

    def __init__(
        self,
        codec: Codec[Any],
        transport: Transport,
        topics: Topics,
        middleware: Sequence[Middleware],
        hooks: Hooks,
        compressor: Compressor,
        *,
        max_event_bytes: int,
        max_event_values: int,
        packing: Packing,
    ) -> None:
        self._codec = codec
        self._transport = transport
        self._topics = topics
        self._middleware = [one for one in middleware if overrides(one, "emit")]
        self._choosing, self._measuring, self._others = _told_apart(self._middleware)
        self._hooks = hooks
        self._compressor = compressor
        self._max_event_bytes = max_event_bytes
        self._max_event_values = max_event_values
        self._packing = packing is not Packing.NONE
        self.as_it_is = min(max_event_bytes, max_event_values, compressor.threshold, MIN_PAYLOAD_LIMIT)

    @property
    def is_wrapped(self) -> bool:
        """Whether middleware is called around `emit`."""
        return bool(self._middleware)

    def shrink(self, frame: bytes, payload: bytes) -> bytes:
        """Return a payload as it is to be sent: checked, and compressed if that makes it smaller."""
        if len(payload) <= self.as_it_is:
            return payload
        self._check_size(frame, len(payload))
        self._check_values(frame, payload)
        shrunk = self._compressor.shrink(payload)
        self._check_accepted(frame, len(shrunk))
        return shrunk

    def send_large(self, frame: bytes, payload: bytes) -> None:
        """Send a payload larger than `as_it_is` of an event that only counting hooks get."""
        if self._transport.send(frame, self.shrink(frame, payload)):
            self._hooks.emitting[frame](len(payload), 1)

    def emit_one(self, event: BaseEvent[Any] | BaseEventType, topic: BaseEventTopic) -> None:
        """Send one event through all middleware, and tell hooks of it."""
        if self._others:
            self.emit(Emission((event,), topic))
        elif self._choosing is not None and self._choosing.chooses_emission():
            emit = self._emit_now if self._measuring is None else around(self._measuring.emit, self._emit_now)
            self._choosing.emit_chosen(Emission((event,), topic), emit)
        elif self._measuring is not None:
            self._measuring.measure(topic, 1, self.send_one, event, topic)
        else:
            self.send_one(event, topic)

    def emit_with(self, headers: Headers, event: BaseEvent[Any] | BaseEventType, topic: BaseEventTopic) -> None:
        """Send one event through all middleware, and tell hooks of it.

        It is sent with these headers, whatever middleware does to them: a service may have a ``correlation-id`` of its own.
        """

        def emit(emission: Emission) -> None:
            self._emit_now(replace(emission, headers={**emission.headers, **headers}))

        self._emit_through(emit, Emission((event,), topic, headers))

    def emit(self, emission: Emission) -> None:
        """Send events through all middleware, and tell hooks of what was sent."""
        self._emit_through(self._emit_now, emission)

    def _emit_through(self, emit: EmitNext, emission: Emission) -> None:
        # A new chain each time, because a stored one would be a reference cycle.
        for one in reversed(self._middleware):
            emit = around(one.emit, emit)
        emit(emission)

    def send_all(self, frame: bytes, payloads: list[bytes], *, packing: bool = True, taken: list[int] | None = None) -> None:
        """Send payloads of single events, all of which are checked before the first is sent.

        Args:
            frame: the first frame.
            payloads: each the JSON of one event.
            packing: whether they may share messages; the emitter's own `packing` must allow it, too.
            taken: a list to which the indexes of the payloads that were sent are added, also when sending fails half-way.
        """
        largest = max(map(len, payloads), default=0)
        self._check_size(frame, largest)
        if largest > self._max_event_values:
            for payload in payloads:
                self._check_values(frame, payload)
        limit = self._transport.max_payload_bytes
        if limit is not None and largest > limit:
            for payload in payloads:
                self._check_accepted(frame, len(self._compressor.shrink(payload)))
        sent = 0
        try:
            for payload, count in self._messages(payloads, packing=packing):
                if self._transport.send(frame, self._compressor.shrink(payload), count) and taken is not None:
                    taken += range(sent, sent + count)
                sent += count
        except SendBufferFull as error:
            if len(payloads) > 1:
                error.add_note(f"{sent} of these {len(payloads)} events had been sent before")
            raise

    def _emit_now(self, emission: Emission) -> None:
        if len(emission.events) == 1 and not emission.packed:
            headers = encode_headers(emission.headers) if emission.headers else b""
            self.send_one(emission.events[0], emission.topic, headers)
            return
        events = tuple(emission.events)
        payloads = self._codec.encode_many(events)
        frame = self._topics.admit(emission.topic)
        if emission.headers:
            frame = with_headers(frame, encode_headers(emission.headers))
        taken: list[int] = []
        try:
            self.send_all(frame, payloads, packing=emission.packed, taken=taken)
        finally:
            if taken and self._hooks.emitted:
                size = sum(len(payloads[index]) for index in taken)
                self._hooks.emitted(emission.topic.value, tuple(events[index] for index in taken), size)

    def send_one(self, event: BaseEvent[Any] | BaseEventType, topic: BaseEventTopic, headers: bytes = b"") -> None:
        """Send one event with these encoded headers past all middleware, and tell hooks of it."""
        known, frame = self._topics.last
        if topic is not known:
            frame = self._topics.admit(topic)
        first = with_headers(frame, headers) if headers else frame
        payload = self._codec.encode(event)
        size = len(payload)
        if size > self.as_it_is:
            payload = self.shrink(frame, payload)
        if self._transport.send(first, payload):
            hooks = self._hooks
            hooks.emitting[frame](size, 1)
            if hooks.each_emitted is not None:
                hooks.each_emitted(topic.value, (event,), size)

    def _messages(self, payloads: list[bytes], *, packing: bool) -> Iterable[tuple[bytes, int]]:
        """Yield the payloads of messages, each with the number of events in it."""
        if packing and self._packing:
            limit = min(MAX_PACKED_BYTES, self._max_event_bytes)
            accepted = self._transport.max_payload_bytes
            if accepted is not None and accepted < MAX_PACKED_BYTES:
                limit = min(limit, accepted // 2)  # half, because a limit that the proxy did not tell may be lower
            return pack(payloads, limit)
        return ((payload, 1) for payload in payloads)

    def _check_accepted(self, frame: bytes, size: int) -> None:
        limit = self._transport.max_payload_bytes
        if limit is not None and size > limit:
            remedies = self._transport.remedies
            raise EventTooLarge(
                topic_of(frame).decode(), size, self._max_event_bytes, limit, remedies.peer, remedies.too_large
            )

    def _check_size(self, frame: bytes, size: int) -> None:
        if size > self._max_event_bytes:
            raise EventTooLarge(topic_of(frame).decode(), size, self._max_event_bytes)

    def _check_values(self, frame: bytes, payload: bytes) -> None:
        if has_more_values(payload, self._max_event_values):
            raise TooManyValues(topic_of(frame).decode(), self._max_event_values)


def _told_apart(middleware: Sequence[Middleware]) -> tuple[Choosing | None, Measuring | None, bool]:
    """Return what chooses, what measures within it, and whether there is any other; then neither is returned."""
    choosing: Choosing | None = None
    measuring: Measuring | None = None
    for one in middleware:
        if isinstance(one, Choosing) and type(one).emit is Choosing.emit and not (choosing or measuring):
            choosing = one
        elif isinstance(one, Measuring) and type(one).emit is Measuring.emit and measuring is None:
            measuring = one
        else:
            return None, None, True
    return choosing, measuring, False
