"""The publishing half of a client: an XPUB socket, and what waits for it while the path is down, under one lock."""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import RLock
from time import monotonic, sleep
from typing import NoReturn

import zmq

from eventbus._base.deadline import Deadline
from eventbus._base.zmq_sockets import Context
from eventbus.errors import EventBusError, NotConnected, SendBufferFull, SendTimeout
from eventbus.observe.stats import DropLog, DropReason
from eventbus.options import ZeroMQOptions
from eventbus.policies import SendPolicy
from eventbus.transports.zeromq.monitor import Monitor
from eventbus.transports.zeromq.policy import ConnectionStatus
from eventbus.transports.zeromq.sockets import socket_for, unless_closed
from eventbus.wire.first_frame import split_headers, with_headers
from eventbus.wire.frames import MARK
from eventbus.wire.numbering import Numbering

# Plain integers: pyzmq's enums cost a conversion in each call.
_NOWAIT = int(zmq.DONTWAIT)
_MORE = int(zmq.DONTWAIT | zmq.SNDMORE)

_SUBSCRIBED, _UNSUBSCRIBED = b"\x01", b"\x00"  # how an XPUB tells a subscription from its end
_RETRY = 0.001  # seconds
_DRAIN_AFTER = 1_000  # events
_FLUSH = 1_000  # messages that are flushed before others get the lock
_UNDER_WAY = 1.0  # seconds; longer than a message stays in a proxy that runs, and than the end of one takes to be noticed
# A proxy that is stopped acknowledges nothing either once its buffers are full: that must not cost what is in ours.
_UNACKNOWLEDGED = 300  # seconds


class Publisher:
    """Sends messages, and sees subscriptions come upstream. Open from its creation to `close`; any thread may use it.

    It begins by holding what it is to send, up to the high-water mark, until `flush` lets it go; `hold` begins that anew.

    Args:
        context: the ZeroMQ context.
        endpoint: the proxy's XSUB port.
        options: how large the send buffer is, and what happens when it is full.
        drops: where dropped events are counted.
        refusal: makes what `send` raises once it is closed; None for NotConnected.
        on_notice: called with what comes upstream and is no subscription.
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
        self.sent = 0
        self._on_notice = on_notice
        self._refusal = refusal or (lambda: NotConnected(endpoint))
        self._proven = 0  # how many events the socket had been given when the path was proven last
        self._next_drain = _DRAIN_AFTER
        self._sending = False  # guarded by the lock; only a signal handler can find it set
        self._context = context
        self._endpoint = endpoint
        self._options = options
        self._hwm = options.send_hwm
        self._drops = drops
        # Whoever touches the socket holds this. Its methods called by name cost half of what `with` does.
        self._lock = RLock()
        self._acquire, self._release = self._lock.acquire, self._lock.release
        self._is_owned: Callable[[], bool] = self._lock._is_owned  # type: ignore[attr-defined] # as threading.Condition does
        self._awaited: set[bytes] = set()
        self._monitor = Monitor(context)
        self._held: deque[tuple[bytes, bytes, int]] = deque()
        self._holding = True
        self._closed = False
        self._connect()
        # What `send` gives its frames to: the socket, or what makes it hold them, which spares each event the question.
        self._send_frame: Callable[[bytes, int], object] = _full

    def _connect(self) -> None:
        # Subscriptions count against high-water marks too: without a limit here, none is ever forgotten.
        self._socket = socket_for(
            self._endpoint,
            self._context,
            zmq.XPUB,
            send_hwm=self._hwm,
            receive_hwm=0,
            options=self._options,
            unacknowledged=_UNACKNOWLEDGED,
        )
        try:
            self._socket.set(zmq.XPUB_NODROP, 1)
            self._monitor.attach(self._socket)
            self._socket.connect(self._endpoint)
        except BaseException:
            self._monitor.detach()
            self._socket.close(linger=0)
            raise
        # The method in C, without what pyzmq's Python layer adds to each call.
        self._socket_send: Callable[[bytes, int], object] = super(zmq.Socket, self._socket).send

    @property
    def has_more(self) -> bool:
        """Whether anything waits for `flush`."""
        return bool(self._held)

    @property
    def held(self) -> int:
        """How many events are held."""
        with self._lock:
            return sum(count for _, _, count in self._held)

    def send(self, topic: bytes, payload: bytes, count: int = 1) -> bool:
        """Send one message that carries `count` events; see `Transport.send`."""
        if self._sending and self._is_owned():
            raise _emitting_already()
        try:
            self._acquire()
            self._sending = True
            self._send_frame(topic, _MORE)
            self._send_frame(payload, _NOWAIT)
            self._sending = False
            self.sent += count
            if self.sent >= self._next_drain:
                self._drain()
            self._release()
            return True
        except zmq.Again:
            # Only ever from the first frame: a pipe that took it has room for the rest of the message.
            self._sending = False
            self._release()
            return self._send_later(topic, payload, count)
        except BaseException as error:
            if self._is_owned():
                if self._sending:
                    self._finish(payload)
                self._sending = False
                self._release()
            raise self._translated(error) from None

    def hold(self, unproven: float = 0.0) -> None:
        """Keep what is sent from now on, up to the high-water mark, until `flush`.

        Args:
            unproven: for how many seconds the path may have been dead without a sign.
        """
        with self._lock:
            self._holding = True
            self._send_frame = _full

    def flush(self) -> bool:
        """Send some of what was held, in order; True once that was all, and sending goes straight to the socket again."""
        with self._lock:
            for _ in range(_FLUSH):
                if not self._held or self._closed:
                    self._holding = False
                    self._send_frame = self._socket_send
                    return True
                if not self._put(*self._held[0]):
                    break
                self._held.popleft()
            return False

    def renew(self) -> None:
        """Replace the socket by a new one, and hold what is sent until `flush`. What the old one has not sent is dropped.

        Raises:
            zmq.ZMQError: there is no descriptor left; the leg stays abandoned.
        """
        with self._lock:
            if not self._closed:
                self.hold()  # the new one knows no subscription yet, and would drop everything
                self._drop_unproven()
                self._monitor.detach()
                self._socket.close(linger=0)
                try:
                    self._connect()
                except BaseException:
                    self._monitor.abandon()
                    raise

    def note_proof(self) -> None:
        """Note that the path was proven live just now."""
        with self._lock:
            self._proven = self.sent - self.held

    def _drop_unproven(self) -> None:
        """Count what the socket was given since the last proof: nobody knows what has become of it."""
        unproven = self.sent - self.held - self._proven
        if unproven > 0:
            self._proven += unproven
            self._drops.add(DropReason.UNPROVEN, unproven)

    def connection_lost(self) -> None:
        """Note that the connection has gone down. What the socket still has it sends on the next one by itself."""

    def expect(self, token: bytes) -> None:
        """Look out for the subscription to this token."""
        with self._lock:
            self._awaited.add(token)

    def has_seen(self, token: bytes) -> bool:
        """Whether the subscription to an expected token has come."""
        with self._lock:
            self.drain()
            return token not in self._awaited

    def forget(self, token: bytes) -> None:
        """Undo `expect`."""
        with self._lock:
            self._awaited.discard(token)

    def drain(self) -> None:
        """Read the subscriptions that have come upstream. To be called now and then: they are queued without a limit."""
        with self._lock, unless_closed(self._socket):
            self._drain()

    def leg(self) -> ConnectionStatus:
        """How the connection to the proxy is."""
        return self._monitor.look()

    def fileno(self) -> int:
        """The descriptor that tells of changes of `leg`; see `Monitor.fileno`."""
        return self._monitor.fileno()

    def close(self, linger: float) -> None:
        """Close the socket: drop what is held, and flush the rest for up to `linger` seconds in the background."""
        with self._lock:
            self._closed = True
            self._monitor.detach()
            self._socket.close(linger=round(linger * 1000))
            if left := self.held:
                self._drops.add(DropReason.CLOSED, left)
            self._held.clear()

    def _drain(self) -> None:
        self._next_drain = self.sent + _DRAIN_AFTER
        while self._socket.poll(0):
            change = self._socket.recv(_NOWAIT)
            if change[:1] == _SUBSCRIBED:
                self._awaited.discard(change[1:])
            elif change[:1] != _UNSUBSCRIBED:
                self._on_notice(change)

    def _send_later(self, topic: bytes, payload: bytes, count: int) -> bool:
        """Hold the message, or send it as soon as there is room, without the lock in between: others want it too.

        Returns False if it was dropped.
        """
        deadline = Deadline(self._options.send_timeout)
        while not self._try(topic, payload, count):
            if self._options.send_policy is SendPolicy.RAISE:
                raise SendBufferFull(self._endpoint, self._hwm)
            if self._options.send_policy is SendPolicy.DROP:
                self._drops.add(DropReason.SEND_BUFFER, count)
                return False
            if deadline.passed():
                raise SendTimeout(self._endpoint, self._hwm, self._options.send_timeout)
            sleep(_RETRY)
        return True

    def _try(self, topic: bytes, payload: bytes, count: int) -> bool:
        with self._lock:
            if self._closed:
                raise self._refusal()
            if self._holding:
                if len(self._held) >= self._hwm:
                    return False
                self._held.append((topic, payload, count))
            elif not self._put(topic, payload, count):
                return False
            self.sent += count
            if self.sent >= self._next_drain:
                self._drain()
            return True

    def _put(self, topic: bytes, payload: bytes, count: int) -> bool:
        """Give the socket a message; False if it is full. The caller holds the lock."""
        return self._put_frames(topic, payload)

    def _put_frames(self, first: bytes, payload: bytes) -> bool:
        sending, self._sending = self._sending, True
        try:
            self._socket_send(first, _MORE)
            self._socket_send(payload, _NOWAIT)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            raise self._translated(error) from None
        except BaseException:
            self._finish(payload)
            raise
        finally:
            self._sending = sending
        return True

    def _finish(self, payload: bytes) -> None:
        """After an exception out of the blue, such as KeyboardInterrupt: leave no half message behind.

        If the first frame has been taken, this is its second one. If not, it is a message of one frame, which every receiver
        skips.
        """
        with suppress(zmq.ZMQError):
            self._socket_send(payload, _NOWAIT)

    def _translated(self, error: BaseException) -> BaseException:
        """The error to raise: another thread may have closed the socket meanwhile."""
        return self._refusal() if isinstance(error, zmq.ZMQError) and self._socket.closed else error


class NumberedPublisher(Publisher):
    """Numbers its messages, so that receivers see what is missing, and loses none with a connection.

    What may have been under way when the connection was lost is sent again on a new one, before everything else and with the
    same numbers, by which receivers know what they have.
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
        # What the socket was given lately, with the time; guarded by the lock.
        self._recent: deque[tuple[float, bytes, bytes]] = deque(maxlen=self._hwm)
        self._again: deque[tuple[bytes, bytes]] = deque()
        # A path that is dead without a sign is noticed so late.
        self._longest = options.echo_interval + options.echo_timeout + _UNDER_WAY

    @property
    def has_more(self) -> bool:
        """Whether anything waits for `flush`, for the first time or again."""
        return bool(self._held or self._again)

    def send(self, topic: bytes, payload: bytes, count: int = 1) -> bool:
        """Send one message that carries `count` events; see `Transport.send`."""
        if self._sending and self._is_owned():
            raise _emitting_already()
        return self._try(topic, payload, count) or self._send_later(topic, payload, count)

    def hold(self, unproven: float = 0.0) -> None:
        """Keep what is sent from now on; and no longer what was sent so long ago that it has passed the proxy."""
        with self._lock:
            super().hold(unproven)
            self._forget_before(monotonic() - unproven - _UNDER_WAY)

    def connection_lost(self) -> None:
        """Begin with a new socket. The old one would send what it still has, but not what went down with the connection."""
        self.renew()

    def renew(self) -> None:
        """Replace the socket by a new one, to which `flush` gives once more what may have been under way."""
        with self._lock:
            self._again.extendleft((first, payload) for _, first, payload in reversed(self._recent))
            self._recent.clear()
            super().renew()

    def flush(self) -> bool:
        """Send some of what was under way and of what was held, in order; True once that was all."""
        with self._lock:
            for _ in range(_FLUSH):
                if not self._again or self._closed:
                    return super().flush()
                if not self._put_frames(*self._again[0]):
                    break
                self._recent.append((monotonic(), *self._again.popleft()))
            return False

    def _put(self, topic: bytes, payload: bytes, count: int) -> bool:
        self._sending = True  # a signal handler that emits in the midst of this would get the same number
        try:
            headers = b""
            if MARK in topic:
                topic, headers = split_headers(topic)
            first = self._numbering.next(topic, count)
            if headers:
                first = with_headers(first, headers)
            try:
                taken = self._put_frames(first, payload)
            except BaseException:
                # The socket may have it. That it counts as lost is better than that the next one counts as repeated.
                self._numbering.taken(topic, count)
                raise
            if taken:
                self._numbering.taken(topic, count)
                now = monotonic()
                self._recent.append((now, first, payload))
                self._forget_before(now - self._longest)
            return taken
        finally:
            self._sending = False

    def _drop_unproven(self) -> None:
        """Nothing is dropped: it is sent again."""

    def _forget_before(self, time: float) -> None:
        while self._recent and self._recent[0][0] < time:
            self._recent.popleft()


def _emitting_already() -> EventBusError:
    return EventBusError("a signal handler cannot emit while the code that it interrupted is emitting")


def _full(frame: bytes, flags: int) -> NoReturn:
    raise zmq.Again
