"""`run`: a container as a program, with all its services, until a signal."""

import asyncio
import inspect
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

from dependency_injector import containers, providers

from eventbus.container.discovery import provided_class
from eventbus.container.lifecycle import Lifecycle
from eventbus.container.lifespan import lifespan
from eventbus.container.resources import AnyProvider, root_of, stopping_order, walk
from eventbus.container.service import AsyncService, Service
from eventbus.container.signals import glancing, on_interrupt

type AnyService = Service[Any, Any, Any] | AsyncService[Any, Any, Any]


class _Interrupted(KeyboardInterrupt):
    """A signal came before there was anything to stop."""


def run(app: type[containers.Container] | containers.Container) -> None:
    """Run a container until SIGINT or SIGTERM, or until all its services have ended; the last line of a program::

        if __name__ == "__main__":
            run(App)

    It starts the container as `lifespan` does, on an event loop, then every `Service` and `AsyncService` that a singleton,
    object or resource of the tree provides, each after those that it is injected with. At the end it stops them in reverse,
    then the container. It returns after a signal, too. A second signal does what it does in any program: it ends one that
    hangs. When a service has given up, the others are stopped.

    Args:
        app: the container, or its class.

    Raises:
        ServiceFailed: a service has given up.
        ServiceTimeout: one did not stop in time.
        TypeError: a factory provides a service: it would make another one each time.
    """
    interruption = _Interruption()
    with suppress(_Interrupted), on_interrupt(interruption):
        asyncio.run(_run(app() if isinstance(app, type) else app, interruption))


class _Interruption:
    """What a signal does: it breaks off what is starting, and ends what runs."""

    def __init__(self) -> None:
        self.end: Callable[[], object] | None = None
        """Ends what runs; None while it starts."""

    def __call__(self) -> None:
        if self.end is None:
            raise _Interrupted
        self.end()


async def _run(container: containers.Container, interruption: _Interruption) -> None:
    loop, changed = asyncio.get_running_loop(), asyncio.Event()
    interrupted = False

    def interrupt() -> None:
        nonlocal interrupted
        interrupted = True
        loop.call_soon_threadsafe(changed.set)

    async with AsyncExitStack() as stack:
        stack.enter_context(glancing())
        await stack.enter_async_context(lifespan(container))
        providing = list(stopping_order(_service_providers(container)))
        services = [await _provided(provider) for provider in reversed(providing)]
        # From here on a signal does not break off: it is noticed when all have started.
        interruption.end = interrupt
        for service in services:
            stack.callback(service.on_end(lambda: loop.call_soon_threadsafe(changed.set)))
            await _start(service, stack)
        while not interrupted and not any(service.failure for service in services):
            if services and not any(service.is_alive for service in services):
                break
            await changed.wait()
            changed.clear()
    for service in services:
        service.raise_failure()


async def _start(service: AnyService, stack: AsyncExitStack) -> None:
    """Start the service, and have the stack stop it."""
    if isinstance(service, AsyncService):
        await stack.enter_async_context(service)
    else:
        service.start()
        # In a thread: it may wait for handlers that this loop runs.
        stack.push_async_callback(asyncio.to_thread, service.stop)


def _service_providers(container: containers.Container) -> list[AnyProvider]:
    found = []
    for provider in walk(root_of(container).providers.values(), selected_only=True):
        if issubclass(provided_class(provider), Lifecycle):
            if isinstance(provider, providers.Factory):
                name = provided_class(provider).__name__
                raise TypeError(f"a factory provides {name}: a service is one object, use providers.Singleton")
            found.append(provider)
    return found


async def _provided(provider: AnyProvider) -> AnyService:
    provided = provider()
    service: AnyService = await provided if inspect.isawaitable(provided) else provided
    return service
