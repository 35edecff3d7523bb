"""The publishing half of a client: an XPUB socket, and an outbox in front of it, under one lock."""

import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import RLock
from time import sleep
from typing import NoReturn, cast

import zmq

from eventbus._base.deadline import Deadline
from eventbus._base.locking import call_with_both
from eventbus._base.log import Log
from eventbus._base.log_throttle import LogThrottle
from eventbus._base.printable import printable
from eventbus._base.zmq_sockets import Context
from eventbus.errors import EventBusError, NotConnected, SendBufferFull, SendTimeout
from eventbus.observe.stats import DropLog, DropReason
from eventbus.options import ZeroMQOptions
from eventbus.policies import SendPolicy
from eventbus.transports.waiting import may_wait
from eventbus.transports.zeromq.monitor import Monitor
from eventbus.transports.zeromq.outbox import Outbox
from eventbus.transports.zeromq.policy import ConnectionStatus
from eventbus.transports.zeromq.sockets import connecting_socket, is_ipv6_endpoint
from eventbus.wire.frames import MAX_TOPIC_BYTES, PRIVATE, topic_of
from eventbus.wire.notices import LimitNotice
from eventbus.wire.private_topics import EVERYTHING_TOPIC

# Plain integers: pyzmq's enums cost a conversion in each call.
_NOWAIT = int(zmq.DONTWAIT)
_MORE = int(zmq.DONTWAIT | zmq.SNDMORE)
_EVENTS = int(zmq.EVENTS)
_POLLIN = int(zmq.POLLIN)

_SUBSCRIBED, _UNSUBSCRIBED = b"\x01", b"\x00"  # the first byte of a subscription and of its end, as an XPUB receives them
_RETRY_S = 0.001
_EVENTS_PER_DRAIN = 1_000
MESSAGES_PER_FLUSH = 1_000  # then other threads get the lock
# A suspended proxy acknowledges nothing once its buffers are full. That must not cost the messages in our socket's queue.
_UNACKNOWLEDGED_S = 300


class Publisher:
    """Sends messages, and receives subscriptions. Open from its creation to `close`; any thread may use it.

    It begins by holding messages in its outbox, up to the high-water mark, until `flush` sends them; `hold` begins anew.

    Args:
        context: the ZeroMQ context.
        endpoint: the proxy's XSUB port.
        options: how large the send buffer is, and what happens when it is full.
        drops: where dropped events are counted.
        refusal: makes the error that `send` raises on a closed publisher; None: NotConnected.
        on_notice: called with each frame from upstream that may be the notice of a denial.

    Attributes:
        ipv6: whether the next socket resolves the proxy's name to IPv6 addresses.
        max_payload_bytes: the largest payload that the proxy passes on, as far as it is known; None: no limit is known.
        publisher_id: the publisher's id in the numbers of its messages; None if it does not number them.
    """

    # What each event reads and writes. In slots, because an object with more than 30 attributes has a slower dictionary.
    __slots__ = ("__dict__", "__weakref__", "_acquire", "_count", "_next_drain", "_release", "_send_frame", "_sending")

    publisher_id: bytes | None = None

    def __init__(
        self,
        context: Context,
        endpoint: str,
        options: ZeroMQOptions,
        drops: DropLog,
        refusal: Callable[[], EventBusError] | None = None,
        on_notice: Callable[[bytes], None] = lambda frame: None,
    ) -> None:
        self._count = 0  # how many events `send` has taken
        self.ipv6 = is_ipv6_endpoint(endpoint)
        self._limit_payloads(None)
        self._told_limit: int | None = None  # the limit in the proxy's notice
        self._on_notice = on_notice
        self._refusal = refusal or (lambda: NotConnected(endpoint))
        self._sent_at_proof = 0  # how many events the socket had been given when the link was proven last
        self._next_drain = _EVENTS_PER_DRAIN  # the value of `_count` at which subscriptions are read
        self._given = False  # whether the socket may have the message that was sent last; for when sending is interrupted
        self._sending = False  # guarded by the lock: only a signal handler can find it set
        self._context = context
        self._endpoint = endpoint
        self._options = options
        self._drops = drops
        self._log = Log(endpoints=endpoint)
        self._throttle = LogThrottle()
        # The thread that uses the socket holds the lock. Its methods called by name cost half of what `with` does.
        self._lock = RLock()
        self._acquire, self._release = self._lock.acquire, self._lock.release
        self._is_owned: Callable[[], bool] = self._lock._is_owned  # type: ignore[attr-defined] # as threading.Condition does
        self._expected: set[bytes] = set()  # tokens
        # What happened under the lock, to be counted and logged once it is free: a signal handler that emits may have
        # interrupted what holds the locks that this takes, such as those of `logging`, and wait for ours.
        self._unreported: deque[Callable[[], object]] = deque()
        self._monitor = Monitor(context)
        self._outbox = self._new_outbox()
        self._holding = True
        self._closed = False
        self._connect()
        # `send` gives its frames to this: the socket's own method, or while holding a function that raises Again. So it need
        # not ask for each event whether the publisher is holding.
        self._send_frame: Callable[[bytes, int], object] = _raise_again

    def _new_outbox(self) -> Outbox:
        return Outbox(self._options.send_hwm)

    @property
    def _socket_hwm(self) -> int:
        """The high-water mark of the socket's queue, in messages."""
        return self._options.send_hwm

    def _connect(self) -> None:
        # Prefixes to which anybody subscribes at the proxy, without the clients' tokens: as received at this socket.
        self._subscribed: set[bytes] = set()
        # Subscriptions count against high-water marks too, and must never be lost: no limit for what is received.
        self._socket = connecting_socket(
            self._context,
            zmq.XPUB,
            send_hwm=self._socket_hwm,
            receive_hwm=0,
            options=self._options,
            unacknowledged=_UNACKNOWLEDGED_S,
            ipv6=self.ipv6,
        )
        try:
            self._socket.set(zmq.XPUB_NODROP, 1)
            self._monitor.attach(self._socket)
            self._socket.connect(self._endpoint)
        except BaseException:
            self._monitor.detach()
            self._socket.close(linger=0)
            raise
        # The methods in C, without what pyzmq's Python layer adds to each call.
        self._socket_send: Callable[[bytes, int], object] = super(zmq.Socket, self._socket).send
        self._get = cast(Callable[[int], int], super(zmq.Socket, self._socket).get)

    @property
    def sent(self) -> int:
        """How many events `send` has taken."""
        return self._count

    @property
    def has_more(self) -> bool:
        """Whether `flush` has anything to send."""
        return bool(self._outbox)

    @property
    def held(self) -> int:
        """The number of events that wait in the outbox."""
        with self._lock:
            return self._outbox.events

    def send(self, topic: bytes, payload: bytes, count: int = 1) -> bool:
        """Send one message that carries `count` events; see `Transport.send`."""
        if self._sending and self._is_owned():
            raise emitting_already()
        try:
            self._acquire()
            self._sending = True
            self._send_frame(topic, _MORE)
            self._send_frame(payload, _NOWAIT)
            self._sending = False
            self._count += count
            if self._count >= self._next_drain:
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
                    self._complete_message(payload)
                self._sending = False
                self._release()
            raise self._translated(error) from None

    def hold(self, unproven: float = 0.0) -> None:
        """Let messages wait in the outbox from now on, until `flush`.

        Args:
            unproven: the seconds that the link may have been down without a sign.
        """
        with self._lock:
            self._holding = True
            self._send_frame = _raise_again

    def flush(self) -> bool:
        """Send some of the waiting messages, in order; return True when none is left and `send` uses the socket again."""
        with self._lock:
            for _ in range(MESSAGES_PER_FLUSH):
                if not self._outbox or self._closed:
                    self._holding = False
                    self._send_frame = self._socket_send
                    return True
                if not self._put_oldest():
                    break
            return False

    def pass_on(self) -> None:
        """Give the socket what was not given yet and need not wait for `flush`, as far as there is room."""

    def renew(self) -> None:
        """Replace the socket by a new one, and hold messages until `flush`. The queue of the old socket is dropped.

        Raises:
            zmq.ZMQError: there is no descriptor left; the connection stays abandoned.
        """
        call_with_both(self._lock, self._monitor.lock, self._renew)

    def note_proof(self) -> None:
        """Note that the link was proven live just now."""
        with self._lock:
            self._sent_at_proof = self.sent - self.held

    def connection_lost(self) -> None:
        """Note that the connection was lost. The socket sends the rest of its queue on the next connection by itself."""

    def reconnected(self, *, same_proxy: bool) -> None:
        """Note that the link is ready again, on another publishing connection.

        Args:
            same_proxy: whether the subscribing connection has stayed up all the time: the proxy runs, and has ended the last
                publishing connection alone.
        """

    def expect(self, token: bytes) -> None:
        """Look out for the subscription to this token."""
        with self._lock:
            self._expected.add(token)

    def has_seen(self, token: bytes) -> bool:
        """Whether the subscription to an expected token has come."""
        with self._lock:
            self.drain()
            return token not in self._expected

    def forget(self, token: bytes) -> None:
        """Undo `expect`."""
        with self._lock:
            self._expected.discard(token)

    def has_subscriber(self, topic: bytes, *, watchers: bool = True) -> bool | None:
        """Whether anybody is known to subscribe to a topic or a prefix of it; None while holding.

        What another proxy has told before a reconnection counts, too, because the socket keeps it.

        Args:
            topic: the topic.
            watchers: whether those count that subscribe to all topics and do not answer; see `KnowsWatchers`.
        """
        with self._lock:
            if self._holding:
                return None
            self.drain()
            subscribed = self._subscribed
            if topic in subscribed or any(topic[:length] in subscribed for length in range(1, len(topic))):
                return True
            return b"" in subscribed and (watchers or EVERYTHING_TOPIC in subscribed)

    def drain(self) -> None:
        """Read the subscriptions that have come. Call it regularly: libzmq queues them without a limit."""
        with self._lock:
            try:  # not unless_closed(): it costs several calls, and each request comes here
                self._drain()
            except zmq.ZMQError:
                if not self._socket.closed:
                    raise
        if self._unreported:
            self.report()

    def report(self) -> None:
        """Count and log what happened, unless this thread holds the lock. Call it after what may drop events."""
        while self._unreported and not self._is_owned():
            with suppress(IndexError):  # another thread was faster
                self._unreported.popleft()()

    def status(self) -> ConnectionStatus:
        """Return the status of the connection to the proxy."""
        return self._monitor.status()

    def fileno(self) -> int:
        """Return the descriptor that is readable after a change of `status`; see `Monitor.fileno`."""
        return self._monitor.fileno()

    def close(self, linger: float) -> None:
        """Close the socket: drop the outbox, and flush the socket's queue for up to `linger` seconds in the background."""
        call_with_both(self._lock, self._monitor.lock, partial(self._close, linger))
        self.report()

    # The caller of all of these holds the lock, but for _send_later.

    def _renew(self) -> None:
        if not self._closed:
            self.hold()  # the new socket knows no subscription yet, and would drop everything
            self._drop_unproven()
            try:
                self._monitor.detach()
                self._socket.close(linger=0)
                self._connect()
            except BaseException:
                self._monitor.abandon()
                raise

    def _close(self, linger: float) -> None:
        self._closed = True
        self._monitor.detach()
        self._socket.close(linger=round(linger * 1000))
        if left := self.held:
            self._note_drops(DropReason.CLOSED, left)
        self._outbox.clear()

    def _note_drops(self, reason: DropReason, count: int) -> None:
        self._unreported.append(partial(self._drops.add, reason, count))

    def _drop_unproven(self) -> None:
        """Count the events that the socket was given since the last proof: it is not known whether they arrived."""
        unproven = self.sent - self.held - self._sent_at_proof
        if unproven > 0:
            self._sent_at_proof += unproven
            self._note_drops(DropReason.UNPROVEN, unproven)

    def _drain(self) -> None:
        self._next_drain = self._count + _EVENTS_PER_DRAIN
        while self._get(_EVENTS) & _POLLIN:
            try:
                change = self._socket.recv(_NOWAIT)
            except zmq.Again:  # a signal handler has read it just before
                break
            if change[:1] == _SUBSCRIBED:
                self._expected.discard(change[1:])
                if change[1:2] != PRIVATE:
                    self._subscribed.add(change[1:])
                    continue
                limit = LimitNotice.of(change)
                if limit is None:
                    self._unreported.append(partial(self._on_notice, change))
                else:
                    self._told_limit = limit.max_payload_bytes
                    self._limit_payloads(self._told_limit)
            elif change[:1] == _UNSUBSCRIBED:
                self._subscribed.discard(change[1:])
            else:
                self._unreported.append(partial(self._on_notice, change))

    def _send_later(self, topic: bytes, payload: bytes, count: int) -> bool:
        """Put the message into the outbox, or send it as soon as there is room; return False if it was dropped.

        The lock is free between two attempts, because other threads send too.
        """
        deadline = Deadline(self._options.send_timeout)
        while not self._try_to_send(topic, payload, count):
            if self._options.send_policy is SendPolicy.DROP:
                self._drops.add(DropReason.SEND_BUFFER, count)
                return False
            if self._options.send_policy is SendPolicy.RAISE or not may_wait():
                raise SendBufferFull(self._endpoint, self._options.send_hwm)
            if deadline.passed():
                raise SendTimeout(self._endpoint, self._options.send_hwm, self._options.send_timeout)
            sleep(_RETRY_S)
        if self._unreported:
            self.report()
        return True

    def _try_to_send(self, topic: bytes, payload: bytes, count: int) -> bool:
        """Put the message into the outbox while holding, else send it; return False if there is no room."""
        with self._lock:
            if self._closed:
                raise self._refusal()
            if self._holding:
                if not self._outbox.put(topic, payload, count):
                    return False
            elif not self._put(topic, payload, count):
                return False
            self._count += count
            if self._count >= self._next_drain:
                self._drain()
            return True

    def _put_oldest(self) -> bool:
        """Move the oldest message of the outbox to the socket; return False if the socket's queue is full."""
        for oldest in self._outbox.oldest():  # none, if a signal handler has closed this
            self._given = False
            try:
                if not self._put(*oldest):
                    return False
                self._outbox.remove(oldest)
            except BaseException:
                if self._given:  # or a signal handler's exception would have it sent again
                    self._outbox.remove(oldest)
                raise
        return True

    def _put(self, topic: bytes, payload: bytes, count: int) -> bool:
        """Give the socket a message, or drop it if it is too large; return False if the socket's queue is full."""
        if len(payload) > self._refused_above:  # it may have waited for the proxy, and the limit was not known then
            self._drop_too_large(topic, payload, count)
            return True
        return self._put_frames(topic, payload)

    def _limit_payloads(self, limit: int | None) -> None:
        self.max_payload_bytes = limit
        self._refused_above = sys.maxsize if limit is None else limit

    def _drop_too_large(self, topic: bytes, payload: bytes, count: int) -> None:
        self._unreported.append(partial(self._report_too_large, topic, len(payload), count, self.max_payload_bytes))

    def _report_too_large(self, topic: bytes, size: int, count: int, limit: int | None) -> None:
        self._drops.add(DropReason.TOO_LARGE, count)
        if self._throttle.admit(DropReason.TOO_LARGE) is not None:
            text = printable(topic_of(topic).decode(errors="backslashreplace"), MAX_TOPIC_BYTES)
            self._log.warning(
                "dropped a message of %d bytes on topic %s: the proxy accepts %s",
                size,
                text,
                limit,
                topic=text,
                count=count,
                size=size,
            )

    def _put_frames(self, first: bytes, payload: bytes) -> bool:
        sending, self._sending, self._given = self._sending, True, True
        try:
            self._socket_send(first, _MORE)
            self._socket_send(payload, _NOWAIT)
        except zmq.Again:
            self._given = False
            return False
        except zmq.ZMQError as error:
            raise self._translated(error) from None
        except BaseException:
            self._complete_message(payload)
            raise
        finally:
            self._sending = sending
        return True

    def _complete_message(self, payload: bytes) -> None:
        """Leave no half message behind after an exception such as KeyboardInterrupt.

        If the socket has taken the first frame, this is the second one. If not, it becomes a message of one frame, which
        every receiver skips.
        """
        with suppress(zmq.ZMQError):
            self._socket_send(payload, _NOWAIT)

    def _translated(self, error: BaseException) -> BaseException:
        """Return the error to raise: another thread may have closed the socket meanwhile."""
        return self._refusal() if isinstance(error, zmq.ZMQError) and self._socket.closed else error


def emitting_already() -> EventBusError:
    """Return the error of a signal handler that emits while its own thread does."""
    return EventBusError("a signal handler cannot emit while the code that it interrupted is emitting")


def _raise_again(frame: bytes, flags: int) -> NoReturn:
    raise zmq.Again
