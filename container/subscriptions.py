"""Attaching the handlers of a whole tree of containers to a client while the tree runs."""

import inspect
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from typing import Any, cast

from dependency_injector import containers

from eventbus.container.discovery import Handler, Provided, check_injections, provide_handlers, wired_handlers
from eventbus.container.resources import AnyClient, last_resources, others
from eventbus.errors import InvalidHandler
from eventbus.events import BaseEventTopic, BaseEventType
from eventbus.handle.marks import callback_name
from eventbus.observe.hooks import EventBusHook


class Subscriptions:
    """The handlers of one client while it consumes. Made by `open_subscriptions`."""

    def __init__(self, container: containers.Container, client: AnyClient) -> None:
        self._client = client
        self._all_types = {enum for resource in last_resources(container) for enum in resource.client.event_types}
        self._attached: list[tuple[BaseEventType, Handler, BaseEventTopic | None]] = []

    def start(self, handlers: list[Handler], hooks: list[EventBusHook]) -> None:
        """Add the hooks, attach the handlers of this client's types, subscribe to their topics and start consuming.

        Raises:
            InvalidHandler: a handler cannot be called with one event, lacks an injection, or is for a type that no client of
                the tree has. Then nothing is attached.
        """
        wanted = [wanted for handler in handlers for wanted in self._wanted(handler)]
        for hook in hooks:
            self._client.add_hook(hook)
        try:
            for event_type, handler, topic in wanted:
                self._client.attach_callback(event_type, handler.callback, topic=topic)
                self._attached.append((event_type, handler, topic))
            for topic in {topic for _, _, topic in wanted if topic is not None}:
                self._client.subscribe(topic)
            if wanted and not self._client.topics:
                self._client.subscribe(None)
            if self._client.topics:
                self._client.start_consumer()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the consumer, wait for running handlers, and detach all. Idempotent."""
        self._client.stop_consumer()
        while self._attached:
            event_type, handler, topic = self._attached.pop()
            self._client.detach_callback(event_type, handler.callback, topic=topic)

    def _wanted(self, handler: Handler) -> Iterator[tuple[BaseEventType, Handler, BaseEventTopic | None]]:
        """Check the handler; yield its types that this client has, with their topics."""
        check_injections(handler.callback)
        for mark in handler.marks:
            for event_type in mark.types:
                enum = type(event_type)
                if enum in self._client.event_types or not self._all_types:
                    yield event_type, handler, mark.topic
                elif enum not in self._all_types:
                    known = " or ".join(sorted(known.__name__ for known in self._all_types))
                    raise InvalidHandler(
                        f"{callback_name(handler.callback)} is for {enum.__name__}.{event_type.name}, "
                        f"but the types on this bus are of {known}"
                    )


def open_subscriptions(
    container: containers.Container, client: AnyClient
) -> AbstractContextManager[Subscriptions] | AbstractAsyncContextManager[Subscriptions]:
    """Start all other resources of the tree. Returns a context that attaches the handlers; async if it has to await."""
    pending = [started for resource in others(container) if inspect.isawaitable(started := resource.init())]
    provided = None if pending else provide_handlers(container)
    if provided is None or any(one.is_pending for one in provided):
        return _run_async(container, client, pending, provided)
    return _run(container, client, provided)


@contextmanager
def _run(container: containers.Container, client: AnyClient, provided: list[Provided]) -> Iterator[Subscriptions]:
    subscriptions = Subscriptions(container, client)
    handlers = [*wired_handlers(container), *(handler for one in provided for handler in one.handlers())]
    subscriptions.start(handlers, [cast(EventBusHook, one.instance) for one in provided if one.is_hook])
    try:
        yield subscriptions
    finally:
        subscriptions.stop()


@asynccontextmanager
async def _run_async(
    container: containers.Container, client: AnyClient, pending: list[Awaitable[Any]], provided: list[Provided] | None
) -> AsyncIterator[Subscriptions]:
    import asyncio  # already loaded, because a loop is running

    await asyncio.gather(*pending)
    ready = [await one.awaited() for one in (provide_handlers(container) if provided is None else provided)]
    with _run(container, client, ready) as subscriptions:
        try:
            yield subscriptions
        finally:
            # In a thread, because it waits for handlers that this loop runs.
            await asyncio.to_thread(subscriptions.stop)
