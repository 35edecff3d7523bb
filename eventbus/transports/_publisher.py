"""The publishing half of a client: an XPUB socket, under one lock."""

from collections.abc import Callable
from contextlib import suppress
from threading import RLock
from time import sleep

import zmq

from eventbus.deadline import Deadline
from eventbus.errors import EventBusError, NotConnected, SendTimeout
from eventbus.transports._monitor import Monitor
from eventbus.transports._sockets import Context, socket_for

# Plain integers: pyzmq's enums cost a conversion in each call.
_NOWAIT = int(zmq.DONTWAIT)
_MORE = int(zmq.DONTWAIT | zmq.SNDMORE)

_SUBSCRIBED = b"\x01"  # how an XPUB tells a subscription from its end
_RETRY = 0.001  # seconds
_DRAIN_AFTER = 1_000  # events


class Publisher:
    """Sends messages, and sees subscriptions come upstream. Open from its creation to `close`; any thread may use it.

    Args:
        context: the ZeroMQ context.
        endpoint: the proxy's XSUB port.
        hwm: how many messages the send buffer holds.
        send_timeout: how many seconds `send` waits while it is full.
    """

    def __init__(self, context: Context, endpoint: str, *, hwm: int, send_timeout: float) -> None:
        self.sent = 0
        self._next_drain = _DRAIN_AFTER
        self._sending = False  # guarded by the lock; only a signal handler can find it set
        self._endpoint = endpoint
        self._hwm = hwm
        self._send_timeout = send_timeout
        # Whoever touches the socket holds this. Its methods called by name cost half of what `with` does.
        self._lock = RLock()
        self._acquire, self._release = self._lock.acquire, self._lock.release
        self._is_owned: Callable[[], bool] = self._lock._is_owned  # type: ignore[attr-defined] # as threading.Condition does
        self._awaited: set[bytes] = set()
        # Subscriptions count against high-water marks too: without a limit here, none is ever forgotten.
        self._socket = socket_for(endpoint, context, zmq.XPUB, send_hwm=hwm, receive_hwm=0)
        self._socket.set(zmq.XPUB_NODROP, 1)
        self._monitor = Monitor(context, self._socket)
        # The method in C, without what pyzmq's Python layer adds to each call.
        self._send_frame = super(zmq.Socket, self._socket).send
        self._socket.connect(endpoint)

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
            self._recover(payload)
            raise self._translated(error) from None

    def expect(self, token: bytes) -> None:
        """Look out for the subscription to this token."""
        with self._lock:
            self._awaited.add(token)

    def wait_for(self, token: bytes, timeout: float) -> bool:
        """Whether the subscription to an expected token has come, waiting for up to `timeout` seconds, in the lock."""
        with self._lock:
            if self._socket.closed:
                return False
            if self._socket.poll(round(timeout * 1000)):
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

    def is_up(self) -> bool:
        """Whether the connection to the proxy is up."""
        return self._monitor.is_up()

    def close(self, linger: float) -> None:
        """Close the socket; what was sent is flushed in the background for up to `linger` seconds."""
        with self._lock:
            self._monitor.close()
            self._socket.close(linger=round(linger * 1000))

    def _drain(self) -> None:
        self._next_drain = self.sent + _DRAIN_AFTER
        while self._socket.poll(0):
            change = self._socket.recv(_NOWAIT)
            if change[:1] == _SUBSCRIBED:
                self._awaited.discard(change[1:])

    def _send_later(self, topic: bytes, payload: bytes, count: int) -> None:
        """Try again until the full send buffer has room, without the lock in between: others want to close, or to drain."""
        deadline = Deadline(self._send_timeout)
        while not deadline.passed():
            sleep(_RETRY)
            with self._lock:
                try:
                    self._send_frame(topic, _MORE)
                    self._send_frame(payload, _NOWAIT)
                except zmq.Again:
                    continue
                except zmq.ZMQError as error:
                    raise self._translated(error) from None
                self.sent += count
                return
        raise SendTimeout(self._endpoint, self._send_timeout, self._hwm)

    def _translated(self, error: BaseException) -> BaseException:
        """The error to raise: another thread may have closed the socket meanwhile."""
        return NotConnected(self._endpoint) if isinstance(error, zmq.ZMQError) and self._socket.closed else error

    def _recover(self, payload: bytes) -> None:
        """After an exception out of the blue, such as KeyboardInterrupt: leave neither the lock nor half a message behind.

        If the first frame has been taken, this is its second one. If not, it is a message of one frame, which every receiver
        skips.
        """
        if self._is_owned():
            if self._sending:
                with suppress(zmq.ZMQError):
                    self._send_frame(payload, _NOWAIT)
            self._sending = False
            self._release()
