"""Finds the classes of the objects of a provider without calling it."""

import functools
import gc
import inspect
import sys
import typing
from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from dependency_injector import providers

from eventbus.container.resources import AnyProvider, in_force
from eventbus.handle.annotations import classes_in, evaluated, is_protocol

if TYPE_CHECKING:
    import asyncio

MAX_ELEMENTS = 1_000
"""A collection with more elements holds data, not objects with handlers."""

NOTHING = object()
"""Stands for no object."""

_GETTERS = (providers.ProvidedInstance, providers.AttributeGetter, providers.ItemGetter, providers.MethodCaller)


def possible_classes(provider: AnyProvider) -> tuple[type, ...]:
    """The classes that the provider's objects may have; `object` among them if another class is possible.

    Told by the object, if that exists already, by the class that the provider instantiates, or by the annotations of the
    function that it calls. None for providers of plain values.
    """
    existing = existing_object(provider)
    if existing is not NOTHING:
        return tuple(type(one) for one in objects_in(existing))
    match provider:
        case providers.AbstractFactory() | providers.AbstractSingleton():
            return ()  # they must be overridden, and provide nothing themselves
        case providers.Factory() | providers.BaseSingleton() | providers.Callable():
            return _classes_of(provider.provides)
        case providers.ProvidedInstance() | providers.ItemGetter():  # of a collection, the classes of what is in it, too
            return possible_classes(_inner(provider))
        case providers.AttributeGetter() | providers.MethodCaller():
            return tuple(_classes_of_getter(provider))
        case _:
            return ()


def existing_object(provider: AnyProvider) -> object:
    """The provider's object, if it has one already; else `NOTHING`.

    An awaitable is looked into, if it is done.
    """
    match provider:
        case providers.BaseResource() if provider.initialized:
            return _result(provider())
        case providers.Object():
            return provider()
        case providers.Singleton() | providers.ThreadSafeSingleton():
            made = _made_by(provider)
            return _result(made) if made is not NOTHING else NOTHING
        case providers.ProvidedInstance() | providers.AttributeGetter():
            inner = existing_object(_inner(provider))
            if inner is NOTHING or isinstance(provider, providers.ProvidedInstance):
                return inner
            return vars(inner).get(str(provider.name), NOTHING) if hasattr(inner, "__dict__") else NOTHING
        case _:
            return NOTHING


def objects_in(value: object, _depth: int = 0) -> Iterator[object]:
    """Yield an object and, if it is a plain collection, what is in it."""
    yield value
    if type(value) is dict:
        value = list(value.values())
    if type(value) in (list, tuple, set, frozenset):
        elements = cast(list[object], value)
        if len(elements) <= MAX_ELEMENTS and _depth < 3:
            for element in elements:
                yield from objects_in(element, _depth + 1)


def source_of(provider: AnyProvider) -> AnyProvider:
    """The provider whose object a ``.provided`` looks into; any other provider itself."""
    while isinstance(provider, _GETTERS):
        provider = _inner(provider)
    return provider


def many_objects(provider: AnyProvider) -> str:
    """The kind of a provider that provides more than one object; else an empty text."""
    match source_of(provider):
        case providers.Factory():
            return "factory"
        case providers.Coroutine():
            return "coroutine"
        case providers.Callable():
            return "callable"
        case providers.ThreadLocalSingleton():
            return "thread-local singleton"
        case providers.ContextLocalSingleton():
            return "context-local singleton"
        case providers.ContextLocalResource():
            return "context-local resource"
        case _:
            return ""


def returned_classes(function: object) -> tuple[type, ...]:
    """The classes that a function's annotation names, and `object` if it names an abstract class or none.

    A function of the standard library provides no object with handlers, annotated or not.
    """
    function = inspect.unwrap(function) if callable(function) else function
    if _is_of_standard_library(function):
        return ()
    annotated = evaluated(getattr(function, "__annotations__", {}).get("return", Any), function)
    if annotated is typing.Self:
        owner = getattr(function, "__self__", object)
        return (owner if isinstance(owner, type) else type(owner),)
    classes = tuple(classes_in(annotated))
    abstract = any((inspect.isabstract(cls) or is_protocol(cls)) and not _is_of_standard_library(cls) for cls in classes)
    return (*classes, object) if abstract else classes


def _classes_of(provides: object) -> tuple[type, ...]:
    """The classes of what calling this returns."""
    while isinstance(provides, functools.partial):
        provides = provides.func
    if isinstance(provides, providers.Provider):
        return possible_classes(in_force(provides))
    origin = typing.get_origin(provides)
    if isinstance(origin, type):
        return (origin,)
    if provides is None or isinstance(provides, type):
        return (provides,) if isinstance(provides, type) else ()
    if inspect.isroutine(provides):
        return returned_classes(provides)
    return returned_classes(getattr(type(provides), "__call__", None))  # noqa: B004 # of a callable object, its function


def _classes_of_getter(provider: AnyProvider) -> Iterator[type]:
    """The classes of an attribute, or of what a method returns, as far as annotations tell."""
    getter = provider.provides if isinstance(provider, providers.MethodCaller) else provider
    if not isinstance(getter, providers.AttributeGetter):
        yield object
        return
    for owner in possible_classes(_inner(getter)):
        member = inspect.getattr_static(owner, str(getter.name), None)
        member = getattr(member, "__func__", member)
        if isinstance(provider, providers.MethodCaller):
            yield from returned_classes(member) if callable(member) else (object,)
        elif isinstance(member, property | functools.cached_property):
            yield from returned_classes(member.fget if isinstance(member, property) else member.func)
        else:
            yield from _classes_of_attribute(owner, str(getter.name))


def _classes_of_attribute(owner: type, name: str) -> Iterator[type]:
    for cls in owner.__mro__:
        annotations = inspect.get_annotations(cls)
        if name in annotations:
            module = SimpleNamespace(__globals__=getattr(sys.modules.get(cls.__module__), "__dict__", {}))
            yield from classes_in(evaluated(annotations[name], module))
            return
    yield object


def _inner(provider: AnyProvider) -> AnyProvider:
    """The provider that a ``.provided`` looks into."""
    inner: AnyProvider = provider.provides  # type: ignore[attr-defined] # all of these have it
    return in_force(inner)


def _made_by(singleton: AnyProvider) -> object:
    """The object that a singleton has made, or `NOTHING`."""
    # It is in an attribute that only C code can read; but the garbage collector is shown it, after the singleton's factory.
    referents = iter(gc.get_referents(singleton))
    made = next((next(referents, None) for one in referents if type(one) is providers.Factory), None)
    return NOTHING if made is None else made


def _result(made: object) -> object:
    if not inspect.isawaitable(made):
        return made
    future = cast("asyncio.Future[object]", made)  # it can be awaited again
    return future.result() if future.done() and not future.cancelled() and not future.exception() else NOTHING


def _is_of_standard_library(thing: object) -> bool:
    module = getattr(thing, "__module__", None) or "builtins"
    return module.partition(".")[0] in sys.stdlib_module_names
