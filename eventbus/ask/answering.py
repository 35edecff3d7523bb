"""Answering: sends what a handler returns, or that it has failed, to the asker."""

from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from inspect import iscoroutine
from time import monotonic
from typing import Any

from eventbus._base.log import Log
from eventbus.ask.replies import encode_answer, failure_headers
from eventbus.errors import EventBusError, InvalidEvent
from eventbus.events import BaseEvent
from eventbus.handle.current import current_encoded_headers
from eventbus.handle.marks import is_async
from eventbus.handle.middleware import Delivery, Emission, HandleNext, HandleNextAsync, Middleware
from eventbus.handle.wrapped import WrappedHandler, undeclared_coroutine
from eventbus.observe.hooks import Hooks
from eventbus.observe.stats import DropReason
from eventbus.transports.contract import KnowsSubscribers, Transport
from eventbus.wire.first_frame import with_headers
from eventbus.wire.headers import decode_headers, encode_headers
from eventbus.wire.requests import CORRELATION_ID, MORE, Request, answer_headers

_NULL = b" null"  # the payload of an answer that is an error
_CHECK_S = 1.0  # at most, to make sure that the asker has gone
_MAX_GONE = 1_000  # that are remembered
_GONE_S = 0.1  # for which that is believed: it may have lost its connection only


class Answerer:
    """Sends answers over a transport. Any thread may use it.

    Args:
        transport: an open one.
        shrink: checks the size of a payload, and compresses it if that makes it smaller.
    """

    def __init__(
        self, transport: Transport, shrink: Callable[[bytes, bytes], bytes] = lambda topic, payload: payload
    ) -> None:
        self._transport = transport
        self._subscribers = transport if isinstance(transport, KnowsSubscribers) else None
        self._shrink = shrink
        self._gone: dict[bytes, float] = {}  # reply topics of askers that have gone, and until when that is believed

    def answer(
        self, request: Request, payload: bytes, headers: Mapping[str, str] | None = None, *, more: bool = False
    ) -> bool:
        """Send an answer, or one message of several; return False if it was dropped and counted.

        Args:
            request: what is answered; ``Request.of(headers)`` finds it in the headers of a message.
            payload: begins with ``{``, or with a space and any JSON; see `encode_answer`.
            headers: more headers.
            more: whether more messages of this answer follow.

        Raises:
            EventTooLarge: the payload is larger than allowed; nothing was sent.
            NotConnected, SendBufferFull: as `Transport.send`.
        """
        if self._has_gone(request.reply_to):
            self._transport.drops.add(DropReason.UNWANTED_ANSWER)
            return False
        encoded = None if headers or more else answer_headers(request.correlation_id)
        if encoded is None:
            all_headers = {CORRELATION_ID: request.correlation_id, **(headers or {})}
            if more:
                all_headers[MORE] = "true"
            encoded = encode_headers(all_headers)
        payload = self._shrink(request.reply_to, payload)
        return self._transport.send(with_headers(request.reply_to, encoded), payload)

    def knows(self, reply_to: bytes) -> bool:
        """Whether it is known at once whether the asker listens. Does not block; `answer` may, if it is not."""
        subscribers = self._subscribers
        return subscribers is None or self._is_known_gone(reply_to) or subscribers.has_subscriber(reply_to) is not False

    def _has_gone(self, reply_to: bytes) -> bool:
        """Whether the asker surely does not listen any more."""
        if self._subscribers is None or self._subscribers.has_subscriber(reply_to) is not False:
            return False
        if not self._is_known_gone(reply_to):
            # The proxy has passed the asker's subscription on before it got the request. But that came over another
            # connection: our socket may not have been told yet, and would drop the answer.
            if self._subscribers.has_subscriber(reply_to, _CHECK_S) is not False:
                return False
            if len(self._gone) >= _MAX_GONE:
                self._gone.clear()
            # It may have asked for thousands of answers, and making sure takes a round trip.
            self._gone[reply_to] = monotonic() + _GONE_S
        return True

    def _is_known_gone(self, reply_to: bytes) -> bool:
        return monotonic() < self._gone.get(reply_to, 0.0)

    def fail(self, request: Request, error: BaseException) -> None:
        """Answer that the handler has failed. Raises as `answer`."""
        self.answer(request, _NULL, failure_headers(error))


class _Outcome:
    """What the handler of a request has returned or raised, whatever middleware makes of it."""

    __slots__ = ("error", "returned", "value")

    def __init__(self) -> None:
        self.returned = False
        self.value: object = None
        self.error: BaseException | None = None


_outcome: ContextVar[_Outcome | None] = ContextVar("eventbus_outcome", default=None)


class _Recorder(Middleware):
    """The innermost middleware around a handler that answers: it keeps the outcome of the last attempt."""

    def handle(self, delivery: Delivery, call_next: HandleNext) -> object:
        """Keep the outcome."""
        outcome = _outcome.get()
        if outcome is None:  # no request
            return call_next(delivery)
        try:
            outcome.value = call_next(delivery)
        except BaseException as error:
            outcome.error = error
            raise
        outcome.returned = True
        return outcome.value

    async def handle_async(self, delivery: Delivery, call_next: HandleNextAsync) -> object:
        """Keep the outcome."""
        outcome = _outcome.get()
        if outcome is None:
            return await call_next(delivery)
        try:
            outcome.value = await call_next(delivery)
        except BaseException as error:
            outcome.error = error
            raise
        outcome.returned = True
        return outcome.value


_RECORDER = _Recorder()


class AnsweringHandler(WrappedHandler):
    """A handler of one topic that answers, with its middleware and hooks. Its method `call` is the callback to call instead.

    The answer is sent when all middleware has returned: a `Retry` may let the handler succeed, a `TimeLimit` may end it. If
    a middleware keeps the handler from being called, nothing is sent.

    Args:
        answerer: sends the answers.
    """

    answers = True

    def __init__(
        self,
        callback: Callable[..., Any],
        topic: str,
        middleware: Iterable[Middleware],
        hooks: Hooks,
        emit: Callable[[Emission], None],
        answerer: Answerer,
    ) -> None:
        middleware = tuple(middleware)
        super().__init__(callback, topic, (*middleware, _RECORDER) if middleware or is_async(callback) else (), hooks, emit)
        self._keeps_outcome = bool(middleware)
        self._answerer = answerer
        self._log = Log()
        # Answering is a part of what is called, so that hooks are told of an answer that cannot be sent.
        self._handle_only, self._run = self._run, self._answer_with_it

    def _answer_with_it(self, event: BaseEvent[Any]) -> object:
        """Call the handler, and answer. Returns a coroutine, which has to be awaited, if the handler is ``async``."""
        request = _request_at_hand()
        if request is None:
            return self._handle_only(event)
        if self.is_async:
            return self._call_async(event, request)
        if self._keeps_outcome:
            self._call_through(event, request)
        else:
            self._call_alone(event, request)
        return None

    def fail(self, event: BaseEvent[Any], error: BaseException) -> None:
        """See `WrappedHandler.fail`: the asker is told, too."""
        super().fail(event, error)
        if (request := _request_at_hand()) is not None:
            self._fail(request, error)

    def _call_alone(self, event: BaseEvent[Any], request: Request) -> None:
        try:
            value = self._handle_only(event)
            if iscoroutine(value):
                value.close()
                raise undeclared_coroutine(self.name)
        except BaseException as error:
            self._fail(request, error)
            raise
        self._answer(request, value)

    def _call_through(self, event: BaseEvent[Any], request: Request) -> None:
        outcome = _Outcome()
        token = _outcome.set(outcome)
        try:
            self._handle_only(event)
        except BaseException as error:
            self._fail(request, error)
            raise
        finally:
            _outcome.reset(token)
        self._finish(request, outcome)

    async def _call_async(self, event: BaseEvent[Any], request: Request) -> None:
        outcome = _Outcome()
        token = _outcome.set(outcome)
        try:
            await self._handle_only(event)  # type: ignore[misc] # a coroutine, because the handler is async
        except BaseException as error:
            self._fail(request, error)
            raise
        finally:
            _outcome.reset(token)
        if self._answerer.knows(request.reply_to):
            self._finish(request, outcome)
        else:  # to make sure of the asker may take a while, and must not block the loop
            import asyncio  # already loaded, because a loop is running

            await asyncio.to_thread(self._finish, request, outcome)

    def _finish(self, request: Request, outcome: _Outcome) -> None:
        """Send the outcome, now that all middleware has returned."""
        if outcome.returned:
            self._answer(request, outcome.value)
        elif outcome.error is not None:  # a middleware has taken care of it
            self._fail(request, outcome.error)

    def _answer(self, request: Request, value: object) -> None:
        try:
            self._answerer.answer(request, self._encode(value))
        except EventBusError as error:  # too large, for example
            self._fail(request, error)
            raise

    def _encode(self, value: object) -> bytes:
        try:
            return encode_answer(value)
        except Exception as error:
            raise InvalidEvent(f"{self.name} has returned what cannot be written as JSON: {error}") from error

    def _fail(self, request: Request, error: BaseException) -> None:
        """Tell the asker, if possible. The error itself is logged as that of every handler."""
        try:
            self._answerer.fail(request, error)
        except EventBusError as refusal:
            self._log.warning(
                "%s could not tell its asker that it has failed: %s",
                self.name,
                refusal,
                handler=self.name,
                error=type(refusal).__name__,
            )


def _request_at_hand() -> Request | None:
    """The request that the event at hand is; None: it is none."""
    encoded = current_encoded_headers()
    return Request.alone_in(encoded) or Request.of(decode_headers(encoded))
