"""Attaching the handlers of a whole tree of containers to a client while the tree runs."""

import inspect
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any

from dependency_injector import containers

from eventbus._base.log import Log
from eventbus.container.discovery import Discovery, check_injections, collect_handlers, discover, undecorated
from eventbus.container.resources import AnyClient, last_resources, others
from eventbus.errors import InvalidHandler
from eventbus.events import BaseEventTopic, BaseEventType
from eventbus.handle.marks import Handler, callback_name, check_event_class
from eventbus.observe.hooks import EventBusHook

_log = Log()

type Wanted = tuple[BaseEventType, Handler, BaseEventTopic | None, bool]


class Subscriptions:
    """The handlers of one client while it consumes. Made by `open_subscriptions`."""

    def __init__(self, container: containers.Container, client: AnyClient) -> None:
        self._client = client
        self._all_types = {enum for resource in last_resources(container) for enum in resource.client.event_types}
        self._attached: list[Wanted] = []

    def start(self, handlers: list[Handler], hooks: list[EventBusHook]) -> None:
        """Add the hooks, attach the handlers of this client's types, subscribe to their topics and start consuming.

        Raises:
            InvalidHandler: a handler cannot be called with one event, lacks an injection, is for a type that no client of
                the tree has, or is annotated with another class than its events have. Then nothing is attached.
        """
        wanted = [wanted for handler in handlers for wanted in self._wanted(handler)]
        for hook in hooks:
            self._client.add_hook(hook)
        try:
            for event_type, handler, topic, answers in wanted:
                self._client.attach_callback(event_type, handler.callback, topic=topic, answers=answers)
                self._attached.append((event_type, handler, topic, answers))
            for topic in {topic for _, _, topic, _ in wanted if topic is not None}:
                self._client.subscribe(topic)
            if wanted and not self._client.topics:
                self._client.subscribe(None)
            if self._client.topics:
                self._client.start_consumer()
        except BaseException:
            self.stop()
            raise
        for handler in handlers:
            self._log_handler(handler, [one for one in wanted if one[1] is handler])

    def stop(self) -> None:
        """Stop the consumer, wait for running handlers, and detach all. Idempotent."""
        self._client.stop_consumer()
        while self._attached:
            event_type, handler, topic, _ = self._attached.pop()
            self._client.detach_callback(event_type, handler.callback, topic=topic)

    def _log_handler(self, handler: Handler, wanted: list[Wanted]) -> None:
        """Say which events a handler handles, in the order of its marks."""
        if not wanted:  # it is for another bus
            return
        types_on: dict[str, list[str]] = {}
        for event_type, _, topic, _ in wanted:
            types_on.setdefault("every subscribed topic" if topic is None else topic.value, []).append(event_type.value)
        _log.info(
            "handler %s: %s",
            callback_name(handler.callback),
            "; ".join(f"{', '.join(types)} on {topic}" for topic, types in types_on.items()),
            handler=callback_name(handler.callback),
            type=", ".join(event_type.value for event_type, *_ in wanted),
            topic=", ".join(types_on),
        )

    def _wanted(self, handler: Handler) -> Iterator[Wanted]:
        """Check the handler; yield its types that this client has, with their topics."""
        check_injections(handler.callback)
        for mark in handler.marks:
            for event_type in mark.types:
                enum = type(event_type)
                if enum in self._client.event_types or not self._all_types:
                    self._check_class(handler, event_type)
                    yield event_type, handler, mark.topic, mark.answers
                elif enum not in self._all_types:
                    known = " or ".join(sorted(known.__name__ for known in self._all_types))
                    raise InvalidHandler(
                        f"{callback_name(handler.callback)} is for {enum.__name__}.{event_type.name}, "
                        f"but the types on this bus are of {known}"
                    )

    def _check_class(self, handler: Handler, event_type: BaseEventType) -> None:
        classes = self._client.event_classes(event_type)
        if not classes:
            raise InvalidHandler(
                f"{callback_name(handler.callback)} is for {type(event_type).__name__}.{event_type.name}, "
                "and no event class of this bus has that type"
            )
        check_event_class(undecorated(handler.callback), classes)


def open_subscriptions(
    container: containers.Container, client: AnyClient
) -> AbstractContextManager[Subscriptions] | AbstractAsyncContextManager[Subscriptions]:
    """Start all other resources of the tree. Returns a context that attaches the handlers; async if it has to await."""
    pending = [started for resource in others(container) if inspect.isawaitable(started := resource.init())]
    discovery = None if pending else discover(container)
    if discovery is None or any(one.is_pending for one in discovery.provided):
        return _run_async(container, client, pending, discovery)
    return _run(container, client, discovery)


@contextmanager
def _run(container: containers.Container, client: AnyClient, discovery: Discovery) -> Iterator[Subscriptions]:
    subscriptions = Subscriptions(container, client)
    is_first = last_resources(container)[0].client is client  # of several buses in one tree
    handlers = collect_handlers(container, discovery, warn=is_first)
    subscriptions.start(handlers, [hook for one in discovery.provided for hook in one.hooks()])
    try:
        yield subscriptions
    finally:
        subscriptions.stop()


@asynccontextmanager
async def _run_async(
    container: containers.Container, client: AnyClient, pending: list[Awaitable[Any]], discovery: Discovery | None
) -> AsyncIterator[Subscriptions]:
    import asyncio  # already loaded, because a loop is running

    await asyncio.gather(*pending)
    discovery = discover(container) if discovery is None else discovery
    ready = replace(discovery, provided=[await one.awaited() for one in discovery.provided])
    with _run(container, client, ready) as subscriptions:
        try:
            yield subscriptions
        finally:
            # In a thread, because it waits for handlers that this loop runs.
            await asyncio.to_thread(subscriptions.stop)
