"""Attaching the handlers of a whole tree of containers to a client while the tree runs."""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from threading import Event, current_thread
from time import perf_counter
from typing import Any

from dependency_injector import containers

from eventbus._base.clock import clock
from eventbus._base.deadline import Deadline
from eventbus._base.log import Log
from eventbus._base.printable import printable
from eventbus.container.discovery import Discovery, check_injections, collect_handlers, discover, undecorated
from eventbus.container.periodic import Periodic
from eventbus.container.resources import AnyClient, last_resources, others
from eventbus.errors import InvalidHandler, reason_of
from eventbus.events import BaseEventTopic, BaseEventType
from eventbus.handle.coroutines import ClientClosing, CoroutineRunner, running_loop
from eventbus.handle.handler_options import HandlerOptions
from eventbus.handle.marks import Handler, Mark, callback_name, check_event_class, check_mark, is_async, widest_starts
from eventbus.observe.hooks import EventBusHook

_log = Log()

_MAX_REASON_CHARACTERS = 500  # of an error, in the log

type Wanted = tuple[BaseEventType, Handler, BaseEventTopic | None, HandlerOptions]


class Subscriptions:
    """The handlers of one client while it consumes. Made by `open_subscriptions`."""

    def __init__(self, container: containers.Container, client: AnyClient) -> None:
        self._client = client
        self._all_types = {enum for resource in last_resources(container) for enum in resource.client.event_types}
        self._attached: list[Wanted] = []
        self._periodic: list[Periodic] = []

    def start(self, handlers: list[Handler], hooks: list[EventBusHook], *, periodic: bool = True) -> None:
        """Add the hooks, attach the handlers of this client's types, subscribe to their topics and start consuming.

        Args:
            handlers: those of the tree.
            hooks: to be added.
            periodic: whether to start what is marked with `@every`: only one bus of the tree does.

        Raises:
            InvalidHandler: a handler cannot be called with one event, lacks an injection, is for a type that no client of
                the tree has, or is annotated with another class than its events have. Then nothing is attached.
        """
        wanted = [wanted for handler in handlers for wanted in self._wanted(handler)]
        for hook in hooks:
            self._client.add_hook(hook)
        try:
            for event_type, handler, topic, options in wanted:
                self._client.attach_marked(event_type, handler.callback, topic, options)
                self._attached.append((event_type, handler, topic, options))
            starts = widest_starts(mark for _, handler, *_ in wanted for mark in handler.marks)
            for topic in {topic for _, _, topic, _ in wanted if topic is not None}:
                self._client.subscribe_marked(topic, starts.get(topic))
            if wanted and not self._client.topics:
                self._client.subscribe(None)
            if self._client.topics:
                self._client.start_consumer()
            if periodic:
                self._start_periodic(handlers)
        except BaseException:
            self.stop()
            raise
        for handler in handlers:
            self._log_handler(handler, [one for one in wanted if one[1] is handler])

    def stop(self) -> None:
        """Stop what is periodic and the consumer, wait for what runs, and detach all. Idempotent."""
        periodic, self._periodic = self._periodic, []
        for one in periodic:
            one.request_stop()
        deadline = Deadline(self._client._options.close_timeout)
        with ExitStack() as stack:  # Ctrl-C ends the waiting: whoever owns the client goes on without these handlers
            stack.callback(self._detach_all)
            stack.callback(self._client.stop_consumer)
            for one in periodic:
                # On the thread of the loop that runs it, waiting would keep it from ending.
                if not one.stop(0.0 if self._coroutines.is_inside() else deadline.left()):
                    _log.warning("%s is still running, not waiting any longer", one.name, handler=one.name)

    def _detach_all(self) -> None:
        while self._attached:
            event_type, handler, topic, _ = self._attached.pop()
            self._client.detach_callback(event_type, handler.callback, topic=topic)

    @property
    def _coroutines(self) -> CoroutineRunner:
        return self._client._parts.dispatcher.coroutines

    def _start_periodic(self, handlers: list[Handler]) -> None:
        for handler in handlers:
            for mark in handler.marks:
                if mark.period is not None:
                    check_injections(handler.callback, takes_event=False)
                    name = callback_name(handler.callback)
                    call = self._calling(name, handler.callback)
                    self._periodic.append(Periodic(name, mark.period.seconds, call, delay=mark.period.delay))
                    _log.info("%s: every %g s", name, mark.period.seconds, handler=name, seconds=mark.period.seconds)
        if not self._client._options.enabled and any(
            is_async(handler.callback) for handler in handlers for mark in handler.marks if mark.period is not None
        ):
            self._coroutines.open(running_loop())  # else it is that on which the client was connected
        for one in self._periodic:
            one.start()

    def _calling(self, name: str, callback: Callable[..., object]) -> Callable[[], None]:
        """Return what calls a periodic method, and waits for it if it is ``async``."""
        hooks = self._client._parts.hooks

        def failed(error: BaseException, duration: float) -> None:
            reason = printable(reason_of(error), _MAX_REASON_CHARACTERS)
            _log.error("%s has failed: %s", name, reason, exc_info=error, handler=name, error=type(error).__name__)
            hooks.periodic_failed(name, duration, error)

        def call() -> None:
            began = perf_counter()
            try:
                result = callback()
            except BaseException as error:  # SystemExit too: it must not end the thread silently
                failed(error, perf_counter() - began)
                return
            if inspect.iscoroutine(result):
                ended, thread = Event(), current_thread()

                def done(error: BaseException | None, duration: float, returned: object) -> None:
                    if error is not None and not isinstance(error, ClientClosing):
                        failed(error, duration)
                    clock().waking(thread)
                    ended.set()

                # Also while the client's consumer is stopped, as others are called, but not once the container stops.
                self._coroutines.submit(result, done, while_closed=bool(self._periodic))
                ended.wait()

        return call

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
        if any(mark.types for mark in handler.marks):
            check_injections(handler.callback)
        for mark in handler.marks:
            for event_type in mark.types:
                enum = type(event_type)
                if enum in self._client.event_types or not self._all_types:
                    self._check_class(handler, mark, event_type)
                    yield event_type, handler, mark.topic, mark.options
                elif enum not in self._all_types:
                    known = " or ".join(sorted(known.__name__ for known in self._all_types))
                    raise InvalidHandler(
                        f"{callback_name(handler.callback)} is for {enum.__name__}.{event_type.name}, "
                        f"but the types on this bus are of {known}"
                    )

    def _check_class(self, handler: Handler, mark: Mark, event_type: BaseEventType) -> None:
        classes = self._client.event_classes(event_type)
        if not classes:
            raise InvalidHandler(
                f"{callback_name(handler.callback)} is for {type(event_type).__name__}.{event_type.name}, "
                "and no event class of this bus has that type"
            )
        check_mark(handler.callback, mark, classes)
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
    subscriptions.start(handlers, [hook for one in discovery.provided for hook in one.hooks()], periodic=is_first)
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
