"""When handlers are attached, in relation to every other resource, and to which client."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from enum import auto
from functools import partial
from typing import Any

import pytest
from dependency_injector import containers, providers

from eventbus import BaseEvent, BaseEventTopic, BaseEventType, EventBusProxy, InvalidHandler, on
from eventbus.container import EventBusContainer, lifespan
from eventbus.transports.memory import MemoryTransport
from tests.container.support import (
    OTHER,
    STARTED,
    STOPPED,
    TOPIC,
    UPDATED,
    App,
    Listener,
    consumers,
    leaving_nothing,
    received,
)
from tests.support import PATIENCE, Bus, MyEvent, MyEventTopic, event, eventually


def test_topics_of_handlers_are_subscribed(at_proxy: EventBusProxy) -> None:
    """The client subscribes to the topics that the handlers name, and to no others."""

    class Two:
        def __init__(self) -> None:
            self.got: list[tuple[str, float]] = []

        @on(UPDATED, topic=TOPIC)
        def first(self, event: MyEvent) -> None:
            self.got.append(("first", event.value))

        @on(UPDATED, topic=OTHER)
        def second(self, event: MyEvent) -> None:
            self.got.append(("second", event.value))

    class TwoApp(containers.DeclarativeContainer):
        bus = providers.Container(EventBusContainer, event_class=MyEvent)
        two = providers.Singleton(Two)

    with lifespan(TwoApp()) as app:
        client = app.bus.client()
        assert client.topics == {"my_service", "other"}
        client.emit_event(event(1), TOPIC)
        client.emit_event(event(2), MyEventTopic.my_service_scheduler)
        client.emit_event(event(3), OTHER)
        eventually(lambda: app.two().got == [("first", 1), ("second", 3)])


def test_without_a_topic_a_handler_hears_all(at_proxy: EventBusProxy) -> None:
    """If no handler names a topic and no setting does, the client subscribes to every topic."""

    class All:
        def __init__(self) -> None:
            self.values: list[float] = []

        @on(UPDATED)
        def keep(self, event: MyEvent) -> None:
            self.values.append(event.value)

    class AllApp(containers.DeclarativeContainer):
        bus = providers.Container(EventBusContainer, event_class=MyEvent)
        everything = providers.Singleton(All)

    with lifespan(AllApp()) as app:
        assert app.bus.client().topics == {""}
        for number, topic in enumerate(MyEventTopic):
            app.bus.client().emit_event(event(number), topic)
        eventually(lambda: app.everything().values == [0, 1, 2])


def test_handlers_with_and_without_a_topic(at_proxy: EventBusProxy) -> None:
    """A handler without a topic, beside one with a topic, gets what the client is subscribed to, as @on's docstring says."""

    class Both:
        def __init__(self) -> None:
            self.got: list[tuple[str, float]] = []

        @on(UPDATED)
        def plain(self, event: MyEvent) -> None:
            self.got.append(("plain", event.value))

        @on(UPDATED, topic=OTHER)
        def narrow(self, event: MyEvent) -> None:
            self.got.append(("narrow", event.value))

    class BothApp(containers.DeclarativeContainer):
        bus = providers.Container(EventBusContainer, event_class=MyEvent)
        both = providers.Singleton(Both)

    with lifespan(BothApp()) as app:
        app.bus.client().emit_event(event(1), TOPIC)
        app.bus.client().emit_event(event(2), OTHER)
        eventually(lambda: sorted(app.both().got) == [("narrow", 2), ("plain", 2)])


def test_several_types_and_stacked_marks(at_proxy: EventBusProxy) -> None:
    """One handler can be for several types, and carry several @on; it is called once for each event."""

    class Many:
        def __init__(self) -> None:
            self.got: list[str] = []

        @on(STARTED, STOPPED, topic=TOPIC)
        @on(UPDATED, topic=OTHER)
        def keep(self, event: MyEvent) -> None:
            self.got.append(event.type)

    class ManyApp(containers.DeclarativeContainer):
        bus = providers.Container(EventBusContainer, event_class=MyEvent)
        many = providers.Singleton(Many)

    with lifespan(ManyApp()) as app:
        client = app.bus.client()
        client.emit_event(event(0, UPDATED), TOPIC)  # for nobody
        client.emit_event(event(0, STARTED), TOPIC)
        client.emit_event(event(0, UPDATED), OTHER)
        client.emit_event(event(0, STOPPED), TOPIC)
        eventually(lambda: app.many().got == ["started", "updated", "stopped"])


def test_without_handlers_nothing_consumes(at_proxy: EventBusProxy) -> None:
    """A service that only emits subscribes to nothing and has no consumer thread."""

    class Quiet(containers.DeclarativeContainer):
        bus = providers.Container(EventBusContainer, event_class=MyEvent)

    with lifespan(Quiet()) as app:
        assert app.bus.client().topics == set()
        assert consumers() == 0


def test_a_handler_can_emit(at_proxy: EventBusProxy) -> None:
    """A handler may use the client, also while the service is only just starting."""

    class Echo:
        def __init__(self, bus: Bus) -> None:
            self.bus = bus
            self.echoed: list[float] = []

        @on(UPDATED, topic=TOPIC)
        def echo(self, event: MyEvent) -> None:
            self.bus.emit_event(event, OTHER)

        @on(UPDATED, topic=OTHER)
        def hear(self, event: MyEvent) -> None:
            self.echoed.append(event.value)

    class EchoApp(containers.DeclarativeContainer):
        bus = providers.Container(EventBusContainer, event_class=MyEvent)
        echo = providers.Singleton(Echo, bus=bus.client)

    with lifespan(EchoApp()) as app:
        app.bus.client().emit_event(event(5), TOPIC)
        eventually(lambda: app.echo().echoed == [5])


# Order


def order_app(note: Callable[[str], None]) -> containers.DeclarativeContainer:
    """An app with resources at several places of the tree, each of which says when it has started and when it stops."""

    def database() -> Iterator[str]:
        note("start database")
        yield "database"
        note("stop database")

    def cache() -> Iterator[str]:
        note("start cache")
        yield "cache"
        note("stop cache")

    def deep() -> Iterator[str]:
        note("start deep")
        yield "deep"
        note("stop deep")

    class Nested(containers.DeclarativeContainer):
        deep_resource = providers.Resource(deep)

    class Store(Listener):
        def __init__(self, bus: Bus, database: str) -> None:
            super().__init__(bus)
            self.database = database

        @on(UPDATED, topic=TOPIC)
        def keep(self, event: MyEvent) -> None:
            note("handle")
            super().keep(event)

    class OrderApp(containers.DeclarativeContainer):
        database_resource = providers.Resource(database)
        bus = providers.Container(EventBusContainer, event_class=MyEvent)
        nested = providers.Container(Nested)
        cache_resource = providers.Resource(cache)
        store = providers.Singleton(Store, bus=bus.client, database=database_resource)

    return OrderApp()


def test_every_resource_is_started_before_handlers_may_run(at_proxy: EventBusProxy) -> None:
    """Whatever order dependency_injector takes: no consumer runs before the last other resource has started."""
    for _ in range(12):
        lines: list[tuple[str, int]] = []
        with lifespan(order_app(lambda line, lines=lines: lines.append((line, consumers())))):  # type: ignore[misc] # bound early
            assert sorted(lines) == [("start cache", 0), ("start database", 0), ("start deep", 0)]
            assert consumers() == 1


def test_subscriptions_stop_before_every_resource(at_proxy: EventBusProxy) -> None:
    """Whatever order dependency_injector takes: when the first resource stops, no handler can run any more."""
    for plain in [True, False] * 15:
        lines: list[tuple[str, int]] = []
        app = order_app(lambda line, lines=lines: lines.append((line, consumers())))  # type: ignore[misc] # bound early
        if plain:
            app.init_resources()
            app.shutdown_resources()
        else:
            with lifespan(app):
                pass
        assert sorted(lines[3:]) == [("stop cache", 0), ("stop database", 0), ("stop deep", 0)]


def test_a_running_handler_ends_before_the_first_resource_stops(at_proxy: EventBusProxy) -> None:
    """Stopping waits for the handler that is running: its database is there to its end."""
    began, lines = threading.Event(), []

    def database() -> Iterator[str]:
        yield "database"
        lines.append("database stopped")

    class Slow:
        @on(UPDATED, topic=TOPIC)
        def handle(self, event: MyEvent) -> None:
            began.set()
            # Until the consumer gets its order to stop, that is until after the block of `lifespan`.
            eventually(lambda: leaving.is_set(), PATIENCE)
            lines.append("handled")

    class SlowApp(containers.DeclarativeContainer):
        bus = providers.Container(EventBusContainer, event_class=MyEvent)
        database_resource = providers.Resource(database)
        slow = providers.Singleton(Slow)

    leaving = threading.Event()
    with lifespan(SlowApp()) as app:
        app.bus.client().emit_event(event(), TOPIC)
        assert began.wait(PATIENCE)
        threading.Timer(0.05, leaving.set).start()
    assert lines == ["handled", "database stopped"]


def test_async_resources_are_started_before_handlers_may_run(at_proxy: EventBusProxy) -> None:
    """Async resources beside ours are awaited before anything is handled, and stop after it, in every order."""

    async def main() -> None:
        lines: list[tuple[str, int]] = []

        async def database() -> AsyncIterator[str]:
            await asyncio.sleep(0)
            lines.append(("start database", consumers()))
            yield "database"
            lines.append(("stop database", consumers()))
            await asyncio.sleep(0)

        def cache() -> Iterator[str]:
            lines.append(("start cache", consumers()))
            yield "cache"
            lines.append(("stop cache", consumers()))

        class Store(Listener):
            def __init__(self, bus: Bus, database: str) -> None:
                super().__init__(bus)
                self.database = database

        class AsyncApp(containers.DeclarativeContainer):
            bus = providers.Container(EventBusContainer, event_class=MyEvent)
            cache_resource = providers.Resource(cache)
            database_resource = providers.Resource(database)
            store = providers.Singleton(Store, bus=bus.client, database=database_resource)

        for _ in range(12):
            lines.clear()
            async with lifespan(AsyncApp()) as app:
                assert sorted(lines) == [("start cache", 0), ("start database", 0)]
                assert consumers() == 1
                made: Any = app.store()  # of what dependency_injector types as a plain object
                store: Store = await made
                assert store.database == "database"
                app.bus.client().emit_event(event(1), TOPIC)
                await asyncio.to_thread(eventually, partial(received, store, [1]))
            assert sorted(lines[2:]) == [("stop cache", 0), ("stop database", 0)]

    with leaving_nothing():
        asyncio.run(main())


# Async handlers


class Waiting:
    """A service with an async handler that goes on when the test says so."""

    def __init__(self) -> None:
        self.began, self.go = asyncio.Event(), asyncio.Event()
        self.loops: list[asyncio.AbstractEventLoop] = []
        self.finished: list[float] = []

    @on(UPDATED, topic=TOPIC)
    async def handle(self, event: MyEvent) -> None:
        self.loops.append(asyncio.get_running_loop())
        self.began.set()
        await self.go.wait()
        self.finished.append(event.value)


class WaitingApp(containers.DeclarativeContainer):
    bus = providers.Container(EventBusContainer, event_class=MyEvent)
    waiting = providers.Singleton(Waiting)


async def _nothing() -> AsyncIterator[None]:
    yield


class WaitingBesideAsync(WaitingApp):
    beside = providers.Resource(_nothing)


@pytest.mark.parametrize("app_class", [WaitingApp, WaitingBesideAsync])
def test_async_handlers_run_on_the_running_loop(at_proxy: EventBusProxy, app_class: type[WaitingApp]) -> None:
    """Inside `async with lifespan`, async handlers run on that loop, and its end waits for those in flight."""

    async def main() -> Waiting:
        async with lifespan(app_class()) as app:
            waiting: Waiting = app.waiting()
            app.bus.client().emit_event(event(1), TOPIC)
            async with asyncio.timeout(PATIENCE):
                await waiting.began.wait()
            asyncio.get_running_loop().call_later(0.05, waiting.go.set)
        assert waiting.finished == [1]
        assert waiting.loops == [asyncio.get_running_loop()]
        return waiting

    with leaving_nothing():
        asyncio.run(main())


def test_async_handlers_without_a_loop(at_proxy: EventBusProxy) -> None:
    """In a service without a loop, async handlers run too, and the end of `lifespan` waits for those in flight."""
    began, go = threading.Event(), threading.Event()
    finished: list[float] = []

    class Service:
        @on(UPDATED, topic=TOPIC)
        async def handle(self, event: MyEvent) -> None:
            began.set()
            await asyncio.to_thread(go.wait, PATIENCE)
            finished.append(event.value)

    class ServiceApp(containers.DeclarativeContainer):
        bus = providers.Container(EventBusContainer, event_class=MyEvent)
        service = providers.Singleton(Service)

    with leaving_nothing():
        with lifespan(ServiceApp()) as app:
            app.bus.client().emit_event(event(2), TOPIC)
            assert began.wait(PATIENCE)
            threading.Timer(0.05, go.set).start()
        assert finished == [2]


# What is refused


class StrangeType(BaseEventType):
    odd = auto()


class StrangeTopic(BaseEventTopic):
    attic = auto()


class StrangeEvent(BaseEvent[StrangeType]):
    type: StrangeType
    depth: int


class WithoutEvent:
    @on(UPDATED)
    def handle(self) -> None: ...


class WithTooMuch:
    @on(UPDATED)
    def handle(self, event: MyEvent, second: int) -> None: ...


class OfAnotherEnum:
    @on(StrangeType.odd)
    def handle(self, event: MyEvent) -> None: ...


class WithoutEventAsync:
    @on(UPDATED)
    async def handle(self) -> None: ...


class StaticWithoutEvent:
    @on(UPDATED)
    @staticmethod
    def handle() -> None: ...


@pytest.mark.parametrize("wrong", [WithoutEvent, WithTooMuch, OfAnotherEnum, WithoutEventAsync, StaticWithoutEvent])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_wrong_handler_is_refused(at_proxy: EventBusProxy, wrong: type[Any], asynchronous: bool) -> None:
    """A handler that cannot be called with an event, or is for a type of another enum, raises InvalidHandler with its name;
    what had started is stopped, and nothing of it runs.
    """
    lines = []

    def database() -> Iterator[None]:
        lines.append("start")
        yield
        lines.append("stop")

    class WrongApp(App):
        database_resource = providers.Resource(database)
        wrong_service = providers.Singleton(wrong)

    async def run() -> None:
        async with lifespan(WrongApp()):
            raise AssertionError("it must not start")

    def run_plain() -> None:
        with lifespan(WrongApp()):
            raise AssertionError("it must not start")

    with leaving_nothing(), pytest.raises(InvalidHandler, match=rf"{wrong.__name__}\.handle"):
        asyncio.run(run()) if asynchronous else run_plain()
    assert lines == ["start", "stop"]


def test_the_refusal_of_a_type_says_which_are_known(at_proxy: EventBusProxy) -> None:
    """The error for a type of another enum names that type and the enums of this bus."""

    class WrongApp(containers.DeclarativeContainer):
        bus = providers.Container(EventBusContainer, event_class=MyEvent)
        wrong = providers.Singleton(OfAnotherEnum)

    with pytest.raises(InvalidHandler, match=r"StrangeType\.odd.*MyEventType"), lifespan(WrongApp()):
        raise AssertionError("it must not start")


def test_a_refused_start_can_be_repaired(at_proxy: EventBusProxy) -> None:
    """After a start that failed, the same container starts when the cause is gone."""

    class Repairable(App):
        service = providers.Singleton(WithoutEvent)

    app = Repairable()
    with pytest.raises(InvalidHandler), lifespan(app):
        raise AssertionError("it must not start")
    app.service.override(providers.Object(None))
    with lifespan(app):
        app.bus.client().emit_event(event(1), TOPIC)
        eventually(lambda: app.listener().values == [1])


# Several buses


class Bridge:
    """Listens on two buses."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self.depths: list[int] = []

    @on(UPDATED, topic=TOPIC)
    def update(self, event: MyEvent) -> None:
        assert type(event) is MyEvent
        self.values.append(event.value)

    @on(StrangeType.odd, topic=StrangeTopic.attic)
    def wonder(self, event: StrangeEvent) -> None:
        assert type(event) is StrangeEvent
        self.depths.append(event.depth)


class BridgeApp(containers.DeclarativeContainer):
    bus = providers.Container(EventBusContainer, event_class=MyEvent)
    strange = providers.Container(EventBusContainer, event_class=StrangeEvent)
    bridge = providers.Singleton(Bridge)


def test_two_buses(at_proxy: EventBusProxy) -> None:
    """Two buses with different event classes in one tree each get the handlers of their own types, and only their topics."""
    with leaving_nothing(), lifespan(BridgeApp()) as app:
        assert app.bus.client().topics == {"my_service"}
        assert app.strange.client().topics == {"attic"}
        app.bus.client().emit_event(event(1), TOPIC)
        app.strange.client().emit_event(StrangeEvent(type=StrangeType.odd, depth=2), StrangeTopic.attic)
        eventually(lambda: app.bridge().values == [1] and app.bridge().depths == [2])


def test_two_buses_stop_before_every_resource(at_proxy: EventBusProxy) -> None:
    """With two buses, both have stopped when the first other resource stops, and start when all have started."""
    for _ in range(15):
        seen: list[int] = []

        def database(seen: list[int] = seen) -> Iterator[None]:
            seen.append(consumers())
            yield
            seen.append(consumers())

        class WithDatabase(BridgeApp):
            database_resource = providers.Resource(database)

        with lifespan(WithDatabase()):
            assert consumers() == 2
        assert seen == [0, 0]


def test_a_bus_in_a_nested_container(at_proxy: EventBusProxy) -> None:
    """A bus deep inside finds the handlers of the whole tree, above, beside and below it."""

    class Services(containers.DeclarativeContainer):
        client: providers.Dependency[Bus] = providers.Dependency()
        listener = providers.Singleton(Listener, bus=client)

    class Core(containers.DeclarativeContainer):
        bus = providers.Container(EventBusContainer, event_class=MyEvent)

    class Root(containers.DeclarativeContainer):
        core: Any = providers.Container(Core)
        services: Any = providers.Container(Services, client=core.bus.client)
        above = providers.Singleton(Listener, bus=core.bus.client)

    with leaving_nothing(), lifespan(Root()) as app:
        app.core.bus.client().emit_event(event(1), TOPIC)
        eventually(lambda: app.above().values == [1] and app.services.listener().values == [1])


def test_two_services_of_one_class(at_proxy: EventBusProxy) -> None:
    """Two providers of one class give two listeners: each of the objects handles every event once."""

    class Twins(containers.DeclarativeContainer):
        bus = providers.Container(EventBusContainer, event_class=MyEvent)
        one = providers.Singleton(Listener, bus=bus.client)
        two = providers.Singleton(Listener, bus=bus.client)

    with lifespan(Twins()) as app:
        app.bus.client().emit_event(event(1), TOPIC)
        app.bus.client().emit_event(event(2), TOPIC)
        eventually(lambda: (app.one().values, app.two().values) == ([1, 2], [1, 2]))


def test_handlers_of_a_memory_bus() -> None:
    """Over another transport the container does the same."""
    app = App()
    app.bus.transport.override(MemoryTransport())
    with leaving_nothing(), lifespan(app):
        app.bus.client().emit_event(event(1), TOPIC)
        eventually(lambda: app.listener().values == [1])
