"""Walking a tree of providers, and stopping its resources in the order of their dependencies.

When dependency_injector orders a shutdown it looks at the direct arguments of a resource only. If a resource depends on
another one through a factory, a singleton or a nested container, either may be closed first. The functions here follow all
dependencies.
"""

import inspect
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, cast

from dependency_injector import containers, providers
from dependency_injector.resources import AsyncResource

from eventbus.client import EventBusClient

# Any: a service may provide objects of every class.
type AnyProvider = providers.Provider[Any]
type AnyClient = EventBusClient[Any, Any, Any]
type AnyResource = providers.BaseResource[Any]


class OwnContainer(providers.Dependency[containers.Container]):
    """Provides the container that declares it, or that inherits or copies it.

    `providers.Self` stays that of the base class in a container that inherits it. A dependency is given its parent in each.
    """

    # Any: as dependency_injector declares it.
    def __call__(self, *_args: Any, **_more: Any) -> Any:
        """The container."""
        return self.parent

    @property
    def is_defined(self) -> bool:
        """True, because the container is never missing."""
        return True


class LastResource[Provided](providers.Resource[Provided]):
    """A resource that starts after and stops before every other resource of the tree, and stops the others in order.

    Its first two arguments are an `OwnContainer`, and the provider of the client whose handlers it attaches.
    """

    @property
    def container(self) -> containers.Container:
        """The container that declares it."""
        return cast(containers.Container, self._argument(0))

    @property
    def client(self) -> AnyClient:
        """The client whose handlers it attaches."""
        return cast(AnyClient, self._argument(1))

    @property
    def client_provider(self) -> AnyProvider:
        """The provider of that client, or the one that overrides it."""
        arguments: tuple[AnyProvider, ...] = self.args
        return in_force(arguments[1])

    def _argument(self, index: int) -> object:
        arguments: tuple[AnyProvider, ...] = self.args
        return arguments[index]()

    @property
    def related(self) -> Iterator[AnyProvider]:
        """Every other resource, so that dependency_injector stops this one first, as if it depended on all of them."""
        yield from super().related
        if self.args:
            yield from others(self.container)

    def shutdown(self) -> Awaitable[None] | None:
        """Stop every resource of the tree, the last resources first; see `stop_resources`."""
        return stop_resources(self.container)

    def shutdown_alone(self) -> Awaitable[None] | None:
        """Stop this resource only."""
        return super().shutdown()


class Found(providers.Callable):
    """Provides a list of what other providers of the tree provide, and counts as depending on them.

    Its arguments are a function that finds these providers in a container, and an `OwnContainer`.
    """

    @property
    def related(self) -> Iterator[AnyProvider]:
        """The provider's arguments, and the providers that the function finds."""
        yield from super().related
        if self.args:
            yield from self._find()

    # Any: as dependency_injector declares it.
    def __call__(self, *_args: Any, **_more: Any) -> Any:
        """The object of each of the found providers, in the order in which they are found."""
        return [provider() for provider in self._find()]

    def _find(self) -> list[AnyProvider]:
        arguments: tuple[AnyProvider, ...] = self.args
        find = cast(Callable[[containers.Container], list[AnyProvider]], self.provides)
        return find(arguments[0]())


def stop_resources(container: containers.Container) -> Awaitable[None] | None:
    """Stop the started resources of the tree, each before those that it depends on; go on after failures.

    Returns:
        an awaitable if a resource is async, else None.

    Raises:
        ExceptionGroup: one or more resources failed to stop.
        BaseException: one raised what is no Exception, or was interrupted by Ctrl-C; after all are stopped.
    """
    last = [resource.shutdown_alone for resource in last_resources(container) if resource.initialized]
    rest = [resource.shutdown for resource in stopping_order(others(container)) if resource.initialized]
    return _stop_all(iter([*last, *rest]), [])


def is_async(resource: AnyResource) -> bool:
    """Whether the resource starts asynchronously, as far as can be known without starting it."""
    provides = resource.provides
    if isinstance(provides, type):
        return issubclass(provides, AsyncResource)
    function = inspect.unwrap(provides) if callable(provides) else provides
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def root_of(container: containers.Container) -> containers.Container:
    """The outermost container of the tree that this one is nested in."""
    # The parent of a nested container is its provider, whose parent is the outer container.
    parent: Any = container.parent
    while parent is not None and not isinstance(parent, type):  # a class: declared there, and replaced in a derived class
        container = parent if isinstance(parent, containers.Container) else container
        parent = parent.parent
    return container


def in_force(provider: AnyProvider) -> AnyProvider:
    """The provider itself, or the last one that overrides it. Of a nested container the providers inside are overridden."""
    while provider.last_overriding is not None and not isinstance(provider, providers.Container):
        provider = provider.last_overriding
    return provider


def walk(roots: Iterable[AnyProvider], *, selected_only: bool = False, follow_found: bool = False) -> Iterator[AnyProvider]:
    """Yield these providers, then all that they depend on, each once; overriding providers in place of overridden ones.

    A `LastResource` is yielded, but not followed, because every other resource is related to it.

    Args:
        roots: where to begin.
        selected_only: of a selector, follow only the provider that it selects at this moment.
        follow_found: also follow what a `Found` finds, which walks the tree itself.
    """
    visited: set[AnyProvider] = set()
    waiting = deque(roots)
    while waiting:
        provider = in_force(waiting.popleft())
        if provider in visited:
            continue
        visited.add(provider)
        yield provider
        if selected_only and isinstance(provider, providers.Selector):
            name = cast(Callable[[], object], provider.selector)()
            waiting += [selected for key, selected in provider.providers.items() if key == name]
        elif not isinstance(provider, LastResource) and (follow_found or not isinstance(provider, Found)):
            waiting += provider.related


def declared(container: containers.Container) -> dict[AnyProvider, str]:
    """The providers that the whole tree declares, in that order and as they are in force, with their dotted names."""
    found: dict[AnyProvider, str] = {}

    def collect(inside: containers.Container, prefix: str) -> None:
        for name, provider in inside.providers.items():
            found.setdefault(in_force(provider), prefix + name)
            if isinstance(provider, providers.Container):
                collect(provider.container, f"{prefix}{name}.")

    collect(root_of(container), "")
    return found


def name_of(provider: AnyProvider, container: containers.Container) -> str:
    """The name of a provider in the tree; one without a name has that of a provider that depends on it."""
    names = declared(container)
    if provider in names:
        return f"`{names[provider]}`"
    # The last ones first: a container depends on everything inside.
    for user, name in reversed(names.items()):
        if not isinstance(user, LastResource | providers.Container) and provider in walk([user]):
            return f"what `{name}` depends on"
    return repr(provider)


def others(container: containers.Container) -> list[AnyResource]:
    """All resources of the whole tree except the last resources."""
    return [provider for provider in _resources(container) if not isinstance(provider, LastResource)]


def last_resources(container: containers.Container) -> list[LastResource[Any]]:
    """The last resources of the whole tree: one for each bus."""
    return [provider for provider in _resources(container) if isinstance(provider, LastResource)]


def stopping_order[Stopped: AnyProvider](stopped: list[Stopped]) -> Iterator[Stopped]:
    """Yield each provider before those that it depends on, directly or not."""
    needs = {provider: set(walk([provider], follow_found=True)) - {provider} for provider in stopped}
    while needs:
        free = [provider for provider in needs if not any(provider in needed for needed in needs.values())]
        for provider in free or list(needs):  # providers in a circle have no order
            yield provider
            del needs[provider]


def _resources(container: containers.Container) -> Iterator[AnyResource]:
    for provider in walk(declared(container)):
        if isinstance(provider, providers.BaseResource):
            yield provider


def _stop_all(stops: Iterator[Any], errors: list[BaseException]) -> Awaitable[None] | None:
    """Call each. If one returns an awaitable, return a coroutine that does the rest."""
    for stop in stops:
        try:
            stopping = stop()
        except BaseException as error:  # Ctrl-C too: it ends a stop that hangs, and the others must be stopped
            errors.append(error)
        else:
            if inspect.isawaitable(stopping):
                return _stop_rest(stopping, stops, errors)
    _raise(errors)
    return None


async def _stop_rest(stopping: Awaitable[None], stops: Iterator[Any], errors: list[BaseException]) -> None:
    try:
        await stopping
    except BaseException as error:  # also if this task is cancelled while it waits
        errors.append(error)
    rest = _stop_all(stops, errors)
    if rest is not None:
        await rest


def _raise(errors: list[BaseException]) -> None:
    failures = [error for error in errors if isinstance(error, Exception)]
    for error in errors:
        if not isinstance(error, Exception):
            for failure in failures:
                error.add_note(f"and a resource failed to stop: {failure!r}")
            raise error
    if failures:
        raise ExceptionGroup("resources failed to stop", failures)
