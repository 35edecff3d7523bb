"""`lifespan`: a container runs inside a ``with`` block."""

import asyncio
import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from weakref import WeakKeyDictionary

from dependency_injector import containers, providers

from eventbus.container.discovery import awaited
from eventbus.container.resources import AnyProvider, is_async, last_resources, name_of, others, root_of, stop_resources
from eventbus.container.subscriptions import Subscriptions

_running: "WeakKeyDictionary[containers.Container, int]" = WeakKeyDictionary()  # by root, with the process that started it


class lifespan[Root: containers.Container]:  # noqa: N801 # used like a function, as contextlib.suppress is
    """Start a container's resources, and stop them in order at the end of the block::

        with lifespan(App()) as app:
            ...
        async with lifespan(App()) as app:  # needed where a resource is async
            ...

    It calls ``init_resources()`` and ``shutdown_resources()``, and does more: if a resource fails to start, those that have
    started are stopped; if one fails to stop, the others are stopped nevertheless and all errors are raised in one group.
    Then it resets singletons, so that the container can start again. ``async with`` also waits for handlers that the loop
    runs.

    Raises:
        ExceptionGroup: one or more resources failed to stop.
        RuntimeError: the container is running already.
        TypeError: `container` is not a container, but a class for example; or a resource, or the making of an object with
            handlers, is async and this is a plain ``with``.
    """

    def __init__(self, container: Root) -> None:
        given: object = container
        if not isinstance(given, containers.Container):
            remedy = f": use lifespan({given.__name__}())" if isinstance(given, type) else ""
            raise TypeError(f"lifespan() takes a service's container, not {given!r}{remedy}")
        self._container = container

    def __enter__(self) -> Root:
        asynchronous: list[AnyProvider] = [*filter(is_async, others(self._container)), *awaited(self._container)]
        if asynchronous:
            raise TypeError(f"{name_of(asynchronous[0], self._container)} is async: use `async with lifespan(…)`")
        self._begin()
        try:
            self._container.init_resources()
        except BaseException as error:
            with _noting_on(error):
                self.__exit__(None, None, None)
            raise
        return self._container

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            stop_resources(self._container)
        finally:
            self._end()

    async def __aenter__(self) -> Root:
        self._begin()
        try:
            starting = self._container.init_resources()
            if inspect.isawaitable(starting):
                await starting
        except BaseException as error:
            with _noting_on(error):
                try:
                    await self._settle()
                finally:  # also if this task is cancelled while it waits
                    await self.__aexit__(None, None, None)
            raise
        return self._container

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for resource in last_resources(self._container):
                # An async one does this itself.
                if resource.initialized and isinstance(subscriptions := resource(), Subscriptions):
                    # In a thread, because it waits for handlers that this loop runs.
                    await asyncio.to_thread(subscriptions.stop)
        finally:  # also if this task is cancelled while it waits
            try:
                stopping = stop_resources(self._container)
                if inspect.isawaitable(stopping):
                    await stopping
            finally:
                self._end()

    def _begin(self) -> None:
        """Refuse a container that is running, because the end of this block would stop it for the other one, too."""
        root = root_of(self._container)
        process = _running.get(root)
        if process == os.getpid() or any(resource.initialized for resource in last_resources(root)):
            match process:
                case None:
                    where = "started by init_resources()"
                case running if running == os.getpid():
                    where = "in another `lifespan`"
                case _:
                    where = "started by the parent process before the fork"
            raise RuntimeError(f"this container is running already, {where}: use that one, or make another container")
        _running[root] = os.getpid()

    def _end(self) -> None:
        _running.pop(root_of(self._container), None)
        for singleton in self._container.traverse(types=[providers.BaseSingleton]):
            # As reset_singletons() does, which fails for an abstract one that nothing overrides.
            if not isinstance(singleton, providers.AbstractSingleton) or singleton.last_overriding is not None:
                singleton.reset()

    async def _settle(self) -> None:
        """Wait after a failed start for resources that are still starting: only a started one can be stopped."""
        resources = [*others(self._container), *last_resources(self._container)]
        starting = [resource() for resource in resources if resource.initialized]
        await asyncio.gather(*(one for one in starting if inspect.isawaitable(one)), return_exceptions=True)


@contextmanager
def _noting_on(error: BaseException) -> Iterator[None]:
    """Make an error of cleaning up a note of this one, so that it does not hide why the start failed."""
    try:
        yield
    except Exception as another:
        error.add_note(f"then stopping the started resources failed too: {another!r}")
