"""Hooks: a client calls them with each thing that happens to events, for metrics, audits and alarms.

Derive from `EventBusHook`, override the methods that you need, and give an instance to the client (``hooks=[…]``), or let
the service's container provide it: a provider of any name is found. Methods that are not overridden cost nothing.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from eventbus._base.log import Log
from eventbus._base.log_throttle import LogThrottle
from eventbus.events import BaseEvent, BaseEventType
from eventbus.observe.state import StateChange
from eventbus.observe.stats import DropReason
from eventbus.wire.codec import RejectReason

log = Log()


class EventBusHook:
    """Base class of hooks. Its methods do nothing: override those that you need.

    The client calls each method on the thread where the thing happens. That thread waits for the method and may hold locks
    of the client: return quickly, do not block, and do not call the client. Exceptions of a method are logged once a minute
    and have no other effect.
    """

    # BaseEvent[Any]: it is invariant in its type enum, which each service brings.
    def emitted(self, topic: str, events: Sequence[BaseEvent[Any] | BaseEventType], size: int) -> None:
        """The transport has accepted the events of one call of `emit_event` or `emit_events`.

        Args:
            topic: the topic's value.
            events: the events; bare types as the caller gave them.
            size: bytes of JSON of all events together, before any compression.
        """

    def received(self, topic: str, events: Sequence[BaseEvent[Any]], size: int) -> None:
        """A message has arrived and was decoded; its handlers are called next.

        Args:
            topic: the topic's value.
            events: the events of the message.
            size: bytes of the payload as it arrived, possibly compressed.
        """

    def handled(self, topic: str, event: BaseEvent[Any], handler: str, duration: float) -> None:
        """A handler has returned, including all middleware around it; an ``async`` handler has finished.

        Args:
            topic: the topic's value.
            event: the event as it arrived; middleware may have given another one to the handler.
            handler: the handler's qualified name with its module.
            duration: seconds of the call, for an ``async`` handler without the time that it waits for its turn.
        """

    def handler_failed(self, topic: str, event: BaseEvent[Any], handler: str, duration: float, error: BaseException) -> None:
        """A handler has raised through all middleware around it, or was cancelled. The arguments are those of `handled`."""

    def rejected(self, reason: RejectReason, count: int) -> None:
        """The client has rejected `count` messages, or elements of packed messages, that were no event of its class."""

    def dropped(self, reason: DropReason, count: int) -> None:
        """The client has dropped `count` events. It is not called for events that nobody ever reads (UNREAD)."""

    def lost(self, topic: str, count: int) -> None:
        """`count` events of a numbering publisher have not arrived."""

    def state_changed(self, change: StateChange) -> None:
        """The client's state has changed. Called in a thread of its own, so this method may call the client."""


class Hooks:
    """The hooks of one client. Any thread may use it.

    It has an attribute for each method of `EventBusHook`, which calls that method of all hooks that override it. The
    attribute is false if no hook does, so that callers can skip the work of making arguments.
    """

    def __init__(self, hooks: Iterable[EventBusHook] = ()) -> None:
        self._throttle = LogThrottle()
        self.all: tuple[EventBusHook, ...] = ()
        self._set(tuple(hooks))

    def add(self, hook: EventBusHook) -> None:
        """Call this hook too from now on."""
        self._set((*self.all, hook))

    def _set(self, hooks: tuple[EventBusHook, ...]) -> None:
        self.all = hooks
        self.emitted = self._methods("emitted")
        self.received = self._methods("received")
        self.handled = self._methods("handled")
        self.handler_failed = self._methods("handler_failed")
        self.rejected = self._methods("rejected")
        self.dropped = self._methods("dropped")
        self.lost = self._methods("lost")
        self.state_changed = self._methods("state_changed")

    def _methods(self, name: str) -> "_HookMethods":
        default = getattr(EventBusHook, name)
        overriding = [hook for hook in self.all if getattr(type(hook), name, None) is not default]
        methods = [(f"{type(hook).__qualname__}.{name}", getattr(hook, name)) for hook in overriding]
        return _HookMethods(methods, self._throttle)


class _HookMethods:
    """Calls the methods of one name; an exception of one does not keep the others from being called."""

    def __init__(self, methods: Iterable[tuple[str, Callable[..., None]]], throttle: LogThrottle) -> None:
        self._methods = tuple(methods)
        self._throttle = throttle

    def __bool__(self) -> bool:
        return bool(self._methods)

    def __call__(self, *arguments: object) -> None:
        for name, method in self._methods:
            try:
                method(*arguments)
            except KeyboardInterrupt:
                raise  # it is for the program
            except BaseException:  # SystemExit too: it must not end the consumer
                held_back = self._throttle.admit(name)
                if held_back is not None:
                    log.exception("hook %s failed; %d more failures since the last such line", name, held_back, hook=name)
