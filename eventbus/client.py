"""`EventBusClient`: the typed client that a service is given. `eventbus.assembly` makes its parts."""

import atexit
import traceback
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from threading import Thread
from types import TracebackType
from typing import Any, Self, Unpack

from pydantic import BaseModel, TypeAdapter

from eventbus._base.deadline import Deadline
from eventbus._base.forks import register_fork, unregister_fork
from eventbus._base.log import Log
from eventbus._base.native_threads import require_native_threads
from eventbus.assembly import Assembly, joiner_of
from eventbus.emit.topics import Topics
from eventbus.errors import EventBusError, InvalidHandler, NotConnected, ProxyUnreachable
from eventbus.events import BaseEvent, BaseEventTopic, BaseEventType
from eventbus.exports import public
from eventbus.handle.coroutines import running_loop
from eventbus.handle.marks import check_callback, check_event_class, handlers_of
from eventbus.handle.middleware import Emission, Middleware
from eventbus.handle.wrapped import check_middleware
from eventbus.observe.health import EventBusHealth
from eventbus.observe.hooks import EventBusHook
from eventbus.observe.state import ClientState, StateCallback
from eventbus.observe.stats import EventBusStats
from eventbus.options import HOST, PUB_PORT, SUB_PORT, ClientArguments, ClientOptions
from eventbus.receive.dispatcher import Callback
from eventbus.transports.contract import Transport
from eventbus.transports.null import NullTransport
from eventbus.transports.zeromq.transport import ZeroMQTransport
from eventbus.wire.frames import topic_frame

log = Log()

_open_clients: "weakref.WeakSet[EventBusClient[Any, Any, Any]]" = weakref.WeakSet()

# A type, a callback and a topic. Any: members of enums that each service brings.
type _Attachment = tuple[Any, Callable[..., object], Any]


# BaseEvent[Any]: it is invariant in its type enum, which each service brings.
@public
class EventBusClient[EventClass: BaseEvent[Any], EventTypeClass: BaseEventType, EventTopicClass: BaseEventTopic]:
    """Emits and receives the events of one class over one proxy.

    Every method may be called from any thread and from inside a handler. The client has one thread of its own, the consumer,
    which receives events, decodes them and calls the callbacks one after the other. Emitting happens on the caller's thread.
    Keep a reference to an open client: when only its own callbacks and hooks refer to it, it is closed, with a
    ResourceWarning and a warning in the log.

    Args:
        event_class: the service's event class; for a discriminated union, a `pydantic.TypeAdapter` of it.
        host: where the proxy runs.
        pub_port: the proxy's port for publishers (XSUB).
        sub_port: the proxy's port for subscribers (XPUB).
        options: how the client and its connections behave; None: the defaults of `eventbus.options.ClientOptions`.
        hooks: observers of events; see `EventBusHook`.
        middleware: objects that are called around handlers and around emitting, the outermost first; see `Middleware`.
        transport: what carries the messages, instead of ZeroMQ to `host`. Then `host`, the ports and the options of
            `eventbus.options.ZeroMQOptions` mean nothing, except for `connect_timeout`.
        arguments: single options, such as ``linger=0.5``; they replace those of `options`.

    Attributes:
        host: as given, as are `pub_port` and `sub_port`.

    Raises:
        InvalidEvent: the event class has no `type`.
        InvalidSettings: `host` is not the name or the address of a host, or a port is no port.
        CompressionMissing: the library for that compression is not installed.
    """

    _unclosed = False  # of an object: True from connect() to close(). Here for __del__ after an __init__ that has failed.

    def __init__(
        self,
        event_class: type[EventClass] | TypeAdapter[EventClass],
        host: str = HOST,
        pub_port: int = PUB_PORT,
        sub_port: int = SUB_PORT,
        *,
        options: ClientOptions | None = None,
        hooks: Iterable[EventBusHook] = (),
        middleware: Iterable[Middleware] = (),
        transport: Transport | None = None,
        **arguments: Unpack[ClientArguments],
    ) -> None:
        options = replace(options or ClientOptions(), **arguments)
        if not options.enabled:
            transport = NullTransport()
        elif transport is None:
            transport = ZeroMQTransport(host, pub_port, sub_port, options, joiner=joiner_of(options))
        self.host = host
        self.pub_port = pub_port
        self.sub_port = sub_port
        self._options = options
        self._closings = 0  # how often; two at once may count as one
        # What `attach_handlers` has attached, by the identity of the object.
        self._handlers: dict[int, tuple[object, list[_Attachment]]] = {}
        self._topics = Topics(self, EventBusClient)
        self._parts = Assembly(event_class, transport, self._topics, options, hooks, middleware)
        # What emit_event needs for each event, within reach.
        self._transport = transport
        self._encoders, self._sender = self._parts.encoders, self._parts.sender
        self._sent_as_it_is = self._parts.emitter.as_it_is
        for topic in options.topics:
            self._parts.subscribe(topic_frame(topic))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._parts.codec.name} at {self._transport.endpoints}, {self.state}>"

    # Life cycle

    def connect(self, timeout: float | None = None) -> None:
        """Connect, and return when an event emitted from now on is sure to reach the proxy and every subscriber there.

        With `connect_required` off it also returns when there is no proxy yet: the client is READY then, and keeps what is
        emitted until a proxy appears. On a connected client it proves the path again. `async` callbacks will run on the
        event loop that runs in the calling thread, if there is one.

        Args:
            timeout: seconds; None for the client's `connect_timeout`.

        Raises:
            ProxyUnreachable: no proxy answered in time; nothing is left open that this call has opened.
            HandshakeFailed: the proxy does not accept this client, or is not the one that it expects. It is raised at once,
                because waiting does not help.
            ReconnectFailed: as many attempts as allowed have failed before that.
            NotConnected: another thread closed the client in the meantime.
            ForkedClient: the client was connected by the parent process.
            MonkeyPatched: eventlet has replaced Python's threads or sockets.
            InvalidTopic: a middleware emits to a topic that is not of this client's enum.
        """
        closings = self._closings
        for middleware in self._parts.middleware:
            for topic in middleware.emits_to:
                self._topics.admit(topic)
        self._transport.open(self._options.connect_timeout if timeout is None else timeout)
        self._parts.buffer.open()
        if self._options.enabled:
            if not self._unclosed:
                self._parts.dispatcher.coroutines.open(running_loop())
            self._parts.consumer.open()
            self._unclosed = True
            _open_clients.add(self)
            unregister_fork(self)  # a child has to tell the transport first, which may have registered just now
            register_fork(self)
        if closings != self._closings:  # another thread or a signal handler closed it, and may have found nothing open yet
            self.close(0.0)
            raise NotConnected(self._transport.endpoints)

    @property
    def state(self) -> ClientState:
        """The state of the path to the proxy and back. It becomes DEGRADED within `echo_interval` and `echo_timeout`."""
        return self._transport.status.state

    def on_state_change(self, callback: StateCallback) -> Callable[[], None]:
        """Call `callback(change)` after each change of `state` from now on, with an `eventbus.StateChange`.

        It is called in a thread of its own, one change after the other, and may call every method of the client. What it
        raises is logged. Call the function that is returned to end it.
        """
        return self._transport.status.listen(callback, kept_by=self._parts.listeners)

    def wait_ready(self, timeout: float | None = None) -> None:
        """Return when the state is READY.

        Args:
            timeout: seconds; None for the client's `connect_timeout`.

        Raises:
            ProxyUnreachable: the state was not READY in time.
            HandshakeFailed: the same, because the proxy does not accept this client.
            NotConnected: the client is closed.
            ReconnectFailed: the client has given up.
        """
        timeout = self._options.connect_timeout if timeout is None else timeout
        if not self._transport.status.wait_ready(Deadline(timeout)):
            self._transport.ensure_open()
            if (diagnosis := self._transport.status.diagnosis) is not None:
                raise diagnosis()
            remedies = self._transport.remedies
            raise ProxyUnreachable(
                self._transport.endpoints, timeout, f"the client is {self.state}", remedies.unreachable, remedies.peer
            )

    def health(self, stalled_after: float = 30.0) -> EventBusHealth:
        """Return how the client is, for readiness and liveness probes. Does not block.

        Args:
            stalled_after: how many seconds the consumer may spend on one event and still count as live.
        """
        status, progress = self._transport.status, self._parts.consumer.progress()
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
        """Call this hook, too, from now on. Idempotent."""
        with self._parts.changing:
            self._parts.add_hook(hook)
            self._encoders, self._sender = self._parts.encoders, self._parts.sender

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
        timeout = self._options.close_timeout if timeout is None else timeout
        linger = self._options.linger
        deadline = Deadline(timeout)
        self._closings += 1  # first: connect() closes what it opens from now on
        self._parts.consumer.stop(timeout - min(linger, timeout / 2), for_good=True)
        self._parts.buffer.close()
        self._unclosed = False
        _open_clients.discard(self)
        unregister_fork(self)
        # Close the transport last: it may take a while, and another thread may reconnect in the meantime.
        self._transport.close(min(linger, deadline.left()))

    async def aclose(self, timeout: float | None = None) -> None:
        """Do as `close`, while this thread's event loop keeps running the callbacks that it waits for."""
        import asyncio

        await asyncio.to_thread(self.close, timeout)

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        if self._unclosed:
            # In another thread, because the garbage collector may interrupt any code, even code that holds our locks. It is
            # no daemon thread, so that it can finish at interpreter exit.
            with suppress(RuntimeError):  # no thread may start any more: the interpreter ends, and has closed all clients
                Thread(target=self._close_dropped, name="eventbus-close").start()
            warnings.warn(f"{self!r} was never closed", ResourceWarning, stacklevel=1, source=self)

    def _close_dropped(self) -> None:
        log.warning(
            "%s was never closed, and nothing but its own handlers refers to it: closing it",
            repr(self),  # a log record that is kept must not keep the client alive
            endpoints=self._transport.endpoints,
            event_class=self._parts.codec.name,
        )
        self.close()

    def _after_fork(self) -> None:
        """In a forked child: what is open belongs to the parent, whose threads may have held the locks."""
        self._parts.after_fork()
        self._handlers.clear()
        self._unclosed = False
        _open_clients.discard(self)

    @property
    def event_types(self) -> frozenset[type[BaseEventType]]:
        """The enums that the event class's types are members of."""
        return self._parts.codec.event_types

    def event_classes(self, event_type: EventTypeClass) -> tuple[type[BaseModel], ...]:
        """The classes that events of a type may have: the event class, or those of a union that have the type."""
        return self._parts.codec.classes_of(event_type)

    @property
    def topics(self) -> frozenset[str]:
        """The values of the subscribed topics; an empty one stands for every topic."""
        return frozenset(frame.decode() for frame in self._parts.dispatcher.topics)

    # Emitting

    def emit_event(self, event: EventClass | EventTypeClass, topic: EventTopicClass) -> None:
        """Send an event to all subscribers of a topic. Returns when ZeroMQ has taken it.

        Args:
            event: an event, or a bare type, which is wrapped into the event class.
            topic: a member of the client's topic enum.

        Raises:
            NotConnected: the client is not connected.
            InvalidEvent: the event is of another class, or the class needs more than a type.
            InvalidTopic: the topic is not one, or a member of another enum than the client's type parameters name.
            EventTooLarge: the event is larger than `max_event_bytes`, before it is compressed.
            TooManyValues: the event has more values than `max_event_values`.
            SendBufferFull: the send buffer is full, or stayed full (SendTimeout), depending on the send policy; nothing was
                sent.
            InvalidHeaders: a middleware has set headers that cannot be sent.
            ReconnectFailed: the client has given up.

        What a middleware raises is raised, too.
        """
        try:
            encode = self._encoders[type(event)]
        except KeyError:
            encode = None
        if encode is None:  # outside the except, or every error of a middleware would have the KeyError as its context
            if self._parts.observed:
                self._parts.emitter.emit_one(event, topic)
                return
            encode = self._parts.codec.encoder_for(event)
        known, frame = self._topics.last
        if topic is not known:
            frame = self._topics.admit(topic)
        try:
            payload = encode(event)
        except EventBusError:
            raise
        except Exception as error:
            raise self._parts.codec.refusal(event, error) from error
        if len(payload) > self._sent_as_it_is:
            self._parts.emitter.send_large(frame, payload)
        else:
            self._sender.send(frame, payload)

    def emit_events(self, events: Iterable[EventClass | EventTypeClass], topic: EventTopicClass) -> None:
        """Send many events to all subscribers of a topic, in order, packed into few messages unless `packing` is off.

        All are checked before the first is sent. Raises as `emit_event`; a `SendBufferFull` has a note that says how many of
        the events had been sent before.
        """
        if self._parts.observed:
            self._parts.emitter.emit(Emission(tuple(events), topic, packed=True))
        else:
            payloads = self._parts.codec.encode_many(events)
            self._parts.emitter.send_all(self._topics.admit(topic), payloads)

    # Receiving

    def subscribe(self, topic: EventTopicClass | None) -> None:
        """Receive the events of exactly this topic; None for every topic. Idempotent.

        On a connected client it returns when the subscription is in force at the proxy and for what this client emits; other
        publishers learn a moment later of a topic that had no subscriber before. It outlives reconnections.

        Raises:
            InvalidTopic: the topic is not one, or a member of another enum than the client's type parameters name.
        """
        self._parts.subscribe(self._frame(topic))

    def unsubscribe(self, topic: EventTopicClass | None) -> None:
        """Undo `subscribe` with the same argument. Idempotent. Raises as `subscribe`."""
        self._parts.unsubscribe(self._frame(topic))

    def attach_callback(
        self,
        event_type: EventTypeClass,
        cb: Callback[EventClass],
        *,
        topic: EventTopicClass | None = None,
    ) -> None:
        """Call `cb(event)` for events of a type, after those attached before. It may be ``async``.

        Attaching does not subscribe. What a callback raises is logged with the event and counted; the others still run.

        Args:
            event_type: a member of the event class's type enum.
            cb: called on the consumer's thread, an ``async`` one on an event loop.
            topic: only for events of this topic; None for every subscribed one.

        Raises:
            InvalidHandler: the type is of another enum, the callback cannot be called with one event, or a middleware of the
                client ignores callbacks of its kind (see `Middleware`).
            InvalidTopic: as `subscribe`.
        """
        self._check_callback(event_type, cb)
        self._parts.dispatcher.attach(event_type, cb, None if topic is None else self._frame(topic))

    def attach_callbacks(self, cbs: Mapping[EventTypeClass, Callback[EventClass]]) -> None:
        """Attach one callback for each of several types; all are checked before the first is attached."""
        for event_type, cb in cbs.items():
            self._check_callback(event_type, cb)
        for event_type, cb in cbs.items():
            self._parts.dispatcher.attach(event_type, cb, None)

    def detach_callback(
        self,
        event_type: EventTypeClass,
        cb: Callback[EventClass],
        *,
        topic: EventTopicClass | None = None,
    ) -> None:
        """Undo `attach_callback` with the same arguments. Idempotent."""
        self._parts.dispatcher.detach(event_type, cb, None if topic is None else self._frame(topic))

    def attach_handlers(self, target: object) -> None:
        """Attach every method of an object that is marked with `@on`, and subscribe to their topics. Idempotent.

        For services without a container: a program's own wiring, another library for dependency injection, a test. If no
        handler names a topic and none is subscribed, it subscribes to every topic, as a container does.

        Args:
            target: an object; or a module, of which every function that it marks is attached.

        Raises:
            InvalidHandler: it has no such method, or one of them cannot be attached (see `attach_callback`). Nothing is
                attached then.
            InvalidTopic: as `subscribe`.
        """
        with self._parts.changing:
            if id(target) in self._handlers:
                return
            marked = [(handler, mark) for handler in handlers_of(target) for mark in handler.marks]
            wanted: list[_Attachment] = [
                (event_type, handler.callback, mark.topic) for handler, mark in marked for event_type in mark.types
            ]
            if not wanted:
                raise InvalidHandler(f"{target!r} has no handlers: mark its methods with @on")
            for event_type, callback, _ in wanted:
                self._check_callback(event_type, callback)
            topics = {topic: self._frame(topic) for _, _, topic in wanted if topic is not None}
            self._handlers[id(target)] = target, wanted
            for event_type, callback, topic in wanted:
                self._parts.dispatcher.attach(event_type, callback, None if topic is None else topics[topic])
            for frame in topics.values():
                self._parts.subscribe(frame)
            if not self.topics:
                self._parts.subscribe(b"")

    def detach_handlers(self, target: object) -> None:
        """Detach what `attach_handlers` has attached. Idempotent. Topics stay subscribed; see `unsubscribe`."""
        with self._parts.changing:
            _, wanted = self._handlers.pop(id(target), (target, []))
            for event_type, callback, topic in wanted:
                self._parts.dispatcher.detach(event_type, callback, None if topic is None else self._frame(topic))

    def start_consumer(self) -> None:
        """Start the thread that receives events and calls the callbacks. Returns when it runs. Idempotent.

        Raises:
            NotConnected: the client is not connected.
            MonkeyPatched: gevent has replaced Python's threads; emitting works, receiving would block the process.
        """
        if self._options.enabled:
            self._transport.ensure_open()
            require_native_threads()
            self._parts.consumer.start()

    def stop_consumer(self, timeout: float | None = None) -> None:
        """Stop receiving, and wait until what was received is handled, by ``async`` callbacks too.

        What could not be handled in time is dropped and counted. From inside a handler it does not wait: what was received
        after that handler's event is dropped. The client stays connected and can emit. Idempotent.

        Args:
            timeout: seconds; None for the client's `close_timeout`.
        """
        self._parts.consumer.stop(self._options.close_timeout if timeout is None else timeout)

    def recv_event(self, timeout: float | None = 0.5) -> EventClass | None:
        """Return the oldest event in the receive buffer, or None when there is none in time.

        Every received event gets there, also one that has callbacks. Starts the consumer if it is not running.

        Args:
            timeout: seconds to wait; None: until an event comes or the client is closed.

        Raises:
            NotConnected: the client is not connected, and the buffer is empty.
            ReconnectFailed: the client has given up.
        """
        buffer = self._parts.buffer
        buffer.expect_reader()
        event = buffer.get(0)
        if event is None:
            self.start_consumer()
            event = buffer.get(timeout)
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
        self._parts.buffer.expect_reader()
        self.start_consumer()
        return self._listen()

    def stats(self) -> EventBusStats:
        """Return counts of events since the client was created: sent, received, dropped and so on."""
        buffer = self._parts.buffer
        return self._parts.counters.snapshot(
            emitted=self._transport.sent,
            received=buffer.received,
            unread=buffer.unread,
            malformed=self._transport.malformed,
            lost=self._transport.lost,
            repeated=self._transport.repeated,
            drops=self._transport.drops.counts,
        )

    def _listen(self) -> Iterator[EventClass]:
        while (event := self._parts.buffer.get(None)) is not None:
            yield event
        self._transport.status.raise_failure()

    def _frame(self, topic: BaseEventTopic | None) -> bytes:
        return b"" if topic is None else self._topics.admit(topic)

    def _check_callback(self, event_type: EventTypeClass, callback: Callback[EventClass]) -> None:
        known = self.event_types
        if not isinstance(event_type, BaseEventType) or (known and type(event_type) not in known):
            names = " or ".join(sorted(enum.__name__ for enum in known)) or "an enum derived from eventbus.BaseEventType"
            raise InvalidHandler(f"{event_type!r} is not a type of {self._parts.codec.name}: use a member of {names}")
        check_callback(callback)
        if classes := self.event_classes(event_type):
            check_event_class(callback, classes)
        check_middleware(self._parts.middleware, callback)


def _close_open_clients() -> None:
    """At interpreter exit: flush what was emitted by clients that are still open."""
    for client in list(_open_clients):
        try:
            warnings.warn(f"{client!r} was never closed", ResourceWarning, stacklevel=1, source=client)
        except ResourceWarning:  # where warnings are errors: no caller could catch this one
            traceback.print_exc()
        client.close()


atexit.register(_close_open_clients)
