"""`lifespan`: starting and stopping as a whole, also when something fails."""

import asyncio
import multiprocessing
import multiprocessing.queues
import threading
import warnings
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import pytest
from dependency_injector import containers, providers

from eventbus import EventBusProxy, InvalidSettings, on
from eventbus.container import EventBusContainer, lifespan
from eventbus.transports.memory import MemoryTransport
from tests.container.support import STARTED, TOPIC, App, Listener, Log, consumers, leaving_nothing, received
from tests.support import PATIENCE, MyEvent, event, eventually, is_joining

ROUNDS = 12  # dependency_injector's order is random


class Boom(Exception):
    """An error raised on purpose."""


class MemoryApp(App):
    """The same without a proxy."""

    bus = providers.Container(EventBusContainer, event_class=MyEvent, transport=providers.Singleton(MemoryTransport))
    listener = providers.Singleton(Listener, bus=bus.client)


def say(app: Any, value: float) -> None:
    app.bus.client().emit_event(event(value), TOPIC)


def test_plain_calls_do_the_same(at_proxy: EventBusProxy) -> None:
    """init_resources() and shutdown_resources() of the service's container start and stop the bus and its handlers."""
    with leaving_nothing():
        app = App()
        app.init_resources()
        listener = app.listener()
        say(app, 1)
        eventually(lambda: listener.values == [1])
        app.shutdown_resources()
        assert not listener.bus.is_connected()
        assert consumers() == 0


def test_the_plain_stop_raises_what_failed_in_one_group(at_proxy: EventBusProxy) -> None:
    """shutdown_resources() goes on after failures, too."""

    def failing() -> Iterator[None]:
        yield
        raise Boom

    class Failing(App):
        one = providers.Resource(failing)

    with leaving_nothing():
        app = Failing()
        app.init_resources()
        with pytest.raises(ExceptionGroup) as caught:
            app.shutdown_resources()
        assert [type(error) for error in caught.value.exceptions] == [Boom]


def test_async_with_needs_no_async_resource(at_proxy: EventBusProxy) -> None:
    """`async with` works for a container without any async resource, and yields the container."""

    async def main() -> None:
        async with lifespan(App()) as app:
            say(app, 1)
            listener = app.listener()
            await asyncio.to_thread(eventually, lambda: listener.values == [1])

    with leaving_nothing():
        asyncio.run(main())


def test_async_resources_beside_ours(at_proxy: EventBusProxy) -> None:
    """In `async with`, async resources are started and stopped with the bus, generators and classes with context alike."""
    log: list[str] = []

    async def generator() -> AsyncIterator[str]:
        log.append("start generator")
        await asyncio.sleep(0)
        yield "generated"
        await asyncio.sleep(0)
        log.append("stop generator")

    class Context:
        async def __aenter__(self) -> str:
            log.append("start context")
            return "entered"

        async def __aexit__(self, *_: object) -> None:
            log.append("stop context")

    class Mixed(App):
        generated = providers.Resource(generator)
        entered = providers.Resource(Context)

    async def main() -> None:
        async with lifespan(Mixed()) as app:
            futures: list[Any] = [app.generated(), app.entered()]
            assert await asyncio.gather(*futures) == ["generated", "entered"]
            say(app, 1)
            listener = app.listener()
            await asyncio.to_thread(eventually, lambda: listener.values == [1])

    with leaving_nothing():
        asyncio.run(main())
    assert sorted(log) == ["start context", "start generator", "stop context", "stop generator"]


def test_an_async_resource_is_refused_by_a_plain_with(at_proxy: EventBusProxy) -> None:
    """A plain `with` says that it cannot start async resources, and leaves nothing running."""

    async def resource() -> AsyncIterator[None]:
        yield

    class Async(App):
        beside = providers.Resource(resource)

    with leaving_nothing(), pytest.raises(TypeError, match="async with lifespan"), lifespan(Async()):
        raise AssertionError("it must not start")


def test_a_handler_that_is_made_by_a_coroutine_is_refused_by_a_plain_with(at_proxy: EventBusProxy) -> None:
    """An object with handlers that has to be awaited, or needs such a one, is refused, too."""

    async def listener() -> Listener:
        raise AssertionError("it must not be made")

    async def name() -> str:
        raise AssertionError("it must not be made")

    class Async(App):
        made = providers.Singleton(listener)

    class Needing(App):
        made = providers.Singleton(Listener, bus=providers.Singleton(name))

    class Handing(App):
        make_name = providers.Factory(name)
        made = providers.Singleton(Listener, bus=make_name.provider)

    for app in (Async(), Needing()):
        with (
            leaving_nothing(),
            pytest.raises(TypeError, match="`made` is async: use `async with lifespan"),
            lifespan(app),
        ):
            raise AssertionError("it must not start")
    with leaving_nothing(), lifespan(Handing()):
        pass


def test_an_async_resource_inside_a_loop_is_refused_by_a_plain_with(at_proxy: EventBusProxy) -> None:
    """The same inside a running loop: nothing is left running, no task either."""
    log: list[str] = []

    async def resource() -> AsyncIterator[None]:
        log.append("start")
        yield
        log.append("stop")

    class Async(App):
        beside = providers.Resource(resource)

    async def main() -> None:
        with pytest.raises(TypeError, match="async with lifespan"), lifespan(Async()):
            raise AssertionError("it must not start")
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait([task])  # whatever goes on
        assert log in ([], ["start", "stop"])
        assert consumers() == 0

    with leaving_nothing():
        asyncio.run(main())


# A start that fails


def test_what_was_started_is_stopped(at_proxy: EventBusProxy) -> None:
    """If a resource fails to start, those that had started are stopped, and the original error is raised; in any order."""
    for _ in range(ROUNDS):
        log = Log()
        boom = Boom("cannot start")

        def failing(_: object, boom: Boom = boom) -> Iterator[None]:
            raise boom
            yield

        class Failing(App):
            one = providers.Resource(log.resource("one"))
            two = providers.Resource(log.resource("two"), one)
            bad = providers.Resource(failing, two)
            three = providers.Resource(log.resource("three"))

        with leaving_nothing(), pytest.raises(Boom) as caught, lifespan(Failing()):
            raise AssertionError("it must not start")
        assert caught.value is boom
        assert sorted(log.names("start")) == sorted(log.names("stop"))
        assert {"one", "two"} <= set(log.names("stop"))


def test_what_was_started_is_stopped_async(at_proxy: EventBusProxy) -> None:
    """The same in `async with`: also what was still starting then comes to an end, and no task is left."""

    async def main() -> None:
        for _ in range(ROUNDS):
            log: list[str] = []
            go = asyncio.Event()
            boom = Boom("cannot start")

            async def quick(log: list[str] = log) -> AsyncIterator[None]:
                log.append("start quick")
                yield
                log.append("stop quick")

            async def slow(log: list[str] = log, go: asyncio.Event = go) -> AsyncIterator[None]:
                await go.wait()
                log.append("start slow")
                yield
                log.append("stop slow")

            async def failing(boom: Boom = boom) -> AsyncIterator[None]:
                await asyncio.sleep(0)
                raise boom
                yield

            class Failing(App):
                quick_resource = providers.Resource(quick)
                slow_resource = providers.Resource(slow)
                bad = providers.Resource(failing)

            asyncio.get_running_loop().call_later(0.02, go.set)
            with pytest.raises(Boom) as caught:
                async with lifespan(Failing()):
                    raise AssertionError("it must not start")
            assert caught.value is boom
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait([task])  # whatever goes on by itself
            starts = sorted(line.removeprefix("start ") for line in log if line.startswith("start"))
            stops = sorted(line.removeprefix("stop ") for line in log if line.startswith("stop"))
            assert starts == stops
            assert consumers() == 0

    with leaving_nothing():
        asyncio.run(main())


def test_a_failing_clean_up_does_not_hide_why_the_start_failed(at_proxy: EventBusProxy) -> None:
    """If stopping fails after a failed start, the error of the start is raised, with a note about the other."""

    def stubborn() -> Iterator[str]:
        yield "stubborn"
        raise RuntimeError("and I do not stop")

    def failing(_: str) -> None:
        raise Boom("cannot start")

    class Failing(App):
        one = providers.Resource(stubborn)
        bad = providers.Resource(failing, one)

    for _ in range(ROUNDS):
        with leaving_nothing(), pytest.raises(Boom, match="cannot start") as caught, lifespan(Failing()):
            raise AssertionError("it must not start")
        assert "and I do not stop" in " ".join(caught.value.__notes__)


def test_bad_settings_leave_nothing_open(at_proxy: EventBusProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad variable is an error of the start like others: the resources beside the bus are stopped again."""
    monkeypatch.setenv("EVENTBUS_PUB_PORT", "many")
    for _ in range(ROUNDS):
        log = Log()

        class Beside(App):
            one = providers.Resource(log.resource("one"))

        with pytest.raises(InvalidSettings), lifespan(Beside()):
            raise AssertionError("it must not start")
        assert log.names("start") == log.names("stop")


# A stop that fails


def test_a_stop_that_fails_goes_on(at_proxy: EventBusProxy) -> None:
    """If resources fail to stop, all others stop nevertheless, and one ExceptionGroup has every error."""
    for _ in range(ROUNDS):
        log = Log()

        def fail(text: str) -> None:
            raise Boom(text)

        class Failing(App):
            one = providers.Resource(log.resource("one", on_stop=lambda: fail("first")))
            two = providers.Resource(log.resource("two"), providers.Factory(str, one))
            three = providers.Resource(log.resource("three", on_stop=lambda: fail("second")))

        with leaving_nothing(), pytest.raises(ExceptionGroup) as caught, lifespan(Failing()) as app:
            client = app.bus.client()
        assert sorted(str(error) for error in caught.value.exceptions) == ["first", "second"]
        assert sorted(log.names("stop")) == ["one", "three", "two"]
        assert not client.is_connected()


def test_a_stop_that_is_interrupted_goes_on() -> None:
    """Ctrl-C, or what else is no Exception, ends the stop of one resource; the others stop, and then it is raised."""
    for ends in (KeyboardInterrupt, SystemExit):
        log = Log()

        def fail(ends: type[BaseException] = ends) -> None:
            raise ends

        def fail_too() -> None:
            raise Boom("too")

        class Interrupted(MemoryApp):
            one = providers.Resource(log.resource("one", on_stop=fail))
            two = providers.Resource(log.resource("two", on_stop=fail_too), one)
            three = providers.Resource(log.resource("three"))

        async def run(app: Interrupted) -> None:
            async with lifespan(app):
                pass

        with pytest.raises(ends) as caught, lifespan(Interrupted()) as app:
            client = app.bus.client()
        assert sorted(log.names("stop")) == ["one", "three", "two"]
        assert "Boom('too')" in caught.value.__notes__[0]
        assert not client.is_connected()
        with pytest.raises(ends):
            asyncio.run(run(Interrupted()))
        assert sorted(log.names("stop")) == ["one", "one", "three", "three", "two", "two"]


def test_an_async_stop_that_fails_goes_on(at_proxy: EventBusProxy) -> None:
    """The same in `async with`, with sync and async resources mixed."""

    async def main() -> None:
        for _ in range(ROUNDS):
            log = Log()

            def fail(text: str) -> None:
                raise Boom(text)

            async def failing() -> AsyncIterator[None]:
                yield
                await asyncio.sleep(0)
                raise Boom("async")

            async def fine(log: Log = log) -> AsyncIterator[None]:
                yield
                await asyncio.sleep(0)
                log.lines.append("stop fine")

            class Failing(App):
                one = providers.Resource(log.resource("one", on_stop=lambda: fail("sync")))
                two = providers.Resource(failing)
                three = providers.Resource(fine)

            with pytest.raises(ExceptionGroup) as caught:
                async with lifespan(Failing()) as app:
                    client = app.bus.client()
            assert sorted(str(error) for error in caught.value.exceptions) == ["async", "sync"]
            assert sorted(log.names("stop")) == ["fine", "one"]
            assert not client.is_connected()

    with leaving_nothing():
        asyncio.run(main())


def test_the_error_of_the_block_comes_through(at_proxy: EventBusProxy) -> None:
    """An exception of the service's own code ends the block unchanged, after everything has stopped."""
    boom = Boom("in the block")
    with leaving_nothing(), pytest.raises(Boom) as caught, lifespan(App()):
        raise boom
    assert caught.value is boom


def test_the_error_of_an_async_block_comes_through(at_proxy: EventBusProxy) -> None:
    """The same in `async with`; a cancelled task is stopped in order, too."""

    async def main() -> None:
        boom = Boom("in the block")
        with pytest.raises(Boom) as caught:
            async with lifespan(App()):
                raise boom
        assert caught.value is boom

    async def cancelled() -> None:
        entered = asyncio.Event()

        async def service() -> None:
            async with lifespan(App()):
                entered.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(service())
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert consumers() == 0

    with leaving_nothing():
        asyncio.run(main())
        asyncio.run(cancelled())


# Again


def test_a_container_that_runs_is_refused(at_proxy: EventBusProxy) -> None:
    """A second `lifespan` of a running container would end the handlers of the first one: refused, and the first goes on."""
    app = App()
    with lifespan(app):
        refused = pytest.raises(RuntimeError, match="running already, in another `lifespan`")
        with refused, lifespan(app):
            raise AssertionError("it must not start")
        with pytest.raises(RuntimeError, match="running already"), lifespan(app.bus.container):
            raise AssertionError("it must not start")
        say(app, 1)
        eventually(lambda: app.listener().values == [1])
    app.init_resources()
    with pytest.raises(RuntimeError, match=r"started by init_resources\(\)"), lifespan(app):
        raise AssertionError("it must not start")
    app.shutdown_resources()


@pytest.mark.process
def test_a_running_container_is_refused_async(at_proxy: EventBusProxy) -> None:
    """The same in `async with`; in a forked child the error names the process that has started it."""
    app = App()

    def in_child(queue: "multiprocessing.queues.SimpleQueue[str]") -> None:
        try:
            lifespan(app).__enter__()
        except RuntimeError as error:
            queue.put(str(error))

    async def main() -> None:
        async with lifespan(app):
            with pytest.raises(RuntimeError, match="running already"):
                async with lifespan(app):
                    raise AssertionError("it must not start")
            context = multiprocessing.get_context("fork")
            queue = context.SimpleQueue()
            with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # fork beside threads
                child = context.Process(target=in_child, args=(queue,))
                child.start()
            assert "by the parent process before the fork" in await asyncio.to_thread(queue.get)
            await asyncio.to_thread(child.join, PATIENCE)

    with leaving_nothing():
        asyncio.run(main())


@pytest.mark.parametrize(
    ("wrong", "text"), [(App, r"not <class .*App'>: use lifespan\(App\(\)\)$"), (App.bus, "not <.*>$"), (None, "not None$")]
)
def test_what_is_no_container_is_refused(wrong: Any, text: str) -> None:
    """`run` takes a class too, so it is easily given to `lifespan`."""
    with pytest.raises(TypeError, match=rf"lifespan\(\) takes a service's container, {text}"):
        lifespan(wrong)


def test_a_container_can_start_again(at_proxy: EventBusProxy) -> None:
    """After `lifespan` the same container starts anew: new client, new services, each handler attached once."""
    app = App()
    seen = []
    with leaving_nothing():
        for number in range(3):
            with lifespan(app):
                say(app, number)
                listener = app.listener()
                eventually(partial(received, listener, [number]))
                seen += [listener, app.bus.client()]
    assert len({id(thing) for thing in seen}) == 6


def test_a_container_can_start_again_async(at_proxy: EventBusProxy) -> None:
    """The same in `async with`, on another loop each time, with an async resource."""
    starts = []

    async def resource() -> AsyncIterator[None]:
        starts.append(asyncio.get_running_loop())
        yield

    class Async(App):
        beside = providers.Resource(resource)

    app = Async()

    async def main(number: float) -> None:
        async with lifespan(app):
            say(app, number)
            listener = app.listener()
            await asyncio.to_thread(eventually, lambda: listener.values == [number])

    with leaving_nothing():
        for number in range(3):
            asyncio.run(main(number))
    assert len(set(map(id, starts))) == 3


def test_starting_again_reads_the_environment_again(proxy: EventBusProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings are read anew at each start, not kept from the one before."""
    monkeypatch.setenv("EVENTBUS_ENABLED", "false")
    app = App()
    with lifespan(app):
        assert not app.bus.client().is_connected()
    monkeypatch.setenv("EVENTBUS_ENABLED", "true")
    monkeypatch.setenv("EVENTBUS_HOST", "127.0.0.1")
    monkeypatch.setenv("EVENTBUS_PUB_PORT", str(proxy.pub_port))
    monkeypatch.setenv("EVENTBUS_SUB_PORT", str(proxy.sub_port))
    with lifespan(app):
        assert app.bus.client().is_connected()


def test_a_container_without_a_bus() -> None:
    """`lifespan` starts and stops a container that has no bus just as well, and forgets its singletons."""
    log = Log()

    class Plain(containers.DeclarativeContainer):
        one = providers.Resource(log.resource("one"))
        thing = providers.Singleton(object)

    with lifespan(Plain()) as app:
        assert log.lines == ["start one"]
        thing = app.thing()
    assert log.lines == ["start one", "stop one"]
    assert app.thing() is not thing


def test_the_stop_of_a_container_without_a_bus_raises_a_group_too() -> None:
    """The promise about errors while stopping does not hang on there being a bus."""
    log = Log()

    def fail() -> None:
        raise Boom

    class Plain(containers.DeclarativeContainer):
        one = providers.Resource(log.resource("one", on_stop=fail))
        two = providers.Resource(log.resource("two", on_stop=fail))

    with pytest.raises(ExceptionGroup) as caught, lifespan(Plain()):
        pass
    assert len(caught.value.exceptions) == 2
    assert sorted(log.names("stop")) == ["one", "two"]


def test_an_abstract_singleton_that_nothing_overrides() -> None:
    """It does not keep the container from stopping, and from starting again."""

    class Plain(containers.DeclarativeContainer):
        abstract = providers.AbstractSingleton(object)
        thing = providers.Singleton(object)

    app = Plain()
    things = set()
    for _ in range(2):
        with lifespan(app):
            things.add(app.thing())
    assert len(things) == 2


def test_two_apps_at_once(at_proxy: EventBusProxy) -> None:
    """Stopping one service leaves the other one in the same process working."""
    with leaving_nothing(), lifespan(App()) as staying:
        with lifespan(App()) as leaving:
            say(leaving, 1)
            eventually(lambda: staying.listener().values == [1])
        say(staying, 2)
        eventually(lambda: staying.listener().values == [1, 2])


def test_an_unused_bus_costs_no_service(at_proxy: EventBusProxy) -> None:
    """Nothing is instantiated, connected or read by making a container: only by starting it."""

    class Counting(Listener):
        made = 0

        def __init__(self, bus: Any) -> None:
            Counting.made += 1
            super().__init__(bus)

    class Lazy(containers.DeclarativeContainer):
        bus = providers.Container(EventBusContainer, event_class=MyEvent)
        listener = providers.Singleton(Counting, bus=bus.client)

    with leaving_nothing():
        app = Lazy()
        assert Counting.made == 0
    with lifespan(app):
        assert Counting.made == 1


def test_a_cancelled_stop_still_stops_everything() -> None:
    """Cancelled while it waits for a handler at its end, `async with lifespan` still stops every resource."""
    entered, go = threading.Event(), threading.Event()
    stopped: list[str] = []

    class Slow:
        @on(STARTED)
        def handle(self, event: MyEvent) -> None:
            entered.set()
            assert go.wait(PATIENCE)

    def resource() -> Iterator[None]:
        yield
        stopped.append("resource")

    class SlowApp(containers.DeclarativeContainer):
        bus = providers.Container(EventBusContainer, event_class=MyEvent, transport=providers.Singleton(MemoryTransport))
        slow = providers.Singleton(Slow)
        opened = providers.Resource(resource)

    async def main() -> None:
        app = SlowApp()

        async def run() -> None:
            async with lifespan(app):
                app.bus.client().emit_event(event(1, STARTED), TOPIC)
                await asyncio.to_thread(entered.wait, PATIENCE)

        running = asyncio.create_task(run())
        while not any(map(is_joining, threading.enumerate())):
            await asyncio.sleep(0)
        running.cancel()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert stopped == ["resource"]
        assert not consumers()

    asyncio.run(main())
