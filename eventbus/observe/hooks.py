"""Hooks: a client calls them with each thing that happens to events, for metrics, audits and alarms.

Derive from `EventBusHook`, override the methods that you need, and give an instance to the client (``hooks=[…]``), or let
the service's container provide it: a provider of any name is found. Methods that are not overridden cost nothing.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeGuard

from eventbus._base.log import Log
from eventbus._base.log_throttle import LogThrottle, more
from eventbus.events import BaseEvent, BaseEventType
from eventbus.exports import public
from eventbus.observe.state import StateChange
from eventbus.observe.stats import DropReason
from eventbus.wire.rejects import RejectReason

log = Log()

# Calls a method of one hook or of several. The arguments are those of the method.
type HookCall = Callable[..., None]
type HookCalls = HookCall | _Nothing


@public
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

    def periodic_failed(self, name: str, duration: float, error: BaseException) -> None:
        """A method that is marked with `@every` has raised, after `duration` seconds. It is called again in its time."""

    def rejected(self, reason: RejectReason, count: int) -> None:
        """The client has rejected `count` messages, or elements of packed messages, that were no event of its class."""

    def dropped(self, reason: DropReason, count: int) -> None:
        """The client has dropped `count` events. It is not called for events that are never read (UNREAD)."""

    def lost(self, topic: str, count: int) -> None:
        """`count` events of a numbering publisher have not arrived."""

    def repaired(self, topic: str, count: int) -> None:
        """`count` events of a numbering publisher have not arrived, and a historian had them: they are handled in order."""

    def state_changed(self, change: StateChange) -> None:
        """The client's state has changed. Called in a thread of its own, so this method may call the client."""


type AddVolume = Callable[[int, int], None]
"""Counts events: takes their bytes altogether, and how many they are."""

type AddDuration = Callable[[float], None]
"""Takes seconds."""


class CountingHook(EventBusHook, ABC):
    """A hook that needs sums and durations, but no events.

    The client asks it once for what counts, and calls that without making arguments for each event; what arrives it counts
    once per batch. What counts must not raise. A derived class that overrides `emitted`, `received` or `handled` gets
    each event there, as other hooks do.
    """

    @abstractmethod
    def emitting(self, topic: str) -> AddVolume:
        """Return a function that counts emitted events."""

    @abstractmethod
    def receiving(self, topic: str) -> AddVolume:
        """Return a function that counts received events."""

    @abstractmethod
    def handling(self, topic: str, handler: str) -> AddDuration:
        """Return a function that records how long a handler took."""

    def emitted(self, topic: str, events: Sequence[BaseEvent[Any] | BaseEventType], size: int) -> None:
        """Count the events of one call."""
        self.emitting(topic)(size, len(events))

    def received(self, topic: str, events: Sequence[BaseEvent[Any]], size: int) -> None:
        """Count the events of one message."""
        self.receiving(topic)(size, len(events))

    def handled(self, topic: str, event: BaseEvent[Any], handler: str, duration: float) -> None:
        """Record the duration."""
        self.handling(topic, handler)(duration)


class Hooks:
    """The hooks of one client. Any thread may use it.

    It has an attribute for each method of `EventBusHook`, which calls that method of all hooks that override it. The
    attribute is false if no hook does, so that callers can skip the work of making arguments.
    """

    def __init__(self, hooks: Iterable[EventBusHook] = ()) -> None:
        self._failures = _Failures()
        self.all: tuple[EventBusHook, ...] = ()
        self._set(tuple(hooks))

    def add(self, hook: EventBusHook) -> None:
        """Call this hook too from now on."""
        self._set((*self.all, hook))

    def received_batch(self, topics: Sequence[bytes], events: Sequence[BaseEvent[Any]], payloads: Sequence[bytes]) -> None:
        """Call `received` for messages with one event each. Messages beyond the last event are left out."""
        if self._receiving:
            for topic, size, count in _volumes(topics[: len(events)], payloads[: len(events)]):
                for receiving in self._receiving:
                    receiving(_text(topic))(size, count)
        if self._each_received is not None:
            for topic, event, payload in zip(topics, events, payloads, strict=False):
                self._each_received(_text(topic), (event,), len(payload))

    def handling(self, topic: str, handler: str) -> AddDuration | None:
        """Return what records the durations of a handler for all counting hooks; None if there is none."""
        return _together([hook.handling(topic, handler) for hook in self._counting("handled")])

    def _set(self, hooks: tuple[EventBusHook, ...]) -> None:
        self.all = hooks
        self.emitted = self._calls("emitted")
        self.received = self._calls("received")
        self.receives = bool(self.received)  # asked for each batch: the truth of the other is a call in Python
        self.handled = self._calls("handled")
        self.handler_failed = self._calls("handler_failed")
        self.periodic_failed = self._calls("periodic_failed")
        self.rejected = self._calls("rejected")
        self.dropped = self._calls("dropped")
        self.lost = self._calls("lost")
        self.repaired = self._calls("repaired")
        self.state_changed = self._calls("state_changed")
        # Three of them in two parts: what counts, and what is called for each event by the other hooks; None without such.
        self.emitting = _Emitting([hook.emitting for hook in self._counting("emitted")])
        self.each_emitted = self._calls_of_others("emitted")
        self._receiving = [hook.receiving for hook in self._counting("received")]
        self._each_received = self._calls_of_others("received")
        self.each_handled = self._calls_of_others("handled")

    def _calls(self, method: str) -> HookCalls:
        calls = [_calling(hook, method, self._failures) for hook in self.all if _overrides(hook, method)]
        return _together(calls) or _NOTHING

    def _calls_of_others(self, method: str) -> HookCall | None:
        others = [hook for hook in self.all if _overrides(hook, method) and not _counts(hook, method)]
        return _together([_calling(hook, method, self._failures) for hook in others])

    def _counting(self, method: str) -> list[CountingHook]:
        return [hook for hook in self.all if _counts(hook, method)]


class _Emitting(dict[bytes, AddVolume]):
    """The functions that count emitted events, by the frame of the topic; made when first looked up."""

    def __init__(self, emitting: Sequence[Callable[[str], AddVolume]]) -> None:
        super().__init__()
        self._emitting = emitting

    def __missing__(self, topic: bytes) -> AddVolume:
        add = self[topic] = _together([emitting(_text(topic)) for emitting in self._emitting]) or _NOTHING
        return add


def _overrides(hook: EventBusHook, method: str) -> bool:
    return getattr(type(hook), method, None) is not getattr(EventBusHook, method)


def _counts(hook: EventBusHook, method: str) -> TypeGuard[CountingHook]:
    """Whether what counts is called instead of this method."""
    return isinstance(hook, CountingHook) and getattr(type(hook), method) is getattr(CountingHook, method)


class _Failures:
    """Logs what hooks raise: of each method a line a minute."""

    def __init__(self) -> None:
        self._throttle = LogThrottle()

    def log(self, name: str, error: BaseException) -> None:
        """Log an exception. SystemExit is one, too, because it must not end the consumer."""
        if isinstance(error, KeyboardInterrupt):
            raise error  # it is for the program
        held_back = self._throttle.admit(name)
        if held_back is not None:
            text = "hook %s failed%s"
            log.error(text, name, more(held_back, "more failures"), exc_info=error, hook=name)


def _calling(hook: EventBusHook, name: str, failures: _Failures) -> HookCall:
    """Return what calls a method of a hook. An exception keeps neither the client nor other hooks from going on."""
    method = getattr(hook, name)
    shown = f"{type(hook).__qualname__}.{name}"

    def call(*arguments: object) -> None:
        try:
            method(*arguments)
        except BaseException as error:
            failures.log(shown, error)

    return call


class _Nothing:
    """Stands for the calls of a method that no hook overrides."""

    def __bool__(self) -> bool:
        return False

    def __call__(self, *_: object) -> None:
        pass


_NOTHING = _Nothing()


def _together(calls: Sequence[HookCall]) -> HookCall | None:
    """Return what makes all these calls, in order; None if there are none."""
    if len(calls) <= 1:
        return calls[0] if calls else None

    def call_all(*arguments: object) -> None:
        for call in calls:
            call(*arguments)

    return call_all


def _volumes(topics: Sequence[bytes], payloads: Sequence[bytes]) -> Iterable[tuple[bytes, int, int]]:
    """The bytes and the number of the payloads of each topic."""
    if topics and topics.count(topics[0]) == len(topics):  # nearly always; count() and map() loop in C
        return [(topics[0], sum(map(len, payloads)), len(topics))]
    sizes: dict[bytes, list[int]] = {}
    for topic, payload in zip(topics, payloads, strict=True):
        sizes.setdefault(topic, []).append(len(payload))
    return [(topic, sum(each), len(each)) for topic, each in sizes.items()]


def _text(topic: bytes) -> str:
    return topic.decode(errors="replace")
