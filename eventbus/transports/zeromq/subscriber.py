"""The subscribing half of a client: an XSUB socket that one thread receives from and others may change.

It is an XSUB and not a SUB because of `MessageWaker`. To the proxy there is no difference.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from threading import RLock
from time import sleep
from typing import cast

import zmq

from eventbus._base.locking import call_locked
from eventbus._base.zmq_sockets import Context
from eventbus.options import ZeroMQOptions
from eventbus.transports.zeromq.context import unless_closed
from eventbus.transports.zeromq.message_waker import MessageWaker
from eventbus.transports.zeromq.monitor import Monitor
from eventbus.transports.zeromq.policy import ConnectionStatus
from eventbus.transports.zeromq.sockets import connecting_socket, is_ipv6_endpoint
from eventbus.wire.frames import Batch, Prefixes, messages

# Plain integers: pyzmq's enums cost a conversion in each call.
_NOWAIT = int(zmq.DONTWAIT)
_EVENTS = int(zmq.EVENTS)
_POLLIN = int(zmq.POLLIN)
_MORE_FRAMES = int(zmq.RCVMORE)

_SUBSCRIBE, _UNSUBSCRIBE = b"\x01", b"\x00"  # how a message begins by which an XSUB says so upstream

_FLAGS = [_NOWAIT] * 2 * 512  # one for each frame of the longest batch
_MAX_LEFT = 1_000  # unsubscribed topics of which messages may still be there
_CAREFUL_MESSAGES = 1_000  # are read one by one after a malformed one
_ENTRY_POLL_S = 0.02
_UNACKNOWLEDGED_S = 10  # a subscriber sends only subscriptions, for which every proxy has room


class Subscriber:
    """Receives messages. Open from its creation to `close`; any thread may use it, but only one at a time may `receive`.

    Two locks. The thread that uses the socket holds `_socket_lock`; the receiver holds it while it waits for messages. So
    a thread that changes the socket takes `_change_lock` first, wakes the receiver, and then takes `_socket_lock`. The
    receiver does not enter again while `_change_lock` is taken. Both are reentrant, because a signal handler may close the
    client whose method it has interrupted.

    Args:
        context: the ZeroMQ context.
        endpoint: the proxy's XPUB port.
        options: the limit of messages that wait to be received.
        topics: what to subscribe to before connecting.

    Attributes:
        ipv6: whether the next socket resolves the proxy's name to IPv6 addresses.
        malformed: the number of messages that were skipped, because they were not two frames.
    """

    def __init__(self, context: Context, endpoint: str, options: ZeroMQOptions, topics: Iterable[bytes]) -> None:
        self.malformed = 0
        self.ipv6 = is_ipv6_endpoint(endpoint)
        self._careful = 0  # how many messages are still read one by one
        self._context = context
        self._endpoint = endpoint
        self._options = options
        self._socket_lock = RLock()
        self._change_lock = RLock()
        self._closed = False
        self._woken = False
        self._topics = set(topics)
        # Unsubscribed topics, the latest last: their messages that are under way come all the same, between those of others.
        self._left: dict[bytes, None] = {}
        self._prefixes: Prefixes | None = None  # of both, made when needed
        self._unread: list[bytes] = []  # frames of whole messages that an earlier socket had received
        self._monitor = Monitor(context)
        self._waker = MessageWaker(context)
        try:
            self._connect()
        except BaseException:
            self._waker.close()
            raise

    def _connect(self) -> None:
        # Subscriptions count against high-water marks too, and must never be lost: no limit for what is sent.
        self._socket = connecting_socket(
            self._context,
            zmq.XSUB,
            send_hwm=0,
            receive_hwm=self._options.receive_hwm,
            options=self._options,
            unacknowledged=_UNACKNOWLEDGED_S,
            ipv6=self.ipv6,
        )
        try:
            self._waker.connect(self._socket)
            self._monitor.attach(self._socket)
            for topic in self._topics:
                self._socket.send(_SUBSCRIBE + topic)
            self._socket.connect(self._endpoint)
        except BaseException:
            self._monitor.detach()
            self._socket.close(linger=0)
            raise
        # The methods in C, without what pyzmq's Python layer adds to each call.
        self._receive_frame: Callable[[int], bytes] = super(zmq.Socket, self._socket).recv
        # Its object knows whether another frame follows: cheaper than to ask the socket, once in a while.
        self._receive_object = cast(Callable[[int, bool], zmq.Frame], self._receive_frame)
        self._get = cast(Callable[[int], int], super(zmq.Socket, self._socket).get)

    def receive(self) -> Batch | None:
        """Wait for messages or for `wake`; return the messages that are there, or None once closed."""
        if not self._enter_as_receiver():
            return None if self._closed else ([], [])
        try:
            if self._closed:
                return None
            if self._unread:
                unread, self._unread = self._unread, []
                return unread[0::2], unread[1::2]
            if not self._socket.closed:
                return self._read()
        except zmq.ZMQError:
            if self._closed:  # by a signal handler of this thread
                return None
            raise
        finally:
            self._socket_lock.release()
        sleep(_ENTRY_POLL_S)  # until a new socket can be made
        return [], []

    def process_commands(self) -> None:
        """Let libzmq do the work that it leaves to the thread that uses a socket: subscribe again after a reconnection.

        Call it while a token is awaited and when the status has changed, because the receiver may be busy or absent.
        """
        # The change lock first, as in `_change`: a signal handler that changes the socket must not wait for a thread that
        # waits for what the handler has interrupted.
        with self._change_lock:
            # If it is not free, the receiver uses the socket, which has the same effect.
            call_locked(self._socket_lock, 0, self._process_commands)

    def wake(self) -> None:
        """Make a `receive` that waits, or else the next one, return at once."""
        self._woken = True
        self._waker.wake()

    def subscribe(self, topic: bytes) -> None:
        """Subscribe to a prefix that is not subscribed yet."""

        def subscribe() -> None:
            self._topics.add(topic)
            self._left.pop(topic, None)
            self._prefixes = None
            if not self._socket.closed:
                self._socket.send(_SUBSCRIBE + topic)

        self._change(subscribe)

    def unsubscribe(self, topic: bytes) -> None:
        """Undo `subscribe`."""

        def unsubscribe() -> None:
            self._topics.discard(topic)
            self._left[topic] = None
            if len(self._left) > _MAX_LEFT:
                del self._left[next(iter(self._left))]
            self._prefixes = None
            if not self._socket.closed:
                self._socket.send(_UNSUBSCRIBE + topic)

        self._change(unsubscribe)

    def renew(self) -> None:
        """Replace the socket by a new one with all subscriptions. Messages that the old one has received are kept.

        Raises:
            zmq.ZMQError: there is no descriptor left; the connection stays abandoned.
        """

        def renew() -> None:
            if not self._socket.closed:
                self._read_rest()
            self._monitor.detach()
            self._socket.close(linger=0)
            self._waker.process_commands()
            try:
                self._connect()
            except BaseException:
                self._monitor.abandon()
                raise

        self._change(renew)

    def status(self) -> ConnectionStatus:
        """Return the status of the connection to the proxy."""
        return self._monitor.status()

    def fileno(self) -> int:
        """Return the descriptor that is readable after a change of `status`; see `Monitor.fileno`."""
        return self._monitor.fileno()

    def close(self) -> None:
        """Close the socket. Messages that were not received are lost."""
        # Without the change lock: a signal handler that closes may have interrupted a thread that its holder waits for. The
        # receiver does not enter again all the same.
        self._closed = True
        self._waker.wake()
        with self._socket_lock:
            self._monitor.detach()
            self._waker.close()
            self._socket.close(linger=0)

    def _process_commands(self) -> None:
        with unless_closed(self._socket):
            if self._socket.closed:
                self._waker.process_commands()
            else:
                self._get(_EVENTS)

    def _enter_as_receiver(self) -> bool:
        """Take the socket lock as soon as no other thread changes the socket; return False if woken before that.

        It polls, because the thread that changes the socket may be interrupted by a signal handler that wakes the receiver
        and waits for its thread.
        """
        while not self._woken:
            if self._change_lock.acquire(timeout=_ENTRY_POLL_S):
                self._change_lock.release()
                if self._socket_lock.acquire(timeout=_ENTRY_POLL_S):
                    return True
        self._woken = False
        return False

    def _change(self, action: Callable[[], object]) -> None:
        """Call the action while the receiver does not use the socket."""
        with self._change_lock:
            self._waker.wake()
            with self._socket_lock:
                if not self._closed:
                    try:
                        action()
                    except zmq.ZMQError:
                        if not self._closed:  # else a signal handler has closed the socket meanwhile
                            raise

    # Reading. The caller holds the socket lock.

    def _read(self) -> Batch:
        """Wait for a message, which may be that of the waker; return it, with all others if some are there already."""
        if self._get(_EVENTS) & _POLLIN:
            return self._read_all([self._receive_frame(0)])
        # At low rates nearly always. As little as possible is asked between the message's coming and its handling.
        frames = [self._receive_frame(0)]
        if self._careful or self._waker.pending:
            return self._read_all(frames)
        try:
            last = self._receive_object(_NOWAIT, False)
        except zmq.Again:  # it was a message of one frame
            return self._read_all(frames)
        frames.append(last.bytes)
        if last.more:
            return self._batch_of(self._read_last(frames), 0, split=True)
        return frames[:1], frames[1:]

    def _read_all(self, frames: list[bytes]) -> Batch:
        """Read the rest of the message that begins with this frame, and all others that are there."""
        frames, malformed = self._read_rest_of(frames)
        more = self._get(_EVENTS) & _POLLIN
        fast = bool(more) and not self._careful
        if fast:
            self._read_fast(frames)
        elif more:
            malformed += self._read_carefully(frames)
        return self._batch_of(frames, malformed, split=fast)

    def _batch_of(self, frames: list[bytes], malformed: int, *, split: bool) -> Batch:
        """Make a batch of the frames that were read; `split`: not all of them were asked where a message ends."""
        if self._waker.pending and self._waker.remove_from(frames):
            self._woken = False
        batch = frames[0::2], frames[1::2]
        if split:
            if self._prefixes is None:
                self._prefixes = Prefixes(self._topics | self._left.keys())
            batch, wrong = messages(frames, self._prefixes)
            malformed += wrong
        if malformed:
            self.malformed += malformed
            self._careful = _CAREFUL_MESSAGES
        return batch

    def _read_fast(self, frames: list[bytes]) -> None:
        """Read the frames of a batch, asking only for the last message where it ends."""
        # map loops in C. When no frame is left Again ends the loop, and the list has all frames that were read.
        with suppress(zmq.Again):
            frames.extend(map(self._receive_frame, _FLAGS))
            self._read_last(frames)

    def _read_carefully(self, frames: list[bytes]) -> int:
        """Read a batch message by message: after a malformed one, more may come."""
        malformed = 0
        while len(frames) < len(_FLAGS) and self._get(_EVENTS) & _POLLIN:
            message, wrong = self._read_message()
            frames += message
            malformed += wrong
            self._careful = max(0, self._careful - 1)
        return malformed

    def _read_rest(self) -> None:
        """Keep all messages that are there for the next `receive`."""
        while self._get(_EVENTS) & _POLLIN:
            message, wrong = self._read_message()
            self._unread += message
            self.malformed += wrong
        if self._waker.pending:
            self._waker.remove_from(self._unread)

    def _read_message(self) -> tuple[list[bytes], int]:
        """Read one message, asking after each frame whether it was the last; return no frame and 1 if it is malformed."""
        return self._read_rest_of([self._receive_frame(_NOWAIT)])

    def _read_last(self, frames: list[bytes]) -> list[bytes]:
        """Read the last message to its end."""
        while self._get(_MORE_FRAMES):
            frames.append(self._receive_frame(_NOWAIT))
        return frames

    def _read_rest_of(self, frames: list[bytes]) -> tuple[list[bytes], int]:
        """Do the same with a message of which these frames were read."""
        self._read_last(frames)
        return (frames, 0) if len(frames) == 2 else ([], 1)
