"""Finding ``@on`` handlers and hooks in a tree of containers, and checking that the handlers can be called."""

import inspect
import sys
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, cast

from dependency_injector import containers, providers, wiring

from eventbus.container.resources import AnyProvider, is_async, last_resources, root_of, walk
from eventbus.errors import InvalidHandler
from eventbus.handle.marks import Mark, callback_name, marked_functions, marked_methods
from eventbus.observe.hooks import EventBusHook

if TYPE_CHECKING:
    import asyncio


@dataclass(frozen=True, slots=True)
class Handler:
    """A marked method or function, bound and ready to be called.

    Attributes:
        callback: takes the event.
        marks: one for each of its ``@on``, the outermost first.
    """

    callback: Callable[..., object]
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class Provided:
    """The object of a provider, or an awaitable of it, and the marked methods of its class.

    Attributes:
        is_hook: whether it is a hook that the client has to get unless it has it already.
    """

    instance: object
    methods: dict[str, tuple[Mark, ...]]
    is_hook: bool = False

    @property
    def is_pending(self) -> bool:
        """Whether the instance is an awaitable."""
        return inspect.isawaitable(self.instance)

    async def awaited(self) -> "Provided":
        """A copy with the awaited instance."""
        return replace(self, instance=await self.instance) if inspect.isawaitable(self.instance) else self

    def handlers(self) -> Iterator[Handler]:
        """The bound methods."""
        for name, marks in self.methods.items():
            yield Handler(getattr(self.instance, name), marks)


def provide_handlers(container: containers.Container) -> list[Provided]:
    """Return the objects of the whole tree that have marked methods, and the hooks.

    Only their providers are called. A factory makes one instance for this. Factories of hooks that clients already had when
    they connected are not called again.
    """
    found = []
    early = early_hooks(container)
    for provider in walk(root_of(container).providers.values(), selected_only=True):
        methods = marked_methods(provided_class(provider))
        # A client ignores a hook that it already has, but each call of these makes a new one.
        makes_one_each = isinstance(provider, providers.Factory | providers.Callable)
        is_hook = issubclass(_hook_class(provider), EventBusHook) and not (makes_one_each and provider in early)
        if methods or is_hook:
            found.append(Provided(provider(), methods, is_hook))
    return found


def early_hooks(container: containers.Container) -> list[AnyProvider]:
    """The providers of hooks in the whole tree that can be called before a client connects.

    The other hooks need a client themselves, or have to be awaited.
    """
    clients = {resource.client_provider for resource in last_resources(container)}
    return [
        provider
        for provider in walk(root_of(container).providers.values(), selected_only=True)
        if issubclass(_hook_class(provider), EventBusHook)
        and not any(needed in clients or _is_awaited(needed) for needed in walk([provider]))
    ]


def provided_class(provider: AnyProvider) -> type:
    """The class of the provider's objects, as far as it can be known without calling it; else `object`."""
    match provider:
        case providers.BaseResource() if provider.initialized:
            return _class_of_started(provider())
        case providers.Object():
            return type(provider())
        case providers.Factory() | providers.BaseSingleton():
            return provider.provides if isinstance(provider.provides, type) else _returned_class(provider.provides)
        case _:
            return object


def wired_handlers(container: containers.Container) -> Iterator[Handler]:
    """Yield the marked functions of the modules and packages that any container of the tree is wired to."""
    for module in _wired_modules(container):
        for function, marks in marked_functions(module):
            yield Handler(function, marks)


def check_injections(callback: Callable[..., object]) -> None:
    """Check that the callback takes an event, and that dependency_injector will give it everything else.

    Raises:
        InvalidHandler: it does not, or a ``Provide[…]`` marker of it was not resolved.
    """
    function = getattr(callback, "__func__", callback)
    # Private, but the only place that knows whether an injection was wired. The signature has the marker in both cases, and
    # an unwired handler would be called with the marker itself.
    patched = wiring._patched_registry.get_callable(function)
    injected = dict(patched.injections) if patched else {}
    signature = inspect.signature(callback)
    for name, parameter in signature.parameters.items():
        if name not in injected and _has_marker(parameter):
            raise InvalidHandler(
                f"{callback_name(callback)}: its parameter `{name}` is an injection that was not wired: decorate it with "
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


def _class_of_started(resource: object) -> type:
    """The class of a started resource's object; `object` while that is not awaited."""
    if not inspect.isawaitable(resource):
        return type(resource)
    future = cast("asyncio.Future[object]", resource)  # it can be awaited again
    return type(future.result()) if future.done() and not future.cancelled() and not future.exception() else object


def _is_awaited(provider: AnyProvider) -> bool:
    if isinstance(provider, providers.BaseResource):
        return is_async(provider)
    return inspect.iscoroutinefunction(getattr(provider, "provides", None))


def _hook_class(provider: AnyProvider) -> type:
    """The class of the provider's objects, also of a callable, as far as its annotation names it."""
    if isinstance(provider, providers.Callable):
        return _returned_class(provider.provides)
    return provided_class(provider)


def _returned_class(function: object) -> type:
    """The class that the annotation of a function names as its result."""
    if not inspect.isroutine(function):
        return object
    function = inspect.unwrap(function)
    # Alone, because other annotations may use names that are imported for type checkers only.
    alone = SimpleNamespace(__annotations__={"return": getattr(function, "__annotations__", {}).get("return")})
    try:
        annotated = typing.get_type_hints(alone, globalns=getattr(function, "__globals__", None)).get("return")
    except NameError:
        return object
    if annotated is typing.Self:
        annotated = getattr(function, "__self__", None)
    return annotated if isinstance(annotated, type) else object


def _wired_modules(container: containers.Container) -> Iterator[ModuleType]:
    """Yield the modules that any container of the tree was wired to, each once."""
    root = root_of(container)
    nested = (provider.container for provider in walk(root.providers.values()) if isinstance(provider, providers.Container))
    found: dict[str, ModuleType] = {}
    for wired in (root, *nested):
        for module in wired.wired_to_modules:
            found[module.__name__] = module
        for package in wired.wired_to_packages:
            inside = package.__name__ + "."
            found[package.__name__] = package
            # Wiring a package has imported all its modules.
            found |= {name: module for name, module in list(sys.modules.items()) if name.startswith(inside)}
    yield from found.values()
