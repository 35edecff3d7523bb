"""What waits to be sent: many threads put messages in, the link's thread takes them out."""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable
from itertools import accumulate, islice, repeat, starmap
from operator import itemgetter
from threading import Lock, RLock
from time import sleep
from typing import NamedTuple

from eventbus._base.deadline import Deadline
from eventbus.errors import EventBusError, EventTooLarge, SendBufferFull, SendTimeout
from eventbus.observe.stats import DropLog, DropReason
from eventbus.options import ZeroMQOptions
from eventbus.policies import SendPolicy
from eventbus.transports.contract import Remedies
from eventbus.transports.waiting import may_wait
from eventbus.wire.frames import MARK, topic_of

_RETRY_S = 0.001
# Messages. A thread that emits without a pause keeps the interpreter for 5 ms. In this time more come to wait than fit into
# the processor's cache, and than Python's garbage collector ignores: each of both would cost a tenth of its time. So that
# thread writes these itself, or lets the link's thread take them.
_MANY = 1_024
_EVENTS = itemgetter(2)  # of a message
_MARK = MARK[0]  # bytes find a number ten times as fast as other bytes
_MAX_BYTES_AT_ONCE = 1_048_576

# A message: the first frame, the payload, and how many events are in it. A plain tuple, because one is made for each.
type Waiting = tuple[bytes, bytes, int]


class Taken(NamedTuple):
    """Messages that were taken out, in three columns: then loops over them are in C.

    Attributes:
        firsts: the first frames.
        payloads: as many payloads.
        events: how many events are in each.
    """

    firsts: tuple[bytes, ...]
    payloads: tuple[bytes, ...]
    events: tuple[int, ...]


_NOTHING = Taken((), (), ())


class Limits(NamedTuple):
    """The largest message that the server takes.

    Attributes:
        message: its headers and its payload, in bytes.
        payload: a payload that is sure to fit with the headers that most messages have.
    """

    message: int
    payload: int


class Outgoing:
    """The send buffer. `send` takes no lock, because appending to a deque is one step of the interpreter: so any thread may
    call it, and a signal handler in the midst of another call.

    Args:
        endpoints: where the messages go, for errors.
        options: how many may wait, and what happens when the buffer is full.
        drops: where dropped events are counted.
        remedies: what errors advise.
        refusal: makes the error that a `send` raises which waits while the transport is closed.
        header_bytes: how large the headers of a first frame are, which checks them as well; see `Carried.outward`.

    Attributes:
        idle: whether the link's thread waits for messages. Set by that thread.
        begin: called by `send` when it does: has the message written.
        write_many: called by `send` when very many wait: writes them, and returns True; else the link's thread is to.
        room: how many messages may wait: less than the send buffer holds while sent ones are not acknowledged.
        closed: whether a `send` that waits for room has to give up.
    """

    def __init__(
        self,
        endpoints: str,
        options: ZeroMQOptions,
        drops: DropLog,
        remedies: Remedies,
        refusal: Callable[[], EventBusError],
        header_bytes: Callable[[bytes], int],
    ) -> None:
        self.idle = False
        self.begin: Callable[[], object] = self.wake
        self.write_many: Callable[[], bool] = self._leave_many
        self.room = options.send_hwm
        self.closed = False
        self.limits: Limits | None = None
        self._largest = 2**62  # bytes of a payload that is taken without a closer look
        self._endpoints = endpoints
        self._options = options
        self._drops = drops
        self._remedies = remedies
        self._refusal = refusal
        self._header_bytes = header_bytes
        self._waiting: deque[Waiting] = deque()
        # What was taken out and may still be taken again: a signal handler that raises may end the thread's work on it.
        self._at_hand: list[Waiting] = []
        self._each = starmap(self._waiting.popleft, repeat(()))  # takes in C, so that no signal handler interrupts it
        self._taken = 0  # events
        self._taking = RLock()  # a signal handler may ask for `sent`
        self._wakes = Lock()
        self._wakes.acquire()
        self._takes_soon = True  # whether it is worth while to wait for the link's thread
        self._many = self.room  # messages from which on `send` looks closer
        self._takes = Lock()  # released by each `take`
        self._takes.acquire()
        self.limit_room(self.room)

    def __len__(self) -> int:
        return len(self._waiting) + len(self._at_hand)

    @property
    def events(self) -> int:
        """How many events wait."""
        with self._taking:
            waiting = [*self._at_hand, *self._waiting]
        return _events_of(waiting)

    @property
    def sent(self) -> int:
        """How many events were put in."""
        # Held no longer than that takes: a signal handler that interrupts it may wait for the link's thread.
        with self._taking:
            taken, waiting = self._taken, [*self._at_hand, *self._waiting]  # at once, as there is no call in it
        return taken + _events_of(waiting)

    def send(self, topic: bytes, payload: bytes, count: int = 1) -> bool:
        """Put a message in; see `Transport.send`. Writes if very many wait, or waits up to 1 ms for the link's thread."""
        if len(self._waiting) >= self._many or len(payload) > self._largest or _MARK in topic:
            return self._send_carefully(topic, payload, count)
        self._waiting.append((topic, payload, count))
        if self.idle:
            self.begin()
        return True

    def close(self) -> None:
        """Take nothing more: every `send` is refused, also one that waits for room."""
        self.closed = True
        self.room = self._many = 0

    def limit_room(self, room: int) -> None:
        """How many messages may wait from now on."""
        if not self.closed:
            self.room = room
            self._many = min(room, _MANY) if self._takes_soon else room

    def wake(self) -> None:
        """Wake the link's thread, or make its next wait end at once."""
        self.idle = False
        try:  # noqa: SIM105 # suppress() takes three calls
            self._wakes.release()
        except RuntimeError:  # it is awake, or somebody else has just woken it
            pass

    def wait(self, timeout: float | None, *, for_messages: bool, unless: Callable[[], bool]) -> None:
        """Wait until `wake`. On the link's thread.

        Args:
            timeout: seconds; None: no limit.
            for_messages: whether a new message ends the wait.
            unless: return at once if this is true; it is asked when every wake counts.
        """
        self.idle = for_messages
        if not (unless() or (for_messages and len(self))):
            self._wakes.acquire(timeout=-1 if timeout is None else max(0.0, timeout))
        self.idle = False

    def take(self, most: int = 4_096) -> Taken:
        """Take out some messages, the oldest first: the same again until `kept`. One thread at a time."""
        with self._taking:
            messages = self._at_hand
            if not messages:
                try:
                    messages.extend(islice(self._each, min(len(self._waiting), most)))
                except IndexError:  # a signal handler has cleared it meanwhile
                    return _NOTHING
            if not messages:
                return _NOTHING
            firsts, payloads, events = zip(*messages, strict=True)
            if sum(map(len, payloads)) > _MAX_BYTES_AT_ONCE:
                fitting = max(1, bisect_right(list(accumulate(map(len, payloads))), _MAX_BYTES_AT_ONCE))
                self._waiting.extendleft(reversed(messages[fitting:]))
                del messages[fitting:]
                firsts, payloads, events = firsts[:fitting], payloads[:fitting], events[:fitting]
        if not self._takes_soon:
            self._takes_soon = True
            self.limit_room(self.room)
        if self._takes.locked():  # else nobody waits for it, or has waited since the last time
            self._takes.release()
        return Taken(firsts, payloads, events)

    def take_lone(self) -> Waiting | None:
        """Take out the only message as `take` does; None if there is not just one. While no `send` waits for room."""
        with self._taking:
            messages = self._at_hand
            try:
                if len(self._waiting) + len(messages) != 1:
                    return None
                if not messages:
                    messages.extend(islice(self._each, 1))
                return messages[0]
            except IndexError:  # a signal handler has cleared it meanwhile
                return None

    def kept(self, messages: int, events: int) -> None:
        """So many of those that were taken out are in what will be written: `take` returns others from now on."""
        # No calls: neither a signal handler nor another thread comes between these two, nor before the caller goes on.
        self._taken += events
        del self._at_hand[:messages]

    def limit(self, limits: Limits) -> None:
        """Note what the server takes, and drop what waits and is larger."""
        before, self.limits, self._largest = self._largest, limits, limits.payload
        if limits.payload < before:
            kept: list[Waiting] = []
            with self._taking:
                for _ in range(len(self._waiting)):
                    topic, payload, count = self._waiting.popleft()
                    if len(payload) + self._header_bytes(topic) <= limits.message:
                        kept.append((topic, payload, count))
                    else:
                        self._taken += count
                        self._drops.add(DropReason.TOO_LARGE, count)
                self._waiting.extendleft(reversed(kept))  # other threads may have added some meanwhile

    def clear(self) -> int:
        """Take out all that waits; return how many events that were."""
        with self._taking:
            left = _events_of(self._at_hand) + _events_of(self._waiting)
            self._taken += left
            self._waiting.clear()
            self._at_hand.clear()
            return left

    def _send_carefully(self, topic: bytes, payload: bytes, count: int) -> bool:
        """Check the message, and wait for room as the send policy says."""
        headers = self._header_bytes(topic)  # also of a topic with headers that cannot be sent
        limits = self.limits
        if limits is not None and len(payload) + headers > limits.message:
            text = topic_of(topic).decode(errors="backslashreplace")
            raise EventTooLarge(
                text, len(payload), limits.payload, limits.payload, self._remedies.peer, self._remedies.too_large
            )
        deadline = Deadline(self._options.send_timeout)
        while len(self._waiting) >= self.room:
            if self.closed:
                raise self._refusal()
            if self._options.send_policy is SendPolicy.RAISE:
                raise SendBufferFull(self._endpoints, self._options.send_hwm, self._remedies.peer)
            if self._options.send_policy is SendPolicy.DROP:
                self._drops.add(DropReason.SEND_BUFFER, count)
                return False
            if not may_wait():
                raise SendBufferFull(self._endpoints, self._options.send_hwm, self._remedies.peer)
            if deadline.passed():
                raise SendTimeout(self._endpoints, self._options.send_hwm, self._options.send_timeout, self._remedies.peer)
            self.wake()
            sleep(_RETRY_S)
        if self.closed:
            raise self._refusal()
        self._waiting.append((topic, payload, count))
        if self._takes_soon and len(self._waiting) >= _MANY and may_wait():
            if not (self.write_many() or self._takes.acquire(timeout=_RETRY_S)):
                self._takes_soon = False  # the path is down, or the server is slow
                self.limit_room(self.room)
        elif self.idle:
            self.wake()
        return True

    def _leave_many(self) -> bool:
        self.wake()
        return False


def _events_of(messages: Iterable[Waiting]) -> int:
    events: Iterable[int] = map(_EVENTS, messages)
    return sum(events)
