"""Marking methods and functions with `@on`, `@answers` and `@every`, and finding the marked members again.

Marking registers nothing. The mark stays on the function, and the container looks for it on the objects of a service when
that starts. So a class may have several instances, and a test may import a service without a bus.
"""

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial, partialmethod
from types import ModuleType
from typing import Any, Concatenate, Protocol, overload

from eventbus.errors import InvalidHandler
from eventbus.events import BaseEvent, BaseEventTopic, BaseEventType
from eventbus.exports import public
from eventbus.handle.annotations import classes_in, evaluated, is_protocol
from eventbus.handle.handler_options import PLAIN, HandlerOptions
from eventbus.handle.middleware import Middleware
from eventbus.wire.starts import start_of
from eventbus.wire.unions import generic_of, type_values

_MARKS = "__eventbus_marks__"


@dataclass(frozen=True, slots=True)
class Mark:
    """The arguments of one `@on(...)` or `@answers(...)`.

    Attributes:
        types: the event types that the handler is called for.
        topic: the one topic on which it is called; None for every topic that the client is subscribed to.
        module: the name of the module in which the decorator stands.
        options: how the handler is called.
        event_class: it is called for events of this class only; None: for all that have one of the types.
        period: of `@every`, which is for no events.
        start: where the subscription to the topic begins; None: where those of the client begin.
    """

    types: tuple[BaseEventType, ...]
    topic: BaseEventTopic | None
    module: str = field(default="", compare=False)
    options: HandlerOptions = PLAIN
    event_class: type[BaseEvent[Any]] | None = None
    period: "Period | None" = None
    start: str | datetime | timedelta | None = None


@dataclass(frozen=True, slots=True)
class Period:
    """The arguments of one `@every(...)`.

    Attributes:
        seconds: from the beginning of one call to that of the next.
        delay: seconds from the start of the container to the first call.
    """

    seconds: float
    delay: float


@dataclass(frozen=True, slots=True)
class Handler:
    """A marked method or function, bound and ready to be called.

    Attributes:
        callback: takes the event, or nothing if it is marked with `@every`.
        marks: one for each of its ``@on``, the outermost first.
    """

    callback: Callable[..., object]
    marks: tuple[Mark, ...]


class Marker[Event](Protocol):
    """What `@on` with event classes returns: takes handlers of these events only, and hands them back."""

    @overload
    def __call__[Owner, Result, **More](
        self, method: Callable[Concatenate[Owner, Event, More], Result], /
    ) -> Callable[Concatenate[Owner, Event, More], Result]: ...
    @overload
    def __call__[Result, **More](
        self, function: Callable[Concatenate[Event, More], Result], /
    ) -> Callable[Concatenate[Event, More], Result]: ...


# `Callable[..., Any]` in the bound, not on a parameter: the decorator hands back exactly the type that it was given. With
# event types, `key` and `where` get an event whose class the type does not tell. One overload for each number of classes,
# because mypy would make their common base class of several.
@overload
def on[Marked: Callable[..., Any]](
    *types: BaseEventType,
    topic: BaseEventTopic | None = None,
    start: str | datetime | timedelta | None = None,
    concurrency: int | None = None,
    key: Callable[[Any], object] | None = None,
    where: Callable[[Any], object] | None = None,
    middleware: Iterable[Middleware] = (),
) -> Callable[[Marked], Marked]: ...
@overload
def on[One: BaseEvent[Any]](
    event_class: type[One],
    /,
    *,
    topic: BaseEventTopic | None = None,
    start: str | datetime | timedelta | None = None,
    concurrency: int | None = None,
    key: Callable[[One], object] | None = None,
    where: Callable[[One], object] | None = None,
    middleware: Iterable[Middleware] = (),
) -> Marker[One]: ...
@overload
def on[One: BaseEvent[Any], Two: BaseEvent[Any]](
    event_class: type[One],
    other: type[Two],
    /,
    *,
    topic: BaseEventTopic | None = None,
    start: str | datetime | timedelta | None = None,
    concurrency: int | None = None,
    key: Callable[[One | Two], object] | None = None,
    where: Callable[[One | Two], object] | None = None,
    middleware: Iterable[Middleware] = (),
) -> Marker[One | Two]: ...
@overload
def on[One: BaseEvent[Any], Two: BaseEvent[Any], Three: BaseEvent[Any]](
    event_class: type[One],
    other: type[Two],
    third: type[Three],
    /,
    *,
    topic: BaseEventTopic | None = None,
    start: str | datetime | timedelta | None = None,
    concurrency: int | None = None,
    key: Callable[[One | Two | Three], object] | None = None,
    where: Callable[[One | Two | Three], object] | None = None,
    middleware: Iterable[Middleware] = (),
) -> Marker[One | Two | Three]: ...
@overload
def on[Event: BaseEvent[Any]](
    *event_classes: type[Event],
    topic: BaseEventTopic | None = None,
    start: str | datetime | timedelta | None = None,
    concurrency: int | None = None,
    key: Callable[[Event], object] | None = None,
    where: Callable[[Event], object] | None = None,
    middleware: Iterable[Middleware] = (),
) -> Marker[Event]: ...
@public
def on(
    *types: Any,
    topic: BaseEventTopic | None = None,
    start: str | datetime | timedelta | None = None,
    concurrency: int | None = None,
    key: Callable[[Any], object] | None = None,
    where: Callable[[Any], object] | None = None,
    middleware: Iterable[Middleware] = (),
) -> Callable[[Any], Any]:
    """Mark a function or method as the handler of events of these types.

    The handler is called with the event as its only argument; it may be ``async``. Decorators may be stacked in any order
    and repeated; a method that overrides a marked one is a handler too, and None in its place is none. It works on methods,
    static and class methods, and on functions, partials and callable objects of wired modules.

    Without `concurrency` a handler that is not ``async`` is called on the consumer's thread, one event after the other, and
    up to a thousand calls of an ``async`` one run at once.

    Args:
        types: one or more members of the service's event type enum; or event classes, each of which stands for the types
            that its field ``type`` allows.
        topic: call it only for events of this topic. None: for every topic that the client is subscribed to.
        start: where the topic begins: ``"last"`` for the newest stored event and all that follow, ``"all"``, a time, or how
            long ago, such as ``"10m"``; see `EventBusClient.subscribe`. All handlers of the topic get what it begins with.
            None: as the client's option `start` says.
        concurrency: how many calls may run at once: of an ``async`` handler on the event loop, of another one in so many
            threads. Up to 1,000 more wait.
        key: events for which this function returns the same are handled one after the other, in the order in which they
            came; those for which it returns None have no order. Only with `concurrency`; without a key nothing has an order.
        where: call it only for events for which this function returns something true.
        middleware: what is called around this handler only, inside of the client's middleware, the outermost first.

    Raises:
        InvalidHandler: no type is given, or something else than event types or classes and a topic; an option makes no
            sense; a start has no topic; or what is decorated is a class, or cannot be called or marked.
        InvalidSettings: the start is no time.
    """
    if start is not None and topic is None:
        raise InvalidHandler(f"@on(start={start!r}) needs a topic that begins there: @on(…, topic=…, start=…)")
    if start is not None:
        start_of(start)
    options = HandlerOptions.of(concurrency=concurrency, key=key, where=where, middleware=middleware)
    return _marking("@on", types, topic, options, start)


# The bound as above.
@public
def answers[Marked: Callable[..., Any]](
    *types: BaseEventType | type[BaseEvent[Any]],
    topic: BaseEventTopic | None = None,
    concurrency: int | None = None,
    key: Callable[[Any], object] | None = None,
    where: Callable[[Any], object] | None = None,
    middleware: Iterable[Middleware] = (),
) -> Callable[[Marked], Marked]:
    """Mark a function or method as the handler that answers requests of these types; see `EventBusClient.request`.

    It is a handler as with `@on`, and what it returns goes to the asker: a pydantic model, or anything else that pydantic
    can write as JSON. What it raises goes there, too, as the name and the text of the error, and is logged as with every
    handler. An event of such a type that is no request is handled, too; what the handler returns for it is dropped.

    Args:
        types: one or more members of the service's event type enum, or event classes; see `on`.
        topic: answer only requests on this topic. None: on every topic that the client is subscribed to.
        concurrency: as with `on`, as are the others. A request for which `where` is false gets no answer from this handler.

    Raises:
        InvalidHandler: as `on`.
    """
    options = HandlerOptions.of(answers=True, concurrency=concurrency, key=key, where=where, middleware=middleware)
    return _marking("@answers", types, topic, options)


# The bound as above.
@public
def every[Marked: Callable[..., Any]](seconds: float, *, delay: float = 0.0) -> Callable[[Marked], Marked]:
    """Mark a method, or a function of a wired module, that a running container calls at a fixed interval.

    It is called without arguments, and may be ``async``: then it runs on the event loop that runs ``async`` handlers,
    otherwise in a thread of its own. Calls do not overlap: if one takes longer than the period, those that should have begun
    meanwhile are left out. What it raises is logged, and it is called again at the next time. When the container stops, no
    further call begins, and one that is going on is waited for.

    Args:
        seconds: from the beginning of one call to the beginning of the next.
        delay: seconds from the start of the container, with all handlers attached, to the first call.

    Raises:
        InvalidHandler: the period is not positive, the delay is negative, or what is decorated cannot be marked (see `on`).
    """
    if not (isinstance(seconds, int | float) and seconds > 0 and isinstance(delay, int | float) and delay >= 0):
        raise InvalidHandler(f"@every({seconds!r}, delay={delay!r}): a period is a positive number of seconds")
    return _decorator("@every", lambda module: [Mark((), None, module, period=Period(seconds, delay))])


def _marking[Marked: Callable[..., Any]](
    name: str,
    wanted: tuple[object, ...],
    topic: BaseEventTopic | None,
    options: HandlerOptions,
    start: str | datetime | timedelta | None = None,
) -> Callable[[Marked], Marked]:
    """Return the decorator that leaves marks. To be called by what stands in the code of the service."""
    types: list[BaseEventType] = []
    classes: list[tuple[type[BaseEvent[Any]], tuple[BaseEventType, ...]]] = []
    for one in wanted:
        if isinstance(one, BaseEventType):
            types.append(one)
        elif isinstance(one, type) and issubclass(one, BaseEvent):
            classes.append((one, _types_of(one, name)))
        else:
            types, classes = [], []
            break
    if not (types or classes):
        raise InvalidHandler(
            f"{name} needs members of an event type enum, such as {name}(MyEventType.started), or event classes, "
            f"not {wanted!r}"
        )
    if topic is not None and not isinstance(topic, BaseEventTopic):
        raise InvalidHandler(f"{name}(topic=…) needs a member of a topic enum, not {topic!r}")

    def marks(module: str) -> list[Mark]:
        of_types = [Mark(tuple(types), topic, module, options, start=start)] if types else []
        return of_types + [Mark(of_class, topic, module, options, cls, start=start) for cls, of_class in classes]

    return _decorator(name, marks)


def _decorator[Marked: Callable[..., Any]](name: str, marks: Callable[[str], list[Mark]]) -> Callable[[Marked], Marked]:
    """Return a decorator that leaves the marks that this function makes of the name of the module in which it stands."""

    def decorate(marked: Marked) -> Marked:
        # A decorator without functools.wraps hides the module of what it wraps, so the mark keeps that.
        module = sys._getframe(1).f_globals.get("__name__", "")
        target = _carrier(marked)
        if isinstance(target, type) or not (callable(target) or isinstance(target, partialmethod)):
            kind = (
                "a class: decorate its methods" if isinstance(target, type) else "not a function, method or callable object"
            )
            raise InvalidHandler(f"{name} cannot mark {callback_name(target)}, which is {kind}")
        # A new tuple each time: wrappers made by functools.wraps share their __dict__ entries with what they wrap.
        try:
            setattr(target, _MARKS, (*marks(module), *_marks(target)))
        except AttributeError:
            raise InvalidHandler(
                f"{name} cannot mark {callback_name(target)}, which has no room for attributes: wrap it in a function"
            ) from None
        return marked

    return decorate


def widest_starts(marks: Iterable[Mark]) -> dict[BaseEventTopic, str | datetime | timedelta]:
    """Where topics begin: if several handlers of a topic say it, where the most events are."""
    found: dict[BaseEventTopic, str | datetime | timedelta] = {}
    for mark in marks:
        if mark.topic is not None and mark.start is not None:
            known = found.setdefault(mark.topic, mark.start)
            if start_of(mark.start).rank < start_of(known).rank:
                found[mark.topic] = mark.start
    return found


def _types_of(cls: type[BaseEvent[Any]], name: str) -> tuple[BaseEventType, ...]:
    """The types that events of a class may have."""
    found = tuple(value for value in type_values(cls) if isinstance(value, BaseEventType))
    if not found:
        raise InvalidHandler(f"{name}({cls.__name__}): the class does not say which types its events have")
    return found


def handlers_of(target: object) -> list[Handler]:
    """Return the marked methods of an object, bound, or the marked functions of a module, in the order of definition."""
    if isinstance(target, ModuleType):
        return [Handler(function, marks) for function, marks in marked_functions(target)]
    return [Handler(getattr(target, name), marks) for name, marks in marked_methods(type(target)).items()]


def marked_methods(cls: type) -> dict[str, tuple[Mark, ...]]:
    """Return the names of the class's marked methods, those of base classes first, with their marks; runs no code of it.

    A method that has two names is there once.
    """
    found: dict[str, tuple[object, tuple[Mark, ...]]] = {}
    for base in reversed(cls.__mro__):
        for name, member in vars(base).items():
            if marks := _marks(_carrier(member)):
                found[name] = member, marks
            elif member is None:  # by which a class says, as with `__hash__`, that it has no such method
                found.pop(name, None)
            elif name in found:
                found[name] = member, found[name][1]
    first = {(id(member), id(marks)): name for name, (member, marks) in reversed(found.items())}
    return {name: marks for name, (member, marks) in found.items() if first[id(member), id(marks)] == name}


def is_marked(member: object) -> bool:
    """Whether a member of a class is a marked method; runs no code of it."""
    return bool(_marks(_carrier(member)))


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
    if any(is_protocol(cls) or issubclass(event_class, generic_of(cls)) for cls in wanted for event_class in event_classes):
        return
    shown, known = (" | ".join(cls.__name__ for cls in classes) for classes in (wanted, event_classes))
    raise InvalidHandler(f"{callback_name(callback)} takes `{parameter.name}: {shown}`, but gets events of class {known}")


def check_mark(callback: Callable[..., object], mark: Mark, event_classes: tuple[type, ...]) -> None:
    """Raise `InvalidHandler` if a handler that is marked with an event class would get events of others.

    Args:
        callback: the handler.
        mark: one of its marks.
        event_classes: the classes that events of one type of the mark may have on this bus.
    """
    if mark.event_class is None:
        return
    others = [cls.__name__ for cls in event_classes if not issubclass(cls, generic_of(mark.event_class))]
    if others:
        raise InvalidHandler(
            f"{callback_name(callback)} is for events of class {mark.event_class.__name__}, but on this bus an event of "
            f"such a type may be a {' or a '.join(others)}: mark it with the type, and annotate `event` with all of them"
        )


def check_result(callback: Callable[..., object]) -> None:
    """Raise `InvalidHandler` if the callback, which answers nothing, says by its annotation that it returns an event."""
    try:
        annotation = inspect.signature(callback, follow_wrapped=False).return_annotation
    except ValueError:
        return
    if annotation in (inspect.Signature.empty, None):
        return
    events = [cls for cls in classes_in(evaluated(annotation, _function_of(callback))) if issubclass(cls, BaseEvent)]
    if events:
        raise InvalidHandler(
            f"{callback_name(callback)} returns {events[0].__name__}, which nobody gets: emit it, or mark the handler with "
            "@answers"
        )


def callback_name(callback: object) -> str:
    """The callback's qualified name with its module, for messages."""
    if isinstance(callback, partial):
        return callback_name(callback.func)
    if (bound := getattr(callback, "__self__", None)) is not None:
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
