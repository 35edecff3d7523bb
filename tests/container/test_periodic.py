"""`@every` on methods and functions, and heartbeats of services."""

import asyncio
import logging
import sys
import threading
import time
from enum import auto
from threading import Event
from types import ModuleType
from typing import Any

import pytest
from dependency_injector import containers, providers
from dependency_injector.wiring import Provide, inject

from eventbus import (
    BaseEvent,
    BaseEventTopic,
    BaseEventType,
    EventBusClient,
    EventBusHook,
    InvalidEvent,
    InvalidHandler,
    every,
    on,
)
from eventbus.container import EventBusContainer, RestartPolicy, Service, event_bus, lifespan
from eventbus.settings import EventBusSettings
from eventbus.testing import abus_test, bus_test
from eventbus.testing._clock import ManualClock
from eventbus.transports.memory import MemoryTransport
from tests.support import PATIENCE, eventually


class LifeType(BaseEventType):
    tick = auto()
    service_started = auto()
    service_stopped = auto()
    service_error = auto()
    service_heartbeat = auto()


class LifeTopic(BaseEventTopic):
    life = auto()


class LifeEvent(BaseEvent[LifeType]):
    number: int = 0


Bus = EventBusClient[LifeEvent, LifeType, LifeTopic]


class Clockwork:
    """Emits on its own, synchronously and not, and counts what comes."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.calls: list[str] = []
        self.fails = False

    @every(10)
    def tick(self) -> None:
        self.calls.append("tick")
        if self.fails:
            raise ArithmeticError("tick")
        self.bus.emit_event(LifeEvent(type=LifeType.tick), LifeTopic.life)

    @every(15.0, delay=5.0)
    async def tock(self) -> None:
        await asyncio.sleep(0.01)
        self.calls.append("tock")

    @on(LifeType.tick)
    def handle(self, event: LifeEvent) -> None:
        self.calls.append("event")


class App(containers.DeclarativeContainer):
    bus = event_bus(Bus)
    clockwork = providers.Singleton(Clockwork, bus=bus.client)


def test_it_is_called_in_its_time() -> None:
    """The first call comes after the start, with all handlers attached; the others in their period."""
    with bus_test(App()) as t:
        clockwork = t.container.clockwork()
        assert clockwork.calls == ["tick", "event"]
        t.advance(4)
        assert clockwork.calls == ["tick", "event"]
        t.advance(6)  # 10
        assert clockwork.calls == ["tick", "event", "tock", "tick", "event"]
        del clockwork.calls[:]
        t.advance(20)  # 30
        assert clockwork.calls == ["tock", "tick", "event", "tick", "event"]
        assert len(t.emitted(LifeType.tick)) == 4
    assert not [thread.name for thread in threading.enumerate() if "every" in thread.name]


def test_it_goes_on_without_the_consumer() -> None:
    """A service that stops receiving for a while still does what it does periodically, with async methods too."""
    with bus_test(App()) as t:
        clockwork = t.container.clockwork()
        t.container.bus.client().stop_consumer()
        t.advance(20)
        assert clockwork.calls == ["tick", "event", "tock", "tick", "tock", "tick"]
        t.container.bus.client().start_consumer()
        t.settle()
        assert clockwork.calls == ["tick", "event", "tock", "tick", "tock", "tick", "event", "event"]
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("eventbus")]


def test_a_thread_that_is_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock does not move on before the thread of an async method waits again, however busy the machine is."""
    wait = ManualClock.wait

    def late(self: ManualClock, event: threading.Event, seconds: float) -> bool:
        if "tock" in threading.current_thread().name:
            time.sleep(0.05)
        return wait(self, event, seconds)

    monkeypatch.setattr(ManualClock, "wait", late)
    test_it_is_called_in_its_time()


def test_on_an_event_loop() -> None:
    """An async method runs on the loop of the container."""

    async def main() -> None:
        async with abus_test(App()) as t:
            await t.advance(20)
            assert t.container.clockwork().calls.count("tock") == 2

    asyncio.run(main())


def test_on_the_loop_of_a_client_that_was_given() -> None:
    """Where a client was connected, its handlers and the periodic methods run, wherever the container starts."""
    threads: set[threading.Thread] = set()
    heard, called = Event(), Event()

    class Both:
        @every(60)
        async def call(self) -> None:
            threads.add(threading.current_thread())
            called.set()

        @on(LifeType.tick, topic=LifeTopic.life)
        async def hear(self, event: LifeEvent) -> None:
            threads.add(threading.current_thread())
            heard.set()

    class BothApp(containers.DeclarativeContainer):
        bus = event_bus(Bus)
        both = providers.Singleton(Both)

    async def main() -> None:
        async with Bus(LifeEvent, transport=MemoryTransport()) as client:
            app = BothApp()
            app.bus.client.override(providers.Object(client))

            def run() -> None:
                with lifespan(app):
                    client.emit_event(LifeType.tick, LifeTopic.life)
                    assert heard.wait(PATIENCE)
                    assert called.wait(PATIENCE)

            await asyncio.to_thread(run)

    asyncio.run(main())
    assert threads == {threading.current_thread()}


def test_what_it_raises(caplog: pytest.LogCaptureFixture) -> None:
    """An error is logged, hooks and tests get it, and it is called again."""
    failures: list[tuple[str, str]] = []

    class Hook(EventBusHook):
        def periodic_failed(self, name: str, duration: float, error: BaseException) -> None:
            failures.append((name.rpartition(".")[2], str(error)))

    class HookedApp(App):
        hook = providers.Singleton(Hook)

    with bus_test(HookedApp()) as t:
        t.container.clockwork().fails = True
        with pytest.raises(ArithmeticError, match="tick"):
            t.advance(10)
        t.container.clockwork().fails = False
        t.advance(10)
    assert failures == [("tick", "tick")]
    (line,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert line.getMessage().endswith("Clockwork.tick has failed: ArithmeticError: tick")


def test_calls_do_not_overlap_and_are_waited_for() -> None:
    """A call that takes longer than the period leaves out the next; stopping waits for it."""
    entered, go_on = Event(), Event()
    log: list[str] = []

    class Slow:
        @every(0.001)
        def work(self) -> None:
            log.append("begin")
            entered.set()
            assert go_on.wait(PATIENCE)
            log.append("end")

    class SlowApp(containers.DeclarativeContainer):
        bus = providers.Container(EventBusContainer, event_class=LifeEvent, transport=providers.Object(MemoryTransport()))
        slow = providers.Singleton(Slow)

    with lifespan(SlowApp()):
        assert entered.wait(PATIENCE)
        threading.Timer(0.05, go_on.set).start()
    assert log == ["begin", "end"]


def test_a_stop_that_is_interrupted_detaches() -> None:
    """Ctrl-C ends the waiting for a call: a client that somebody else has made is left without the handlers all the same."""
    go_on, heard = Event(), Event()

    class Slow:
        @every(60)
        def work(self) -> None:
            assert go_on.wait(PATIENCE)

        @on(LifeType.tick, topic=LifeTopic.life)
        def hear(self, event: LifeEvent) -> None:
            heard.set()

    class Interrupts(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            if "is still running" in record.getMessage():
                raise KeyboardInterrupt
            return True

    class SlowApp(containers.DeclarativeContainer):
        bus = event_bus(Bus)
        slow = providers.Singleton(Slow)

    with Bus(LifeEvent, transport=MemoryTransport(), close_timeout=0.1) as client:
        app, interrupts = SlowApp(), Interrupts()
        app.bus.client.override(providers.Object(client))
        logging.getLogger("eventbus").addFilter(interrupts)
        try:
            with pytest.raises(KeyboardInterrupt), lifespan(app):
                pass
        finally:
            logging.getLogger("eventbus").removeFilter(interrupts)
            go_on.set()
        client.start_consumer()
        client.emit_event(LifeType.tick, LifeTopic.life)
        eventually(lambda: client.stats().received == 1)
        client.stop_consumer()
        assert not heard.is_set()


def test_a_disabled_bus_does_not_matter() -> None:
    """What is periodic may do other things than emit."""
    app = App()
    app.bus.settings.override(EventBusSettings(enabled=False))
    with lifespan(app) as running:
        eventually(lambda: running.clockwork().calls == ["tick"])


def test_functions_of_wired_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function of a wired module gets its injections."""
    module = ModuleType("periodic_functions")
    module.called = []  # type: ignore[attr-defined] # a module of its own

    @every(1)
    @inject
    def work(number: int = Provide["number"]) -> None:
        module.called.append(number)

    work.__module__ = module.__name__
    module.work = work  # type: ignore[attr-defined] # see above
    monkeypatch.setitem(sys.modules, module.__name__, module)

    class WiredApp(App):
        number = providers.Object(7)

    app = WiredApp()
    app.wire(modules=[module])
    try:
        with bus_test(app) as t:
            t.advance(1)
    finally:
        app.unwire()
    assert module.called == [7, 7]


@pytest.mark.parametrize("arguments", [(0,), (-1,), ("10",), (float("nan"),)])
def test_periods_that_make_no_sense(arguments: tuple[Any, ...]) -> None:
    """A period is a positive number."""
    with pytest.raises(InvalidHandler):
        every(*arguments)


def test_one_that_needs_arguments() -> None:
    """A method that cannot be called without arguments is refused at start."""

    class Wrong:
        @every(1)
        def work(self, event: LifeEvent) -> None: ...

    class WrongApp(App):
        wrong = providers.Singleton(Wrong)

    with pytest.raises(InvalidHandler, match=r"work.* cannot be called without arguments"), bus_test(WrongApp()):
        pass


class Beating(Service[LifeEvent, LifeType, LifeTopic]):
    """Fails when it is told to."""

    def __init__(self, bus: Bus) -> None:
        super().__init__(bus, LifeTopic.life, heartbeat=30, restart=RestartPolicy(interval=60, max_interval=60))
        self.fails = False

    def run(self) -> None:
        while not self.pause(1):
            if self.fails:
                self.fails = False
                raise ArithmeticError


def test_a_heartbeat() -> None:
    """A service emits its heartbeat while it runs, neither while it waits for a restart nor after its end."""

    class BeatingApp(App):
        beating = providers.Singleton(Beating, bus=App.bus.client)

    with bus_test(BeatingApp()) as t:
        with t.container.beating() as beating:
            t.advance(29)
            assert t.emitted(LifeType.service_heartbeat) == []
            t.advance(31)
            assert len(t.emitted(LifeType.service_heartbeat)) == 2
            beating.fails = True
            t.advance(59)
            assert len(t.emitted(LifeType.service_heartbeat)) == 2
            t.advance(31)
            assert len(t.emitted(LifeType.service_heartbeat)) > 2
        t.forget()
        t.advance(100)
        assert t.emitted(LifeType.service_heartbeat) == []


def test_a_heartbeat_for_which_there_is_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service has not started, and can be started again; nobody waits for its end."""

    def start(thread: threading.Thread) -> None:
        if "heartbeat" in thread.name:
            raise RuntimeError("can't start new thread")
        start_thread(thread)

    start_thread = threading.Thread.start
    with Bus(LifeEvent, transport=MemoryTransport()) as bus:
        beating = Beating(bus)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            with pytest.raises(RuntimeError):
                beating.start()
        assert not beating.is_alive
        with beating:
            assert beating.is_alive


def test_a_heartbeat_needs_what_it_emits() -> None:
    """Without a topic, a positive period and its type there is none."""

    class OldType(BaseEventType):
        service_started = auto()
        service_stopped = auto()
        service_error = auto()

    class Quiet(Service[Any, Any, Any]):
        def run(self) -> None: ...

    bus = EventBusClient[Any, Any, Any](LifeEvent, transport=MemoryTransport())
    old = EventBusClient[Any, Any, Any](BaseEvent[OldType], transport=MemoryTransport())
    with pytest.raises(ValueError, match="needs a topic"):
        Quiet(bus, heartbeat=30)
    with pytest.raises(ValueError, match="positive"):
        Quiet(bus, LifeTopic.life, heartbeat=0)
    with pytest.raises(InvalidEvent, match=r"lacks .*service_heartbeat"):
        Quiet(old, LifeTopic.life, heartbeat=30)
