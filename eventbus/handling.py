"""Calling a handler through middleware, and telling hooks how that went."""

import inspect
from collections.abc import Callable, Iterable
from functools import partial
from time import perf_counter
from typing import Any

from eventbus.errors import InvalidHandler
from eventbus.events import BaseEvent
from eventbus.handlers import callback_name, is_async
from eventbus.headers import current_headers
from eventbus.hooks import Hooks
from eventbus.middleware import Delivery, Emission, HandleNext, HandleNextAsync, Middleware


class Handling:
    """A callback of one topic with all that is around it; itself a callback.

    Args:
        callback: the handler.
        topic: the topic that its events come from.
        middleware: what is called around it, the outermost first.
        hooks: what is told how it went. Of an ``async`` handler that is left to whoever runs the coroutine, see `telling`.
        emit: what deliveries emit through.
    """

    def __init__(
        self,
        callback: Callable[..., Any],
        topic: str,
        middleware: Iterable[Middleware],
        hooks: Hooks,
        emit: Callable[[Emission], None],
    ) -> None:
        self.name = callback_name(callback)
        self._topic = topic
        self._hooks = hooks
        self._emit = emit
        middleware = tuple(middleware)
        self._alone = None if middleware else callback  # what is called when nothing is around it
        handle: HandleNext = lambda delivery: callback(delivery.event)  # noqa: E731 # the innermost of a chain
        if is_async(callback):
            handle_async: HandleNextAsync = handle  # type: ignore[assignment] # what it returns is awaitable
            for one in reversed(middleware):
                handle_async = _around(one.handle_async, handle_async)
            handle = handle_async
        else:
            for one in reversed(middleware):
                handle = _around(one.handle, handle)
        self._handle = handle

    def __call__(self, event: BaseEvent[Any]) -> object:
        """Call the handler; a coroutine, if it is ``async``, is still to be awaited."""
        started = perf_counter()
        try:
            if self._alone is not None:
                result = self._alone(event)
            else:
                result = self._handle(Delivery(event, self._topic, current_headers(), self.name, self._emit))
        except BaseException as error:
            self._tell(event, started, error)
            raise
        if inspect.iscoroutine(result):
            return result
        self._tell(event, started, None)
        return None

    def telling(self, event: BaseEvent[Any]) -> Callable[[BaseException | None], None]:
        """What is to be called with the handler's error, or None, when it has ended that begins now."""
        return partial(self._tell, event, perf_counter())

    def _tell(self, event: BaseEvent[Any], started: float, error: BaseException | None) -> None:
        duration = perf_counter() - started
        if error is None:
            self._hooks.handled(self._topic, event, self.name, duration)
        else:
            self._hooks.handler_failed(self._topic, event, self.name, duration, error)


def check_middleware(middleware: Iterable[Middleware], callback: Callable[..., object]) -> None:
    """Raise `InvalidHandler` if one of the middleware would not see the calls of this callback, although it sees others."""
    needed, other = ("handle_async", "handle") if is_async(callback) else ("handle", "handle_async")
    for one in middleware:
        if _overrides(one, other) and not _overrides(one, needed):
            raise InvalidHandler(
                f"{callback_name(callback)} is {'' if needed == 'handle_async' else 'not '}async, and the middleware "
                f"{type(one).__qualname__} has only `{other}`: give it `{needed}`, too, if only to pass everything on"
            )


def _around[Next: Callable[..., Any]](method: Callable[[Delivery, Next], Any], call_next: Next) -> Callable[[Delivery], Any]:
    return lambda delivery: method(delivery, call_next)


def _overrides(middleware: Middleware, name: str) -> bool:
    return getattr(type(middleware), name) is not getattr(Middleware, name)
