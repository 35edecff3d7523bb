"""Hooks: who wants to know what becomes of events, for metrics, audits and alarms.

Derive from `EventBusHook`, override what you want to hear of, and give it to the client (``hooks=[…]``), or let the
service's container provide it: any provider of such an object is found. What is not overridden costs nothing.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from eventbus._base.log_throttle import LogThrottle
from eventbus.events import BaseEvent, BaseEventType
from eventbus.observe.state import StateChange
from eventbus.observe.stats import DropReason
from eventbus.wire.codec import RejectReason

logger = logging.getLogger("eventbus")


class EventBusHook:
    """Is told what a client does with events. This one does nothing: override what you want to know.

    Every method is called on the thread where it happens, which waits for it, and may hold locks of the client: be quick, do
    not wait, and do not call the client. What a method raises is logged, once a minute, and hurts nobody.
    """

    # BaseEvent[Any]: it is invariant in its type enum, which each service brings.
    def emitted(self, topic: str, events: Sequence[BaseEvent[Any] | BaseEventType], size: int) -> None:
        """The transport has taken what one call of `emit_event` or `emit_events` was given.

        Args:
            topic: where it went.
            events: what was emitted; bare types as they were given.
            size: bytes of JSON of all of them, before any compression.
        """

    def received(self, topic: str, events: Sequence[BaseEvent[Any]], size: int) -> None:
        """A message has arrived and was decoded; its handlers are called after this.

        Args:
            topic: where it came from.
            events: what was in it.
            size: bytes of its payload, as it came.
        """

    def handled(self, topic: str, event: BaseEvent[Any], handler: str, duration: float) -> None:
        """A handler has returned, with all middleware around it; an ``async`` one has finished.

        The duration of an ``async`` one does not include that it had to wait for others, if they are too many.

        Args:
            topic: where the event came from.
            event: what came; middleware may have handed on another one.
            handler: its qualified name with its module.
            duration: seconds that it took.
        """

    def handler_failed(self, topic: str, event: BaseEvent[Any], handler: str, duration: float, error: BaseException) -> None:
        """A handler has raised, through all middleware around it, or was cancelled. The arguments are those of `handled`."""

    def rejected(self, reason: RejectReason, count: int) -> None:
        """So many messages, or elements of packed messages, were no event of this client."""

    def dropped(self, reason: DropReason, count: int) -> None:
        """So many events did not get to where they were going. Of those that nobody ever reads (UNREAD) nothing is told."""

    def lost(self, topic: str, count: int) -> None:
        """So many events of a numbering publisher have never arrived."""

    def state_changed(self, change: StateChange) -> None:
        """The client's state has changed. This one is called in a thread of its own, and may call the client."""


class Hooks:
    """The hooks of one client, and telling them. Any thread may use it.

    Its attributes of the names of `EventBusHook`'s methods tell all hooks that override it; they are false where none does,
    so that whoever has to work for an argument need not.
    """

    def __init__(self, hooks: Iterable[EventBusHook] = ()) -> None:
        self._throttle = LogThrottle()
        self.all: tuple[EventBusHook, ...] = ()
        self._set(tuple(hooks))

    def add(self, hook: EventBusHook) -> None:
        """Tell this one, too, from now on."""
        self._set((*self.all, hook))

    def forget_parent(self) -> None:
        """In a forked child: a thread of the parent may have held the lock."""
        self._throttle = LogThrottle()
        self._set(self.all)

    def _set(self, hooks: tuple[EventBusHook, ...]) -> None:
        self.all = hooks
        self.emitted = self._teller("emitted")
        self.received = self._teller("received")
        self.handled = self._teller("handled")
        self.handler_failed = self._teller("handler_failed")
        self.rejected = self._teller("rejected")
        self.dropped = self._teller("dropped")
        self.lost = self._teller("lost")
        self.state_changed = self._teller("state_changed")

    def _teller(self, name: str) -> "_Teller":
        default = getattr(EventBusHook, name)
        overriding = [hook for hook in self.all if getattr(type(hook), name, None) is not default]
        methods = [(f"{type(hook).__qualname__}.{name}", getattr(hook, name)) for hook in overriding]
        return _Teller(methods, self._throttle)


class _Teller:
    """Calls one method of all hooks that override it."""

    def __init__(self, methods: Iterable[tuple[str, Callable[..., None]]], throttle: LogThrottle) -> None:
        self._methods = tuple(methods)
        self._throttle = throttle

    def __bool__(self) -> bool:
        return bool(self._methods)

    def __call__(self, *facts: object) -> None:
        for name, method in self._methods:
            try:
                method(*facts)
            except KeyboardInterrupt:
                raise  # it is for the program
            except BaseException:  # SystemExit too: it must not end the consumer
                held_back = self._throttle.admit(name)
                if held_back is not None:
                    logger.exception(
                        "hook %s failed; %d more failures since the last such line",
                        name,
                        held_back,
                        extra={"eventbus_hook": name},
                    )
