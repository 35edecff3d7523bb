"""A handler with options: not called for every event, or not at once."""

from collections.abc import Callable, Hashable
from contextvars import Context, copy_context
from typing import Any, NamedTuple

from eventbus.events import BaseEvent
from eventbus.handle.concurrent import ConcurrentCalls
from eventbus.handle.current import keeping_topic
from eventbus.handle.wrapped import WrappedHandler


class _NotWanted:
    """What a guarded handler returns for an event that it is not called for."""


NOT_WANTED = _NotWanted()


class Later(NamedTuple):
    """What a guarded handler returns for an event that it will be called for.

    Attributes:
        calls: where the call is to be submitted.
        key: calls with the same one run in order.
        context: has the topic and the headers of the event.
    """

    calls: ConcurrentCalls
    key: Hashable
    context: Context


class GuardedHandler:
    """A wrapped handler with its options. Its method `call` is the callback to call instead.

    Args:
        handler: what is to be called.
        where: only for events for which this is true; None: for all.
        calls: runs several at once; None: it is called at once.
        key: see `HandlerOptions`.
    """

    def __init__(
        self,
        handler: WrappedHandler,
        where: Callable[[Any], object] | None,
        calls: ConcurrentCalls | None,
        key: Callable[[Any], object] | None,
    ) -> None:
        self.handler = handler
        self._where = where
        self._calls = calls
        self._key = key

    def call(self, event: BaseEvent[Any]) -> object:
        """Call the handler, or return why not: `NOT_WANTED`, or a `Later`."""
        key: object = None
        try:
            if self._where is not None and not self._where(event):
                return NOT_WANTED
            if self._calls is not None and self._key is not None:
                key = self._key(event)
                hash(key)
        except BaseException as error:
            self.handler.fail(event, error)
            raise
        if self._calls is None:
            return self.handler.call(event)
        with keeping_topic():
            return Later(self._calls, key, copy_context())
