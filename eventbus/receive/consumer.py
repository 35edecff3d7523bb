"""The consumer: the thread that receives messages, decodes them and dispatches what is in them."""

import logging
from collections.abc import Iterator
from contextlib import suppress
from itertools import repeat
from threading import Lock, RLock, Thread, current_thread
from time import monotonic
from typing import Any

from eventbus._base.deadline import Deadline
from eventbus._base.log_throttle import LogThrottle
from eventbus._base.printable import printable
from eventbus.errors import CompressionMissing, NotConnected, PayloadDamaged, PayloadTooLarge
from eventbus.events import BaseEvent
from eventbus.observe.hooks import Hooks
from eventbus.observe.stats import Counters
from eventbus.receive.dispatcher import Dispatcher, Route
from eventbus.receive.stall_detector import Progress, StallDetector
from eventbus.transports.contract import Transport
from eventbus.wire import frames as wire
from eventbus.wire.codec import Codec, Reject, RejectReason
from eventbus.wire.compression import inflate, is_compressed
from eventbus.wire.frames import Batch
from eventbus.wire.numbering import Gaps

logger = logging.getLogger("eventbus")

_LOOK = 0.05  # seconds
# What is unpacked before it is dispatched: what was just decoded is still in the processor's cache, and compressed messages
# are never all in memory at once.
_SLICE = 256  # events
_SLICE_BYTES = 1_048_576  # of JSON
_NO_LIMIT = 2**31 - 1  # bytes, inflated


# BaseEvent[Any]: it is invariant in its type enum, which each service brings.
class Consumer[EventClass: BaseEvent[Any]]:
    """Takes messages from a transport to a dispatcher, in a thread of its own between `start` and `stop`.

    `start`, `stop` and `forget` may be called from any thread. What is no event is counted, and logged once per reason and
    minute; so is what numbers show to be missing. A type that is not known is logged when it is first seen, if they are not
    too many.

    Args:
        hooks: what is told of what was received, rejected and lost.
        max_event_bytes: a larger payload is rejected undecoded; None for no limit. An array of events may be as large as
            `wire.MAX_PACKED_BYTES` all the same, for each of them may be small.
    """

    def __init__(
        self,
        transport: Transport,
        codec: Codec[EventClass],
        dispatcher: Dispatcher[EventClass],
        counters: Counters,
        hooks: Hooks,
        *,
        max_event_bytes: int | None = None,
    ) -> None:
        self._transport = transport
        self._codec = codec
        self._dispatcher = dispatcher
        self._counters = counters
        self._hooks = hooks
        self._max_event_bytes = max_event_bytes
        self._gaps = Gaps()
        self._forgotten: set[bytes] = set()  # topics that the thread is to forget before it counts again
        self._throttle = LogThrottle()
        self._malformed = 0
        self._watch = StallDetector()
        self._busy: tuple[float, int] | None = None  # since when with a batch, and how many events had come in before it
        self._starting = RLock()  # a signal handler may stop what it has interrupted in the midst of starting
        self._receiving = Lock()
        self._thread: Thread | None = None  # a thread that finds that it is not this one ends
        self._ending: Thread | None = None  # the last one that was stopped
        self._closed = True

    def open(self) -> None:
        """Allow `start`. What others sent while it was not allowed is not missing."""
        with self._starting:
            if self._closed:
                self.forget(b"")
            self._closed = False
            if self._thread is not None:
                self.start()  # unless it still runs: it ends when the transport gives up

    def start(self) -> None:
        """Start the thread, unless it runs.

        Raises:
            NotConnected: before `open`, or after a `stop` for good.
        """
        with self._starting:
            if self._closed:
                raise NotConnected(self._transport.endpoints)
            if self._thread is None or not self._thread.is_alive():
                self._dispatcher.coroutines.resume()
                self._dispatcher.buffer.hold()
                self._thread = Thread(target=self._consume, name="eventbus-consumer", daemon=True)
                self._thread.start()

    def stop(self, timeout: float, *, for_good: bool = False) -> None:
        """End the thread, and wait until what was received is handled; see `EventBusClient.stop_consumer`.

        Args:
            timeout: seconds.
            for_good: let nobody start it again before `open`.
        """
        deadline = Deadline(timeout)
        with self._starting:
            self._closed = self._closed or for_good
            # If another thread is stopping it, wait for the same one.
            thread = self._ending = self._thread or self._ending
            self._thread = None
            self._dispatcher.buffer.release()
        if thread is current_thread():
            self._dispatcher.abandon()
        elif thread is not None:
            self._transport.wake()
            with suppress(RuntimeError):  # not quite started, by the code that a signal has interrupted: it will end at once
                thread.join(deadline.left())
            if thread.is_alive():
                self._dispatcher.abandon()
                logger.warning(
                    "handlers are still running after %.1f s, not waiting any longer",
                    timeout,
                    extra={"eventbus_seconds": timeout, "eventbus_endpoints": self._transport.endpoints},
                )
        if left := self._dispatcher.coroutines.close(deadline):
            logger.warning(
                "%d async handlers had not finished when the consumer stopped",
                left,
                extra={"eventbus_count": left, "eventbus_endpoints": self._transport.endpoints},
            )
        if for_good:
            self._counters.drops.flush()

    def progress(self) -> Progress:
        """Whether the thread runs, and for how long it has not moved on. Any thread may ask, at no cost to events."""
        thread, busy = self._thread, self._busy
        wanted = thread is not None
        running = thread is not None and thread.is_alive()
        if not running or busy is None:
            return Progress(wanted, running, 0.0)
        since, before = busy
        received, left = self._dispatcher.position()
        # Still decoding, or in the callbacks of the batch's first event: then nothing has moved since it came.
        at_start = received - before in (0, left + 1)
        return Progress(wanted, running, self._watch.busy_for((since, received, left), since if at_start else None))

    def forget(self, topic: bytes) -> None:
        """Miss nothing of this topic (an empty one: of any) until a message comes. To be called once it is unsubscribed."""
        self._forgotten.add(topic)

    def _consume(self) -> None:
        try:
            while self._enter():
                self._busy = None
                try:
                    batch = self._transport.receive()
                finally:
                    self._receiving.release()
                if batch is None:
                    self._dispatcher.end()
                    break
                if batch[0]:
                    self._busy = monotonic(), self._dispatcher.buffer.received
                    self._take(batch)
                malformed = self._transport.malformed - self._malformed
                if malformed:
                    self._malformed += malformed
                    self._hooks.rejected(RejectReason.FRAMES, malformed)
                    self._warn(RejectReason.FRAMES, "not a topic and a JSON payload in two frames")
        except Exception as error:
            # A defect of ours or of the transport, never a handler's: those are caught one by one.
            logger.exception(
                "the consumer of %s has ended",
                self._transport.endpoints,
                extra={"eventbus_endpoints": self._transport.endpoints, "eventbus_error": type(error).__name__},
            )
            self._dispatcher.end()

    def _enter(self) -> bool:
        """Whether this thread is still to receive; then nobody else does.

        One that was started before the last one has ended waits: what wakes a receiver must not reach the other.
        """
        while self._thread is current_thread():
            if self._receiving.acquire(timeout=_LOOK):
                if self._thread is current_thread():
                    return True
                self._receiving.release()
        return False

    def _take(self, batch: Batch) -> None:
        """Decode the messages of subscribed topics and dispatch what is in them."""
        topics, payloads = batch
        headers: list[bytes] | None = None
        abandoned = self._dispatcher.abandoned
        routes = self._dispatcher.routes_of(topics)
        if routes is None and wire.any_header(topics):
            topics, payloads, headers = self._unnumbered(topics, payloads)
            routes = self._dispatcher.routes_of(topics)
        if (
            routes is not None
            and payloads
            and payloads[0][:1] not in wire.NOT_ONE_EVENT
            and (self._max_event_bytes is None or max(map(len, payloads)) <= self._max_event_bytes)
        ):
            # Nearly always: all messages are for this client, and each is one good event. The loop is map's, in C.
            events: list[EventClass] = []
            try:
                events.extend(map(self._codec.decode_one, payloads))
            except Exception:
                # One is compressed, or no event; a validator of the service may raise anything. Those before it are decoded.
                good = len(events)
                if self._hooks.received:
                    self._tell_received(topics, events, payloads)
            else:
                if self._hooks.received:
                    self._tell_received(topics, events, payloads)
                self._dispatcher.dispatch(routes, events, headers=headers)
                return
            self._dispatcher.dispatch(routes[:good], events, abandoned, headers and headers[:good])
            topics, payloads, headers = topics[good:], payloads[good:], headers and headers[good:]
        self._take_each(topics, payloads, headers, abandoned)

    def _take_each(self, topics: list[bytes], payloads: list[bytes], headers: list[bytes] | None, abandoned: int) -> None:
        """Do as `_take`, message by message."""
        routes: list[Route[EventClass]] = []
        events: list[EventClass] = []
        carried: list[bytes] = []  # headers
        size = 0

        def dispatch() -> None:
            self._dispatcher.dispatch(routes, events, abandoned, None if headers is None else carried)

        for topic, payload, of_message in zip(topics, payloads, headers or repeat(b""), strict=False):
            if self._dispatcher.takes(topic):
                found, bytes_read = self._read(topic, payload)
                if found:  # or the dispatcher would learn a topic that is none
                    self._hooks.received(_name(topic), found, len(payload))
                    events += found
                    routes += [self._dispatcher.route_of(topic)] * len(found)
                    carried += [of_message] * len(found)
                size += bytes_read
                if len(events) >= _SLICE or size >= _SLICE_BYTES:
                    dispatch()
                    routes, events, carried, size = [], [], [], 0
        dispatch()

    def _tell_received(self, topics: list[bytes], events: list[EventClass], payloads: list[bytes]) -> None:
        """Tell hooks of messages with one event each; there may be more of them than events."""
        for topic, event, payload in zip(topics, events, payloads, strict=False):
            self._hooks.received(_name(topic), (event,), len(payload))

    def _read(self, topic: bytes, payload: bytes) -> tuple[list[EventClass], int]:
        """The events in one message, and how many bytes of JSON were read for them."""
        content = self._inflated(topic, payload) if is_compressed(payload) else payload
        return ([], 0) if content is None else (self._decode(topic, content), len(content))

    def _inflated(self, topic: bytes, payload: bytes) -> bytes | None:
        # Whether it is an array, which may be larger, will be seen once it is inflated.
        limit = _NO_LIMIT if self._max_event_bytes is None else max(self._max_event_bytes, wire.MAX_PACKED_BYTES)
        try:
            return inflate(payload, limit)
        except PayloadTooLarge as error:
            self._reject(RejectReason.TOO_LARGE, f"on {printable(repr(topic), 80)}: {error}")
        except (PayloadDamaged, CompressionMissing) as error:
            self._reject(RejectReason.COMPRESSION, f"on {printable(repr(topic), 80)}: {error}")
        return None

    def _unnumbered(self, frames: list[bytes], payloads: list[bytes]) -> tuple[list[bytes], list[bytes], list[bytes] | None]:
        """Topics, payloads and headers of these messages, but for those that came before, after counting what is missing."""
        while self._forgotten:
            self._gaps.forget(self._forgotten.pop())
        topics, lost, repeated, headers = self._gaps.read(frames, self._dispatcher.takes)
        for topic, count in lost.items():
            self._counters.add(lost=count)
            self._hooks.lost(_name(topic), count)
            self._warn_of_loss(topic, count)
        if repeated:
            self._counters.add(repeated=len(repeated))
        for index in reversed(repeated):
            del topics[index], payloads[index]
            if headers is not None:
                del headers[index]
        return topics, payloads, headers

    def _limit_of(self, payload: bytes) -> int | None:
        if self._max_event_bytes is not None and payload.lstrip()[:1] == wire.ARRAY:
            return max(self._max_event_bytes, wire.MAX_PACKED_BYTES)
        return self._max_event_bytes

    def _decode(self, topic: bytes, payload: bytes) -> list[EventClass]:
        """The events in one message, of any kind."""
        if not wire.is_text(topic):
            self._reject(RejectReason.TOPIC, f"{topic!r} is not UTF-8")
            return []
        limit = self._limit_of(payload)
        if limit is not None and len(payload) > limit:
            self._reject(RejectReason.TOO_LARGE, f"on {topic!r}: {len(payload)} bytes, the limit is {limit}")
            return []
        try:
            return self._codec.decode_many(payload) if payload[:1] == wire.ARRAY else [self._codec.decode_one(payload)]
        except Exception:
            return list(self._salvage(topic, payload))

    def _salvage(self, topic: bytes, payload: bytes) -> Iterator[EventClass]:
        for found in self._codec.salvage(payload):
            if isinstance(found, Reject):
                self._reject(found.reason, f"on {printable(repr(topic), 80)}: {found.detail}", found.unknown_type)
            else:
                yield found

    def _reject(self, reason: RejectReason, detail: str, unknown_type: str | None = None) -> None:
        first = self._counters.reject(reason, unknown_type=unknown_type)
        self._hooks.rejected(reason, 1)
        self._warn(reason, detail, unknown_type, at_once=first)

    def _warn(self, reason: RejectReason, detail: str, unknown_type: str | None = None, *, at_once: bool = False) -> None:
        held_back = self._throttle.admit(reason, at_once=at_once)
        if held_back is not None:
            logger.warning(
                "rejected what is no event of %s (%s): %s; %d more like it since the last such line",
                self._codec.name,
                reason,
                printable(detail, 300),
                held_back,
                extra={
                    "eventbus_reason": str(reason),
                    "eventbus_type": unknown_type,
                    "eventbus_event_class": self._codec.name,
                    "eventbus_held_back": held_back,
                    "eventbus_endpoints": self._transport.endpoints,
                },
            )

    def _warn_of_loss(self, topic: bytes, count: int) -> None:
        held_back = self._throttle.admit("lost", count)
        if held_back is not None:
            name = printable(_name(topic), wire.MAX_TOPIC_BYTES)
            logger.warning(
                "lost %d events on '%s' between their publisher and here: the proxy was restarted, or this subscriber's "
                "queue there was full; %d more lost since the last such line",
                count,
                name,
                held_back,
                extra={
                    "eventbus_topic": name,
                    "eventbus_count": count,
                    "eventbus_held_back": held_back,
                    "eventbus_endpoints": self._transport.endpoints,
                },
            )


def _name(topic: bytes) -> str:
    return topic.decode(errors="replace")
