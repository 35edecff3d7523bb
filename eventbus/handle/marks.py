"""Marking methods and functions as handlers with `@on` and `@answers`, and finding the marked members again.

Marking registers nothing. The mark stays on the function, and the container looks for it on the objects of a service when
that starts. So a class may have several instances, and a test may import a service without a bus.
"""

import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial, partialmethod
from types import ModuleType
from typing import Any

from eventbus.errors import InvalidHandler
from eventbus.events import BaseEventTopic, BaseEventType
from eventbus.exports import public
from eventbus.handle.annotations import classes_in, evaluated, is_protocol

_MARKS = "__eventbus_marks__"


@dataclass(frozen=True, slots=True)
class Mark:
    """The arguments of one `@on(...)` or `@answers(...)`.

    Attributes:
        types: the event types that the handler is called for.
        topic: the one topic on which it is called; None for every topic that the client is subscribed to.
        module: the name of the module in which the decorator stands.
        answers: whether what the handler returns answers requests.
    """

    types: tuple[BaseEventType, ...]
    topic: BaseEventTopic | None
    module: str = field(default="", compare=False)
    answers: bool = False


@dataclass(frozen=True, slots=True)
class Handler:
    """A marked method or function, bound and ready to be called.

    Attributes:
        callback: takes the event.
        marks: one for each of its ``@on``, the outermost first.
    """

    callback: Callable[..., object]
    marks: tuple[Mark, ...]


# `Callable[..., Any]` in the bound, not on a parameter: the decorator hands back exactly the type that it was given.
@public
def on[Marked: Callable[..., Any]](*types: BaseEventType, topic: BaseEventTopic | None = None) -> Callable[[Marked], Marked]:
    """Mark a function or method as the handler of events of these types.

    The handler is called with the event as its only argument; it may be ``async``. Decorators may be stacked in any order
    and repeated; a method that overrides a marked one is a handler too. It works on methods, static and class methods, and
    on functions, partials and callable objects of wired modules.

    Args:
        types: one or more members of the service's event type enum.
        topic: call it only for events of this topic. None: for every topic that the client is subscribed to.

    Raises:
        InvalidHandler: no type is given, or something else than event types and a topic; or what is decorated is a class, or
            cannot be called or marked.
    """
    return _marking("@on", types, topic, answers=False)


# The bound as above.
@public
def answers[Marked: Callable[..., Any]](
    *types: BaseEventType, topic: BaseEventTopic | None = None
) -> Callable[[Marked], Marked]:
    """Mark a function or method as the handler that answers requests of these types; see `EventBusClient.request`.

    It is a handler as with `@on`, and what it returns goes to the asker: a pydantic model, or anything else that pydantic
    can write as JSON. What it raises goes there, too, as the name and the text of the error, and is logged as with every
    handler. An event of such a type that is no request is handled, too; what the handler returns for it is dropped.

    Args:
        types: one or more members of the service's event type enum.
        topic: answer only requests on this topic. None: on every topic that the client is subscribed to.

    Raises:
        InvalidHandler: as `on`.
    """
    return _marking("@answers", types, topic, answers=True)


def _marking[Marked: Callable[..., Any]](
    name: str, types: tuple[BaseEventType, ...], topic: BaseEventTopic | None, *, answers: bool
) -> Callable[[Marked], Marked]:
    """Return the decorator that leaves a mark. To be called by what stands in the code of the service."""
    if not types or not all(isinstance(event_type, BaseEventType) for event_type in types):
        raise InvalidHandler(
            f"{name} needs members of an event type enum, such as {name}(MyEventType.started), not {types!r}"
        )
    if topic is not None and not isinstance(topic, BaseEventTopic):
        raise InvalidHandler(f"{name}(topic=…) needs a member of a topic enum, not {topic!r}")

    def decorate(marked: Marked) -> Marked:
        # A decorator without functools.wraps hides the module of what it wraps, so the mark keeps that.
        mark = Mark(types, topic, sys._getframe(1).f_globals.get("__name__", ""), answers)
        target = _carrier(marked)
        if isinstance(target, type) or not (callable(target) or isinstance(target, partialmethod)):
            kind = (
                "a class: decorate its methods" if isinstance(target, type) else "not a function, method or callable object"
            )
            raise InvalidHandler(f"{name} cannot mark {callback_name(target)}, which is {kind}")
        # A new tuple each time: wrappers made by functools.wraps share their __dict__ entries with what they wrap.
        try:
            setattr(target, _MARKS, (mark, *_marks(target)))
        except AttributeError:
            raise InvalidHandler(
                f"{name} cannot mark {callback_name(target)}, which has no room for attributes: wrap it in a function"
            ) from None
        return marked

    return decorate


def handlers_of(target: object) -> list[Handler]:
    """Return the marked methods of an object, bound, or the marked functions of a module, in the order of definition."""
    if isinstance(target, ModuleType):
        return [Handler(function, marks) for function, marks in marked_functions(target)]
    return [Handler(getattr(target, name), marks) for name, marks in marked_methods(type(target)).items()]


def marked_methods(cls: type) -> dict[str, tuple[Mark, ...]]:
    """Return the names of the class's marked methods, those of base classes first, with their marks; runs no code of it."""
    found: dict[str, tuple[Mark, ...]] = {}
    for base in reversed(cls.__mro__):
        for name, member in vars(base).items():
            if marks := _marks(_carrier(member)):
                found[name] = marks
    return found


def marked_functions(module: ModuleType) -> Iterator[tuple[Callable[..., Any], tuple[Mark, ...]]]:
    """Yield the marked functions and callable objects of this module, not those that it imports, each with its marks."""
    found = {id(member): member for member in vars(module).values()}
    for member in found.values():
        marks = _marks(member)
        if marks and module.__name__ in (getattr(member, "__module__", None), *(mark.module for mark in marks)):
            yield member, marks


def check_callback(callback: Callable[..., object]) -> None:
    """Raise `InvalidHandler` unless the callback can be called with one event and nothing else, and then does something."""
    name = callback_name(callback)
    if not callable(callback):
        raise InvalidHandler(f"{callback!r} cannot be called with an event")
    for called in (callback, getattr(callback, "__call__", None)):  # noqa: B004 # its function, if it is an object
        if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
            raise InvalidHandler(f"{name} is a generator function, so calling it runs nothing of it: remove its `yield`")
    try:
        # The signature of the callback itself, not of the function that it wraps: a wrapper may supply arguments.
        signature = inspect.signature(callback, follow_wrapped=False)
    except ValueError:
        return  # some built-in callables have none: only calling them can tell
    try:
        signature.bind(object())
    except TypeError as error:
        raise InvalidHandler(f"{name}{signature} cannot be called with one event: {error}") from None


def check_event_class(callback: Callable[..., object], event_classes: tuple[type, ...]) -> None:
    """Raise `InvalidHandler` if the callback's first parameter is annotated with a class that none of its events has.

    Args:
        callback: takes an event as its first argument.
        event_classes: the classes that its events may have.
    """
    try:
        # Again that of the callback itself: a wrapper may hand on something else than the event.
        parameter = next(iter(inspect.signature(callback, follow_wrapped=False).parameters.values()), None)
    except ValueError:
        return
    if parameter is None or parameter.annotation is parameter.empty:
        return
    wanted = list(classes_in(evaluated(parameter.annotation, _function_of(callback))))
    if any(is_protocol(cls) or issubclass(event_class, cls) for cls in wanted for event_class in event_classes):
        return
    shown, known = (" | ".join(cls.__name__ for cls in classes) for classes in (wanted, event_classes))
    raise InvalidHandler(f"{callback_name(callback)} takes `{parameter.name}: {shown}`, but gets events of class {known}")


def callback_name(callback: object) -> str:
    """The callback's qualified name with its module, for messages."""
    if isinstance(callback, partial):
        return callback_name(callback.func)
    if bound := getattr(callback, "__self__", None):
        cls = bound if isinstance(bound, type) else type(bound)
        return f"{cls.__module__}.{cls.__qualname__}.{getattr(callback, '__name__', '?')}"
    if name := getattr(callback, "__qualname__", None):
        return f"{getattr(callback, '__module__', None) or '?'}.{name}"
    if callable(callback):
        return f"{type(callback).__module__}.{type(callback).__qualname__}"
    return repr(callback)


def is_async(callback: Callable[..., object]) -> bool:
    """Whether calling it returns a coroutine, as far as can be known without calling it."""
    return inspect.iscoroutinefunction(callback) or inspect.iscoroutinefunction(getattr(callback, "__call__", None))  # noqa: B004 # an object whose __call__ is async


def _carrier(member: object) -> object:
    """The carrier of a class member's marks. Wiring replaces static and class methods, and keeps the function inside."""
    return member.__func__ if isinstance(member, staticmethod | classmethod) else member


def _marks(member: object) -> tuple[Mark, ...]:
    # Only its own: a mock or a proxy has every attribute, and an instance has those of its class.
    try:
        marks = vars(member).get(_MARKS, ())
    except Exception:  # TypeError if it has no attributes; a module may contain a proxy of another library, which raises
        return ()
    return marks if isinstance(marks, tuple) else ()


def _function_of(callback: object) -> object:
    """The Python function that a callback calls, as far as that is known."""
    while isinstance(callback, partial):
        callback = callback.func
    callback = getattr(callback, "__func__", callback)
    return callback if hasattr(callback, "__globals__") else getattr(type(callback), "__call__", callback)  # noqa: B004 # its function
