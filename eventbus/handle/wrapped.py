"""Calling a handler through its middleware, and telling hooks the outcome."""

from collections.abc import Callable, Iterable
from inspect import iscoroutine
from time import perf_counter
from typing import Any

from eventbus.errors import InvalidHandler
from eventbus.events import BaseEvent
from eventbus.handle.current import current_encoded_headers, current_headers
from eventbus.handle.marks import callback_name, is_async
from eventbus.handle.middleware import (
    Choosing,
    Delivery,
    Emission,
    HandleNext,
    HandleNextAsync,
    Middleware,
    around,
    overrides,
    speaks_for,
)
from eventbus.observe.hooks import Hooks


class WrappedHandler:
    """A callback of one topic together with its middleware and hooks. Its method `call` is the callback to call instead.

    Args:
        callback: the handler.
        topic: the topic of its events.
        middleware: called around the handler, the outermost first.
        hooks: told the outcome. For an ``async`` handler, the code that runs the coroutine does that by `tell`.
        emit: what deliveries emit through.

    Attributes:
        name: the handler's qualified name with its module.
        is_async: whether calling it returns a coroutine.
        answers: whether somebody may get what it returns.
    """

    answers = False

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
        self._add_duration = hooks.handling(topic, self.name)
        self._emit = emit
        self._callback = callback
        self.is_async = is_async(callback)
        middleware = tuple(middleware)
        if middleware:
            self._handle = self._chain_async(middleware) if self.is_async else self._chain(middleware)
            self._run: Callable[[BaseEvent[Any]], object] = self._deliver
            match middleware:
                case [Choosing() as only] if speaks_for(only, "chooses_delivery", "handle", "handle_async"):
                    self._chooses = only.chooses_delivery
                    self._run = self._deliver_if_chosen
        else:
            self._run = callback

    def call(self, event: BaseEvent[Any]) -> object:
        """Call the handler. Returns a coroutine that has to be awaited if the handler is ``async``, else what it returns."""
        started = perf_counter()
        try:
            result = self._run(event)
        except BaseException as error:
            self.tell(event, perf_counter() - started, error)
            raise
        if result is not None and iscoroutine(result):
            return result
        duration = perf_counter() - started
        if self._add_duration is not None:
            self._add_duration(duration)
        if self._hooks.each_handled is not None:
            self._hooks.each_handled(self._topic, event, self.name, duration)
        return result

    def tell(self, event: BaseEvent[Any], duration: float, error: BaseException | None) -> None:
        """Tell hooks the outcome of a call that took `duration` seconds."""
        if error is None:
            self._hooks.handled(self._topic, event, self.name, duration)
        else:
            self._hooks.handler_failed(self._topic, event, self.name, duration, error)

    def fail(self, event: BaseEvent[Any], error: BaseException) -> None:
        """Take this for the error of a handler that could not be called, because one of its options has raised it."""
        self.tell(event, 0.0, error)

    def _deliver(self, event: BaseEvent[Any]) -> object:
        return self._handle(Delivery(event, self._topic, current_headers(), self.name, self._emit))

    def _deliver_if_chosen(self, event: BaseEvent[Any]) -> object:
        if self._chooses(current_encoded_headers()):
            return self._deliver(event)
        result = self._callback(event)
        if not self.is_async and iscoroutine(result):
            result.close()
            raise undeclared_coroutine(self.name)
        return result

    def _chain(self, middleware: tuple[Middleware, ...]) -> HandleNext:
        callback, name = self._callback, self.name

        def handle(delivery: Delivery) -> object:
            result = callback(delivery.event)
            if iscoroutine(result):
                result.close()
                raise undeclared_coroutine(name)
            return result

        chain: HandleNext = handle
        for one in reversed(middleware):
            chain = around(one.handle, chain)
        return chain

    def _chain_async(self, middleware: tuple[Middleware, ...]) -> HandleNextAsync:
        callback = self._callback

        async def handle(delivery: Delivery) -> object:
            return await callback(delivery.event)

        chain: HandleNextAsync = handle
        for one in reversed(middleware):
            chain = around(one.handle_async, chain)
        return chain


def undeclared_coroutine(name: str) -> InvalidHandler:
    """Return the error of a handler that has returned a coroutine without being ``async``."""
    return InvalidHandler(
        f"{name} has returned a coroutine, and is not declared `async`: declare it so, "
        "or mark the function that wraps it with inspect.markcoroutinefunction()"
    )


def wrapper_of(callback: Callable[..., object]) -> WrappedHandler | None:
    """Return the wrapped handler that this is the `call` of, if it is one; also if its options are in between."""
    owner = getattr(callback, "__self__", None)
    owner = getattr(owner, "handler", owner)
    return owner if isinstance(owner, WrappedHandler) else None


def check_middleware(middleware: Iterable[Middleware], callback: Callable[..., object]) -> None:
    """Raise `InvalidHandler` if a middleware would not see the calls of this callback, although it sees those of others."""
    needed, other = ("handle_async", "handle") if is_async(callback) else ("handle", "handle_async")
    for one in middleware:
        if overrides(one, other) and not overrides(one, needed):
            raise InvalidHandler(
                f"{callback_name(callback)} is {'' if needed == 'handle_async' else 'not '}async, and the middleware "
                f"{type(one).__qualname__} has only `{other}`: add `{needed}`, even if it only calls `call_next`"
            )
