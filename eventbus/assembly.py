"""The parts of a client: made, connected to each other, and made anew in a forked child."""

import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from threading import RLock
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from eventbus.emit.emitter import CountingSender, Emitter
from eventbus.emit.topics import Topics
from eventbus.events import BaseEvent
from eventbus.handle.middleware import Middleware, overrides
from eventbus.handle.wrapped import WrappedHandler
from eventbus.observe.hooks import EventBusHook, Hooks
from eventbus.observe.state import Listener, Status
from eventbus.observe.stats import Counters, DropReason
from eventbus.options import ClientOptions
from eventbus.policies import Packing
from eventbus.receive.buffer import ReceiveBuffer
from eventbus.receive.consumer import Consumer
from eventbus.receive.dispatcher import Callback, Dispatcher
from eventbus.transports.contract import Transport
from eventbus.wire.codec import Codec
from eventbus.wire.compression import Compressor

if TYPE_CHECKING:
    from eventbus.wire.joining import Joiner


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
        event_class: type[EventClass] | TypeAdapter[EventClass],
        transport: Transport,
        topics: Topics,
        options: ClientOptions,
        hooks: Iterable[EventBusHook],
        middleware: Iterable[Middleware],
    ) -> None:
        self.transport = transport
        self.topics = topics
        self.codec = Codec(event_class)
        self._options = options
        # A disabled client emits and handles nothing, so there is nothing to observe.
        self.hooks = Hooks(hooks if options.enabled else ())
        self.middleware = tuple(middleware if options.enabled else ())
        self.listeners: set[Listener] = set()
        self._listened_to: Status | None = None
        self._assemble()

    def subscribe(self, frame: bytes) -> None:
        """Subscribe to a topic, which is given as its frame; an empty one stands for every topic. Idempotent."""
        with self.changing:
            self.dispatcher.subscribe(frame)
            self.transport.subscribe(frame)

    def unsubscribe(self, frame: bytes) -> None:
        """Undo `subscribe`. Idempotent."""
        with self.changing:
            if self.dispatcher.unsubscribe(frame):
                self.consumer.forget(frame)
            self.transport.unsubscribe(frame)

    def add_hook(self, hook: EventBusHook) -> None:
        """Tell this hook, too, from now on. Idempotent."""
        with self.changing:
            if self._options.enabled and not any(hook is other for other in self.hooks.all):
                self.hooks.add(hook)
                self._observe()

    def after_fork(self) -> None:
        """In a forked child: threads of the parent, which do not exist here, may have held the locks. Topics are kept."""
        topics = self.dispatcher.topics
        self._assemble()
        for topic in topics:
            self.dispatcher.subscribe(topic)

    def _assemble(self) -> None:
        """Make the parts that have locks or threads. The transport makes its own anew."""
        options = self._options
        self.changing = RLock()  # reentrant, because a signal handler may subscribe while its thread does
        self.counters = Counters()
        self.buffer = ReceiveBuffer(options.receive_buffer, options.receive_policy, self.counters.drops)
        self.dispatcher = Dispatcher(self.buffer, self.counters)
        self.consumer = Consumer(
            self.transport,
            self.codec,
            self.dispatcher,
            self.counters,
            self.hooks,
            max_event_bytes=options.max_event_bytes,
            max_event_values=options.max_event_values,
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

        def instrument(topic: bytes, callback: Callback[EventClass]) -> Callback[EventClass]:
            return WrappedHandler(callback, topic.decode(errors="replace"), middleware, hooks, emit).call

        wanted = middleware or hooks.handled or hooks.handler_failed
        self.dispatcher.instrument(instrument if wanted else None)
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
    """Make the value of a class in the table of encoders of a client whose hooks or middleware are told each event."""


def _weakly(hooks: Hooks) -> Callable[[DropReason, int], None]:
    """Return what calls the hooks about drops, without keeping them alive."""
    reference = weakref.ref(hooks)

    def dropped(reason: DropReason, count: int) -> None:
        if (alive := reference()) is not None:
            alive.dropped(reason, count)

    return dropped
