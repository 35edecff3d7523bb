"""The subscribing half of a client: a SUB socket that one thread waits on and others may change."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from threading import RLock
from typing import cast

import zmq

from eventbus._base.waker import Waker
from eventbus._base.zmq_sockets import Context
from eventbus.options import ZeroMQOptions
from eventbus.transports.zeromq.monitor import Monitor
from eventbus.transports.zeromq.policy import ConnectionStatus
from eventbus.transports.zeromq.sockets import socket_for, unless_closed
from eventbus.wire import frames as wire
from eventbus.wire.frames import Batch

# Plain integers: pyzmq's enums cost a conversion in each call.
_NOWAIT = int(zmq.DONTWAIT)
_EVENTS = int(zmq.EVENTS)
_POLLIN = int(zmq.POLLIN)
_MORE_FRAMES = int(zmq.RCVMORE)

_FLAGS = [_NOWAIT] * 2 * 512  # for the frames of a batch
_CAREFUL = 1_000  # messages
_LOOK = 0.02  # seconds
_UNACKNOWLEDGED = 10  # seconds; all that is ever sent are subscriptions, which every proxy has room for


class Subscriber:
    """Receives messages. Open from its creation to `close`; any thread may use it, but only one at a time may `receive`.

    Args:
        context: the ZeroMQ context.
        endpoint: the proxy's XPUB port.
        options: how many messages wait to be received.
        topics: what to subscribe to before connecting.
    """

    def __init__(self, context: Context, endpoint: str, options: ZeroMQOptions, topics: Iterable[bytes]) -> None:
        self.malformed = 0
        self._careful = 0
        self._context = context
        self._endpoint = endpoint
        self._options = options
        # Whoever touches the socket holds `_lock`. The receiver waits for messages inside it, so others take `_turn` first,
        # wake it, and find that it cannot come back before they are through. A signal handler may close in between.
        self._lock = RLock()
        self._turn = RLock()
        self._closed = False
        self._woken = False
        self._topics = set(topics)
        self._prefixes: wire.Prefixes | None = None  # of the topics; made when needed
        self._unread: list[bytes] = []  # frames of whole messages that an earlier socket had received
        self._monitor = Monitor(context)
        self._waker = Waker()
        try:
            self._connect()
        except BaseException:
            self._waker.close()
            raise
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._waker.fileno(), zmq.POLLIN)

    def _connect(self) -> None:
        # Subscriptions count against high-water marks too: without a limit here, none is ever forgotten.
        self._socket = socket_for(
            self._endpoint,
            self._context,
            zmq.SUB,
            send_hwm=0,
            receive_hwm=self._options.receive_hwm,
            options=self._options,
            unacknowledged=_UNACKNOWLEDGED,
        )
        try:
            self._monitor.attach(self._socket)
            for topic in self._topics:
                self._socket.subscribe(topic)
            self._socket.connect(self._endpoint)
        except BaseException:
            self._monitor.detach()
            self._socket.close(linger=0)
            raise
        # The methods in C, without what pyzmq's Python layer adds to each call.
        self._receive_frame: Callable[[int], bytes] = super(zmq.Socket, self._socket).recv
        self._get = cast(Callable[[int], int], super(zmq.Socket, self._socket).get)

    def receive(self) -> Batch | None:
        """Wait for messages or for `wake`; return what is there, or None once closed."""
        if not self._enter():
            return None if self._closed else ([], [])
        try:
            if self._closed:
                return None
            if self._unread:
                unread, self._unread = self._unread, []
                return unread[0::2], unread[1::2]
            batch: Batch = [], []
            for source, _ in self._poller.poll():
                if source is self._socket:
                    batch = self._read()
                else:
                    self._waker.drain()
                    self._woken = False
            return batch
        finally:
            self._lock.release()

    def pump(self) -> None:
        """Let libzmq do what it does only in the thread that uses a socket: after a reconnection, subscribe again.

        To be called while an answer is awaited and when the leg has changed, for the receiver may be busy or absent.
        """
        if self._lock.acquire(blocking=False):  # else the receiver is in there, which does as well
            try:
                with unless_closed(self._socket):
                    self._get(_EVENTS)
            finally:
                self._lock.release()

    def wake(self) -> None:
        """Make `receive` return at once."""
        self._woken = True
        self._waker.wake()

    def subscribe(self, topic: bytes) -> None:
        """Subscribe to a prefix that is not subscribed."""

        def subscribe() -> None:
            self._topics.add(topic)
            self._prefixes = None
            if not self._socket.closed:
                self._socket.subscribe(topic)

        self._change(subscribe)

    def unsubscribe(self, topic: bytes) -> None:
        """Undo `subscribe`."""

        def unsubscribe() -> None:
            self._topics.discard(topic)
            self._prefixes = None
            if not self._socket.closed:
                self._socket.unsubscribe(topic)

        self._change(unsubscribe)

    def renew(self) -> None:
        """Replace the socket by a new one, with all subscriptions; what the old one has received is not lost.

        Raises:
            zmq.ZMQError: there is no descriptor left; the leg stays abandoned.
        """

        def renew() -> None:
            if not self._socket.closed:
                self._read_rest()
                self._poller.unregister(self._socket)
            self._monitor.detach()
            self._socket.close(linger=0)
            try:
                self._connect()
            except BaseException:
                self._monitor.abandon()
                raise
            self._poller.register(self._socket, zmq.POLLIN)

        self._change(renew)

    def leg(self) -> ConnectionStatus:
        """How the connection to the proxy is."""
        return self._monitor.look()

    def fileno(self) -> int:
        """The descriptor that tells of changes of `leg`; see `Monitor.fileno`."""
        return self._monitor.fileno()

    def close(self) -> None:
        """Close the socket. Messages that were not received are gone."""

        # Without its turn: whoever has that may wait for what a signal handler that closes has interrupted. The receiver
        # cannot come back all the same.
        self._closed = True
        self._waker.wake()
        with self._lock:
            self._monitor.detach()
            self._waker.close()
            self._socket.close(linger=0)

    def _enter(self) -> bool:
        """Take the lock when it is the receiver's turn; False if it is woken before that.

        Whoever has the turn may have been interrupted by a signal handler that wakes the receiver and waits for its thread.
        """
        while not self._woken:
            if self._turn.acquire(timeout=_LOOK):
                self._turn.release()
                if self._lock.acquire(timeout=_LOOK):
                    return True
        self._woken = False
        return False

    def _change(self, action: Callable[[], object]) -> None:
        """Do something with the socket while the receiver is out of it."""
        with self._turn:
            self._waker.wake()
            with self._lock:
                if not self._closed:
                    try:
                        action()
                    except zmq.ZMQError:
                        if not self._closed:  # by a signal handler, in the midst of it
                            raise

    # Reading; the caller holds the lock and has seen that there is something.

    def _read(self) -> Batch:
        frames, malformed = self._read_message()
        more = self._get(_EVENTS) & _POLLIN
        if more and not self._careful:
            self._read_fast(frames)
            if self._prefixes is None:
                self._prefixes = wire.Prefixes(self._topics)
            batch, wrong = wire.messages(frames, self._prefixes)
            malformed += wrong
        else:
            if more:
                malformed += self._read_carefully(frames)
            batch = frames[0::2], frames[1::2]
        if malformed:
            self.malformed += malformed
            self._careful = _CAREFUL
        return batch

    def _read_fast(self, frames: list[bytes]) -> None:
        """Read the frames of a batch, without asking where messages end but for the last one."""
        # The loop is map's, in C. It ends with Again when nothing is left; what was read by then is in the list.
        with suppress(zmq.Again):
            frames.extend(map(self._receive_frame, _FLAGS))
            while self._get(_MORE_FRAMES):
                frames.append(self._receive_frame(_NOWAIT))

    def _read_carefully(self, frames: list[bytes]) -> int:
        """Read a batch without guessing where messages end: after a malformed one, more may come."""
        malformed = 0
        while len(frames) < len(_FLAGS) and self._get(_EVENTS) & _POLLIN:
            message, wrong = self._read_message()
            frames += message
            malformed += wrong
            self._careful = max(0, self._careful - 1)
        return malformed

    def _read_rest(self) -> None:
        """Keep all that is there for the next `receive`."""
        while self._get(_EVENTS) & _POLLIN:
            message, wrong = self._read_message()
            self._unread += message
            self.malformed += wrong

    def _read_message(self) -> tuple[list[bytes], int]:
        """Read one message, asking libzmq after each frame whether it was the last; nothing and 1 if it is malformed."""
        frames = [self._receive_frame(_NOWAIT)]
        while self._get(_MORE_FRAMES):
            frames.append(self._receive_frame(_NOWAIT))
        return (frames, 0) if len(frames) == 2 else ([], 1)
