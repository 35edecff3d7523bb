"""Hooks and middleware that a service's container contributes."""

import asyncio
from collections.abc import Awaitable, Iterator
from functools import partial
from typing import cast

import pytest
from dependency_injector import containers, providers

from eventbus import Delivery, EventBusHook, EventBusProxy, InvalidHandler, Middleware, Retry, StateChange, on
from eventbus.container import EventBusContainer, lifespan
from eventbus.handle.middleware import HandleNext
from tests.container.support import OTHER, TOPIC, UPDATED, App, Listener, Log, leaving_nothing
from tests.support import Bus, MyEvent, client_of, event, eventually


class Audit(EventBusHook):
    """Keeps the values that were handled, and the states."""

    def __init__(self, store: object = None) -> None:
        self.store = store
        self.values: list[float] = []
        self.states: list[str] = []
        self.failed = 0

    def handled(self, topic: str, event: object, handler: str, duration: float) -> None:
        assert isinstance(event, MyEvent)
        self.values.append(event.value)

    def state_changed(self, change: StateChange) -> None:
        self.states.append(change.state)


class Reporter(Audit):
    """A hook that needs the client."""

    def __init__(self, bus: Bus) -> None:
        super().__init__()
        self.bus = bus


class Answering(Audit):
    """A hook that is a service as well."""

    @on(UPDATED, topic=TOPIC)
    def handle(self, event: MyEvent) -> None: ...


class Audited(App):
    audit = providers.Singleton(Audit)


def run(app: App) -> None:
    """Let one event go round."""
    app.bus.client().emit_event(event(1), TOPIC)
    eventually(lambda: app.listener().values == [1])


def test_any_provider_of_a_hook_is_found(at_proxy: EventBusProxy) -> None:
    """A hook in the service's container gets everything from connect() on, without being named anywhere."""
    with lifespan(Audited()) as app:
        run(app)
        audit = app.audit()
        eventually(lambda: audit.values == [1])
        eventually(lambda: audit.states == ["connecting", "ready"])
    eventually(lambda: audit.states[-1] == "closed")


def test_a_hook_that_needs_the_client(at_proxy: EventBusProxy) -> None:
    """A hook that is given the client itself hears of what comes once everything has started."""

    class Reported(App):
        reporter = providers.Singleton(Reporter, bus=App.bus.client)

    with lifespan(Reported()) as app:
        run(app)
        reporter = app.reporter()
        eventually(lambda: reporter.values == [1])
        assert reporter.bus is app.bus.client()
    eventually(lambda: reporter.states == ["closed"])


def test_a_hook_with_handlers_is_told_once(at_proxy: EventBusProxy) -> None:
    """A service that is a hook, too, is one object, called once for each event that each handler has handled."""

    class Both(containers.DeclarativeContainer):
        bus = providers.Container(EventBusContainer, event_class=MyEvent)
        answering = providers.Singleton(Answering)

    with lifespan(Both()) as app:
        app.bus.client().emit_event(event(1), TOPIC)
        app.bus.client().emit_event(event(2), TOPIC)
        eventually(lambda: app.answering().values == [1, 2])


def test_hooks_of_nested_containers_and_overridden_ones(at_proxy: EventBusProxy) -> None:
    """Hooks are found in nested containers; one that is overridden is not used."""

    class Inner(containers.DeclarativeContainer):
        audit = providers.Singleton(Audit)

    class Outer(App):
        inner = providers.Container(Inner)

    app = Outer()
    instead = Audit()
    original = app.inner.audit
    with original.override(providers.Object(instead)), lifespan(app):
        run(app)
        eventually(lambda: instead.values == [1])


def test_two_buses_share_the_hooks_of_their_tree(at_proxy: EventBusProxy) -> None:
    """With two clients in one tree each tells every hook."""

    class Two(Audited):
        other_bus = providers.Container(EventBusContainer, event_class=MyEvent)

    with lifespan(Two()) as app:
        eventually(lambda: sorted(app.audit().states) == ["connecting", "connecting", "ready", "ready"])


def test_what_a_hook_needs_outlives_the_client(at_proxy: EventBusProxy) -> None:
    """A resource that a hook writes to stops after the client, whose last calls the hook still gets."""
    clients: list[Bus] = []
    connected: list[bool] = []
    for _ in range(10):
        log = Log()

        class Stored(App):
            store = providers.Resource(log.resource("store", on_stop=lambda: connected.append(clients[-1].is_connected())))
            audit = providers.Singleton(Audit, store=store)

        with lifespan(Stored()) as app:
            clients.append(app.bus.client())
        assert log.lines == ["start store", "stop store"]
    assert connected == [False] * 10


async def awaited_store() -> str:
    return "store"


def has_heard(audit: Audit) -> bool:
    return audit.values == [1]


def audits() -> Iterator[Audit]:
    yield Audit()


async def make_awaited() -> Audit:
    return Audit()


@pytest.mark.parametrize("client_first", [False, True])
def test_a_hook_that_is_a_resource(at_proxy: EventBusProxy, client_first: bool) -> None:
    """A hook that is started and stopped is found, in whichever order things start."""
    for _ in range(10):

        class Resourceful(App):
            audit = providers.Resource(audits)

        app = Resourceful()
        if client_first:
            app.bus.client()
        with lifespan(app):
            run(app)
            audit = app.audit()
            eventually(partial(has_heard, audit))


def test_a_hook_that_a_function_makes(at_proxy: EventBusProxy) -> None:
    """The annotated result of a function is searched, too; it is called once."""
    made: list[Audit] = []

    def make() -> Audit:
        made.append(Audit())
        return made[-1]

    class Called(App):
        audit = providers.Callable(make)

    with lifespan(Called()) as app:
        run(app)
        eventually(lambda: [audit.values for audit in made] == [[1]])


def test_a_derived_client(at_proxy: EventBusProxy) -> None:
    """If the client is overridden, hooks are added to that one."""
    app = Audited()
    with client_of(at_proxy) as client, app.bus.client.override(providers.Object(client)), lifespan(app):
        run(app)
        audit = app.audit()
        eventually(lambda: audit.values == [1])


def test_a_hook_that_is_made_asynchronously(at_proxy: EventBusProxy) -> None:
    """A singleton of a coroutine function is awaited and added."""

    class Async(App):
        audit = providers.Singleton(make_awaited)

    async def main() -> None:
        async with lifespan(Async()) as app:
            audit = await cast(Awaitable[Audit], app.audit())
            app.bus.client().emit_event(event(1), TOPIC)
            await asyncio.to_thread(eventually, lambda: audit.values == [1])

    asyncio.run(main())


def test_a_hook_that_has_to_be_awaited(at_proxy: EventBusProxy) -> None:
    """A hook that needs an async resource is added once that has started."""

    class Async(App):
        store = providers.Resource(awaited_store)
        audit = providers.Singleton(Audit, store=store)

    async def main() -> None:
        async with lifespan(Async()) as app:
            audit = await cast(Awaitable[Audit], app.audit())
            app.bus.client().emit_event(event(1), TOPIC)
            await asyncio.to_thread(eventually, lambda: audit.values == [1])
            assert audit.store == "store"

    asyncio.run(main())


# Middleware


class Doubling(Middleware):
    """Hands on each event twice."""

    def handle(self, delivery: Delivery, call_next: HandleNext) -> object:
        call_next(delivery)
        return call_next(delivery)


def test_middleware_is_given_to_the_bus(at_proxy: EventBusProxy) -> None:
    """Middleware is listed in the order in which it is called, with providers like everything else."""

    class Around(containers.DeclarativeContainer):
        retry = providers.Singleton(Retry, attempts=2, interval=0.0)
        bus = providers.Container(
            EventBusContainer, event_class=MyEvent, middleware=providers.List(providers.Singleton(Doubling), retry)
        )
        listener = providers.Singleton(Listener, bus=bus.client)

    with lifespan(Around()) as app:
        app.bus.client().emit_event(event(1), TOPIC)
        eventually(lambda: app.listener().values == [1, 1])


def test_middleware_that_passes_handlers_by_stops_the_start(at_proxy: EventBusProxy) -> None:
    """An async handler that a middleware would not see is refused when the container starts, and everything is stopped."""

    class Asynchronous:
        @on(UPDATED, topic=OTHER)
        async def handle(self, event: MyEvent) -> None: ...

    class Around(containers.DeclarativeContainer):
        bus = providers.Container(
            EventBusContainer, event_class=MyEvent, middleware=providers.List(providers.Object(Doubling()))
        )
        service = providers.Singleton(Asynchronous)

    with leaving_nothing(), pytest.raises(InvalidHandler, match="Doubling has only `handle`"), lifespan(Around()):
        pass
