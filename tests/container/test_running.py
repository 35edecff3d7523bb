"""`run`: a container as a program."""

import asyncio
import gc
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast, override

import pytest
from dependency_injector import containers, providers

from eventbus import EventBusClient, EventBusProxy, ProxyUnreachable, ServiceFailed, ServiceTimeout, on
from eventbus.container import EventBusContainer, run
from eventbus.transports.memory import MemoryHub, MemoryTransport
from tests.commands import log_lines, log_records
from tests.container.services import AsyncWorker, LifeBus, LifeEvent, LifeTopic, LifeType, Worker, signals_elsewhere
from tests.container.support import leaving_nothing
from tests.support import PATIENCE, eventually, fields_of, in_thread


class Base(containers.DeclarativeContainer):
    """A bus."""

    bus = providers.Container(EventBusContainer, event_class=LifeEvent)


def container_of(**more: providers.Provider[Any]) -> Any:
    """A container with a bus of its own within this process, and these providers."""
    made = type("App", (Base,), more)()
    made.bus.transport.override(MemoryTransport(MemoryHub()))
    return made


@contextmanager
def interrupting(condition: Callable[[], object], number: int = signal.SIGTERM) -> Iterator[None]:
    """Send this process a signal as soon as the condition is true."""

    def interrupt() -> None:
        try:
            eventually(condition, PATIENCE)
        finally:
            os.kill(os.getpid(), number)

    with in_thread(interrupt):
        yield


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_until_a_signal(number: signal.Signals) -> None:
    """Services of both kinds run until a signal; then they and the client are stopped, and run() returns."""
    made: list[Any] = []

    def noted(service: Any) -> Any:
        # By the thread that makes it: in two threads at once a singleton may be made twice.
        made.append(service)
        return service

    def worker(bus: LifeBus) -> Worker:
        return cast(Worker, noted(Worker(bus)))

    def other(bus: LifeBus) -> AsyncWorker:
        return cast(AsyncWorker, noted(AsyncWorker(bus)))

    app = container_of(
        worker=providers.Singleton(worker, bus=Base.bus.client), other=providers.Singleton(other, bus=Base.bus.client)
    )
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with leaving_nothing(), interrupting(lambda: len(made) == 2 and all(one.running.is_set() for one in made), number):
        run(app)
    for service in made:
        assert not service.is_alive
        assert service.runs == 1
        assert not service.bus.is_connected()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_no_signal_is_missed() -> None:
    """A signal that does not interrupt the loop's wait, as one just before a wait begins, ends it, too."""
    made: list[Worker] = []

    class Noted(Worker):
        @override
        def run(self) -> None:
            made.append(self)
            super().run()

    app = container_of(worker=providers.Singleton(Noted, bus=Base.bus.client))
    with interrupting(lambda: made), signals_elsewhere():
        run(app)
    assert not made[0].is_alive


def test_a_signal_at_the_very_end() -> None:
    """A signal that comes when the loop has been closed already changes nothing any more."""

    class Brief(AsyncWorker):
        @override
        async def run(self) -> None:
            loop = asyncio.get_running_loop()
            close = loop.close

            def close_and_interrupt() -> None:
                close()
                os.kill(os.getpid(), signal.SIGTERM)

            monkeypatched.setattr(loop, "close", close_and_interrupt)

    with pytest.MonkeyPatch.context() as monkeypatched:
        run(container_of(brief=providers.Singleton(Brief, bus=Base.bus.client)))


def test_without_services_until_a_signal() -> None:
    """A container without services handles events until a signal."""
    log: list[str] = []

    def resource(_bus: LifeBus) -> Iterator[None]:
        log.append("started")
        yield
        log.append("stopped")

    app = container_of(resource=providers.Resource(resource, Base.bus.client))
    with leaving_nothing(), interrupting(lambda: log):
        run(app)
    assert log == ["started", "stopped"]


@pytest.mark.parametrize("has_bus", [False, True])
def test_a_container_that_does_nothing(caplog: pytest.LogCaptureFixture, has_bus: bool) -> None:
    """Without a bus and without services it says so, rather than wait in silence for a signal."""
    log: list[str] = []

    def resource() -> Iterator[None]:
        log.append("started")
        yield

    started = providers.Resource(resource)
    app = (
        container_of(started=started)
        if has_bus
        else type("Nothing", (containers.DeclarativeContainer,), {"started": started})()
    )
    with leaving_nothing(), interrupting(lambda: log and (has_bus or "does nothing" in caplog.text)):
        run(app)
    assert ("neither a bus nor a service" in caplog.text) is not has_bus


def test_a_signal_that_does_not_wake_the_loop() -> None:
    """A signal is handled although it does not end the loop's waiting, as when it comes just before that."""
    looping: list[int] = []

    def resource(_bus: LifeBus) -> Iterator[None]:
        looping.append(1)
        yield

    def interrupt() -> None:
        eventually(lambda: looping and sys._current_frames()[main].f_code.co_name == "select")
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    main = threading.main_thread().ident or 0
    with leaving_nothing(), in_thread(interrupt):
        run(container_of(resource=providers.Resource(resource, Base.bus.client)))


def test_until_all_services_have_ended(monkeypatch: pytest.MonkeyPatch, proxy: EventBusProxy) -> None:
    """run() returns when the last service has ended; the class of a container will do, too."""

    class Brief(Worker):
        @override
        def run(self) -> None:
            runs.append(1)

    class BriefAsync(AsyncWorker):
        @override
        async def run(self) -> None:
            await asyncio.sleep(0)
            runs.append(2)

    runs: list[int] = []

    class App(Base):
        one = providers.Singleton(Brief, bus=Base.bus.client)
        two = providers.Singleton(BriefAsync, bus=Base.bus.client)

    _set_ports(monkeypatch, proxy.pub_port, proxy.sub_port)
    with leaving_nothing():
        run(App)
    assert sorted(runs) == [1, 2]


def test_handlers_are_there_before_services_run() -> None:
    """A service's own handlers hear what it emits from the first event on, the async ones on the loop of run()."""
    heard: list[tuple[str, str]] = []

    class Talker(Worker):
        @override
        def run(self) -> None:
            self.bus.emit_event(LifeType.tick, LifeTopic.life)
            super().run()

        @on(LifeType.service_started, LifeType.tick, topic=LifeTopic.life)
        def hear(self, event: LifeEvent) -> None:
            heard.append((event.type, threading.current_thread().name))

        @on(LifeType.tick, topic=LifeTopic.life)
        async def hear_too(self, event: LifeEvent) -> None:
            heard.append(("async", threading.current_thread().name))
            self.request_stop()

    with leaving_nothing():
        run(container_of(talker=providers.Singleton(Talker, bus=Base.bus.client)))
    assert heard == [
        ("service_started", "eventbus-consumer"),
        ("tick", "eventbus-consumer"),
        ("async", threading.main_thread().name),
    ]


def test_the_order() -> None:
    """A service starts after the one that it is injected with, and stops before it; resources outlive both."""
    log: list[str] = []

    async def resource() -> AsyncIterator[None]:
        log.append("resource started")
        yield
        log.append("resource stopped")

    class Logged(Worker):
        def __init__(self, bus: LifeBus, name: str, **_others: object) -> None:
            super().__init__(bus)
            self.name = name

        @override
        def start(self) -> None:
            log.append(f"{self.name} started")
            super().start()

        @override
        def run(self) -> None:
            super().run()
            log.append(f"{self.name} stopped")

    first = providers.Singleton(Logged, Base.bus.client, "first")
    between: providers.Factory[Any] = providers.Factory(dict, first=first)
    second = providers.Singleton(Logged, Base.bus.client, "second", between=between)
    third = providers.Singleton(Logged, Base.bus.client, "third", second=second)
    app = container_of(third=third, first=first, resource=providers.Resource(resource), second=second)
    with interrupting(lambda: log[-1:] == ["third started"]):
        run(app)
    services = ["first", "second", "third"]
    assert log == [
        "resource started",
        *(f"{name} started" for name in services),
        *(f"{name} stopped" for name in reversed(services)),
        "resource stopped",
    ]


def test_what_async_resources_provide() -> None:
    """A service that an async resource provides runs, too, and its handlers are attached."""
    heard: list[str] = []

    class Listener(Worker):
        @override
        def run(self) -> None:
            self.bus.emit_event(LifeType.tick, LifeTopic.life)
            super().run()

        @on(LifeType.tick, topic=LifeTopic.life)
        def hear(self, event: LifeEvent) -> None:
            heard.append(event.type)
            self.request_stop()

    async def resource(bus: LifeBus) -> AsyncIterator[Listener]:
        await asyncio.sleep(0)
        yield Listener(bus)

    run(container_of(listener=providers.Resource(resource, Base.bus.client)))
    assert heard == ["tick"]


def test_one_is_provided_in_many_ways() -> None:
    """A service that is reached by several names, overridings, selectors and nested containers runs once."""
    runs: list[Worker] = []

    class Noted(Worker):
        @override
        def run(self) -> None:
            runs.append(self)

    class Nested(containers.DeclarativeContainer):
        given = providers.Dependency(instance_of=Noted)

    one = providers.Singleton(Noted, bus=Base.bus.client)
    app = container_of(
        one=one,
        again=one,
        selected=providers.Selector(lambda: "one", one=one, other=providers.Singleton(Noted, bus=Base.bus.client)),
        handed_on=providers.Callable(lambda service: service, one),
        overridden=providers.Singleton(Noted, bus=Base.bus.client),
        nested=providers.Container(Nested, given=one),
    )
    app.overridden.override(app.one)
    run(app)
    assert len(runs) == 1


def test_one_gives_up() -> None:
    """When a service has given up, the others are stopped, and run() exits from that error."""
    app = container_of(
        worker=providers.Singleton(Worker, bus=Base.bus.client, failures=9),
        other=providers.Singleton(AsyncWorker, bus=Base.bus.client),
    )
    with leaving_nothing(), exiting_from(ServiceFailed, r"Worker .* Boom: the 4\. time"):
        run(app)


def test_one_does_not_stop() -> None:
    """A service that does not stop in time is an error; the others and the container are stopped all the same."""
    go = threading.Event()
    workers: list[Worker] = []

    class Deaf(Worker):
        @override
        def run(self) -> None:
            workers.append(self)
            go.wait()

    app = container_of(
        deaf=providers.Singleton(Deaf, bus=Base.bus.client, stop_timeout=0.01),
        other=providers.Singleton(AsyncWorker, bus=Base.bus.client),
    )
    try:
        with interrupting(lambda: workers), exiting_from(ServiceTimeout, "Deaf"):
            run(app)
        assert not workers[0].bus.is_connected()
    finally:
        go.set()
    workers[0].stop(PATIENCE)


def test_a_second_signal_ends_what_hangs() -> None:
    """A service that does not stop does not keep the program from ending: the second Ctrl-C interrupts."""
    go = threading.Event()
    workers: list[Worker] = []

    class Deaf(Worker):
        @override
        def run(self) -> None:
            workers.append(self)
            go.wait()

    app = container_of(deaf=providers.Singleton(Deaf, bus=Base.bus.client, stop_timeout=1000))
    try:
        with (
            pytest.raises(KeyboardInterrupt),
            interrupting(lambda: workers and workers[0].stopping, signal.SIGINT),
            interrupting(lambda: workers, signal.SIGINT),
        ):
            run(app)
        assert not workers[0].bus.is_connected()
    finally:
        go.set()
    workers[0].stop(PATIENCE)


@pytest.mark.parametrize("kind", ["Factory", "Callable"])
def test_a_factory_of_services_is_refused(kind: str) -> None:
    """A factory, or a callable, would make a service that nobody else has: an error that names it, and nothing runs on."""
    app = container_of(worker=getattr(providers, kind)(Worker, bus=Base.bus.client))
    with (
        leaving_nothing(),
        pytest.raises(TypeError, match=rf"`worker` is a {kind.lower()} and provides Worker: .* use providers\.Singleton"),
    ):
        run(app)


def test_in_a_running_loop() -> None:
    """run() has a loop of its own: where one runs already, the error says what to do instead."""

    async def main() -> None:
        run(container_of())

    with pytest.raises(RuntimeError, match=r"use `async with lifespan"):
        asyncio.run(main())


@pytest.mark.parametrize("wrong", [5, dict, Base.bus, None])
def test_what_is_no_container_is_refused(wrong: Any) -> None:
    """run() of something else is an error that names it."""
    with pytest.raises(TypeError, match=r"run\(\) takes a service's container or its class, not "):
        run(wrong)


def test_a_start_that_fails(
    monkeypatch: pytest.MonkeyPatch, dead_ports: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    """Without a proxy run() logs on one line why connecting failed, exits with status 1, and leaves nothing."""
    _set_ports(monkeypatch, *dead_ports)
    monkeypatch.setenv("EVENTBUS_CONNECT_TIMEOUT", "0.05")

    class App(containers.DeclarativeContainer):
        bus = providers.Container(EventBusContainer, event_class=LifeEvent)

    with leaving_nothing(), exiting_from(ProxyUnreachable, "no event bus proxy answered"):
        run(App)
    (said,) = [record for record in caplog.records if record.levelno > logging.INFO]
    assert said.getMessage().startswith("no event bus proxy answered")
    assert fields_of(said) == {"eventbus_error": "ProxyUnreachable", "eventbus_status": 1}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_breaks_off_the_start(
    monkeypatch: pytest.MonkeyPatch, dead_ports: tuple[int, int], number: signal.Signals
) -> None:
    """A signal while it waits for the proxy ends it at once, without an error, and nothing is left."""
    _set_ports(monkeypatch, *dead_ports)
    monkeypatch.setenv("EVENTBUS_CONNECT_TIMEOUT", "1000")

    class App(containers.DeclarativeContainer):
        bus = providers.Container(EventBusContainer, event_class=LifeEvent)
        worker = providers.Singleton(Worker, bus=bus.client)

    def waiting() -> bool:
        frame = sys._current_frames().get(threading.main_thread().ident or 0)
        while frame is not None and frame.f_code.co_name != "prove":
            frame = frame.f_back
        return frame is not None

    with leaving_nothing(), interrupting(waiting, number):
        run(App)


def test_a_signal_while_a_resource_works(caplog: pytest.LogCaptureFixture) -> None:
    """A signal while an async resource blocks the loop, in a task of its own, ends it, too: what had started is closed."""
    log: list[str] = []

    async def resource(bus: LifeBus) -> AsyncIterator[None]:
        log.append("started")
        await asyncio.sleep(0)
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            yield
        finally:
            log.append("stopped")

    app = container_of(resource=providers.Resource(resource, Base.bus.client))
    with leaving_nothing():
        run(app)
    gc.collect()  # asyncio tells of exceptions that nobody has asked for when they are collected
    assert log == ["started", "stopped"]
    assert not caplog.records


PROGRAM = """
import logging, sys
from dependency_injector import containers, providers
from eventbus import on
from eventbus.container import EventBusContainer, run
from tests.container.services import LifeEvent, LifeTopic, LifeType, Worker

class Listener:
    @on(LifeType.tick, topic=LifeTopic.orders)
    def hear(self, event: LifeEvent) -> None: ...

class App(containers.DeclarativeContainer):
    {logging}
    bus = providers.Container(EventBusContainer, event_class=LifeEvent)
    listener = providers.Singleton(Listener)
    worker = providers.Singleton(Worker, bus=bus.client, failures={failures})

if __name__ == "__main__":
    run(App)
"""


@contextmanager
def program(
    ports: tuple[int, int], variables: dict[str, str] | None = None, *, failures: int = 0, logging: str = ""
) -> Iterator["subprocess.Popen[str]"]:
    """A program that runs a container."""
    at_ports = {"EVENTBUS_PUB_PORT": str(ports[0]), "EVENTBUS_SUB_PORT": str(ports[1])}
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM.format(failures=failures, logging=logging)],
        cwd=Path(__file__).parents[2],  # where `tests` is
        env=os.environ | at_ports | (variables or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ended_by_sigterm(proxy: EventBusProxy, logging: str = "", **more: str) -> str:
    """The stderr of a program until SIGTERM ends it with status 0; the bus hears of its service's start and end."""
    with EventBusClient[LifeEvent, LifeType, LifeTopic](LifeEvent, "127.0.0.1", proxy.pub_port, proxy.sub_port) as bus:
        bus.subscribe(LifeTopic.life)
        with program((proxy.pub_port, proxy.sub_port), logging=logging, variables=more) as process:
            started = bus.recv_event(PATIENCE)
            process.terminate()
            output, errors = process.communicate(timeout=PATIENCE)
        assert (process.returncode, output) == (0, "")
        stopped = bus.recv_event(PATIENCE)
        assert [event and event.type for event in (started, stopped)] == [LifeType.service_started, LifeType.service_stopped]
    return errors


@pytest.mark.process
def test_a_program(proxy: EventBusProxy) -> None:
    """A program of three lines says what it is connected to, what it handles and which services run; SIGTERM ends it."""
    lines = log_lines(ended_by_sigterm(proxy))
    assert {level for level, _ in lines} == {"INFO"}
    texts = [text for _, text in lines]
    ready = next(number for number, text in enumerate(texts) if text.startswith("event bus ready"))
    assert texts[ready + 1 : ready + 3] == [
        "handler __main__.Listener.hear: tick on orders",
        "service Worker running, was stopped",
    ]
    assert texts[-1].startswith("event bus closed")


@pytest.mark.process
@pytest.mark.parametrize("source", ["variable", "file"])
def test_a_program_with_a_log_in_json(proxy: EventBusProxy, source: str, tmp_path: Path) -> None:
    """EVENTBUS_LOG_FORMAT makes it JSON, also in a file that settings are read from."""
    (tmp_path / "EVENTBUS_LOG_FORMAT").write_text("json")
    variables = {"variable": {"EVENTBUS_LOG_FORMAT": "json"}, "file": {"EVENTBUS_SECRETS_DIR": str(tmp_path)}}
    records = log_records(ended_by_sigterm(proxy, **variables[source]))
    handlers = [record["eventbus_handler"] for record in records if "eventbus_handler" in record]
    assert handlers == ["__main__.Listener.hear"]


@pytest.mark.process
@pytest.mark.parametrize(
    ("configuration", "lines"),
    [
        ("logging.basicConfig()", 0),
        ("log = providers.Resource(logging.basicConfig)", 0),
        ("logging.getLogger('eventbus').addHandler(logging.NullHandler())", 0),
        ("log = providers.Resource(logging.basicConfig, level=logging.INFO, format='mine %(message)s')", 4),
    ],
    ids=["before", "in a resource", "of the package", "in a resource, from INFO on"],
)
def test_a_program_with_a_log_of_its_own(proxy: EventBusProxy, configuration: str, lines: int) -> None:
    """A program that configures logging, at once or in a resource, gets what that says, and nothing of ours."""
    written = ended_by_sigterm(proxy, configuration).splitlines()
    assert len(written) >= lines
    assert [line for line in written if not (lines and line.startswith("mine "))] == []


@pytest.mark.process
def test_a_program_that_fails(proxy: EventBusProxy) -> None:
    """A program whose service gives up ends with status 1, and its last line says why."""
    with program((proxy.pub_port, proxy.sub_port), failures=9) as process:
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert errors.splitlines()[-1] == "eventbus: service Worker has failed and is not run again: Boom: the 4. time"


@pytest.mark.process
@pytest.mark.parametrize("logging", ["", "logging.basicConfig(format='mine %(message)s')"], ids=["default", "its own"])
def test_a_program_without_a_proxy(dead_ports: tuple[int, int], logging: str) -> None:
    """A program that finds no proxy says so on one line, and ends with status 1."""
    with program(dead_ports, logging=logging, variables={"EVENTBUS_CONNECT_TIMEOUT": "1"}) as process:
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    (line,) = errors.splitlines()
    assert line.startswith(("mine " if logging else "eventbus: ") + "no event bus proxy answered at")
    assert "start a proxy there with `eventbus proxy`" in line


@pytest.mark.process
def test_a_program_with_a_bad_setting(dead_ports: tuple[int, int]) -> None:
    """Its status is that of bad settings, as that of every command: to start it again would not help."""
    with program(dead_ports, variables={"EVENTBUS_LINGER": "-1"}) as process:
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    (line,) = errors.splitlines()
    assert line.startswith("eventbus: EVENTBUS_LINGER='-1'")


@contextmanager
def exiting_from(error: type[Exception], text: str) -> Iterator[None]:
    """The block exits with status 1, from this error."""
    with pytest.raises(SystemExit) as caught:
        yield
    assert caught.value.code == 1
    assert isinstance(caught.value.__cause__, error)
    assert re.search(text, str(caught.value.__cause__))


def _set_ports(monkeypatch: pytest.MonkeyPatch, pub_port: int, sub_port: int) -> None:
    monkeypatch.setenv("EVENTBUS_PUB_PORT", str(pub_port))
    monkeypatch.setenv("EVENTBUS_SUB_PORT", str(sub_port))
