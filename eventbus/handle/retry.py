"""Retry: call a handler that fails again."""

from collections.abc import Iterator
from dataclasses import dataclass

from eventbus._base.backoff import backoff, jittered
from eventbus._base.clock import clock
from eventbus._base.log import Log
from eventbus.exports import public
from eventbus.handle.middleware import Delivery, HandleNext, HandleNextAsync, Middleware

_log = Log()


@public
@dataclass(frozen=True, slots=True)
class Retry(Middleware):
    """Calls a handler that raises again, after a random pause that doubles each time; then raises the last exception.

    Each pause is between half of the interval and all of it. A handler that is not ``async`` blocks the consumer thread
    during the pauses, and with it all later events of the client.

    Attributes:
        attempts: the largest number of calls, including the first.
        interval: seconds before the second call.
        max_interval: up to which the interval doubles, in seconds; a longer `interval` stays as it is.
        on: which exceptions are retried; others are raised at once.

    Raises:
        ValueError: there is no attempt, an interval is negative, or `on` is no tuple.
    """

    attempts: int = 3
    interval: float = 0.1
    max_interval: float = 5.0
    on: tuple[type[Exception], ...] = (Exception,)

    def __post_init__(self) -> None:
        if not isinstance(self.attempts, int) or self.attempts < 1:
            raise ValueError(f"Retry(attempts={self.attempts}): there must be at least one")
        on: object = self.on
        if not isinstance(on, tuple | type):  # what a handler raises would end in a TypeError
            raise ValueError(f"Retry(on={on}): it is a tuple of classes of exceptions, such as (OSError,)")
        if not (self.interval >= 0 and self.max_interval >= 0):  # nor is NaN
            raise ValueError("Retry: interval and max_interval are seconds, which cannot be negative")

    def handle(self, delivery: Delivery, call_next: HandleNext) -> object:
        """Call a handler until it succeeds, at most `attempts` times."""
        for pause in self._pauses():
            try:
                return call_next(delivery)
            except self.on as error:
                _log_retry(delivery, error, pause)
            clock().sleep(pause)
        return call_next(delivery)

    async def handle_async(self, delivery: Delivery, call_next: HandleNextAsync) -> object:
        """Await an ``async`` handler until it succeeds, at most `attempts` times."""
        for pause in self._pauses():
            try:
                return await call_next(delivery)
            except self.on as error:
                _log_retry(delivery, error, pause)
            await clock().sleep_async(pause)
        return await call_next(delivery)

    def _pauses(self) -> Iterator[float]:
        """The seconds before each call except the first."""
        for failures in range(self.attempts - 1):
            yield jittered(backoff(failures, self.interval, max(self.interval, self.max_interval)))


def _log_retry(delivery: Delivery, error: Exception, pause: float) -> None:
    _log.debug(
        "handler %s failed on topic %s with %s, trying again in %.3f s",
        delivery.handler,
        delivery.topic,
        type(error).__name__,
        pause,
        handler=delivery.handler,
        topic=delivery.topic,
    )
