"""The consumer: a thread that receives messages, decodes the events in them and dispatches those."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import Lock, RLock, Thread, current_thread
from time import monotonic
from typing import Any
from weakref import ref

from eventbus._base.deadline import Deadline
from eventbus._base.log import Log
from eventbus._base.log_throttle import LogThrottle
from eventbus._base.printable import counted
from eventbus.errors import NotConnected
from eventbus.events import BaseEvent
from eventbus.handle.current import replaying
from eventbus.observe.hooks import Hooks
from eventbus.observe.state import ClientState
from eventbus.observe.stats import Counters
from eventbus.receive.beginning import Beginnings
from eventbus.receive.confirmation import Confirmation
from eventbus.receive.dispatcher import Dispatcher, Route
from eventbus.receive.repair import Ask, Repairer
from eventbus.receive.report import ConsumerReport
from eventbus.receive.stall_detector import Progress, StallDetector
from eventbus.receive.unpacking import Unpacker
from eventbus.transports.contract import SharesMessages, Transport
from eventbus.wire.codec import Codec
from eventbus.wire.first_frame import split_headers
from eventbus.wire.frames import MARK, MAX_PACKED_BYTES, NOT_ONE_EVENT, Batch, any_header
from eventbus.wire.history import Stored

_POLL_INTERVAL_S = 0.05  # from one check whether the previous thread has ended, or this one is to, to the next
# Events are dispatched in slices: what was just decoded is still in the processor's cache, and compressed messages are never
# all in memory at once.
_SLICE_EVENTS = 256
_SLICE_BYTES = 1_048_576  # of JSON


# BaseEvent[Any]: it is invariant in its type enum, which each service brings.
class Consumer[EventClass: BaseEvent[Any]]:
    """Takes messages from a transport to a dispatcher, in a thread of its own between `start` and `stop`.

    `start`, `stop` and `forget` may be called from any thread. What is lost or rejected is counted and logged, see
    `ConsumerReport`.

    Args:
        hooks: called for received, rejected and lost events.
        max_event_bytes: a larger payload is rejected undecoded; None for no limit. See `Unpacker`.
        max_event_values: a payload with more values is rejected undecoded; None for no limit. See `Unpacker`.
        name: of the client, for the log.
        throttle: holds lines of the log back; None for one line per minute and reason.
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
        max_event_values: int | None = None,
        throttle: LogThrottle | None = None,
        name: str | None = None,
    ) -> None:
        self._transport = transport
        self._shared = transport if isinstance(transport, SharesMessages) else None
        self._codec = codec
        self._dispatcher = dispatcher
        self._counters = counters
        self._hooks = hooks
        # Larger payloads are looked at one by one: they may be arrays above their own limit, have too many values, or be
        # for a class that is decoded carefully.
        self._max_bytes_at_once = min(
            limit
            for limit in (MAX_PACKED_BYTES, max_event_bytes, max_event_values, codec.max_bytes_at_once)
            if limit is not None
        )
        self._log = Log(endpoints=transport.endpoints, client_name=name)
        self._report = ConsumerReport(counters, hooks, codec.name, transport.endpoints, throttle, name)
        self._unpacker = Unpacker(dispatcher.takes, self._report, max_event_bytes, max_event_values)
        self._malformed = 0  # messages that the transport had skipped at the last look
        self._stall_detector = StallDetector()
        self._busy: tuple[float, int] | None = None  # when the batch at hand came, and how many events had come in before it
        self._starting = RLock()  # a signal handler may stop the consumer while the same thread is starting it
        self._receiving = Lock()  # held by the only thread that may receive
        self._thread: Thread | None = None  # a thread that finds another one here ends
        self._beginnings: Beginnings | None = None  # while topics begin with what was stored
        self._ending: Thread | None = None  # the last one that was stopped
        self._closed = True
        self._respond: Callable[[bytes], object] | None = None

    def open(self) -> None:
        """Allow `start`. Events that were sent before do not count as missing."""
        with self._starting:
            if self._closed:
                self.forget(b"")
                if self._beginnings is not None:
                    self._beginnings.reopened()
            self._closed = False
            if self._thread is not None:
                self.start()  # does nothing if it still runs; it has ended if the transport has given up

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
                self._dispatcher.resume_calls()
                self._dispatcher.buffer.hold()
                self._thread = Thread(
                    target=_consume,
                    args=(ref(self), self._transport, self._receiving, self._dispatcher.abandoned),
                    name="eventbus-consumer",
                    daemon=True,
                )
                self._thread.start()
                if self._beginnings is not None:
                    self._transport.wake()  # no message may come that makes it look for what was stored

    def stop(self, timeout: float, *, for_good: bool = False) -> None:
        """End the thread, and wait until what was received is handled; see `EventBusClient.stop_consumer`.

        Args:
            timeout: seconds.
            for_good: refuse every `start` until `open`.
        """
        deadline = Deadline(timeout)
        with self._starting:
            self._closed = self._closed or for_good
            # If another thread is stopping the same one, wait for it too.
            thread = self._ending = self._thread or self._ending
            self._thread = None
            self._dispatcher.buffer.release()
        if thread is current_thread():
            self._dispatcher.abandon()
        elif thread is not None:
            self._dispatcher.hurry()
            self._transport.wake()
            with suppress(RuntimeError):  # a signal interrupted `start` before the thread ran: it will end at once
                thread.join(deadline.left())
            if thread.is_alive():
                self._dispatcher.abandon()
                self._log.warning(
                    "handlers are still running after %.1f s, not waiting any longer", timeout, seconds=timeout
                )
        if left := self._dispatcher.stop_calls(deadline):
            self._log.warning("%s of handlers had not returned when the consumer stopped", counted(left, "call"), count=left)
        if left := self._dispatcher.coroutines.close(deadline):
            self._log.warning("%s had not finished when the consumer stopped", counted(left, "async handler"), count=left)
        if for_good:
            self._counters.drops.flush()
            return
        with self._starting:
            if self._thread is None and self._shared is not None:
                self._shared.pause()  # what waits there is for others now

    @property
    def thread(self) -> Thread | None:
        """The thread that receives; None while it is stopped."""
        return self._thread

    def progress(self) -> Progress:
        """Whether the thread runs, and for how long it has not moved on. Any thread may ask; it costs events nothing."""
        thread, busy = self._thread, self._busy
        wanted = thread is not None
        running = thread is not None and thread.is_alive()
        if not running or busy is None:
            return Progress(wanted, running, 0.0)
        since, before = busy
        received, left = self._dispatcher.position()
        # While it decodes the batch, or handles its first event, nothing has moved since the batch came.
        at_start = received - before in (0, left + 1)
        return Progress(wanted, running, self._stall_detector.busy_for((since, received, left), since if at_start else None))

    def forget(self, topic: bytes) -> None:
        """See `Unpacker.forget`; to be called once the topic is unsubscribed."""
        self._unpacker.forget(topic)

    def _handle(self, batch: Batch | None, abandoned: int) -> bool:
        """Handle what was received, unless this thread is abandoned; False if nothing more will come."""
        if batch is None:
            self._end()
            return False
        if self._beginnings is not None:
            batch = self._begin(self._beginnings, batch)
        topics, payloads = batch
        if topics:
            self._busy = monotonic(), self._dispatcher.buffer.received
            if self._transport.confirms:
                self._take_and_confirm(batch, abandoned)
            elif len(topics) > 1 or not self._take_lone(topics, payloads[0], abandoned):
                self._take(batch, abandoned)
        malformed = self._transport.malformed - self._malformed
        if malformed:
            self._malformed += malformed
            self._report.malformed(malformed)
        self._busy = None
        return True

    def respond_to(self, topic: bytes, respond: Callable[[bytes], object]) -> None:
        """Call a function with the encoded headers of each message on a topic that carries no events."""
        self._respond = respond
        self._dispatcher.question = topic

    def repair_with(self, ask: Ask, timeout: float) -> None:
        """Have events that are missing fetched from a historian, from now on."""
        status, reference = self._transport.status, ref(self)  # weak, because this is a part of the consumer

        def is_stopped() -> bool:
            consumer = reference()
            return consumer is None or consumer._thread is not current_thread() or status.state is ClientState.CLOSED

        def is_ready(deadline: Deadline) -> bool:
            if status.state is ClientState.READY:
                return True
            while not (deadline.passed() or is_stopped() or status.wait_ready(Deadline(_POLL_INTERVAL_S))):
                pass
            return False

        self._unpacker.repair_with(
            Repairer(
                ask,
                self._report.repaired,
                timeout,
                self._transport.endpoints,
                is_ready,
                is_stopped,
                lambda: status.connections,
            )
        )

    def begin_with(self, beginnings: Beginnings) -> None:
        """Let some topics begin with what was stored, from the next batch on. Any thread may call it, again at any time."""
        self._beginnings = beginnings

    def replay(self, messages: list[Stored]) -> None:
        """Handle messages that were stored; in the consumer's thread only."""
        self._busy = monotonic(), self._dispatcher.buffer.received
        with replaying():
            self._take(([one.first for one in messages], [one.payload for one in messages]), self._dispatcher.abandoned)

    def handle(self, batch: Batch) -> None:
        """Handle messages that were held; in the consumer's thread only."""
        self._busy = monotonic(), self._dispatcher.buffer.received
        self._take(batch, self._dispatcher.abandoned)

    def _begin(self, beginnings: Beginnings, batch: Batch) -> Batch:
        """Return the messages that are to be handled now."""
        batch = beginnings.take(batch, lambda: self._thread is not current_thread())
        if beginnings.is_idle and self._beginnings is beginnings:
            self._beginnings = None
            if not beginnings.is_idle:  # another topic was registered in the meantime
                self._beginnings = beginnings
        return batch

    def _fail(self, error: Exception) -> None:
        """End because of a defect of ours or of the transport, never a handler's: those are caught one by one."""
        self._busy = None
        self._log.exception("the consumer of %s has ended", self._transport.endpoints, error=type(error).__name__)
        self._end()

    def _end(self) -> None:
        """End the waiting for events, unless this thread was stopped: then the client may be open again."""
        with self._starting:
            if self._thread is current_thread():
                self._dispatcher.end()

    def _enter(self) -> bool:
        """Wait until no other thread receives; False if this thread is to end.

        A thread that was started before the last one has ended waits: what wakes one receiver must not reach another.
        """
        while self._thread is current_thread():
            if self._receiving.acquire(timeout=_POLL_INTERVAL_S):
                if self._thread is current_thread():
                    return True
                self._receiving.release()
        return False

    def _confirmation_of(self, batch: Batch) -> Confirmation:
        confirm = partial(self._transport.confirm, batch)
        return (
            Confirmation(confirm) if self._shared is None else Confirmation(confirm, partial(self._shared.give_back, batch))
        )

    def _take_and_confirm(self, batch: Batch, abandoned: int) -> None:
        """Take a batch, and confirm it once its events are handled; not if some of them were dropped."""
        dispatcher = self._dispatcher
        confirmation = dispatcher.confirmation = self._confirmation_of(batch)
        try:
            self._take(batch, abandoned)
        finally:
            dispatcher.confirmation = None
        confirmation.end(handled=dispatcher.abandoned == abandoned)

    def _take_lone(self, topics: list[bytes], payload: bytes, abandoned: int) -> bool:
        """Do as `_take` with the usual message that comes alone, and return True; see `Dispatcher.dispatch_one`."""
        dispatcher, headers = self._dispatcher, b""
        if MARK in topics[0]:
            topic, headers = split_headers(topics[0])
            if MARK in topic:  # it is numbered
                return False
            topics = [topic]
        route = dispatcher.routes.get(topics[0])
        if route is None or payload[:1] in NOT_ONE_EVENT or len(payload) > self._max_bytes_at_once or self._hooks.receives:
            return False
        try:
            event = self._codec.decode_one(payload)
        except Exception:  # as in `_take`
            self._take_each(topics, [payload], [headers], abandoned)
        else:
            dispatcher.dispatch_one(route, event, topics, abandoned, headers)
        return True

    def _take(self, batch: Batch, abandoned: int) -> None:
        """Decode the messages of subscribed topics and dispatch the events in them."""
        topics, payloads = batch
        headers: list[bytes] | None = None
        has_header = bool(topics) and MARK in topics[0]  # as all have that a publisher numbers
        routes = None if has_header else self._dispatcher.routes_of(topics)
        if routes is None and (has_header or any_header(topics)):
            topics, payloads, headers = self._unpacker.read_numbers(topics, payloads)
            routes = self._dispatcher.routes_of(topics)
        if (
            routes is not None
            and payloads
            and payloads[0][:1] not in NOT_ONE_EVENT
            and max(map(len, payloads)) <= self._max_bytes_at_once
        ):
            # Nearly always: all messages are for this client, and each is one good event. The loop is map's, in C.
            events: list[EventClass] = []
            try:
                events.extend(map(self._codec.decode_one, payloads))
            except Exception:
                # One is compressed, or no event; a service's own validator may raise anything. Those before it are decoded.
                good = len(events)
                if self._hooks.receives:
                    self._hooks.received_batch(topics, events, payloads)
            else:
                if self._hooks.receives:
                    self._hooks.received_batch(topics, events, payloads)
                self._dispatcher.dispatch(routes, events, topics, abandoned, headers)
                return
            self._dispatcher.dispatch(routes[:good], events, topics[:good], abandoned, headers and headers[:good])
            topics, payloads, headers = topics[good:], payloads[good:], headers and headers[good:]
        self._take_each(topics, payloads, headers, abandoned)

    def _take_each(self, topics: list[bytes], payloads: list[bytes], headers: list[bytes] | None, abandoned: int) -> None:
        """Do the same message by message."""
        routes: list[Route[EventClass]] = []
        events: list[EventClass] = []
        names: list[bytes] = []
        carried: list[bytes] = []  # headers
        size = 0

        def dispatch() -> None:
            self._dispatcher.dispatch(routes, events, names, abandoned, None if headers is None else carried)

        for content in self._unpacker.contents(topics, payloads, headers):
            if content.topic == self._dispatcher.question:
                if self._respond is not None:
                    self._respond(content.headers)
                continue
            # One message, even a refused one, is progress: a batch of large ones may take longer than a handler ever should.
            self._busy = monotonic(), self._dispatcher.buffer.received
            if len(content.json) > MAX_PACKED_BYTES:
                self._dispatcher.buffer.make_room(len(content.json))
            found = self._codec.decode_good(content.json, partial(self._report.rejected, content.topic))
            if found:  # else the dispatcher would learn a topic that carries no events
                self._hooks.received(_text(content.topic), found, content.size)
                events += found
                routes += [self._dispatcher.route_of(content.topic)] * len(found)
                names += [content.topic] * len(found)
                carried += [content.headers] * len(found)
            size += len(content.json)
            if len(events) >= _SLICE_EVENTS or size >= _SLICE_BYTES:
                dispatch()
                routes, events, names, carried, size = [], [], [], [], 0
        dispatch()


def _text(topic: bytes) -> str:
    return topic.decode(errors="replace")


def _consume(reference: "ref[Consumer[Any]]", transport: Transport, receiving: Lock, abandoned: int) -> None:
    """Receive until the consumer is stopped or collected; the consumer's thread.

    If `Dispatcher.abandoned` is another than at its start, nobody waits for it any more, and another thread may handle newer
    events: it drops what it has.

    It refers to the consumer only while it handles a batch. While it waits, a client to which only its own handlers refer
    can be collected.
    """
    while (consumer := reference()) is not None:
        try:
            if not consumer._enter():
                return
            consumer = None
            try:
                batch = transport.receive()
            finally:
                receiving.release()
            consumer = reference()
            if consumer is None or not consumer._handle(batch, abandoned):
                return
        except Exception as error:
            if (consumer := reference()) is not None:
                consumer._fail(error)
            return
        consumer = None
