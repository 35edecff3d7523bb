"""Asking: emits events as requests, and waits for the answers, in a thread or on an event loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from pydantic import TypeAdapter

from eventbus._base.clock import clock
from eventbus._base.deadline import Deadline
from eventbus.ask.answers import Answers
from eventbus.ask.inbox import Inbox
from eventbus.ask.link import RequestLink
from eventbus.ask.replies import Limits, Reader
from eventbus.ask.waiting import Waiting
from eventbus.emit.emitter import Emitter
from eventbus.emit.topics import Topics
from eventbus.emit.without_blocking import emit_without_blocking
from eventbus.errors import EventBusError, InvalidAnswer, NoAnswer, NobodyAnswers, RequestFailed
from eventbus.events import BaseEvent, BaseEventTopic, BaseEventType
from eventbus.handle.middleware import Middleware, overrides
from eventbus.options import ClientOptions
from eventbus.transports.contract import Transport
from eventbus.wire.requests import CORRELATION_ID, REPLY_TO, request_headers

# What asks: an event of the service's class, or a bare type.
type Event = BaseEvent[Any] | BaseEventType


class Asker:
    """Emits requests of one client, and hands their answers to the callers. Any thread may use it.

    Args:
        transport: that of the client.
        emitter: emits requests through all middleware of the client.
        topics: those of the client.
        middleware: those of it that override `request` are entered around each request.
        options: those of the client.

    Attributes:
        preparing: requests of tasks for which threads open the inbox, or find out whether anybody subscribes.
    """

    def __init__(
        self,
        transport: Transport,
        emitter: Emitter,
        topics: Topics,
        middleware: Sequence[Middleware],
        options: ClientOptions,
    ) -> None:
        self._link = RequestLink(transport, None if options.keys is None else options.keys.public_key)
        self._emitter = emitter
        self._topics = topics
        self._middleware = [one for one in middleware if overrides(one, "request")]
        self._options = options
        self._limits = Limits(options.max_event_bytes, options.max_event_values)
        self.preparing: set[_Asked[Any]] = set()

    def request[Reply](
        self, event: Event, topic: BaseEventTopic, reply: type[Reply] | TypeAdapter[Reply], timeout: float
    ) -> Reply:
        """See `EventBusClient.request`."""
        known, frame = self._topics.last
        if topic is not known:
            frame = self._topics.admit(topic)
        asked = _Asked(event, topic, frame, reply, timeout, self._limits)
        if not self._link.has_anybody(frame, asked.deadline):
            raise asked.nobody()
        if not self._middleware:
            return asked.first(self._ask(asked, Waiting()))
        with self._around(topic):
            return asked.first(self._ask(asked, Waiting()))

    def request_all[Reply](
        self,
        event: Event,
        topic: BaseEventTopic,
        reply: type[Reply] | TypeAdapter[Reply],
        timeout: float,
        at_most: int | None,
    ) -> Answers[Reply]:
        """See `EventBusClient.request_all`."""
        asked = _Asked(event, topic, self._topics.admit(topic), reply, timeout, self._limits)
        if not self._link.has_anybody(asked.frame, asked.deadline):
            return Answers()
        with self._around(topic):
            return asked.all(self._ask(asked, Waiting(at_most)))

    async def arequest[Reply](
        self, event: Event, topic: BaseEventTopic, reply: type[Reply] | TypeAdapter[Reply], timeout: float
    ) -> Reply:
        """See `EventBusClient.arequest`."""
        asked = _Asked(event, topic, self._topics.admit(topic), reply, timeout, self._limits)
        try:
            if not await self._has_anybody(asked):
                raise asked.nobody()
            with self._around(topic):
                return asked.first(await self._ask_on_loop(asked, 1))
        finally:
            self.preparing.discard(asked)

    async def arequest_all[Reply](
        self,
        event: Event,
        topic: BaseEventTopic,
        reply: type[Reply] | TypeAdapter[Reply],
        timeout: float,
        at_most: int | None,
    ) -> Answers[Reply]:
        """See `EventBusClient.arequest_all`."""
        asked = _Asked(event, topic, self._topics.admit(topic), reply, timeout, self._limits)
        try:
            if not await self._has_anybody(asked):
                return Answers()
            with self._around(topic):
                return asked.all(await self._ask_on_loop(asked, at_most))
        finally:
            self.preparing.discard(asked)

    def close(self) -> None:
        """Let all who wait raise NotConnected at once."""
        self._link.close()

    @property
    def inbox(self) -> Inbox | None:
        """The inbox, if it is open."""
        return self._link.open_inbox

    def _ask(self, asked: _Asked[Any], waiting: Waiting) -> Waiting:
        inbox = self._link.inbox(asked.deadline)
        correlation_id = inbox.expect(waiting)
        try:
            self._emit(inbox, correlation_id, asked)
            waiting.wait(asked.deadline)
        finally:
            inbox.forget(correlation_id)
        return waiting

    async def _ask_on_loop(self, asked: _Asked[Any], enough: int | None) -> Waiting:
        import asyncio  # already loaded, because a loop is running

        inbox = self._link.open_inbox
        if inbox is None:
            inbox = await self._prepare(asked, self._link.inbox, asked.deadline)
        loop = asyncio.get_running_loop()
        waiting = Waiting(enough, loop)
        assert waiting.future is not None
        correlation_id = inbox.expect(waiting)
        try:
            await emit_without_blocking(self._options, self._emit, inbox, correlation_id, asked)
            self.preparing.discard(asked)
            # This costs half of what asyncio.timeout does.
            timer = clock().call_later(loop, asked.deadline.left(), waiting.wake)
            try:
                await waiting.future
            finally:
                timer.cancel()
        finally:
            inbox.forget(correlation_id)
        return waiting

    def _emit(self, inbox: Inbox, correlation_id: str, asked: _Asked[Any]) -> None:
        if self._emitter.is_wrapped:
            headers = {REPLY_TO: inbox.name, CORRELATION_ID: correlation_id}
            self._emitter.emit_with(headers, asked.event, asked.topic)
        else:
            self._emitter.send_one(asked.event, asked.topic, request_headers(inbox.topic, correlation_id))

    async def _prepare[**Given, Result](
        self, asked: _Asked[Any], do: Callable[Given, Result], *args: Given.args, **named: Given.kwargs
    ) -> Result:
        """Call a function in a thread, before the request is emitted."""
        import asyncio

        self.preparing.add(asked)
        return await asyncio.to_thread(do, *args, **named)

    async def _has_anybody(self, asked: _Asked[Any]) -> bool:
        self._link.ensure_open()
        return self._link.is_anybody_known(asked.frame) or await self._prepare(
            asked, self._link.has_anybody, asked.frame, asked.deadline
        )

    def _around(self, topic: BaseEventTopic) -> AbstractContextManager[object]:
        """Enter what middleware has around requests, the outermost first."""
        with ExitStack() as stack:
            for one in self._middleware:
                stack.enter_context(one.request(topic.value))
            return stack.pop_all()


class _Asked[Reply]:
    """One request."""

    __slots__ = ("_limits", "_reply", "_timeout", "deadline", "event", "frame", "topic")

    def __init__(
        self,
        event: Event,
        topic: BaseEventTopic,
        frame: bytes,
        reply: type[Reply] | TypeAdapter[Reply],
        timeout: float,
        limits: Limits,
    ) -> None:
        self.deadline = Deadline(timeout)
        self.frame = frame
        self.event = event
        self.topic = topic
        self._timeout = timeout
        self._reply = reply
        self._limits = limits

    def nobody(self) -> NobodyAnswers:
        """Return the error that says that nobody subscribes to the topic."""
        return NobodyAnswers(self.topic.value, self._type)

    def first(self, waiting: Waiting) -> Reply:
        """Return the value of the first answer, or raise why there is none."""
        if not waiting.answers:
            waiting.raise_failure()
            raise NoAnswer(self.topic.value, self._type, self._timeout)
        return self._reader().read(waiting.answers[0])

    def all(self, waiting: Waiting) -> Answers[Reply]:
        """Return the values of all answers, or raise why none can come."""
        waiting.raise_failure()
        reader = self._reader()
        values: list[Reply] = []
        failures: list[EventBusError] = []
        for answer in waiting.answers:
            try:
                values.append(reader.read(answer))
            except (RequestFailed, InvalidAnswer) as error:
                failures.append(error)
        return Answers(values, failures)

    @property
    def _type(self) -> str:
        event = self.event
        return str(event if isinstance(event, BaseEventType) else getattr(event, "type", type(event).__name__))

    def _reader(self) -> Reader[Reply]:
        return Reader(self._reply, self.topic.value, self._type, self._limits)
