"""Finding the ``@on`` handlers in a tree of containers, and checking that they can be called."""

import inspect
import sys
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType

from dependency_injector import containers, providers, wiring

from eventbus.container.resources import AnyProvider, root_of, walk
from eventbus.errors import InvalidHandler
from eventbus.handlers import Mark, callback_name, marked_functions, marked_methods


@dataclass(frozen=True, slots=True)
class Handler:
    """A marked method or function, bound and ready to be called.

    Attributes:
        callback: takes the event.
        marks: what its ``@on`` say, the outermost last.
    """

    callback: Callable[..., object]
    marks: tuple[Mark, ...]


def find_handlers(container: containers.Container) -> list[Handler]:
    """Return the handlers of the whole tree: marked methods of what its providers provide, functions of wired modules.

    Only providers whose class has marked methods are called; of a factory that makes one instance, which is kept.

    Raises:
        InvalidHandler: an object with handlers can only be had asynchronously.
    """
    found = list(_functions(container))
    for provider, methods in _providers(container):
        provided = provider()
        if inspect.isawaitable(provided):
            raise InvalidHandler(f"{provider} has handlers and async dependencies: start it by `async with lifespan(…)`")
        found += _bound(provided, methods)
    return found


async def find_handlers_async(container: containers.Container) -> list[Handler]:
    """Do as `find_handlers`, and await what has to be."""
    found = list(_functions(container))
    for provider, methods in _providers(container):
        provided = provider()
        found += _bound(await provided if inspect.isawaitable(provided) else provided, methods)
    return found


def check_injections(callback: Callable[..., object]) -> None:
    """Check that the callback takes an event, and that dependency_injector will give it everything else.

    Raises:
        InvalidHandler: it does not, or a ``Provide[…]`` marker of it was not resolved.
    """
    function = getattr(callback, "__func__", callback)
    # Private, but the only place that tells an injection that was wired from one that was not: both leave the marker in the
    # signature, and an event handler would be called with the marker itself.
    patched = wiring._patched_registry.get_callable(function)
    injected = dict(patched.injections) if patched else {}
    signature = inspect.signature(callback)
    for name, parameter in signature.parameters.items():
        if name not in injected and _has_marker(parameter):
            raise InvalidHandler(
                f"{callback_name(callback)}: its parameter `{name}` is a marker that nothing has resolved: decorate it with "
                "@inject, and wire its module to the container"
            )
    try:
        signature.bind(object(), **dict.fromkeys(injected))
    except TypeError as error:
        raise InvalidHandler(f"{callback_name(callback)}{signature} cannot be called with one event: {error}") from None


def _has_marker(parameter: inspect.Parameter) -> bool:
    annotation = parameter.annotation
    candidates = (
        parameter.default,
        *(typing.get_args(annotation) if typing.get_origin(annotation) is typing.Annotated else ()),
    )
    return any(getattr(type(candidate), "__IS_MARKER__", False) for candidate in candidates)


def _bound(provided: object, methods: dict[str, tuple[Mark, ...]]) -> Iterator[Handler]:
    for name, marks in methods.items():
        yield Handler(getattr(provided, name), marks)


def _providers(container: containers.Container) -> Iterator[tuple[AnyProvider, dict[str, tuple[Mark, ...]]]]:
    """The providers of objects that have marked methods, with those."""
    for provider in walk(root_of(container).providers.values()):
        methods = marked_methods(_provided_class(provider))
        if methods:
            yield provider, methods


def _provided_class(provider: AnyProvider) -> type:
    """The class of what the provider will provide, as far as it can be told without calling anything."""
    match provider:
        case providers.BaseResource() if provider.initialized and not inspect.isawaitable(resource := provider()):
            return type(resource)
        case providers.Object():
            return type(provider())
        case providers.Factory() | providers.BaseSingleton():
            provides = provider.provides
            if isinstance(provides, type):
                return provides
            annotated = typing.get_type_hints(provides).get("return") if inspect.isfunction(provides) else None
            return annotated if isinstance(annotated, type) else object
        case _:
            return object


def _functions(container: containers.Container) -> Iterator[Handler]:
    for module in _wired_modules(container):
        for function, marks in marked_functions(module):
            yield Handler(function, marks)


def _wired_modules(container: containers.Container) -> Iterator[ModuleType]:
    """The modules that any container of the tree was wired to, each once."""
    root = root_of(container)
    nested = (provider.container for provider in walk(root.providers.values()) if isinstance(provider, providers.Container))
    found: dict[str, ModuleType] = {}
    for wired in (root, *nested):
        for module in wired.wired_to_modules:
            found[module.__name__] = module
        for package in wired.wired_to_packages:
            inside = package.__name__ + "."
            found[package.__name__] = package
            # Wiring a package has imported all of it.
            found |= {name: module for name, module in list(sys.modules.items()) if name.startswith(inside)}
    yield from found.values()
