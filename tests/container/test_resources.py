"""Walking a tree of providers, and the order in which resources stop."""

import asyncio
import operator
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import pytest
from dependency_injector import containers, providers

from eventbus import EventBusProxy, InvalidHandler, on
from eventbus.container import EventBusContainer, lifespan
from eventbus.container.resources import last_resources, others, root_of, stopping_order, walk
from tests.container.support import TOPIC, Log, leaving_nothing
from tests.support import Bus, MyEvent, event, eventually

ROUNDS = 12  # dependency_injector's order is random: a wrong one shows in about half of the rounds


class Reporter:
    """Something that emits, and is not a resource itself."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus

    def report(self, value: float) -> None:
        self.bus.emit_event(event(value), TOPIC)


def farewell(reporter: Reporter) -> Iterator[Reporter]:
    """A resource that emits when it starts and when it stops."""
    reporter.report(1)
    yield reporter
    reporter.report(2)


async def farewell_async(reporter: Reporter) -> AsyncIterator[Reporter]:
    """The same, async."""
    await asyncio.sleep(0)
    reporter.report(1)
    yield reporter
    await asyncio.sleep(0)
    reporter.report(2)


def through_singleton(resource: Any) -> type[containers.DeclarativeContainer]:
    class Through(containers.DeclarativeContainer):
        bus = providers.Container(EventBusContainer, event_class=MyEvent)
        reporter = providers.Singleton(Reporter, bus=bus.client)
        last_words = providers.Resource(resource, reporter=reporter)

    return Through


def through_factory(resource: Any) -> type[containers.DeclarativeContainer]:
    class Through(containers.DeclarativeContainer):
        bus = providers.Container(EventBusContainer, event_class=MyEvent)
        last_words = providers.Resource(resource, reporter=providers.Factory(Reporter, bus=bus.client))

    return Through


def through_provided(resource: Any) -> type[containers.DeclarativeContainer]:
    class Through(containers.DeclarativeContainer):
        bus = providers.Container(EventBusContainer, event_class=MyEvent)
        parts = providers.Dict(reporter=providers.Singleton(Reporter, bus=bus.client))
        last_words = providers.Resource(resource, reporter=parts.provided["reporter"])

    return Through


def through_nested_container(resource: Any) -> type[containers.DeclarativeContainer]:
    class Nested(containers.DeclarativeContainer):
        client: providers.Dependency[Bus] = providers.Dependency()
        reporter = providers.Singleton(Reporter, bus=client)
        last_words = providers.Resource(resource, reporter=reporter)

    class Through(containers.DeclarativeContainer):
        bus = providers.Container(EventBusContainer, event_class=MyEvent)
        nested = providers.Container(Nested, client=bus.client)

    return Through


def through_dependencies_container(resource: Any) -> type[containers.DeclarativeContainer]:
    class Nested(containers.DeclarativeContainer):
        bus = providers.DependenciesContainer()
        reporter = providers.Singleton(Reporter, bus=bus.client)
        last_words = providers.Resource(resource, reporter=reporter)

    class Through(containers.DeclarativeContainer):
        bus = providers.Container(EventBusContainer, event_class=MyEvent)
        nested = providers.Container(Nested, bus=bus)

    return Through


def through_another_resource(resource: Any) -> type[containers.DeclarativeContainer]:
    def between(bus: Bus) -> Iterator[Reporter]:
        yield Reporter(bus)

    class Through(containers.DeclarativeContainer):
        bus = providers.Container(EventBusContainer, event_class=MyEvent)
        between_resource = providers.Resource(between, bus=bus.client)
        wrapped = providers.Factory(lambda reporter: reporter, between_resource)
        last_words = providers.Resource(resource, reporter=wrapped)

    return Through


def through_an_override(resource: Any) -> type[containers.DeclarativeContainer]:
    class Replacement(containers.DeclarativeContainer):
        pass

    class Through(containers.DeclarativeContainer):
        bus = providers.Container(EventBusContainer, event_class=MyEvent)
        reporter: Any = providers.Singleton(object)
        last_words = providers.Resource(resource, reporter=reporter)

    Through.reporter.override(providers.Singleton(Reporter, bus=Through.bus.client))
    return Through


WAYS = [
    through_singleton,
    through_factory,
    through_provided,
    through_nested_container,
    through_dependencies_container,
    through_another_resource,
    through_an_override,
]


@pytest.fixture
def heard(at_proxy: EventBusProxy) -> Iterator[list[float]]:
    """The events that another service hears."""
    values: list[float] = []
    app = EventBusContainer(event_class=MyEvent)
    with lifespan(app):
        app.client().subscribe(TOPIC)
        app.client().attach_callback(event().type, lambda event: values.append(event.value))
        app.client().start_consumer()
        yield values


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("plain", [False, True], ids=["lifespan", "shutdown_resources"])
def test_a_resource_can_emit_while_it_stops(
    heard: list[float], way: Callable[[Any], type[containers.DeclarativeContainer]], plain: bool
) -> None:
    """However indirectly a resource depends on the client: it can still emit in its shutdown, and that arrives."""
    for round_ in range(1, ROUNDS + 1):
        app = way(farewell)()
        if plain:
            app.init_resources()
            app.shutdown_resources()
        else:
            with lifespan(app):
                pass
        eventually(partial(operator.eq, heard, [1, 2] * round_))


@pytest.mark.parametrize("way", [through_factory, through_nested_container, through_dependencies_container])
def test_an_async_resource_can_emit_while_it_stops(
    heard: list[float], way: Callable[[Any], type[containers.DeclarativeContainer]]
) -> None:
    """The same holds for async resources."""

    async def main() -> None:
        for round_ in range(1, ROUNDS + 1):
            async with lifespan(way(farewell_async)()):
                pass
            await asyncio.to_thread(eventually, partial(operator.eq, heard, [1, 2] * round_))

    asyncio.run(main())


class WrongHandler:
    @on(event().type)
    def handle(self) -> None: ...


@pytest.mark.parametrize("way", [through_factory, through_nested_container])
def test_the_order_holds_after_a_failed_start(
    heard: list[float], way: Callable[[Any], type[containers.DeclarativeContainer]]
) -> None:
    """If the start fails at the last step, what had started stops in the same order: it can still emit in its shutdown."""
    for round_ in range(1, ROUNDS + 1):
        app = way(farewell)()
        app.set_provider("wrong", providers.Singleton(WrongHandler))
        with pytest.raises(InvalidHandler) as caught, lifespan(app):
            raise AssertionError("it must not start")
        assert getattr(caught.value, "__notes__", []) == []
        eventually(partial(operator.eq, heard, [1, 2] * round_))


def chain(log: Log) -> type[containers.DeclarativeContainer]:
    """Four resources, each of which needs the next only indirectly, and a bus that has nothing to do with them."""

    class Chain(containers.DeclarativeContainer):
        fourth = providers.Resource(log.resource("fourth"))
        third = providers.Resource(log.resource("third"), providers.Factory(str, fourth))
        bus = providers.Container(EventBusContainer, event_class=MyEvent)
        second = providers.Resource(log.resource("second"), providers.List(providers.Singleton(str, third)))
        first = providers.Resource(log.resource("first"), providers.Callable(str, second))

    return Chain


def test_the_service_s_own_resources_stop_in_order_too(at_proxy: EventBusProxy) -> None:
    """With a bus in its tree, a service's own resources stop before what they depend on, however indirectly."""
    for _ in range(ROUNDS):
        log = Log()
        with lifespan(chain(log)()):
            assert log.names("start") == ["fourth", "third", "second", "first"]
        assert log.names("stop") == ["first", "second", "third", "fourth"]


def test_resources_stop_once(at_proxy: EventBusProxy) -> None:
    """Each resource stops once, also if shutdown_resources() is called again, and starts once."""
    log = Log()
    app = chain(log)()
    app.init_resources()
    app.init_resources()
    app.shutdown_resources()
    app.shutdown_resources()
    assert len(log.lines) == len(set(log.lines)) == 8


def test_only_what_was_started_stops(at_proxy: EventBusProxy) -> None:
    """Shutting down a container that was never started does nothing."""
    log = Log()
    app = chain(log)()
    with leaving_nothing():
        app.shutdown_resources()
    assert log.lines == []


# The functions


def test_stopping_order() -> None:
    """Each resource comes before those that it depends on."""
    log = Log()
    for _ in range(ROUNDS):
        app = chain(log)()
        expected = [app.first, app.second, app.third, app.fourth]
        assert [resource for resource in stopping_order(others(app)) if resource in expected] == expected


def test_a_circle_has_no_order_but_an_end() -> None:
    """Resources that depend on each other in a circle are all stopped, in whatever order."""
    one, two = providers.Resource(str), providers.Resource(str)
    one.add_args(two)
    two.add_args(one)
    assert set(stopping_order([one, two])) == {one, two}


def test_the_root_is_found_from_everywhere() -> None:
    """The outermost container is what root_of returns, for itself and for any nested one."""

    class Inner(containers.DeclarativeContainer):
        me: providers.Self[Any] = providers.Self()

    class Middle(containers.DeclarativeContainer):
        inner: Any = providers.Container(Inner)

    class Outer(containers.DeclarativeContainer):
        middle: Any = providers.Container(Middle)

    app = Outer()
    assert root_of(app) is app
    assert root_of(app.middle.inner.me()) is app


def test_others_and_last_ones() -> None:
    """The client is a resource like others; the subscriptions are the last one."""

    class TreeApp(containers.DeclarativeContainer):
        bus = providers.Container(EventBusContainer, event_class=MyEvent)
        own = providers.Resource(str)

    app = TreeApp()
    assert set(others(app)) == {app.bus.client, app.own}
    assert last_resources(app) == [app.bus.subscriptions]


def test_walking_yields_each_provider_once() -> None:
    """A provider that can be reached on many ways is yielded once, and circles come to an end."""
    shared = providers.Singleton(object)
    roots = [providers.Factory(list, shared), providers.Factory(list, shared), providers.List(shared)]
    found = list(walk(roots))
    assert len(found) == len(set(found)) == 4
    assert shared in found


def test_walking_follows_overrides() -> None:
    """An overriding provider, the last one, is yielded in place of the overridden one."""
    original, first, last = (providers.Singleton(object) for _ in range(3))
    original.override(first)
    original.override(last)
    assert list(walk([original])) == [last]
