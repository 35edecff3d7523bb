"""`EventBusClient`: the typed client that a service is given. `eventbus.assembly` makes its parts."""

import atexit
import traceback
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from threading import Thread
from types import TracebackType, UnionType
from typing import TYPE_CHECKING, Any, Self, TypeAliasType, Unpack, overload

from pydantic import BaseModel, JsonValue, TypeAdapter

from eventbus._base.deadline import Deadline
from eventbus._base.forks import register_fork, unregister_fork
from eventbus._base.log import Log
from eventbus._base.native_threads import require_native_threads
from eventbus._base.printable import printable
from eventbus._base.program import client_name
from eventbus.assembly import Assembly, joiner_of
from eventbus.emit.topics import Topics
from eventbus.emit.without_blocking import emit_without_blocking
from eventbus.errors import EventBusError, InvalidHandler, NotConnected, ProxyUnreachable
from eventbus.events import BaseEvent, BaseEventTopic, BaseEventType
from eventbus.exports import public
from eventbus.handle.coroutines import running_loop
from eventbus.handle.handler_options import PLAIN, HandlerOptions
from eventbus.handle.marks import (
    check_callback,
    check_event_class,
    check_mark,
    check_result,
    handlers_of,
    widest_starts,
)
from eventbus.handle.middleware import Emission, Middleware
from eventbus.handle.wrapped import check_middleware
from eventbus.observe.health import EventBusHealth
from eventbus.observe.hooks import EventBusHook
from eventbus.observe.state import ClientState, StateCallback
from eventbus.observe.stats import EventBusStats
from eventbus.options import HOST, PUB_PORT, SUB_PORT, ClientArguments, ClientOptions
from eventbus.policies import Start
from eventbus.receive.dispatcher import Callback
from eventbus.receive.stream import EventStream, read
from eventbus.transports.contract import KeepsHistory, Transport
from eventbus.transports.null import NullTransport
from eventbus.transports.zeromq.transport import ZeroMQTransport
from eventbus.wire.frames import topic_frame
from eventbus.wire.starts import start_of

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from eventbus.ask.answers import Answers

log = Log()

_HISTORY_TIMEOUT_S = 2.0  # how long a historian may take to show that it is there

_open_clients: "weakref.WeakSet[EventBusClient[Any, Any, Any]]" = weakref.WeakSet()

# A type, a callback, a topic and how it is called. Any: members of enums that each service brings.
type _Attachment = tuple[Any, Callable[..., object], Any, HandlerOptions]


# BaseEvent[Any]: it is invariant in its type enum, which each service brings.
@public
class EventBusClient[EventClass: BaseEvent[Any], EventTypeClass: BaseEventType, EventTopicClass: BaseEventTopic]:
    """Emits and receives the events of one class over one proxy.

    Every method may be called from any thread and from inside a handler. The client has one thread of its own, the consumer,
    which receives events, decodes them and calls the callbacks one after the other. Emitting happens on the caller's thread.
    Keep a reference to an open client: when only its own callbacks and hooks refer to it, it is closed, with a
    ResourceWarning and a warning in the log.

    Args:
        event_class: the service's event class; its subclasses that narrow the field `type`, and exist by now, are read as
            themselves. Or a union of classes, or a `pydantic.TypeAdapter`, which is used as it is.
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
        name: what people call the client: the option `name`, or that of the program.

    Raises:
        InvalidEvent: the event class has no `type`.
        InvalidSettings: `host` is not the name or the address of a host, a port is no port, or an option is wrong.
        CompressionMissing: the library for that compression is not installed.
    """

    _unclosed = False  # of an object: True from connect() to close(). Here for __del__ after an __init__ that has failed.

    def __init__(
        self,
        event_class: type[EventClass] | TypeAdapter[EventClass] | UnionType | TypeAliasType,
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
        self.name = client_name(options.name)
        self._options = options
        self._closings = 0  # how often; two at once may count as one
        # What `attach_handlers` has attached, by the identity of the object.
        self._handlers: dict[int, tuple[object, list[_Attachment]]] = {}
        self._topics = Topics(self, EventBusClient)
        self._parts = Assembly(event_class, transport, self._topics, options, hooks, middleware, self.name)
        # What emit_event needs for each event, within reach.
        self._transport = transport
        self._encoders, self._sender = self._parts.encoders, self._parts.sender
        self._sent_as_it_is = self._parts.emitter.as_it_is
        self._keeps_history = isinstance(transport, KeepsHistory)
        start, self._begins = options.start, True  # whether the client itself begins topics with what was stored
        if isinstance(transport, KeepsHistory):
            start = transport.start if start == Start.NEW else start
            self._begins = transport.begin_live()
        self._start = start_of(start)  # once: topics that begin at the same time have their events in one order
        for topic in options.topics:
            self._subscribe(topic_frame(topic), None)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._parts.codec.name} at {self._transport.endpoints}, {self.state}>"

    # Life cycle

    def connect(self, timeout: float | None = None) -> None:
        """Connect, and return when an event emitted from now on is sure to reach the proxy and every subscriber there.

        With `connect_required` off it also returns when there is no proxy yet: the client keeps what is emitted, and becomes
        READY when one appears. On a connected client it proves the path again. `async` callbacks will run on the event loop
        that runs in the calling thread, if there is one.

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
        self._connect(timeout, running_loop())

    async def aconnect(self, timeout: float | None = None) -> None:
        """Do as `connect` without blocking the event loop, on which `async` callbacks will run.

        If the task is cancelled meanwhile, the client is closed, unless it was connected before.
        """
        import asyncio

        was_connected = self._unclosed
        connecting = asyncio.create_task(asyncio.to_thread(self._connect, timeout, running_loop()))
        try:
            await asyncio.shield(connecting)
        except asyncio.CancelledError:
            if not was_connected:
                await self.aclose(0.0)  # which ends the connecting, too
            await asyncio.wait([connecting])
            with suppress(EventBusError):
                connecting.result()
            raise

    def _connect(self, timeout: float | None, loop: "AbstractEventLoop | None") -> None:
        closings = self._closings
        for middleware in self._parts.middleware:
            for topic in middleware.emits_to:
                self._topics.frame(topic)
        self._transport.open(self._options.connect_timeout if timeout is None else timeout)
        self._parts.buffer.open()
        if self._options.enabled:
            if not self._unclosed:
                self._parts.dispatcher.coroutines.open(loop)
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
            stalled_after: the seconds that the consumer may spend on one event and still count as live.
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
            name=self.name,
        )

    def be_listed(self) -> None:
        """Let ``eventbus ps`` list this client from now on, while its consumer runs. Idempotent.

        It tells everybody who may ask its `name`, machine, process, topics and counts. A member of a group on JetStream is
        not listed.
        """
        if self._options.enabled and not self._transport.confirms:
            from eventbus.ask.presence import Respondent

            self._parts.list_by(lambda transport: Respondent(weakref.ref(self), transport).respond)

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
            timeout: the seconds that it may take; None for the client's `close_timeout`.
        """
        timeout = self._options.close_timeout if timeout is None else timeout
        linger = self._options.linger
        deadline = Deadline(timeout)
        self._closings += 1  # first: connect() closes what it opens from now on
        self._parts.close_asker()  # a handler may be waiting for an answer
        self._parts.consumer.stop(timeout - min(linger, timeout / 2), for_good=True)
        self._parts.dispatcher.end()
        self._unclosed = False
        _open_clients.discard(self)
        unregister_fork(self)
        # Close the transport last: it may take a while, and another thread may reconnect in the meantime.
        self._transport.close(min(linger, deadline.left()))
        self._parts.close_asker()  # again, because another thread may have asked meanwhile

    async def aclose(self, timeout: float | None = None) -> None:
        """Do as `close`, while this thread's event loop keeps running the callbacks that it waits for."""
        import asyncio

        await asyncio.to_thread(self.close, timeout)

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        await self.aconnect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

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
            client_name=self.name,
        )
        self.close()

    def _after_fork(self) -> None:
        """Start anew in a forked child: the parent owns the open parts, and its threads may have held the locks."""
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

    @property
    def emitted_topics(self) -> frozenset[str]:
        """The values of the topics on which this client has emitted, or tried to."""
        return self._parts.topics.admitted

    # Emitting

    def emit_event(self, event: EventClass | EventTypeClass, topic: EventTopicClass) -> None:
        """Send an event to all subscribers of a topic. Returns when the transport has taken it.

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
            self._sender.send(frame, payload, 1)  # an argument that is given is passed faster than its default

    async def aemit_event(self, event: EventClass | EventTypeClass, topic: EventTopicClass) -> None:
        """Do as `emit_event`, but wait for room in the send buffer without blocking the event loop.

        Middleware around emitting is called again with each attempt. If the task is cancelled, nothing was sent.
        """
        await emit_without_blocking(self._options, self.emit_event, event, topic)

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

    # Asking

    def request[Reply](
        self,
        event: EventClass | EventTypeClass,
        topic: EventTopicClass,
        reply: type[Reply] | TypeAdapter[Reply],
        timeout: float = 2.0,
    ) -> Reply:
        """Emit an event as a request, and return the first answer: what a handler marked with `@answers` has returned.

        The first request opens a connection of its own for answers, which takes some milliseconds. Handlers may ask, too:
        answers do not wait for the consumer. Thousands of requests may be under way at once.

        Args:
            event: as with `emit_event`; everybody who subscribes to the topic receives it as an event.
            topic: where it is emitted.
            reply: the class of the answer: a pydantic model, or any other class that pydantic can read.
            timeout: how many seconds all of it may take.

        Raises:
            NobodyAnswers: nobody subscribes to the topic; raised at once, and nothing was sent.
            NoAnswer: no answer came in time.
            RequestFailed: the handler has raised an error.
            InvalidAnswer: the answer is not of that class.
            NotConnected: the client is not connected, or was closed meanwhile.
            ProxyUnreachable: the connection for answers could not be opened in time.
            MonkeyPatched: as `start_consumer`.

        And what `emit_event` raises.
        """
        return self._parts.asker.request(event, topic, reply, timeout)

    async def arequest[Reply](
        self,
        event: EventClass | EventTypeClass,
        topic: EventTopicClass,
        reply: type[Reply] | TypeAdapter[Reply],
        timeout: float = 2.0,
    ) -> Reply:
        """Do as `request` without blocking the event loop. If the task is cancelled, a later answer is dropped."""
        return await self._parts.asker.arequest(event, topic, reply, timeout)

    @overload
    def request_all(
        self,
        event: EventClass | EventTypeClass,
        topic: EventTopicClass,
        *,
        timeout: float = 1.0,
        at_most: int | None = None,
    ) -> "Answers[JsonValue]": ...

    @overload
    def request_all[Reply](
        self,
        event: EventClass | EventTypeClass,
        topic: EventTopicClass,
        reply: type[Reply] | TypeAdapter[Reply],
        timeout: float = 1.0,
        at_most: int | None = None,
    ) -> "Answers[Reply]": ...

    def request_all(
        self,
        event: EventClass | EventTypeClass,
        topic: EventTopicClass,
        reply: Any = JsonValue,  # see the overloads
        timeout: float = 1.0,
        at_most: int | None = None,
    ) -> "Answers[Any]":
        """Emit an event as a request, and return all answers that come in time; an empty list at once if nobody subscribes.

        Args:
            event: as with `request`, as is `topic`.
            reply: the class of the answers; without it they are what their JSON holds.
            timeout: how many seconds to wait for answers.
            at_most: return as soon as there are so many; 0: at once, when the request was sent.

        Returns:
            a list, whose `failures` are the errors of answers that say that a handler has failed, or that cannot be read.

        Raises:
            NotConnected, ProxyUnreachable: as `request`.
        """
        return self._parts.asker.request_all(event, topic, reply, timeout, at_most)

    @overload
    async def arequest_all(
        self,
        event: EventClass | EventTypeClass,
        topic: EventTopicClass,
        *,
        timeout: float = 1.0,
        at_most: int | None = None,
    ) -> "Answers[JsonValue]": ...

    @overload
    async def arequest_all[Reply](
        self,
        event: EventClass | EventTypeClass,
        topic: EventTopicClass,
        reply: type[Reply] | TypeAdapter[Reply],
        timeout: float = 1.0,
        at_most: int | None = None,
    ) -> "Answers[Reply]": ...

    async def arequest_all(
        self,
        event: EventClass | EventTypeClass,
        topic: EventTopicClass,
        reply: Any = JsonValue,  # see the overloads
        timeout: float = 1.0,
        at_most: int | None = None,
    ) -> "Answers[Any]":
        """Do as `request_all` without blocking the event loop."""
        return await self._parts.asker.arequest_all(event, topic, reply, timeout, at_most)

    # Receiving

    def subscribe(self, topic: EventTopicClass | None, *, start: str | datetime | timedelta | None = None) -> None:
        """Receive the events of exactly this topic; None for every topic. Idempotent.

        On a connected client it returns when the subscription is in force at the proxy and for what this client emits; other
        publishers learn a moment later of a topic that had no subscriber before. It outlives reconnections.

        With a `start`, handlers first get what a historian on the bus, or JetStream, has stored, then what is emitted from
        now on: each event once, and those of each publisher in order. `current_delivery` tells them apart. A topic that is
        subscribed already, and whose events are being received, does not begin again. Members of a group of JetStream
        begin where the group is.

        Args:
            topic: a member of the client's topic enum.
            start: where to begin: a `Start` such as ``"last"``, a time, or how long ago, such as ``"10m"``. None: the
                client's option `start`.

        Raises:
            InvalidTopic: the topic is not one, or a member of another enum than the client's type parameters name.
            InvalidSettings: `start` is neither a `Start` nor a time nor a duration.
            HandshakeFailed: the client is connected, and the server does not let it receive that topic.
            HistorianMissing: the client is READY, and there is no historian. If it becomes READY later, or if the option
                `start` says so, that is logged, and the topic begins with what is new.
        """
        frame = self._frame(topic)
        needs_historian = start is not None and start_of(start).kind is not Start.NEW and not self._keeps_history
        if needs_historian and self._options.enabled and self.state is ClientState.READY:
            self._parts.history.check(_HISTORY_TIMEOUT_S)
        self._subscribe(frame, start)

    def subscribe_marked(self, topic: EventTopicClass, start: str | datetime | timedelta | None) -> None:
        """Subscribe for `@on`: like `subscribe`, but a missing historian is only logged. For containers."""
        self._subscribe(self._frame(topic), start)

    def unsubscribe(self, topic: EventTopicClass | None) -> None:
        """Undo `subscribe` with the same argument. Idempotent. Raises as `subscribe`."""
        self._parts.unsubscribe(self._frame(topic))

    # Stored events

    def last(self, topic: EventTopicClass, *, timeout: float = 2.0) -> EventClass | None:
        """Return the newest event on a topic, from a historian on the bus or from JetStream; None if there is none.

        Args:
            topic: a member of the client's topic enum; it need not be subscribed.
            timeout: how many seconds it may take.

        Raises:
            HistorianMissing: there is no historian, or it has not answered in time.
            InvalidTopic: as `subscribe`.
            NotConnected: the client is not connected, or was closed meanwhile.
            ProxyUnreachable: the connection for answers could not be opened in time.
        """
        return self._parts.history.last(self._topics.frame(topic), timeout)

    def history(
        self,
        topic: EventTopicClass | None,
        *,
        count: int | None = None,
        since: str | datetime | timedelta | float | None = None,
        timeout: float = 2.0,
    ) -> Iterator[EventClass]:
        """Return an iterator over stored events, oldest first, from a historian on the bus or from JetStream.

        What is no event of this client's class is left out and counted as rejected.

        Args:
            topic: a member of the client's topic enum, which need not be subscribed; None: all topics.
            count: the newest events, this many at most; None: all that are stored.
            since: only events that were emitted since then: a time, or how long ago (a `timedelta`, seconds, ``"10m"``).
            timeout: how many seconds the historian may take for each portion.

        Raises:
            InvalidSettings: `since` is no time.

        And as `last`, now and from the iterator.
        """
        return self._parts.history.events(self._frame(topic) or None, count, since, timeout)

    async def alast(self, topic: EventTopicClass, *, timeout: float = 2.0) -> EventClass | None:
        """Do as `last` without blocking the event loop."""
        import asyncio

        return await asyncio.to_thread(lambda: self.last(topic, timeout=timeout))

    def ahistory(
        self,
        topic: EventTopicClass | None,
        *,
        count: int | None = None,
        since: str | datetime | timedelta | float | None = None,
        timeout: float = 2.0,
    ) -> AsyncIterator[EventClass]:
        """Do as `history` without blocking the event loop; all errors come from the iterator."""
        from eventbus.history.door import in_thread

        return in_thread(lambda: self.history(topic, count=count, since=since, timeout=timeout))

    def attach_callback(
        self,
        event_type: EventTypeClass,
        cb: Callback[EventClass],
        *,
        topic: EventTopicClass | None = None,
        answers: bool = False,
        concurrency: int | None = None,
        key: Callable[[Any], object] | None = None,
        where: Callable[[Any], object] | None = None,
        middleware: Iterable[Middleware] = (),
    ) -> None:
        """Call `cb(event)` for events of a type, after those attached before. It may be ``async``.

        Attaching does not subscribe. What a callback raises is logged with the event and counted; the others still run.

        Args:
            event_type: a member of the event class's type enum.
            cb: called on the consumer's thread, an ``async`` one on an event loop.
            topic: only for events of this topic; None for every subscribed one.
            answers: whether what it returns answers requests, as with `@answers`.
            concurrency: as with `@on`, as are `key`, `where` and `middleware`.

        Raises:
            InvalidHandler: the type is of another enum, the callback cannot be called with one event, returns an event that
                nobody gets, or a middleware ignores callbacks of its kind (see `Middleware`); or an option makes no sense.
            InvalidTopic: as `subscribe`.
        """
        self.attach_marked(
            event_type,
            cb,
            topic,
            HandlerOptions.of(answers=answers, concurrency=concurrency, key=key, where=where, middleware=middleware),
        )

    def attach_marked(
        self, event_type: EventTypeClass, cb: Callback[EventClass], topic: EventTopicClass | None, options: HandlerOptions
    ) -> None:
        """Do as `attach_callback`, with the options of a mark: calls for all types of one mark are limited together."""
        self._check_callback(event_type, cb, options)
        self._parts.dispatcher.attach(event_type, cb, None if topic is None else self._frame(topic), options)

    def attach_callbacks(self, cbs: Mapping[EventTypeClass, Callback[EventClass]]) -> None:
        """Attach one callback for each of several types; all are checked before the first is attached."""
        for event_type, cb in cbs.items():
            self._check_callback(event_type, cb, PLAIN)
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
        """Attach the methods of an object that are marked with `@on` or `@answers`; subscribe to their topics. Idempotent.

        For services without a container: a program's own wiring, another library for dependency injection, a test. If no
        handler names a topic and none is subscribed, it subscribes to every topic, as a container does. Methods that are
        marked with `@every` are called by containers only.

        Args:
            target: an object; or a module, of which every function that it marks is attached.

        Raises:
            InvalidHandler: it has no such method, or one of them cannot be attached (see `attach_callback`).
            InvalidTopic: as `subscribe`.
            HandshakeFailed: as `subscribe`.

        Nothing is attached then.
        """
        with self._parts.changing:
            if id(target) in self._handlers:
                return
            marked = [(handler, mark) for handler in handlers_of(target) for mark in handler.marks]
            wanted: list[_Attachment] = [
                (event_type, handler.callback, mark.topic, mark.options)
                for handler, mark in marked
                for event_type in mark.types
            ]
            if not wanted:
                raise InvalidHandler(f"{target!r} has no handlers: mark its methods with @on or @answers")
            for event_type, callback, _, options in wanted:
                self._check_callback(event_type, callback, options)
            for handler, mark in marked:
                for event_type in mark.types:
                    check_mark(handler.callback, mark, self._parts.codec.classes_of(event_type))
            topics = {topic: self._frame(topic) for _, _, topic, _ in wanted if topic is not None}
            starts = widest_starts(mark for _, mark in marked)
            try:
                self._handlers[id(target)] = target, wanted
                for event_type, callback, topic, options in wanted:
                    frame = None if topic is None else topics[topic]
                    self._parts.dispatcher.attach(event_type, callback, frame, options)
                for topic, frame in topics.items():
                    self._subscribe(frame, starts.get(topic))
                if not self.topics:
                    self._subscribe(b"", None)
            except BaseException:  # else the next call would do nothing, as if all topics were subscribed
                self.detach_handlers(target)
                raise

    def detach_handlers(self, target: object) -> None:
        """Detach what `attach_handlers` has attached. Idempotent. Topics stay subscribed; see `unsubscribe`."""
        with self._parts.changing:
            _, wanted = self._handlers.pop(id(target), (target, []))
            for event_type, callback, topic, _ in wanted:
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

    async def arecv_event(self, timeout: float | None = 0.5) -> EventClass | None:
        """Do as `recv_event` without blocking the event loop. If the task is cancelled, no event is lost."""
        buffer = self._parts.buffer
        buffer.expect_reader()
        event = buffer.get(0)
        if event is None:
            self.start_consumer()
            event = await read(buffer, timeout)
            if event is None:
                self._transport.status.raise_failure()
        return event

    def events(self, topic: EventTopicClass | None = None, *, limit: int = 1_000) -> EventStream[EventClass]:
        """Return an asynchronous iterator over the events that are received from now on; it ends when the client is closed.

        It has a buffer of its own: several of them, `recv_event` and callbacks each get every event. Starts the consumer if
        it is not running. If a task that waits for the next event is cancelled, no event is lost, and the iteration can go
        on. It may go on on another event loop, too. Call its `aclose()` to end it before.

        Args:
            topic: only events of this topic, to which it subscribes when the iteration begins; None: of every topic that the
                client is subscribed to.
            limit: how many events wait to be read. If there are more, the oldest are dropped and counted.

        Raises:
            NotConnected: the client is not connected.
            InvalidTopic: as `subscribe`.
            ReconnectFailed: the client has given up; the iterator raises it too.
        """
        frame = None if topic is None else self._frame(topic)
        parts = self._parts
        subscribe = None if frame is None or frame in parts.dispatcher.topics else partial(self._parts.subscribe, frame)
        self.start_consumer()
        stream: EventStream[EventClass] = EventStream(
            frame, limit, parts.counters.drops, subscribe, self._transport.status.raise_failure
        )
        parts.dispatcher.add_stream(stream)
        return stream

    def listen_forever(self) -> Iterator[EventClass]:
        """Return an iterator over the events of the receive buffer, which ends when the client is closed.

        Starts the consumer if it is not running.

        Raises:
            NotConnected: the client is not connected.
            ReconnectFailed: the client has given up; the iterator raises it too.
        """
        self._parts.buffer.expect_reader()
        self.start_consumer()
        return self._listen(self._parts.buffer.closings)

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

    def _listen(self, closings: int) -> Iterator[EventClass]:
        while (event := self._parts.buffer.get(None, closings)) is not None:
            yield event
        self._transport.status.raise_failure()

    def _subscribe(self, frame: bytes, start: str | datetime | timedelta | None) -> None:
        begin = self._start if start is None else start_of(start)
        if not self._begins and begin != self._start:
            log.warning(
                "the topic %s begins where the group is, or where EVENTBUS_START says if the group is new: "
                "the start of a topic has no effect for members of a group",
                printable(frame.decode(), 255),
                endpoints=self._transport.endpoints,
                topic=frame.decode(),
            )
        if begin.kind is Start.NEW or not self._begins or not self._options.enabled:
            self._parts.subscribe(frame)
        else:
            self._parts.subscribe_from(frame, begin)

    def _frame(self, topic: BaseEventTopic | None) -> bytes:
        return b"" if topic is None else self._topics.frame(topic)

    def _check_callback(self, event_type: EventTypeClass, callback: Callback[EventClass], options: HandlerOptions) -> None:
        known = self.event_types
        if not isinstance(event_type, BaseEventType) or (known and type(event_type) not in known):
            names = " or ".join(sorted(enum.__name__ for enum in known)) or "an enum derived from eventbus.BaseEventType"
            raise InvalidHandler(f"{event_type!r} is not a type of {self._parts.codec.name}: use a member of {names}")
        check_callback(callback)
        if classes := self.event_classes(event_type):
            check_event_class(callback, classes)
        check_middleware((*self._parts.middleware, *options.middleware), callback)
        if not options.answers:
            check_result(callback)
        for one in options.middleware:
            for topic in one.emits_to:
                self._topics.frame(topic)


def _close_open_clients() -> None:
    """Flush at interpreter exit what was emitted by clients that are still open."""
    for client in list(_open_clients):
        try:
            warnings.warn(f"{client!r} was never closed", ResourceWarning, stacklevel=1, source=client)
        except ResourceWarning:  # where warnings are errors: no caller could catch this one
            traceback.print_exc()
        client.close()


atexit.register(_close_open_clients)
