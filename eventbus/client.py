"""`EventBusClient`: the typed client that a service is given. It joins codec, dispatcher and transport."""

import atexit
import os
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from threading import RLock
from types import TracebackType
from typing import Any, Self, Unpack

from pydantic import BaseModel, TypeAdapter

from eventbus._base.deadline import Deadline
from eventbus.emit.emitter import Emitter
from eventbus.emit.topics import Topics
from eventbus.errors import InvalidHandler, NotConnected, ProxyUnreachable
from eventbus.events import BaseEvent, BaseEventTopic, BaseEventType
from eventbus.handle.coroutines import running_loop
from eventbus.handle.marks import check_callback
from eventbus.handle.middleware import Emission, Middleware, overrides
from eventbus.handle.wrapped import WrappedHandler, check_middleware
from eventbus.observe.health import EventBusHealth
from eventbus.observe.hooks import EventBusHook, Hooks
from eventbus.observe.state import ClientState, StateCallback, Status
from eventbus.observe.stats import Counters, EventBusStats
from eventbus.policies import Compression, ReceivePolicy
from eventbus.receive.buffer import ReceiveBuffer
from eventbus.receive.consumer import Consumer
from eventbus.receive.dispatcher import Callback, Dispatcher
from eventbus.transports.contract import Transport
from eventbus.transports.null import NullTransport
from eventbus.transports.zeromq.transport import ZeroMQArguments, ZeroMQOptions, ZeroMQTransport
from eventbus.wire import frames as wire
from eventbus.wire.codec import Codec
from eventbus.wire.compression import Compressor

_open_clients: "weakref.WeakSet[EventBusClient[Any, Any, Any]]" = weakref.WeakSet()


# BaseEvent[Any]: it is invariant in its type enum, which each service brings.
class EventBusClient[EventClass: BaseEvent[Any], EventTypeClass: BaseEventType, EventTopicClass: BaseEventTopic]:
    """Emits and receives the events of one class over one proxy.

    Every method may be called from any thread and from inside a handler. The client works through one thread of its own, the
    consumer, which receives, decodes and calls the callbacks one after the other; emitting happens on the caller's thread.

    Args:
        event_class: the service's event class; for a discriminated union, a `pydantic.TypeAdapter` of it.
        host: where the proxy runs.
        pub_port: the proxy's port for publishers (XSUB).
        sub_port: the proxy's port for subscribers (XPUB).
        topics: values of topics to subscribe to from the start.
        enabled: False makes a client whose calls do nothing: it opens no socket, emits to nobody and receives nothing.
        close_timeout: how many seconds `close` may take.
        linger: how many of those are kept for flushing what was emitted.
        receive_buffer: how many events wait for `recv_event` and `listen_forever`; before the first call of either, at most
            a thousand.
        receive_policy: what happens when so many are waiting; see `ReceivePolicy`.
        max_event_bytes: the largest event that is sent and taken, as JSON.
        packing: whether `emit_events` may pack many events into one message; receivers that use the original client cannot
            read those.
        compression: what large payloads are compressed with; receivers that use the original client cannot read those.
            What others have compressed is read in any case.
        compression_threshold: how many bytes of JSON are sent as they are; more are compressed, if that makes them smaller.
        hooks: what is told what becomes of events; see `EventBusHook`.
        middleware: what is called around handlers and around emitting, the outermost first; see `Middleware`.
        transport: what carries the messages, instead of ZeroMQ to `host`; the further arguments mean nothing then, but for
            `connect_timeout`.
        zeromq: how the ZeroMQ transport behaves: the attributes of `eventbus.transports.zeromq.transport.ZeroMQOptions`.

    Raises:
        InvalidEvent: the event class has no `type`.
        CompressionMissing: the library for that compression is not installed.
    """

    _unclosed = False  # of the instance from connect() to close(); here for __del__ of one that was never initialised

    def __init__(
        self,
        event_class: type[EventClass] | TypeAdapter[EventClass],
        host: str = "localhost",
        pub_port: int = 5559,
        sub_port: int = 5560,
        *,
        topics: Iterable[str] = (),
        enabled: bool = True,
        close_timeout: float = 5.0,
        linger: float = 1.0,
        receive_buffer: int = 10_000,
        receive_policy: ReceivePolicy = ReceivePolicy.DROP_OLDEST,
        max_event_bytes: int = 16_777_216,
        packing: bool = True,
        compression: Compression = Compression.NONE,
        compression_threshold: int = 1024,
        hooks: Iterable[EventBusHook] = (),
        middleware: Iterable[Middleware] = (),
        transport: Transport | None = None,
        **zeromq: Unpack[ZeroMQArguments],
    ) -> None:
        options = ZeroMQOptions(**zeromq)
        self._transport: Transport
        if not enabled:
            self._transport = NullTransport()
        elif transport is not None:
            self._transport = transport
        else:
            self._transport = ZeroMQTransport(host, pub_port, sub_port, options)
        self._enabled = enabled
        self._connect_timeout = options.connect_timeout
        self._close_timeout = close_timeout
        self._linger = linger
        self._max_event_bytes = max_event_bytes
        self._closings = 0  # how often; two at once may count as one
        self._packing = packing
        self._compression = compression, compression_threshold
        self._codec = Codec(event_class)
        self._topics = Topics(self, EventBusClient)
        self._receive_buffer = receive_buffer, receive_policy
        # Around what does nothing there is nothing.
        self._hooks = Hooks(hooks if enabled else ())
        self._middleware = tuple(middleware if enabled else ())
        self._listened_to: Status | None = None
        self._assemble()
        for topic in topics:
            self._subscribe(wire.topic_frame(topic))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._codec.name} at {self._transport.endpoints}, {self.state}>"

    # Life cycle

    def connect(self, timeout: float | None = None) -> None:
        """Connect, and return when an event emitted from now on is sure to reach the proxy and every subscriber there.

        With `connect_required` off it returns as well when there is no proxy yet: what is emitted is kept until one appears,
        and the client is READY then. On a connected client it proves the path again. `async` callbacks will run on the event
        loop that runs in the thread that connects, if one does.

        Args:
            timeout: seconds; None for the client's `connect_timeout`.

        Raises:
            ProxyUnreachable: no proxy answered in time; nothing is left open that this call has opened.
            HandshakeFailed: the proxy does not let this client in, or is not the one that it expects. It is raised at once,
                for waiting does not help.
            ReconnectFailed: as many attempts as allowed have failed before that.
            NotConnected: it was closed meanwhile.
            ForkedClient: the client was connected by the parent process.
            InvalidTopic: a middleware is to emit to a topic that is none of this client's.
        """
        closings = self._closings
        for topic in (topic for one in self._middleware for topic in one.emits_to):
            self._topics.admit(topic)
        self._transport.open(self._connect_timeout if timeout is None else timeout)
        self._buffer.open()
        if self._enabled:
            if not self._unclosed:
                self._dispatcher.coroutines.open(running_loop())
            self._consumer.open()
            self._unclosed = True
            _open_clients.add(self)
        if closings != self._closings:  # another thread or a signal handler has, and may have found nothing open yet
            self.close(0.0)
            raise NotConnected(self._transport.endpoints)

    @property
    def state(self) -> ClientState:
        """How the way to the proxy and back is. It becomes DEGRADED within `echo_interval` and `echo_timeout`."""
        return self._transport.status.state

    def on_state_change(self, callback: StateCallback) -> Callable[[], None]:
        """Call `callback(change)` after each change of `state` from now on, with an `eventbus.StateChange`.

        It is called in a thread of its own, one change after the other, and may call everything here. What it raises is
        logged. Calling what is returned ends it.
        """
        return self._transport.status.listen(callback)

    def wait_ready(self, timeout: float | None = None) -> None:
        """Return when the state is READY.

        Args:
            timeout: seconds; None for the client's `connect_timeout`.

        Raises:
            ProxyUnreachable: it was not in time.
            HandshakeFailed: it was not, because the proxy does not let this client in.
            NotConnected: the client is closed.
            ReconnectFailed: it has given up.
        """
        timeout = self._connect_timeout if timeout is None else timeout
        if not self._transport.status.wait_ready(Deadline(timeout)):
            self._transport.ensure_open()
            if (obstacle := self._transport.status.obstacle) is not None:
                raise obstacle()
            raise ProxyUnreachable(self._transport.endpoints, timeout, f"the client is {self.state}")

    def health(self, stalled_after: float = 30.0) -> EventBusHealth:
        """Tell how the client is, for readiness and liveness probes. Does not block.

        Args:
            stalled_after: how many seconds the consumer may take over one event and still count as live.
        """
        status, progress = self._transport.status, self._consumer.progress()
        state = status.state
        return EventBusHealth(
            ready=state is ClientState.READY,
            live=not progress.wanted or (progress.running and progress.busy_for <= stalled_after),
            state=state,
            round_trip=status.round_trip,
            echo_age=status.echo_age,
            consuming=progress.running,
            busy_for=progress.busy_for,
        )

    def add_hook(self, hook: EventBusHook) -> None:
        """Tell this hook, too, what becomes of events from now on. Idempotent."""
        with self._subscribing:
            if self._enabled and not any(hook is other for other in self._hooks.all):
                self._hooks.add(hook)
                self._observe()

    def is_connected(self) -> bool:
        """Whether both connections to the proxy are up at this moment. Does not block."""
        return self._transport.is_connected()

    def close(self, timeout: float | None = None) -> None:
        """Stop the consumer as `stop_consumer` does, flush what was emitted, and close.

        Idempotent; ends `listen_forever`. From inside a handler it does not wait for that handler. Topics and callbacks are
        kept, and the client can connect again. On the thread of an event loop that runs `async` callbacks it cannot wait for
        those: use `aclose` there.

        Args:
            timeout: how many seconds it may take; None for the client's `close_timeout`.
        """
        timeout = self._close_timeout if timeout is None else timeout
        deadline = Deadline(timeout)
        self._closings += 1  # first: what connect() opens from now on, it closes itself
        self._consumer.stop(timeout - min(self._linger, timeout / 2), for_good=True)
        self._buffer.close()
        self._unclosed = False
        _open_clients.discard(self)
        # The last, for it may take its time, and somebody may connect again meanwhile.
        self._transport.close(min(self._linger, deadline.left()))

    async def aclose(self, timeout: float | None = None) -> None:
        """Do as `close`, while this thread's event loop goes on running the callbacks that it waits for."""
        import asyncio

        await asyncio.to_thread(self.close, timeout)

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        if self._unclosed:
            warnings.warn(f"{self!r} was never closed", ResourceWarning, stacklevel=1, source=self)
            self.close()

    @property
    def event_types(self) -> frozenset[type[BaseEventType]]:
        """The enums that the event class's types are members of."""
        return self._codec.event_types

    def event_classes(self, event_type: EventTypeClass) -> tuple[type[BaseModel], ...]:
        """The classes that events of a type may have: the event class, or those of a union that have the type."""
        return self._codec.classes_of(event_type)

    @property
    def topics(self) -> frozenset[str]:
        """The values of the subscribed topics; an empty one stands for every topic."""
        return frozenset(frame.decode() for frame in self._dispatcher.topics)

    # Emitting

    def emit_event(self, event: EventClass | EventTypeClass, topic: EventTopicClass) -> None:
        """Send an event to all subscribers of a topic. Returns when ZeroMQ has taken it.

        Args:
            event: an event, or a bare type, which is wrapped into the event class.
            topic: a member of the client's topic enum.

        Raises:
            NotConnected: the client is not connected.
            InvalidEvent: it is of another class, or the class needs more than a type.
            InvalidTopic: it is no topic, or a member of another enum than the client's type parameters name.
            EventTooLarge: it is larger than `max_event_bytes`, before it is compressed.
            SendBufferFull: the send buffer is full, or stayed full (SendTimeout), as the send policy has it; the event was
                not sent.
            ReconnectFailed: the client has given up.

        What a middleware raises is raised, too; InvalidHeaders, if it has set some that cannot travel.
        """
        try:
            encode = self._encoders[type(event)]
        except KeyError:
            encode = None
        if encode is None:  # out of the except, or each error of middleware would have the KeyError as its context
            if self._observed:
                self._emitter.emit_one(event, topic)
                return
            encode = self._codec.encoder_for(event)
        known, frame = self._topics.last
        if topic is not known:
            frame = self._topics.admit(topic)
        payload = encode(event)
        if len(payload) > self._as_it_is:
            payload = self._emitter.shrink(frame, payload)
        self._transport.send(frame, payload)

    def emit_events(self, events: Iterable[EventClass | EventTypeClass], topic: EventTopicClass) -> None:
        """Send many events to all subscribers of a topic, in order, packed into few messages unless `packing` is off.

        All are checked before the first is sent. Raises as `emit_event`; a `SendBufferFull` carries a note with how many of
        the events had been sent before.
        """
        if self._observed:
            self._emitter.emit(Emission(tuple(events), topic, packed=True))
        else:
            payloads = self._codec.encode_many(events)
            self._emitter.send_all(self._topics.admit(topic), payloads)

    # Receiving

    def subscribe(self, topic: EventTopicClass | None) -> None:
        """Receive the events of exactly this topic; None for every topic. Idempotent.

        On a connected client it returns when the subscription is in force at the proxy and for what this client emits; other
        publishers learn of a topic that nobody had subscribed before a moment later. It outlives reconnections.

        Raises:
            InvalidTopic: it is no topic, or a member of another enum than the client's type parameters name.
        """
        self._subscribe(self._frame(topic))

    def unsubscribe(self, topic: EventTopicClass | None) -> None:
        """Undo `subscribe` with the same argument. Idempotent. Raises as `subscribe`."""
        frame = self._frame(topic)
        with self._subscribing:
            if self._dispatcher.unsubscribe(frame):
                self._consumer.forget(frame)
            self._transport.unsubscribe(frame)

    def attach_callback(
        self,
        event_type: EventTypeClass,
        callback: Callback[EventClass],
        *,
        topic: EventTopicClass | None = None,
    ) -> None:
        """Call `callback(event)` for events of a type, after those attached before. It may be ``async``.

        Attaching does not subscribe. What a callback raises is logged with the event and counted; the others still run.

        Args:
            event_type: a member of the event class's type enum.
            callback: called on the consumer's thread, an ``async`` one on an event loop.
            topic: only for events of this topic; None for every subscribed one.

        Raises:
            InvalidHandler: the type is of another enum, the callback cannot be called with one event, or a middleware of the
                client passes by callbacks of its kind (see `Middleware`).
            InvalidTopic: as `subscribe`.
        """
        self._check_callback(event_type, callback)
        self._dispatcher.attach(event_type, callback, None if topic is None else self._frame(topic))

    def attach_callbacks(self, callbacks: Mapping[EventTypeClass, Callback[EventClass]]) -> None:
        """Attach one callback for each of several types; all are checked before the first is attached."""
        for event_type, callback in callbacks.items():
            self._check_callback(event_type, callback)
        for event_type, callback in callbacks.items():
            self._dispatcher.attach(event_type, callback, None)

    def detach_callback(
        self,
        event_type: EventTypeClass,
        callback: Callback[EventClass],
        *,
        topic: EventTopicClass | None = None,
    ) -> None:
        """Undo `attach_callback` with the same arguments. Idempotent."""
        self._dispatcher.detach(event_type, callback, None if topic is None else self._frame(topic))

    def start_consumer(self) -> None:
        """Start the thread that receives events and calls the callbacks. Returns when it runs. Idempotent.

        Raises:
            NotConnected: the client is not connected.
        """
        if self._enabled:
            self._transport.ensure_open()
            self._consumer.start()

    def stop_consumer(self, timeout: float | None = None) -> None:
        """Stop receiving, and wait until what was received is handled, by ``async`` callbacks too.

        What could not be handled in time is dropped and counted. From inside a handler it does not wait: what was received
        after that handler's event is dropped. The client stays connected and can emit. Idempotent.

        Args:
            timeout: seconds; None for the client's `close_timeout`.
        """
        self._consumer.stop(self._close_timeout if timeout is None else timeout)

    def recv_event(self, timeout: float | None = 0.5) -> EventClass | None:
        """Return the oldest event in the receive buffer, or None when none comes in time.

        Every received event gets there, also one that has callbacks. Starts the consumer if it is not running.

        Args:
            timeout: seconds to wait; None: until an event comes or the client is closed.

        Raises:
            NotConnected: the client is not connected, and the buffer is empty.
            ReconnectFailed: the client has given up.
        """
        self._buffer.expect_reader()
        event = self._buffer.get(0)
        if event is None:
            self.start_consumer()
            event = self._buffer.get(timeout)
            if event is None:
                self._transport.status.raise_failure()
        return event

    def listen_forever(self) -> Iterator[EventClass]:
        """Return an iterator over the events of the receive buffer, which ends when the client is closed.

        Starts the consumer if it is not running.

        Raises:
            NotConnected: the client is not connected.
            ReconnectFailed: the client has given up; the iterator raises it too.
        """
        self._buffer.expect_reader()
        self.start_consumer()
        return self._listen()

    def stats(self) -> EventBusStats:
        """What has become of events since the client was created."""
        return self._counters.snapshot(
            emitted=self._transport.sent,
            received=self._buffer.received,
            unread=self._buffer.unread,
            malformed=self._transport.malformed,
            drops=self._transport.drops.counts,
        )

    # The rest is the client's own.

    def _assemble(self) -> None:
        """Make what has locks and threads, but for the transport."""
        self._counters = Counters()
        self._buffer: ReceiveBuffer[EventClass] = ReceiveBuffer(*self._receive_buffer, self._counters.drops)
        self._dispatcher = Dispatcher(self._buffer, self._counters)
        # The dispatcher and the transport know the same topics, whoever comes between.
        self._subscribing = RLock()  # reentrant, for signal handlers
        self._consumer = Consumer(
            self._transport,
            self._codec,
            self._dispatcher,
            self._counters,
            self._hooks,
            max_event_bytes=self._max_event_bytes,
        )
        self._emitter = Emitter(
            self._codec,
            self._transport,
            self._topics,
            self._middleware,
            self._hooks,
            Compressor(*self._compression),
            max_event_bytes=self._max_event_bytes,
            packing=self._packing,
        )
        self._as_it_is = self._emitter.as_it_is
        self._observe()

    def _observe(self) -> None:
        """Have done what the hooks and the middleware need, and nothing else: without them events take the shortest way."""
        hooks = self._hooks
        middleware = [one for one in self._middleware if overrides(one, "handle") or overrides(one, "handle_async")]
        # What is made here must not have the client: the consumer's thread has it, and would keep the client alive.
        emit = self._emitter.emit

        def instrument(topic: bytes, callback: Callback[EventClass]) -> Callback[EventClass]:
            return WrappedHandler(callback, topic.decode(errors="replace"), middleware, hooks, emit)

        wanted = middleware or hooks.handled or hooks.handler_failed
        self._dispatcher.instrument(instrument if wanted else None)
        self._observed = self._emitter.is_wrapped or bool(hooks.emitted)
        # The path of an emitted event reads only this, the last topic and the limit of what is sent as it is. Where it finds
        # no encoder, it looks whether it is observed.
        self._encoders = {} if self._observed else self._codec.encoders
        for drops in (self._counters.drops, self._transport.drops):
            drops.listener = hooks.dropped or None
        status = self._transport.status
        if hooks.state_changed and status is not self._listened_to:
            self._listened_to = status  # once: a change that is still to be told must find its listener
            status.listen(lambda change: hooks.state_changed(change))  # whichever hooks there are by then

    def _after_fork(self) -> None:
        """In a forked child: threads of the parent, which are not here, may have held the locks."""
        topics = self._dispatcher.topics
        self._hooks.forget_parent()
        self._assemble()
        for topic in topics:
            self._dispatcher.subscribe(topic)
        self._unclosed = False

    def _listen(self) -> Iterator[EventClass]:
        while (event := self._buffer.get(None)) is not None:
            yield event
        self._transport.status.raise_failure()

    def _subscribe(self, frame: bytes) -> None:
        with self._subscribing:
            self._dispatcher.subscribe(frame)
            self._transport.subscribe(frame)

    def _frame(self, topic: BaseEventTopic | None) -> bytes:
        return b"" if topic is None else self._topics.admit(topic)

    def _check_callback(self, event_type: EventTypeClass, callback: Callback[EventClass]) -> None:
        known = self._codec.event_types
        if not isinstance(event_type, BaseEventType) or (known and type(event_type) not in known):
            names = " or ".join(sorted(enum.__name__ for enum in known)) or "an enum derived from eventbus.BaseEventType"
            raise InvalidHandler(f"{event_type!r} is no type of {self._codec.name}: use a member of {names}")
        check_callback(callback)
        check_middleware(self._middleware, callback)


def _close_open_clients() -> None:
    """At interpreter exit: flush what was emitted by clients that nobody has closed."""
    for client in list(_open_clients):
        warnings.warn(f"{client!r} was never closed", ResourceWarning, stacklevel=1, source=client)
        client.close()


def _forget_parents_clients() -> None:
    """In a forked child: what is open belongs to the parent."""
    for client in list(_open_clients):
        client._after_fork()
    _open_clients.clear()


atexit.register(_close_open_clients)
os.register_at_fork(after_in_child=_forget_parents_clients)
