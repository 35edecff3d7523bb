"""The parts of a client: made, connected to each other, and made anew in a forked child."""

import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from threading import RLock
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeAliasType

from pydantic import TypeAdapter

from eventbus.emit.emitter import CountingSender, Emitter
from eventbus.emit.topics import Topics
from eventbus.errors import ForkedClient, HandshakeFailed
from eventbus.events import BaseEvent
from eventbus.handle.handler_options import HandlerOptions
from eventbus.handle.middleware import Middleware, overrides
from eventbus.handle.wrapped import WrappedHandler
from eventbus.observe.hooks import EventBusHook, Hooks
from eventbus.observe.state import Listener, Status
from eventbus.observe.stats import Counters, DropReason
from eventbus.options import ClientOptions
from eventbus.policies import Packing
from eventbus.receive.beginning import Beginnings, Receiver
from eventbus.receive.buffer import ReceiveBuffer
from eventbus.receive.consumer import Consumer
from eventbus.receive.dispatcher import Callback, Dispatcher
from eventbus.transports.contract import KeepsHistory, KnowsWatchers, Transport
from eventbus.wire.codec import Codec
from eventbus.wire.compression import Compressor
from eventbus.wire.private_topics import EVERYTHING_TOPIC, PRESENCE_TOPIC

if TYPE_CHECKING:
    from eventbus.ask.asker import Asker
    from eventbus.ask.inbox import Inbox
    from eventbus.history.door import History
    from eventbus.wire.joining import Joiner
    from eventbus.wire.starts import From

_HISTORY_TIMEOUT_S = 5.0  # for each portion of what a subscription begins with


# BaseEvent[Any]: it is invariant in its type enum, which each service brings.
class Assembly[EventClass: BaseEvent[Any]]:
    """Makes the parts of one client. Any thread may call any method.

    No thread refers for long to a part that refers to callbacks or hooks, because these may refer to the client: then the
    client, with its callbacks, could never be collected. Threads refer to the transport, which has weak references only.

    Args:
        event_class: the service's event class, or a `pydantic.TypeAdapter` of a union of them.
        transport: what carries the messages.
        topics: the topics that the client may name.
        options: how the client behaves.
        hooks: observers of events; see `EventBusHook`.
        middleware: what is called around handlers and around emitting, the outermost first.
        name: what people call the client, for the log.

    Attributes:
        transport: as given, as are `topics` and `middleware`.
        codec: of the event class.
        hooks: tells the hooks.
        changing: held while subscriptions or hooks change, so that the dispatcher and the transport know the same topics.
            This, and the following, are made anew in a forked child, because they have locks or threads.
        counters: counts of received events.
        buffer: received events that wait to be read.
        dispatcher: hands events to callbacks and to the buffer.
        consumer: the thread that receives.
        emitter: sends events.
        observed: whether middleware or hooks take part in emitting.
        listeners: keeps the callbacks that listen to the state of the transport.
        encoders: what encodes an event, by its class; None for each class if something has to be told each event. The short
            way of `emit_event` looks only here, and asks whether it is observed when it finds none.
        sender: sends what the short way has encoded: the transport, or what counts besides.
    """

    changing: RLock
    _asker: "Asker | None"
    _history: "History[EventClass] | None"
    _beginnings: Beginnings | None
    counters: Counters
    buffer: ReceiveBuffer[EventClass]
    dispatcher: Dispatcher[EventClass]
    consumer: Consumer[EventClass]
    emitter: Emitter
    observed: bool
    sender: Transport | CountingSender
    encoders: Mapping[type, Callable[[Any], bytes] | None]  # Any: an event of that class

    def __init__(
        self,
        event_class: type[EventClass] | TypeAdapter[EventClass] | UnionType | TypeAliasType,
        transport: Transport,
        topics: Topics,
        options: ClientOptions,
        hooks: Iterable[EventBusHook],
        middleware: Iterable[Middleware],
        name: str,
    ) -> None:
        self.transport = transport
        self.topics = topics
        self.codec = Codec(event_class)
        self._options = options
        self._name = name
        self._tells_watchers = isinstance(transport, KnowsWatchers)
        transport.status.name_client(name)
        transport.drops.name_client(name)
        # A disabled client emits and handles nothing, so there is nothing to observe.
        self.hooks = Hooks(hooks if options.enabled else ())
        self.middleware = tuple(middleware if options.enabled else ())
        self.listeners: set[Listener] = set()
        self._listened_to: Status | None = None
        self._respondent: Callable[[Transport], Callable[[bytes], object]] | None = None
        self._assemble()

    def subscribe(self, frame: bytes, *, later: bool = False) -> None:
        """Subscribe to a topic, which is given as its frame; an empty one stands for every topic. Idempotent.

        Args:
            frame: the frame.
            later: its events are not taken before `Dispatcher.put_in_force`.
        """
        with self.changing:
            is_new = frame not in self.dispatcher.topics
            try:
                self.dispatcher.subscribe(frame, later=later)
                self._subscribe_transport(frame)
            except BaseException:  # the server refuses the topic, or a signal handler has raised
                if is_new:
                    with suppress(ForkedClient):  # nothing is subscribed there
                        self._drop_topic(frame)
                    self.dispatcher.unsubscribe(frame)
                raise

    def _subscribe_transport(self, frame: bytes) -> None:
        if not frame and self._tells_watchers:
            self.transport.subscribe(EVERYTHING_TOPIC)  # first: who asks must not take this client for one that only watches
        self.transport.subscribe(frame)

    def unsubscribe(self, frame: bytes) -> None:
        """Undo `subscribe`. Idempotent."""
        with self.changing:
            try:
                self._drop_topic(frame)
            except HandshakeFailed:  # the server refuses that: nothing has changed
                raise
            except BaseException:  # of a signal handler, which must not leave a half
                self._drop_topic(frame)
                raise

    def _drop_topic(self, frame: bytes) -> None:
        """Undo whatever of a subscription there is. The caller holds the lock."""
        self.transport.unsubscribe(frame)  # first: what it refuses has changed nothing
        if self.dispatcher.unsubscribe(frame):
            self.consumer.forget(frame)
        if self._beginnings is not None:
            self._beginnings.forget(frame)
        if not frame and self._tells_watchers:
            self.transport.unsubscribe(EVERYTHING_TOPIC)

    def add_hook(self, hook: EventBusHook) -> None:
        """Tell this hook, too, from now on. Idempotent."""
        with self.changing:
            if self._options.enabled and not any(hook is other for other in self.hooks.all):
                self.hooks.add(hook)
                self._observe()

    @property
    def asker(self) -> "Asker":
        """The part that asks; made when it is needed first, because few clients ask."""
        asker = self._asker
        if asker is not None:  # without the lock: a thread that subscribes may hold it for long
            return asker
        from eventbus.ask.asker import Asker

        with self.changing:
            made = Asker(self.transport, self.emitter, self.topics, self.middleware, self._options)
            if self._asker is None:  # a signal handler may have asked in the meantime
                self._asker = made
            return self._asker

    @property
    def is_about_to_ask(self) -> bool:
        """Whether threads prepare requests of tasks."""
        return self._asker is not None and bool(self._asker.preparing)

    @property
    def inbox(self) -> "Inbox | None":
        """The inbox for answers, if it is open."""
        return None if self._asker is None else self._asker.inbox

    def list_by(self, respondent: Callable[[Transport], Callable[[bytes], object]]) -> None:
        """Let what this function makes of the transport answer who the client is, also in a forked child. Idempotent."""
        with self.changing:
            if self._respondent is None:
                self._respondent = respondent
                self._list()
            self.transport.subscribe(PRESENCE_TOPIC)  # again, if a signal handler has raised before

    def _list(self) -> None:
        if self._respondent is not None:
            self.consumer.respond_to(PRESENCE_TOPIC, self._respondent(self.transport))

    def close_asker(self) -> None:
        """Let all who wait for answers raise NotConnected at once."""
        if self._asker is not None:
            self._asker.close()
        if self._history is not None:
            self._history.close()

    @property
    def history(self) -> "History[EventClass]":
        """What reads stored events; made when it is needed first."""
        with self.changing:
            if self._history is None:
                from eventbus.history.door import History
                from eventbus.receive.report import ConsumerReport

                report = ConsumerReport(self.counters, self.hooks, self.codec.name, self.transport.endpoints)
                made = History(self.transport, self.codec, report, self._options)
                if self._history is None:  # as with the asker
                    self._history = made
            return self._history

    def subscribe_from(self, frame: bytes, start: "From") -> None:
        """Subscribe to a topic as `subscribe` does, beginning with what was stored.

        If it is subscribed already and its events are being received, nothing is stored for it to begin with.
        """
        with self.changing:
            topics = self.dispatcher.topics
            is_receiving = self.consumer.thread is not None
            if is_receiving and (frame in topics or b"" in topics):
                return
            if self._beginnings is None:
                made = self._new_beginnings()
                if self._beginnings is None:  # as with the asker
                    self._beginnings = made
            beginnings = self._beginnings
            try:
                beginnings.register(frame, start, known=topics if is_receiving else ())
                self.consumer.begin_with(beginnings)
                self.subscribe(frame, later=True)
                beginnings.begin(frame)
                self.transport.wake()
            except BaseException:  # as in `subscribe`
                beginnings.forget(frame)
                if frame not in topics and frame in self.dispatcher.topics:
                    self._drop_topic(frame)
                raise

    def _new_beginnings(self) -> Beginnings:
        transport, history = self.transport, self.history
        receiver = Receiver(
            self.consumer.handle, self.consumer.replay, transport.status, transport.wake, self.dispatcher.put_in_force
        )
        if isinstance(transport, KeepsHistory):
            from eventbus.receive.from_transport import FromTransport

            return FromTransport(
                receiver, lambda query: history.read(query, timeout=_HISTORY_TIMEOUT_S), transport.begun_after
            )
        from eventbus.receive.from_historian import FromHistorian

        return FromHistorian(
            receiver,
            lambda query, topic: history.portions(query, topic, _HISTORY_TIMEOUT_S),
            transport.subscribe,
            transport.unsubscribe,
            history.new_topic,
        )

    def after_fork(self) -> None:
        """Make new locks in a forked child: threads of the parent, absent here, may have held them.

        Topics are kept, so that `topics` says what it did. Where they begin is not: this client connects no more.
        """
        topics = self.dispatcher.topics
        self._assemble()
        self._list()
        for topic in topics:
            self.dispatcher.subscribe(topic)

    def _assemble(self) -> None:
        """Make the parts that have locks or threads. The transport makes its own anew."""
        options = self._options
        self.changing = RLock()  # reentrant, because a signal handler may subscribe while its thread does
        self._asker = None
        self._history = None
        self._beginnings = None
        self.counters = Counters()
        self.counters.drops.name_client(self._name)
        self.buffer = ReceiveBuffer(options.receive_buffer, options.receive_policy, self.counters.drops)
        self.dispatcher = Dispatcher(self.buffer, self.counters, self._name)
        self.consumer = Consumer(
            self.transport,
            self.codec,
            self.dispatcher,
            self.counters,
            self.hooks,
            max_event_bytes=options.max_event_bytes,
            max_event_values=options.max_event_values,
            name=self._name,
        )
        if options.repair_timeout and not isinstance(self.transport, KeepsHistory):
            self.consumer.repair_with(
                lambda query, timeout: self.history.read(query, timeout=timeout), options.repair_timeout
            )
        self.emitter = Emitter(
            self.codec,
            self.transport,
            self.topics,
            self.middleware,
            self.hooks,
            Compressor(options.compression, options.compression_threshold),
            max_event_bytes=options.max_event_bytes,
            max_event_values=options.max_event_values,
            packing=options.packing,
        )
        self._observe()

    def _observe(self) -> None:
        """Prepare what hooks and middleware need, and no more: without them, events take the shortest way."""
        hooks = self.hooks
        middleware = [one for one in self.middleware if overrides(one, "handle") or overrides(one, "handle_async")]
        emit = self.emitter.emit

        wanted = bool(middleware or hooks.handled or hooks.handler_failed)

        def instrument(
            topic: bytes, callback: Callback[EventClass], options: HandlerOptions
        ) -> Callback[EventClass] | WrappedHandler:
            name = topic.decode(errors="replace")
            around = (*middleware, *options.middleware)
            if options.answers:
                from eventbus.ask.answering import Answerer, AnsweringHandler

                answerer = Answerer(self.transport, self.emitter.shrink)
                return AnsweringHandler(callback, name, around, hooks, emit, answerer)
            if wanted or not options.is_plain:
                return WrappedHandler(callback, name, around, hooks, emit)
            return callback

        self.dispatcher.instrument(instrument)
        self.observed = self.emitter.is_wrapped or bool(hooks.emitted)
        if self.emitter.is_wrapped or hooks.each_emitted is not None:
            self.encoders = defaultdict(_no_encoder)
        else:
            self.encoders = self.codec.encoders
        self.sender = CountingSender(self.transport, hooks) if self.observed else self.transport
        self.counters.drops.listener = hooks.dropped or None
        self.transport.drops.listener = _weakly(hooks) if hooks.dropped else None
        status = self.transport.status
        if hooks.state_changed and status is not self._listened_to:
            self._listened_to = status  # once, because a change that is still to be told must find its listener
            # Looked up at each change, because hooks may be added.
            status.listen(lambda change: hooks.state_changed(change), kept_by=self.listeners)


def joiner_of(options: ClientOptions) -> "Joiner | None":
    """Return what makes one message of several events, if the transport is to do that."""
    if options.packing is not Packing.ALL:
        return None
    from eventbus.wire.joining import Joiner

    return Joiner(options.max_event_bytes, Compressor(options.compression, options.compression_threshold).shrink)


def _no_encoder() -> None:
    """Make the value of a class in the table of encoders of a client whose hooks or middleware get each event."""


def _weakly(hooks: Hooks) -> Callable[[DropReason, int], None]:
    """Return what calls the hooks about drops, without keeping them alive."""
    reference = weakref.ref(hooks)

    def dropped(reason: DropReason, count: int) -> None:
        if (alive := reference()) is not None:
            alive.dropped(reason, count)

    return dropped
