"""Publishers whose events share messages when they come faster than messages are sent: `Packing.ALL`.

An event that comes after a pause is sent at once, by the thread that emits it. Those that come within a moment after a
message wait for the next one, which the first event after that moment sends; if none comes, a thread sends what is left.
"""

from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic
from typing import NoReturn

import zmq

from eventbus._base.deadline import LONGEST_S
from eventbus._base.locking import call_locked
from eventbus._base.zmq_sockets import Context
from eventbus.errors import EventBusError
from eventbus.observe.stats import DropLog, DropReason
from eventbus.options import ZeroMQOptions
from eventbus.transports.zeromq.numbered_publisher import NumberedPublisher
from eventbus.transports.zeromq.outbox import Outbox
from eventbus.transports.zeromq.publisher import Publisher, emitting_already
from eventbus.wire.joining import MAX_JOINED, Joined, Joiner, Waiting

# From one message to the next, as a part of the longest wait. Events that come more slowly do not wait at all.
_SPACING = 0.1
# After a message with so many events, because those that follow it as fast are to fill messages well.
_FULL, _SPACING_WHEN_FULL = 16, 0.3
# No thread emits events faster than one in this time. So they do not wait longer than this for each event that may wait.
_FASTEST_EVENT_S = 0.000_000_1
_MIN_QUEUE = 256  # messages: so many the socket's queue takes at least, however few events each of them may carry then
_AT_ONCE = float("-inf")
_COUNT_PATIENCE_S = 0.01
_END_PATIENCE_S = 0.1  # not longer: it may wait for a lock of the thread that a signal handler has interrupted to close this
_RETRY_S, _MIN_PAUSE_S = 0.001, 0.0001


def can_pack(options: ZeroMQOptions) -> bool:
    """Whether the high-water mark is so high that events may share messages."""
    return options.send_hwm >= 2 * _MIN_QUEUE


class PackingPublisher(Publisher):
    """Lets events share messages, as described above. The outbox is where they wait, also while the path is down.

    So high-water marks count events. They bound the events per message, too, because the socket's own queue counts messages
    and shall not hold more events than allowed either.

    Args:
        options: their high-water mark must be one for which `can_pack` is true.
        joiner: makes one message of several.
    """

    def __init__(
        self,
        context: Context,
        endpoint: str,
        options: ZeroMQOptions,
        drops: DropLog,
        refusal: Callable[[], EventBusError] | None = None,
        on_notice: Callable[[bytes], None] = lambda frame: None,
        joiner: Joiner | None = None,
    ) -> None:
        self._joiner = joiner or Joiner()
        self._joined: tuple[Waiting, Joined] | None = None  # the last message made, by the first one whose place it takes
        self._max_wait = min(options.packing_max_wait, LONGEST_S)
        longest = options.send_hwm * _FASTEST_EVENT_S
        self._spacing = min(self._max_wait * _SPACING, longest)
        self._spacing_when_full = min(self._max_wait * _SPACING_WHEN_FULL, longest)
        self._due = _AT_ONCE  # from when on the thread that emits sends what waits; a number of `monotonic`
        self._moving = False  # guarded by the lock: only a signal handler can find it set
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._parked = False  # whether the thread waits for the bell
        self._events_per_message = min(MAX_JOINED, options.send_hwm // _MIN_QUEUE)
        super().__init__(context, endpoint, options, drops, refusal, on_notice)
        # Takes an event that may wait: the outbox's own method in C, or a function that raises Again where it may not.
        self._add: Callable[[Waiting], object] = _no_room
        self._thread = Thread(target=self._send_what_is_left, name="eventbus-packing", daemon=True)
        try:
            self._thread.start()
        except BaseException:  # after an interrupt the thread may run all the same: it ends when it finds this closed
            self.close(0)
            raise

    def _new_outbox(self) -> Outbox:
        return Outbox(self._options.send_hwm, in_events=True)

    @property
    def _socket_hwm(self) -> int:
        return self._options.send_hwm // self._events_per_message

    @property
    def sent(self) -> int:
        """How many events `send` has taken; for a moment a few less, if a thread is moving them and cannot go on."""
        counted: list[int] = []

        def count() -> None:
            counted.append(self._count + self._outbox.events)

        # Not longer, in case that the caller has a lock for which the moving thread waits.
        if not call_locked(self._lock, _COUNT_PATIENCE_S, count):
            count()
        return counted[0]

    def send(self, topic: bytes, payload: bytes, count: int = 1) -> bool:
        """Send one message that carries `count` events, or let one event wait for others; see `Transport.send`."""
        if count > 1:
            return self._try_to_send(topic, payload, count) or self._send_later(topic, payload, count)
        now = monotonic()
        due = now >= self._due
        if due and not self._outbox and not self._sending:  # after a pause: nothing to join with, and nothing to overtake
            taken = super().send(topic, payload)
            if self._add is not _no_room:
                self._due = now + self._spacing
            return taken
        try:
            self._add((topic, payload, 1))
        except zmq.Again:
            return self._try_to_send(topic, payload, 1) or self._send_later(topic, payload, 1)
        if due:
            self._pass_on(due=True)
        elif self._parked:
            self._parked = False
            self._bell.put(None)
        return True

    def hold(self, unproven: float = 0.0) -> None:
        """Let messages wait in the outbox from now on, until `flush`."""
        with self._lock:
            self._wait_no_longer()
            super().hold(unproven)

    def flush(self) -> bool:
        """Send some of the waiting messages, in order; return True when none is left and `send` uses the socket again."""
        with self._lock:
            if not super().flush():
                return False
            self._let_wait()
            return True

    def pass_on(self) -> None:
        """Send what waits, unless the path is down."""
        self._pass_on(due=False)

    def drain(self) -> None:
        """Read the subscriptions that have come, and send what an interrupted thread has left."""
        super().drain()
        with suppress(EventBusError):  # closed meanwhile
            self.pass_on()

    def close(self, linger: float) -> None:
        """Send what waits, as far as there is room; then close as every publisher does."""
        super().close(linger)
        self._bell.put(None)
        with suppress(RuntimeError):  # it is this thread, or was not started
            self._thread.join(_END_PATIENCE_S)

    def _pass_on(self, *, due: bool) -> None:
        """Send what waits; if `due` is true, only if that is due."""
        # Threads wait for the one that sends just now. That is good: it needs the interpreter to go on.
        try:
            with self._lock:
                if self._closed and self._outbox:
                    self._drop_all()
                    raise self._refusal()
                if self._holding:
                    return
                # Either that thread has sent meanwhile, or this is a signal handler that has interrupted just that.
                if self._moving or self._sending or (due and monotonic() < self._due):
                    self._ring()
                else:
                    self._move()
        finally:
            if self._unreported:
                self.report()

    # The caller of all of these holds the lock, but for _send_what_is_left.

    def _close(self, linger: float) -> None:
        if not (self._moving or self._sending or self._holding or self._closed):
            self._move()
        self._wait_no_longer()  # before the rest is dropped: what a thread adds from now on, it finds and drops itself
        self._drop_all()
        super()._close(linger)

    def _try_to_send(self, topic: bytes, payload: bytes, count: int) -> bool:
        """Send the message behind all that waits, or let it wait; return False if there is no room."""
        with self._lock:
            if self._closed:
                raise self._refusal()
            taken = self._outbox.put(topic, payload, count)
            if self._moving or self._sending:  # by the code that a signal handler has interrupted in this thread
                if not taken:
                    raise emitting_already()
                self._ring()
            elif not self._holding:
                self._move()
                taken = taken or self._outbox.put(topic, payload, count)
            return taken

    def _move(self) -> None:
        """Give the socket what waits at this moment; what comes meanwhile waits for the next message."""
        try:
            self._moving = True
            before, left = self._count, self._outbox.events
            while self._outbox and self._count - before < left:
                if self._closed:
                    raise self._refusal()
                if not self._put_oldest():
                    self._wait_no_longer()
                    self._ring()
                    return
            self._let_wait()
            full = self._count - before >= _FULL
            self._due = monotonic() + (self._spacing_when_full if full else self._spacing)
            if self._count >= self._next_drain:
                self._drain()
        except BaseException as error:
            self._ring()
            raise self._translated(error) from None
        finally:
            self._moving = False

    def _put_oldest(self) -> bool:
        """Move the oldest events that may share a message to the socket, in one; return False if its queue is full."""
        waiting = self._outbox.oldest(self._events_per_message)
        if not waiting:  # a signal handler has closed this
            return True
        oldest = waiting[0]
        if self._joined is None or self._joined[0] is not oldest:
            self._joined = oldest, self._joiner.join(waiting, self.max_payload_bytes)
        first, payload, events, messages = self._joined[1]
        self._given = False
        try:
            if not self._put(first, payload, events):
                return False
            self._note_sent(oldest, events, messages)
        except BaseException:
            if self._given:  # or a signal handler's exception would have them sent again
                self._note_sent(oldest, events, messages)
            raise
        return True

    def _note_sent(self, oldest: Waiting, events: int, messages: int) -> None:
        if self._outbox.remove(oldest, messages):  # else that is done, or a signal handler has closed this
            self._count += events
        self._joined = None

    def _limit_payloads(self, limit: int | None) -> None:
        super()._limit_payloads(limit)
        self._joined = None

    def _let_wait(self) -> None:
        if not self._closed:
            self._add = self._outbox.append

    def _wait_no_longer(self) -> None:
        self._add = _no_room
        self._due = _AT_ONCE  # a thread that has added an event nevertheless passes it on

    def _drop_all(self) -> None:
        """Count what is left of a closed publisher: it was taken, and cannot be sent any more."""
        if left := self._outbox.events:
            self._count += left
            self._note_drops(DropReason.CLOSED, left)
        self._outbox.clear()

    def _ring(self) -> None:
        if self._parked:
            self._parked = False
            self._bell.put(None)

    def _send_what_is_left(self) -> None:
        """Send what no event has followed in time, and what waits for room; in a thread of its own until `close`."""
        while True:
            self._parked = True
            if self._closed:
                return
            if not self._outbox or self._holding:
                self._bell.get()
            self._parked = False
            if self._closed:
                return
            with suppress(EventBusError):  # closed meanwhile
                self.pass_on()
            with suppress(Empty):
                self._bell.get(timeout=_RETRY_S if self._outbox else max(self._max_wait, _MIN_PAUSE_S))


class PackingNumberedPublisher(PackingPublisher, NumberedPublisher):
    """Does both: a message has one number, which counts its events."""


def _no_room(message: Waiting) -> NoReturn:
    raise zmq.Again
