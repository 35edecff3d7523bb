"""Finding ``@on`` handlers and hooks in a tree of containers, and checking that the handlers can be called."""

import inspect
import sys
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import MethodType, ModuleType
from typing import Never

from dependency_injector import containers, providers, wiring

from eventbus._base.log import Log
from eventbus.container.classes import NOTHING, existing_object, many_objects, objects_in, possible_classes, source_of
from eventbus.container.resources import AnyProvider, declared, in_force, is_async, last_resources, name_of, root_of, walk
from eventbus.errors import InvalidHandler
from eventbus.handle.marks import Handler, callback_name, is_marked, marked_functions, marked_methods
from eventbus.observe.hooks import EventBusHook

_log = Log()


@dataclass(frozen=True, slots=True)
class Provided:
    """The object of a provider, or an awaitable of it.

    Attributes:
        classes: that the object was expected to have.
        is_hook: whether it may be a hook that the client has to get unless it has it already.
    """

    instance: object
    classes: tuple[type, ...]
    is_hook: bool = False

    @property
    def is_pending(self) -> bool:
        """Whether the instance is an awaitable."""
        return inspect.isawaitable(self.instance)

    async def awaited(self) -> "Provided":
        """A copy with the awaited instance."""
        return replace(self, instance=await self.instance) if inspect.isawaitable(self.instance) else self

    def hooks(self) -> list[EventBusHook]:
        """The instance, if it is a hook."""
        return [self.instance] if self.is_hook and isinstance(self.instance, EventBusHook) else []

    def handlers(self) -> dict[int, list[Handler]]:
        """The handlers of each object that was provided, by the identity of the object."""
        return {id(one): list(self._handlers_of(one)) for one in objects_in(self.instance)}

    def _handlers_of(self, one: object) -> Iterator[Handler]:
        methods = marked_methods(type(one))
        if not methods and one is self.instance:  # a stand-in for an object of an expected class, such as a proxy
            expected = [cls for cls in self.classes if not isinstance(one, cls)]
            methods = {name: marks for cls in expected for name, marks in marked_methods(cls).items() if hasattr(one, name)}
        for name, marks in methods.items():
            yield Handler(getattr(one, name), marks)


@dataclass(frozen=True, slots=True)
class Discovery:
    """The objects that the providers of a tree have provided, and the providers whose classes cannot be told."""

    provided: list[Provided]
    unknown: list[AnyProvider]


def discover(container: containers.Container) -> Discovery:
    """Call the providers of the whole tree that provide objects with handlers, or hooks; no others.

    Factories of hooks that clients already had when they connected are not called again.

    Raises:
        InvalidHandler: a provider of more than one object provides handlers.
    """
    found, unknown = [], []
    early = early_hooks(container)
    for provider in walk(declared(container), selected_only=True):
        classes = possible_classes(provider)
        marked = [cls for cls in classes if marked_methods(cls)]
        if marked and many_objects(provider) and not _is_handed_on(provider, marked):
            _refuse(provider, marked[0], container)
        # A client ignores a hook that it already has, but each call of these makes a new one.
        makes_one_each = isinstance(provider, providers.Factory | providers.Callable)
        is_hook = any(issubclass(cls, EventBusHook) for cls in classes) and not (makes_one_each and provider in early)
        if is_hook or (marked and not many_objects(provider)):
            found.append(Provided(provider(), classes, is_hook))
        elif object in classes:
            unknown.append(provider)
    return Discovery(found, unknown)


def early_hooks(container: containers.Container) -> list[AnyProvider]:
    """The providers of hooks in the whole tree that can be called before a client connects.

    The other hooks need a client themselves, or have to be awaited.
    """
    clients = {resource.client_provider for resource in last_resources(container)}
    return [
        provider
        for provider in walk(declared(container), selected_only=True)
        if any(issubclass(cls, EventBusHook) for cls in possible_classes(provider))
        and not any(needed in clients or _is_awaited(needed) for needed in walk([provider]))
    ]


def awaited(container: containers.Container) -> list[AnyProvider]:
    """The providers of objects with handlers, and of hooks, in the whole tree that have to be awaited."""
    if not last_resources(container):  # no bus calls any of these
        return []
    return [
        provider
        for provider in walk(declared(container), selected_only=True)
        if not many_objects(provider)
        and any(marked_methods(cls) or issubclass(cls, EventBusHook) for cls in possible_classes(provider))
        and _provides_awaitable(provider)
    ]


def collect_handlers(container: containers.Container, discovery: Discovery, *, warn: bool) -> list[Handler]:
    """Return the handlers of wired modules, then those of provided objects, each once, in the order of declaration.

    Args:
        container: any of the tree.
        discovery: what was provided, awaited.
        warn: whether to log a WARNING for each provider whose handlers, if it has any, cannot be found.
    """
    handlers = list(wired_handlers(container))
    if warn:
        _warn_of_attributes(container, {id(undecorated(handler.callback)) for handler in handlers})
    names = declared(container)
    of_bus = _providers_of_buses(container)
    provided = list(discovery.provided)
    for provider in discovery.unknown:
        existing = existing_object(provider)
        if existing is not NOTHING:  # it was made for one of the others
            provided.append(Provided(existing, ()))
        elif warn and provider not in of_bus and (provider in names or _makes_one(provider)):
            _log.warning(
                "handlers of %s are not found, if there are any, because the provider does not tell a class: give it a "
                "class, or a function whose return annotation names one that is not abstract (%s)",
                name_of(provider, container),
                provider,
                provider=name_of(provider, container),
            )
    found: dict[int, list[Handler]] = {}
    for one in provided:
        for identity, of_one in one.handlers().items():
            found.setdefault(identity, of_one)
    return [*handlers, *(handler for of_one in found.values() for handler in of_one)]


def wired_handlers(container: containers.Container) -> Iterator[Handler]:
    """Yield the marked functions of the modules and packages that any container of the tree is wired to."""
    for module in _wired_modules(container):
        for function, marks in marked_functions(module):
            yield Handler(function, marks)


def undecorated(callback: Callable[..., object]) -> Callable[..., object]:
    """The function that ``@inject`` or wiring has wrapped, bound as the callback is; any other callback itself."""
    function = getattr(callback, "__func__", callback)
    patched = wiring._patched_registry.get_callable(function)
    if patched is None or patched.original is None:
        return callback
    return MethodType(patched.original, callback.__self__) if isinstance(callback, MethodType) else patched.original


def check_injections(callback: Callable[..., object], *, takes_event: bool = True) -> None:
    """Check that the callback takes an event or nothing, and that dependency_injector will give it everything else.

    Raises:
        InvalidHandler: it does not, or a ``Provide[…]`` marker of it was not resolved.
    """
    function = getattr(callback, "__func__", callback)
    # Private, but the only place that knows whether an injection was wired. The signature has the marker in both cases, and
    # an unwired handler would be called with the marker itself.
    patched = wiring._patched_registry.get_callable(function)
    injected = dict(patched.injections) if patched else {}
    try:
        signature = inspect.signature(callback)
    except ValueError:
        return  # some built-in callables have none: only calling them can tell
    for name, parameter in signature.parameters.items():
        if name not in injected and _has_marker(parameter):
            raise InvalidHandler(
                f"{callback_name(callback)}: its parameter `{name}` is an injection that was not wired: decorate it with "
                "@inject, and wire its module to the container"
            )
    try:
        signature.bind(*([object()] if takes_event else []), **dict.fromkeys(injected))
    except TypeError as error:
        what = "with one event" if takes_event else "without arguments"
        raise InvalidHandler(f"{callback_name(callback)}{signature} cannot be called {what}: {error}") from None


def _has_marker(parameter: inspect.Parameter) -> bool:
    annotation = parameter.annotation
    candidates = (
        parameter.default,
        *(typing.get_args(annotation) if typing.get_origin(annotation) is typing.Annotated else ()),
    )
    return any(getattr(type(candidate), "__IS_MARKER__", False) for candidate in candidates)


def _providers_of_buses(container: containers.Container) -> set[AnyProvider]:
    """The parts of the tree's clients: settings, a transport and so on, which have no handlers."""
    clients = [bus.client_provider for bus in last_resources(container)]
    made = [client for client in clients if isinstance(client, providers.Resource)]  # others are given as they are
    return {in_force(part) for client in made for part in client.kwargs.values()}


def _makes_one(provider: AnyProvider) -> bool:
    """Whether the provider makes one object for all, rather than many, or a part of another provider's object."""
    return not many_objects(provider) and source_of(provider) is provider


def _is_awaited(provider: AnyProvider) -> bool:
    if isinstance(provider, providers.BaseResource):
        return is_async(provider)
    return inspect.iscoroutinefunction(getattr(provider, "provides", None))


def _provides_awaitable(provider: AnyProvider) -> bool:
    """Whether calling it gives an awaitable, because it is async, or one of its arguments is."""
    if _is_awaited(provider):
        return True
    if not isinstance(provider, providers.Factory | providers.BaseSingleton | providers.Callable | providers.BaseResource):
        return False
    arguments = [one for one in (*provider.args, *provider.kwargs.values()) if isinstance(one, providers.Provider)]
    return any(_provides_awaitable(in_force(one)) for one in arguments)


def _is_handed_on(provider: AnyProvider, marked: list[type]) -> bool:
    """Whether a callable can get such objects from other providers, which are found themselves."""
    if not isinstance(provider, providers.Callable) or isinstance(provider.provides, type):
        return False
    others = [one for one in walk([provider]) if one is not provider]
    return any(issubclass(cls, tuple(marked)) for one in others for cls in possible_classes(one))


def _warn_of_attributes(container: containers.Container, wired: set[int]) -> None:
    """Log what container classes of the tree have with handlers and without a provider: nobody calls those."""
    tree = [(root_of(container), "")]
    for provider, name in declared(container).items():
        if isinstance(provider, providers.Container):
            tree.append((provider.container, f"{name}."))
    for inside, prefix in tree:
        cls = inside.declarative_parent
        if not isinstance(cls, type):
            continue
        members = {name: member for base in reversed(cls.__mro__) for name, member in vars(base).items()}
        for name, member in members.items():
            if isinstance(member, type | providers.Provider):  # to look closer at some providers is to call them
                continue
            is_object = bool(marked_methods(type(member)))
            if is_object or (is_marked(member) and id(member) not in wired):
                _log.warning(
                    "handlers of `%s%s` are not found, because %s: a container calls what its providers provide: write "
                    "providers.Singleton with the class that has the handlers",
                    prefix,
                    name,
                    f"it is an object of {type(member).__name__}" if is_object else "it is a function",
                    provider=f"`{prefix}{name}`",
                )


def _refuse(provider: AnyProvider, cls: type, container: containers.Container) -> Never:
    name = next(iter(marked_methods(cls)))
    raise InvalidHandler(
        f"{name_of(provider, container)} is a {many_objects(provider)} and provides {cls.__module__}.{cls.__qualname__}, "
        f"which has the handler {name}: each call may make another object, and a handler is a method of one object: "
        "use providers.Singleton"
    )


def _wired_modules(container: containers.Container) -> Iterator[ModuleType]:
    """Yield the modules that any container of the tree was wired to, each once."""
    root = root_of(container)
    nested = (provider.container for provider in walk(declared(root)) if isinstance(provider, providers.Container))
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
