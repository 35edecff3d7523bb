"""Middleware for handlers that fail or hang: try again, put the event aside, stop waiting.

The first of a client's middleware is the outermost: ``[DeadLetter(…), Retry(), TimeLimit(5)]`` puts aside what has failed in
every attempt, each of which may take five seconds.
"""

import logging
import random
from collections.abc import Iterator
from dataclasses import dataclass
from time import sleep

from eventbus._base.printable import printable
from eventbus.errors import HandlerTimeout, InvalidHeaders, InvalidTopic
from eventbus.events import BaseEventTopic
from eventbus.handle.middleware import Delivery, Emission, HandleNext, HandleNextAsync, Middleware
from eventbus.wire.frames import MAX_TOPIC_BYTES

logger = logging.getLogger("eventbus")

_REASON, _TOPIC, _HANDLER = "dead-letter-reason", "dead-letter-topic", "dead-letter-handler"
_SHOWN = 500  # characters of a reason


@dataclass(frozen=True, slots=True)
class Retry(Middleware):
    """Calls a handler that raises again, after a random pause that doubles each time; then raises what the last call raised.

    The pause is between half and all of the interval. A handler that is not ``async`` keeps the consumer's thread meanwhile,
    and with it all later events of the client.

    Attributes:
        attempts: how many calls there are at most, the first one included.
        interval: seconds before the second one.
        max_interval: the longest interval, in seconds.
        on: which exceptions are worth another attempt; others are raised at once.

    Raises:
        ValueError: there is no attempt, or an interval is negative.
    """

    attempts: int = 3
    interval: float = 0.1
    max_interval: float = 5.0
    on: tuple[type[Exception], ...] = (Exception,)

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"Retry(attempts={self.attempts}): there must be at least one")
        if self.interval < 0 or self.max_interval < 0:
            raise ValueError("Retry: interval and max_interval are seconds, which cannot be negative")

    def handle(self, delivery: Delivery, call_next: HandleNext) -> object:
        """Call a handler up to so many times."""
        for pause in self._pauses():
            try:
                return call_next(delivery)
            except self.on as error:
                _say_retry(delivery, error, pause)
            sleep(pause)
        return call_next(delivery)

    async def handle_async(self, delivery: Delivery, call_next: HandleNextAsync) -> object:
        """Await an ``async`` handler up to so many times."""
        import asyncio  # where a loop runs it is there already

        for pause in self._pauses():
            try:
                return await call_next(delivery)
            except self.on as error:
                _say_retry(delivery, error, pause)
            await asyncio.sleep(pause)
        return await call_next(delivery)

    def _pauses(self) -> Iterator[float]:
        """Seconds before each call but the first."""
        interval = min(self.interval, self.max_interval)
        for _ in range(self.attempts - 1):
            yield random.uniform(0.5, 1.0) * interval
            interval = min(2 * interval, self.max_interval)


@dataclass(frozen=True, slots=True)
class DeadLetter(Middleware):
    """Emits an event whose handler has raised to another topic, beside the reason; then raises the same again.

    The event travels as it was read here, with the headers that it came with and three more: ``dead-letter-reason`` (the
    exception's class and text), ``dead-letter-topic`` (where the event came from) and ``dead-letter-handler``; with these
    three only where there is no room for all. A handler of dead letters reads them with `current_headers`, and
    ``eventbus tail`` shows them. An event that has these headers, or has come from that topic, is not emitted again, so that
    no event can go round for ever, whoever puts letters aside.

    Attributes:
        topic: where they go, a member of the client's topic enum.

    Raises:
        InvalidTopic: it is no topic.
    """

    topic: BaseEventTopic

    @property
    def emits_to(self) -> tuple[BaseEventTopic]:  # type: ignore[override] # read only, as all of a frozen one
        """That topic."""
        return (self.topic,)

    def __post_init__(self) -> None:
        if not isinstance(self.topic, BaseEventTopic):
            raise InvalidTopic(f"DeadLetter({self.topic!r}): use a member of an enum derived from eventbus.BaseEventTopic")

    def handle(self, delivery: Delivery, call_next: HandleNext) -> object:
        """Call a handler, and emit the event if that raises."""
        try:
            return call_next(delivery)
        except Exception as error:
            self._put_aside(delivery, error)
            raise

    async def handle_async(self, delivery: Delivery, call_next: HandleNextAsync) -> object:
        """Await an ``async`` handler, and emit the event if that raises."""
        import asyncio

        try:
            return await call_next(delivery)
        except Exception as error:
            # In a thread: emitting may wait for room in the send buffer.
            await asyncio.to_thread(self._put_aside, delivery, error)
            raise

    def _put_aside(self, delivery: Delivery, error: Exception) -> None:
        if delivery.topic == self.topic.value or _TOPIC in delivery.headers:
            return
        headers = {
            _REASON: _reason(error),
            _TOPIC: printable(delivery.topic, MAX_TOPIC_BYTES),
            _HANDLER: printable(delivery.handler, _SHOWN),
        }
        try:
            try:
                delivery.emit(Emission((delivery.event,), self.topic, {**delivery.headers, **headers}))
            except InvalidHeaders:
                delivery.emit(Emission((delivery.event,), self.topic, headers))
        except Exception as failure:
            error.add_note(f"and it could not be put aside to {self.topic.value}: {failure}")


@dataclass(frozen=True, slots=True)
class TimeLimit(Middleware):
    """Cancels an ``async`` handler that takes too long. Nobody can cancel another handler: those are left alone.

    Attributes:
        seconds: how long it may take.

    Raises:
        ValueError: it may take no time.
    """

    seconds: float

    def __post_init__(self) -> None:
        if self.seconds <= 0:
            raise ValueError(f"TimeLimit({self.seconds}): a handler needs more than no time")

    def handle(self, delivery: Delivery, call_next: HandleNext) -> object:
        """Leave a handler alone that is not ``async``."""
        return call_next(delivery)

    async def handle_async(self, delivery: Delivery, call_next: HandleNextAsync) -> object:
        """Await an ``async`` handler for so long.

        Raises:
            HandlerTimeout: it took longer.
        """
        import asyncio

        try:
            async with asyncio.timeout(self.seconds) as limit:
                return await call_next(delivery)
        except TimeoutError:
            if limit.expired():
                raise HandlerTimeout(delivery.handler, self.seconds) from None
            raise  # the handler's own


def _reason(error: Exception) -> str:
    name = type(error).__name__
    try:
        return printable(f"{name}: {error}", _SHOWN)
    except Exception:  # a service's own __str__ may raise anything
        return name


def _say_retry(delivery: Delivery, error: Exception, pause: float) -> None:
    logger.debug(
        "handler %s failed on topic %s with %s, trying again in %.3f s",
        delivery.handler,
        delivery.topic,
        type(error).__name__,
        pause,
        extra={"eventbus_handler": delivery.handler, "eventbus_topic": delivery.topic},
    )
