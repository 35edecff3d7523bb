"""`run`: run a container and all its services as a program, until a signal."""

import asyncio
import inspect
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AsyncExitStack, suppress
from threading import Thread
from typing import Any

from dependency_injector import containers, providers

from eventbus._base.log import Log
from eventbus.container.classes import many_objects, objects_in, possible_classes
from eventbus.container.default_log import DefaultLog, default_log
from eventbus.container.lifecycle import Lifecycle
from eventbus.container.lifespans import lifespan
from eventbus.container.resources import AnyProvider, declared, last_resources, name_of, stopping_order, walk
from eventbus.container.service import AsyncService, Service
from eventbus.container.signals import on_interrupt, waking_loop
from eventbus.errors import EventBusError, InvalidSettings
from eventbus.handle.coroutines import running_loop
from eventbus.telemetry.logs import COMMAND

_log = Log(COMMAND)

type AnyService = Service[Any, Any, Any] | AsyncService[Any, Any, Any]


class _Interrupted(KeyboardInterrupt):
    """A signal arrived while the container was starting."""


def run(app: type[containers.Container] | containers.Container) -> None:
    """Run a container until SIGINT or SIGTERM, or until all its services have ended. The last line of a program::

        if __name__ == "__main__":
            run(App)

    It starts the container as `lifespan` does, on an event loop, then every `Service` and `AsyncService` that a singleton,
    object or resource of the tree provides, each after those that it is injected with. At the end it stops them in reverse
    order, then the container. After a signal it returns normally, also while it connects. A second signal has its usual
    effect, which ends a program that hangs. If a service fails finally, the others are stopped.

    If the program has not configured `logging`, the log goes to stderr from INFO on: what it is connected to, what it
    handles, which services run. ``EVENTBUS_LOG_FORMAT=json`` makes it JSON.

    Args:
        app: the container, or its class.

    Raises:
        SystemExit: from an `EventBusError` that the log has on one line; with status 1: the container cannot start, because
            there is no proxy for example; a service has failed finally (`ServiceFailed`), or did not stop in time; with
            status 2: a setting is bad, or an extra is missing.
        RuntimeError: an event loop is running in this thread.
        TypeError: `app` is not a container; or a factory or a callable provides a service: that is a new one with each call.
    """
    if running_loop() is not None:
        raise RuntimeError(
            "run() makes its own event loop, but one is running here: use `async with lifespan(…)`, and start the services"
        )
    interruption = _Interruption()
    with default_log() as log, suppress(_Interrupted), on_interrupt(interruption):
        try:
            container: object = app() if isinstance(app, type) else app
            if not isinstance(container, containers.Container):
                raise TypeError(f"run() takes a service's container or its class, not {app!r}")
            asyncio.run(_run(container, interruption, log))
        except EventBusError as error:
            # Its text says what to do, and where it was raised does not help anybody.
            status = 2 if isinstance(error, InvalidSettings) else 1
            _log.error("%s", error, error=type(error).__name__, status=status)
            raise SystemExit(status) from error


class _Interruption:
    """The effect of a signal: it interrupts a start, and ends a running program."""

    def __init__(self) -> None:
        self.end: Callable[[], object] | None = None
        """Ends the running program; None while it is starting."""

    def __call__(self) -> None:
        if self.end is None:
            raise _Interrupted
        self.end()


async def _run(container: containers.Container, interruption: _Interruption, log: DefaultLog) -> None:
    loop, changed = asyncio.get_running_loop(), asyncio.Event()
    interrupted = False

    def interrupt() -> None:
        nonlocal interrupted
        interrupted = True
        if not loop.is_closed():  # it is closed in the last few steps of run()
            loop.call_soon_threadsafe(changed.set)

    services: list[AnyService] = []
    # Suppressed here too, because asyncio would report a task that ends with it.
    with suppress(_Interrupted), waking_loop():
        async with lifespan(container), AsyncExitStack() as stack:
            log.write_kept()
            providing = list(stopping_order(_service_providers(container)))
            for provider in reversed(providing):
                services += [service for service in await _provided(provider) if service not in services]
            if not services and not last_resources(container):
                _log.warning(
                    "the container has neither a bus nor a service: it does nothing until a signal ends it",
                    reason="nothing to run",
                )
            # From here on a signal does not interrupt: it is noticed when all services have started.
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
        # In a thread, because it may wait for handlers that this loop runs.
        stack.push_async_callback(_in_thread, service.stop)


async def _in_thread(action: Callable[[], object]) -> None:
    """Like `asyncio.to_thread`, but the program can end while the thread hangs."""
    outcome: Future[None] = Future()
    outcome.set_running_or_notify_cancel()  # so that a cancelled waiter cannot cancel it

    def act() -> None:
        try:
            action()
        except BaseException as error:
            outcome.set_exception(error)
        else:
            outcome.set_result(None)

    Thread(target=act, name="eventbus-stopping", daemon=True).start()
    await asyncio.wrap_future(outcome)


def _service_providers(container: containers.Container) -> list[AnyProvider]:
    """The providers of services in the whole tree, the last declared first."""
    found = []
    for provider in walk(declared(container), selected_only=True):
        # A callable with another function than a class may only hand on what other providers provide.
        if isinstance(provider, providers.Callable) and not isinstance(provider.provides, type):
            continue
        services = [cls for cls in possible_classes(provider) if issubclass(cls, Lifecycle)]
        if services and (kind := many_objects(provider)):
            raise TypeError(
                f"{name_of(provider, container)} is a {kind} and provides {services[0].__name__}: a service is one object, "
                "use providers.Singleton"
            )
        if services:
            found.append(provider)
    return found[::-1]


async def _provided(provider: AnyProvider) -> list[AnyService]:
    """The services that a provider provides: one, or none if another class was possible."""
    provided = provider()
    if inspect.isawaitable(provided):
        provided = await provided
    return [one for one in objects_in(provided) if isinstance(one, Service | AsyncService)]
