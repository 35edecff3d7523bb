"""Marking methods and functions as handlers with `@on`, and finding the marked members of a class or module again.

Marking registers nothing. The mark stays on the function, and the container looks for it on the objects of a service when
that starts. So a class may have several instances, and a test may import a service without a bus.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from eventbus.errors import InvalidHandler
from eventbus.events import BaseEventTopic, BaseEventType

_MARKS = "__eventbus_marks__"


@dataclass(frozen=True, slots=True)
class Mark:
    """The arguments of one `@on(...)`.

    Attributes:
        types: the event types that the handler is called for.
        topic: the one topic on which it is called; None for every topic that the client is subscribed to.
    """

    types: tuple[BaseEventType, ...]
    topic: BaseEventTopic | None


# `Callable[..., Any]` in the bound, not on a parameter: the decorator hands back exactly the type that it was given.
def on[Marked: Callable[..., Any]](*types: BaseEventType, topic: BaseEventTopic | None = None) -> Callable[[Marked], Marked]:
    """Mark a function or method as the handler of events of these types.

    The handler is called with the event as its only argument; it may be ``async``. Decorators may be stacked in any order
    and repeated; a method that overrides a marked one is a handler too. It works on methods, static and class methods, and
    on functions of wired modules.

    Args:
        types: one or more members of the service's event type enum.
        topic: call it only for events of this topic. None: for every topic that the client is subscribed to.

    Raises:
        InvalidHandler: no type is given, or something else than event types and a topic.
    """
    if not types or not all(isinstance(event_type, BaseEventType) for event_type in types):
        raise InvalidHandler(f"@on needs members of an event type enum, such as @on(MyEventType.started), not {types!r}")
    if topic is not None and not isinstance(topic, BaseEventTopic):
        raise InvalidHandler(f"@on(topic=…) needs a member of a topic enum, not {topic!r}")
    mark = Mark(types, topic)

    def decorate(marked: Marked) -> Marked:
        # A new tuple each time: wrappers made by functools.wraps share their __dict__ entries with what they wrap.
        setattr(marked, _MARKS, (mark, *getattr(marked, _MARKS, ())))
        return marked

    return decorate


def marked_methods(cls: type) -> dict[str, tuple[Mark, ...]]:
    """Return the names of the class's marked methods, those of base classes first, with their marks; runs no code of it."""
    found: dict[str, tuple[Mark, ...]] = {}
    for base in reversed(cls.__mro__):
        for name, member in vars(base).items():
            # A static or class method may have the mark on the descriptor or on the function inside of it.
            marks = _marks(member) or _marks(getattr(member, "__func__", None))
            if marks:
                found[name] = marks
    return found


def marked_functions(module: ModuleType) -> Iterator[tuple[Callable[..., Any], tuple[Mark, ...]]]:
    """Yield the marked functions that are defined in this module (not those it imports), each with its marks."""
    for function in list(vars(module).values()):
        if inspect.isroutine(function) and function.__module__ == module.__name__ and (marks := _marks(function)):
            yield function, marks


def check_callback(callback: Callable[..., object]) -> None:
    """Raise `InvalidHandler` unless the callback can be called with one event and nothing else."""
    name = callback_name(callback)
    if not callable(callback):
        raise InvalidHandler(f"{callback!r} cannot be called with an event")
    try:
        # The signature of the callback itself, not of the function that it wraps: a wrapper may supply arguments.
        signature = inspect.signature(callback, follow_wrapped=False)
    except ValueError:
        return  # some built-in callables have none: only calling them can tell
    try:
        signature.bind(object())
    except TypeError as error:
        raise InvalidHandler(f"{name}{signature} cannot be called with one event: {error}") from None


def callback_name(callback: object) -> str:
    """The callback's qualified name with its module, for messages."""
    if bound := getattr(callback, "__self__", None):
        cls = bound if isinstance(bound, type) else type(bound)
        return f"{cls.__module__}.{cls.__qualname__}.{getattr(callback, '__name__', '?')}"
    if name := getattr(callback, "__qualname__", None):
        return f"{getattr(callback, '__module__', None) or '?'}.{name}"
    return repr(callback)


def is_async(callback: Callable[..., object]) -> bool:
    """Whether calling it returns a coroutine, as far as can be known without calling it."""
    return inspect.iscoroutinefunction(callback) or inspect.iscoroutinefunction(getattr(callback, "__call__", None))  # noqa: B004 # an object whose __call__ is async


def _marks(member: object) -> tuple[Mark, ...]:
    # Only of functions and descriptors, because a mock or a proxy has every attribute.
    marks = (
        getattr(member, _MARKS, ()) if inspect.isroutine(member) or isinstance(member, staticmethod | classmethod) else ()
    )
    return marks if isinstance(marks, tuple) else ()
