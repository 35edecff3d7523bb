"""The publishing half of a client: an XPUB socket, and what waits for it while the path is down, under one lock."""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import RLock
from time import sleep
from typing import NoReturn

import zmq

from eventbus.deadline import Deadline
from eventbus.errors import EventBusError, NotConnected, SendBufferFull, SendTimeout
from eventbus.policies import SendPolicy
from eventbus.transports._monitor import Monitor
from eventbus.transports._sockets import Context, socket_for
from eventbus.transports._watch import Leg, Patience

# Plain integers: pyzmq's enums cost a conversion in each call.
_NOWAIT = int(zmq.DONTWAIT)
_MORE = int(zmq.DONTWAIT | zmq.SNDMORE)

_SUBSCRIBED = b"\x01"  # how an XPUB tells a subscription from its end
_RETRY = 0.001  # seconds
_DRAIN_AFTER = 1_000  # events
_FLUSH = 1_000  # messages that are flushed before others get the lock
# A proxy that is stopped acknowledges nothing either once its buffers are full: that must not cost what is in ours.
_UNACKNOWLEDGED = 30  # seconds


class Publisher:
    """Sends messages, and sees subscriptions come upstream. Open from its creation to `close`; any thread may use it.

    It begins by holding what it is to send, up to the high-water mark, until `flush` lets it go; `hold` begins that anew.

    Args:
        context: the ZeroMQ context.
        endpoint: the proxy's XSUB port.
        hwm: how many messages the send buffer holds.
        send_timeout: how many seconds `send` waits while it is full.
        send_policy: whether it does.
        patience: how long to wait between attempts to connect.
    """

    def __init__(
        self,
        context: Context,
        endpoint: str,
        *,
        hwm: int,
        send_timeout: float,
        send_policy: SendPolicy,
        patience: Patience,
    ) -> None:
        self.sent = 0
        self.dropped = 0
        self._next_drain = _DRAIN_AFTER
        self._sending = False  # guarded by the lock; only a signal handler can find it set
        self._context = context
        self._endpoint = endpoint
        self._hwm = hwm
        self._send_timeout = send_timeout
        self._send_policy = send_policy
        self._patience = patience
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
            patience=self._patience,
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
    def held(self) -> int:
        """How many events wait for `flush`."""
        with self._lock:
            return sum(count for _, _, count in self._held)

    def send(self, topic: bytes, payload: bytes, count: int = 1) -> None:
        """Send one message that carries `count` events; see `Transport.send`."""
        if self._sending and self._is_owned():
            raise EventBusError("a signal handler cannot emit while the code that it interrupted is emitting")
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
        except zmq.Again:
            # Only ever from the first frame: a pipe that took it has room for the rest of the message.
            self._sending = False
            self._release()
            self._send_later(topic, payload, count)
        except BaseException as error:
            if self._is_owned():
                if self._sending:
                    self._finish(payload)
                self._sending = False
                self._release()
            raise self._translated(error) from None

    def hold(self) -> None:
        """Keep what is sent from now on, up to the high-water mark, until `flush`."""
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
                topic, payload, _ = self._held[0]
                if not self._put(topic, payload):
                    break
                self._held.popleft()
            return False

    def renew(self) -> None:
        """Replace the socket by a new one, and hold what is sent until `flush`. What the old one has not sent is gone.

        Raises:
            zmq.ZMQError: there is no descriptor left; the leg stays abandoned.
        """
        with self._lock:
            if not self._closed:
                self.hold()  # the new one knows no subscription yet, and would drop everything
                self._monitor.detach()
                self._socket.close(linger=0)
                try:
                    self._connect()
                except BaseException:
                    self._monitor.abandon()
                    raise

    def expect(self, token: bytes) -> None:
        """Look out for the subscription to this token."""
        with self._lock:
            self._awaited.add(token)

    def has_seen(self, token: bytes) -> bool:
        """Whether the subscription to an expected token has come."""
        with self._lock:
            if not self._socket.closed:
                self._drain()
            return token not in self._awaited

    def forget(self, token: bytes) -> None:
        """Undo `expect`."""
        with self._lock:
            self._awaited.discard(token)

    def drain(self) -> None:
        """Read the subscriptions that have come upstream. To be called now and then: they are queued without a limit."""
        with self._lock:
            if not self._socket.closed:
                self._drain()

    def leg(self) -> Leg:
        """How the connection to the proxy is."""
        return self._monitor.look()

    def fileno(self) -> int:
        """The descriptor that tells of changes of `leg`; see `Monitor.fileno`."""
        return self._monitor.fileno()

    def close(self, linger: float) -> int:
        """Close the socket; what it has taken is flushed in the background for up to `linger` seconds.

        Returns how many events were still held, which are dropped.
        """
        with self._lock:
            self._closed = True
            self._monitor.detach()
            self._socket.close(linger=round(linger * 1000))
            left = self.held
            self._held.clear()
            return left

    def _drain(self) -> None:
        self._next_drain = self.sent + _DRAIN_AFTER
        while self._socket.poll(0):
            change = self._socket.recv(_NOWAIT)
            if change[:1] == _SUBSCRIBED:
                self._awaited.discard(change[1:])

    def _send_later(self, topic: bytes, payload: bytes, count: int) -> None:
        """Hold the message, or send it as soon as there is room, without the lock in between: others want it too."""
        deadline = Deadline(self._send_timeout)
        while not self._try(topic, payload, count):
            if self._send_policy is SendPolicy.RAISE:
                raise SendBufferFull(self._endpoint, self._hwm)
            if self._send_policy is SendPolicy.DROP:
                with self._lock:
                    self.dropped += count
                return
            if deadline.passed():
                raise SendTimeout(self._endpoint, self._hwm, self._send_timeout)
            sleep(_RETRY)

    def _try(self, topic: bytes, payload: bytes, count: int) -> bool:
        with self._lock:
            if self._closed:
                raise NotConnected(self._endpoint)
            if self._holding:
                if len(self._held) >= self._hwm:
                    return False
                self._held.append((topic, payload, count))
            elif not self._put(topic, payload):
                return False
            self.sent += count
            return True

    def _put(self, topic: bytes, payload: bytes) -> bool:
        """Give the socket a message; False if it is full. The caller holds the lock."""
        try:
            self._sending = True
            self._socket_send(topic, _MORE)
            self._socket_send(payload, _NOWAIT)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            raise self._translated(error) from None
        except BaseException:
            self._finish(payload)
            raise
        finally:
            self._sending = False
        return True

    def _finish(self, payload: bytes) -> None:
        """After an exception out of the blue, such as KeyboardInterrupt: leave no half message behind.

        If the first frame has been taken, this is its second one. If not, it is a message of one frame, which every receiver
        skips.
        """
        with suppress(zmq.ZMQError):
            self._send_frame(payload, _NOWAIT)

    def _translated(self, error: BaseException) -> BaseException:
        """The error to raise: another thread may have closed the socket meanwhile."""
        return NotConnected(self._endpoint) if isinstance(error, zmq.ZMQError) and self._socket.closed else error


def _full(frame: bytes, flags: int) -> NoReturn:
    raise zmq.Again
