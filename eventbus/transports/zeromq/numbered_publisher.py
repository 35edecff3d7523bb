"""A publisher that numbers its messages, and sends again what a lost connection may have lost."""

from collections.abc import Callable
from time import monotonic

import zmq

from eventbus._base.zmq_sockets import Context
from eventbus.errors import EventBusError
from eventbus.observe.stats import DropLog
from eventbus.options import ZeroMQOptions
from eventbus.transports.zeromq.outbox import ResendBuffer
from eventbus.transports.zeromq.publisher import _MORE, _NOWAIT, MESSAGES_PER_FLUSH, Publisher, emitting_already
from eventbus.wire.first_frame import parse, split_headers, with_headers
from eventbus.wire.frames import MARK, NUMBER_BYTES
from eventbus.wire.notices import MIN_PAYLOAD_LIMIT
from eventbus.wire.numbering import Numbering

# Longer than a message stays in a running proxy, and longer than it takes to notice the end of a connection.
_UNDER_WAY_S = 1.0
# Smaller messages are dated together, at most a thousand and at least once a second: see `_drain`.
_LARGE_BYTES = 4_096


class NumberedPublisher(Publisher):
    """Numbers its messages, so that receivers see which are missing, and loses none with a connection.

    When the connection is lost, it sends the messages that may have been under way again on a new socket, before all others
    and with the same numbers. By the numbers receivers recognise the messages that they have already.
    """

    def __init__(
        self,
        context: Context,
        endpoint: str,
        options: ZeroMQOptions,
        drops: DropLog,
        refusal: Callable[[], EventBusError] | None = None,
        on_notice: Callable[[bytes], None] = lambda frame: None,
    ) -> None:
        super().__init__(context, endpoint, options, drops, refusal, on_notice)
        self._numbering = Numbering()
        self._streams = self._numbering.streams
        self.publisher_id = self._numbering.publisher
        # It takes so long to notice that a link is down without a sign.
        self._period = options.echo_interval + options.echo_timeout + _UNDER_WAY_S
        self._resend = ResendBuffer(options.resend_bytes)
        self._keep = self._resend.keep

    @property
    def has_more(self) -> bool:
        """Whether `flush` has anything to send, for the first time or again."""
        return bool(self._outbox or self._resend.has_more)

    def send(self, topic: bytes, payload: bytes, count: int = 1) -> bool:
        """Send one message that carries `count` events; see `Transport.send`."""
        if self._sending and self._is_owned():
            raise emitting_already()
        # None: nothing was sent on the topic yet, or the frame has headers.
        stream = self._streams.get(topic)
        if stream is not None and count == 1:
            try:
                self._acquire()
                self._sending = True
                number = stream.sent = stream.sent + 1
                first = stream.start + number.to_bytes(NUMBER_BYTES)
                self._send_frame(first, _MORE)
                self._send_frame(payload, _NOWAIT)
                self._sending = False
                self._keep((first, payload))
                if len(payload) > _LARGE_BYTES:
                    self._resend.date(monotonic())
                self._count += 1
                if self._count >= self._next_drain:
                    self._drain()
                self._release()
                return True
            except zmq.Again:
                stream.sent -= 1
                self._sending = False
                self._release()
            except BaseException as error:
                if self._is_owned():
                    if self._sending:
                        self._complete_message(payload)
                    self._sending = False
                    self._release()
                raise self._translated(error) from None
        return self._try_to_send(topic, payload, count) or self._send_later(topic, payload, count)

    def hold(self, unproven: float = 0.0) -> None:
        """Let messages wait from now on, and forget those that were sent so long ago that they have passed the proxy."""
        with self._lock:
            super().hold(unproven)
            now = monotonic()
            self._resend.date(now)
            self._resend.forget_before(now - unproven - _UNDER_WAY_S)

    def connection_lost(self) -> None:
        """Continue with a new socket. The old one would send its queue, but not what was lost with the connection."""
        self.renew()

    def reconnected(self, *, same_proxy: bool) -> None:
        """Give up a message that two connections have ended with, though the proxy runs: it is too large for the proxy."""
        with self._lock:
            if not same_proxy:
                self._resend.proxy_replaced()
                self._limit_payloads(self._told_limit)
                return
            refused = self._resend.refused(at_least=self._told_limit or MIN_PAYLOAD_LIMIT)
            if refused is not None:
                _, first, payload = refused
                self._limit_payloads(len(payload) - 1)  # at most
                self._drop_too_large(first, payload, _events_in(first))

    def drain(self) -> None:
        """Read what has come from upstream, and free the messages that have passed the proxy."""
        super().drain()
        with self._lock:
            if not self._holding:
                now = monotonic()
                self._resend.date(now)
                self._resend.forget_before(now - self._period)

    def flush(self) -> bool:
        """Send some of the messages that were under way and of those that wait, in order; return True when none is left."""
        with self._lock:
            for _ in range(MESSAGES_PER_FLUSH):
                if not self._resend.has_more or self._closed:
                    return super().flush()
                _, first, payload = self._resend.oldest()
                if len(payload) > self._refused_above:
                    self._resend.remove_oldest()
                    self._drop_too_large(first, payload, _events_in(first))
                    continue
                if not self._put_frames(first, payload):
                    break
                self._resend.sent_again(monotonic())
            return False

    def _renew(self) -> None:
        """Replace the socket by a new one, to which `flush` gives again what may have been under way."""
        Publisher.hold(self)  # first: what a signal handler sent to the old socket from now on would not be sent again
        self._resend.connection_lost()
        super()._renew()

    def _put(self, topic: bytes, payload: bytes, count: int) -> bool:
        if len(payload) > self._refused_above:
            self._drop_too_large(topic, payload, count)
            return True
        self._sending = True  # a signal handler that emits meanwhile would get the same number
        self._given = False
        try:
            headers = b""
            if MARK in topic:
                topic, headers = split_headers(topic)
            stream = self._streams[topic]
            before = stream.sent
            first = self._numbering.next(topic, count)
            if headers:
                first = with_headers(first, headers)
            # Used up before it is sent. If a signal handler raises just then, it is better that this message counts as lost
            # than that the next one, with the same number, counts as repeated.
            stream.sent = before + count
            try:
                taken = self._put_frames(first, payload)
            finally:
                if not self._given:
                    stream.sent = before
            if taken:
                self._resend.sent(monotonic(), first, payload)
            return taken
        finally:
            self._sending = False

    def _drain(self) -> None:
        self._resend.date(monotonic())
        super()._drain()

    def _drop_unproven(self) -> None:
        """Drop nothing: it is sent again."""


def _events_in(first: bytes) -> int:
    """Return how many events the message with this first frame carries."""
    head = parse(first).head
    return 1 if head is None else head.events
