"""`Service` and `AsyncService`: start, run, stop, fail, run again."""

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from functools import wraps
from pathlib import Path
from threading import Event, Thread
from typing import Any, override

import pytest
from dependency_injector.wiring import Provide
from pydantic import TypeAdapter

from eventbus import (
    BaseEvent,
    BaseEventType,
    EventBusClient,
    InvalidEvent,
    NotConnected,
    ServiceFailed,
    ServiceTimeout,
)
from eventbus.container import AsyncService, EventBusContainer, RestartPolicy, Service, ServiceState
from eventbus.transports.memory import MemoryHub, MemoryTransport
from tests.container.services import (
    AsyncWorker,
    Boom,
    LifeBus,
    LifeEvent,
    LifeTopic,
    LifeType,
    Worker,
    signals_elsewhere,
    told,
)
from tests.container.support import leaving_nothing
from tests.support import (
    PATIENCE,
    MyEvent,
    MyEventTopic,
    MyEventType,
    eventually,
    fields_of,
    in_thread,
    is_joining,
    run_script,
)

STOPPED, RUNNING, FAILED = ServiceState.STOPPED, ServiceState.RUNNING, ServiceState.FAILED


@pytest.fixture
def bus_and_heard() -> Iterator[tuple[LifeBus, list[str]]]:
    with told() as made:
        yield made


@pytest.fixture
def bus(bus_and_heard: tuple[LifeBus, list[str]]) -> LifeBus:
    """A connected client."""
    return bus_and_heard[0]


@pytest.fixture
def heard(bus_and_heard: tuple[LifeBus, list[str]]) -> list[str]:
    """The life events of the services on that bus."""
    return bus_and_heard[1]


def within(main: Callable[[], object]) -> None:
    """Run an asynchronous test with a time limit."""

    async def limited() -> None:
        async with asyncio.timeout(PATIENCE):
            await main()  # type: ignore[misc] # a coroutine function

    asyncio.run(limited())


async def until(condition: Callable[[], object]) -> None:
    """`eventually`, while this loop goes on."""
    await asyncio.to_thread(eventually, condition)


# From start to stop


def test_start_and_stop(bus: LifeBus, heard: list[str]) -> None:
    """A service runs in a thread of its own from start() to stop(), and emits an event at both."""
    worker = Worker(bus)
    assert worker.state is STOPPED
    with leaving_nothing():
        worker.start()
        assert worker.state is RUNNING
        assert worker.running.wait(PATIENCE)
        assert "eventbus-service-Worker" in [thread.name for thread in threading.enumerate()]
        worker.stop()
        assert (worker.state, worker.runs, worker.stopping) == (STOPPED, 1, True)
    eventually(lambda: heard == ["started", "stopped"])


def test_start_and_stop_are_idempotent(bus: LifeBus, heard: list[str]) -> None:
    """Starting twice runs it once; stopping twice, or one that was never started, does nothing."""
    worker = Worker(bus)
    worker.stop()
    with worker:
        worker.start()
        assert worker.running.wait(PATIENCE)
        worker.stop()
        worker.stop()
    eventually(lambda: heard == ["started", "stopped"])


def test_it_can_start_again(bus: LifeBus, heard: list[str]) -> None:
    """After it has stopped a service can be started again."""
    worker = Worker(bus)
    for count in (1, 2):
        with worker:
            eventually(lambda count=count: worker.runs == count)  # type: ignore[misc] # inferred without a context
            assert not worker.stopping
    eventually(lambda: heard == ["started", "stopped"] * 2)


def test_it_ends_by_itself(bus: LifeBus, heard: list[str]) -> None:
    """When run() returns the service has stopped."""

    class Brief(Worker):
        @override
        def run(self) -> None:
            self.bus.emit_event(LifeType.tick, LifeTopic.life)

    brief = Brief(bus)
    brief.start()
    eventually(lambda: heard == ["started", "tick", "stopped"])
    eventually(lambda: brief.state is STOPPED)


def test_it_may_stop_itself(bus: LifeBus) -> None:
    """stop() inside of run() does not wait for itself; request_stop() never waits."""

    class Suicidal(Worker):
        @override
        def run(self) -> None:
            self.request_stop()
            self.stop()
            assert self.state is ServiceState.STOPPING
            assert self.pause(1000)

    worker = Suicidal(bus)
    worker.run_forever()
    assert worker.state is STOPPED


def test_many_threads_start_and_stop_it(bus: LifeBus, heard: list[str]) -> None:
    """Whichever threads start and stop it at once: it runs once at a time, and in the end it has stopped."""
    worker = Worker(bus)
    alive: list[int] = []

    def use() -> None:
        for _ in range(30):
            worker.start()
            alive.append(sum(thread.name == "eventbus-service-Worker" for thread in threading.enumerate()))
            worker.stop()

    threads = [Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    worker.stop()
    assert worker.state is STOPPED
    assert max(alive) == 1
    eventually(lambda: len(heard) == 2 * worker.runs or heard.count("started") == heard.count("stopped"))
    assert heard == ["started", "stopped"] * (len(heard) // 2)


def test_one_that_does_not_stop(bus: LifeBus) -> None:
    """stop() raises after its timeout, with the remedy; start() does not run a second one beside it."""
    go = Event()

    class Deaf(Worker):
        @override
        def run(self) -> None:
            go.wait()

    deaf = Deaf(bus, stop_timeout=0.01)
    deaf.start()
    try:
        with pytest.raises(ServiceTimeout, match=r"Deaf did not stop within 0.01 s: let `run` check `self.stopping`"):
            deaf.stop()
        with pytest.raises(TimeoutError):
            deaf.start()
        assert deaf.state is ServiceState.STOPPING
    finally:
        go.set()
    deaf.stop(PATIENCE)
    assert deaf.state is STOPPED


def test_starting_itself(bus: LifeBus) -> None:
    """run() cannot start its own service again once it was asked to stop: an error that says when that can be done."""

    class Eager(Worker):
        @override
        def run(self) -> None:
            self.stop()
            self.start()

    with pytest.raises(ServiceFailed, match=r"`run` of service Eager starts it again, .* see `on_end`"):
        Eager(bus).run_forever()


def test_the_end_and_another_thread_start_it(bus: LifeBus) -> None:
    """A thread that waits for the end before it starts it anew does not keep a callback of on_end from starting it."""
    worker = Worker(bus)
    told = Event()
    others: list[Thread] = []

    def start() -> None:
        if not told.is_set():
            told.set()
            eventually(lambda: others and is_joining(others[0]))
            worker.start()

    worker.on_end(start)
    with worker:
        worker.request_stop()
        assert told.wait(PATIENCE)
        other = Thread(target=worker.start)
        others.append(other)
        other.start()
        eventually(lambda: worker.state is RUNNING)
        other.join(PATIENCE)
        assert not other.is_alive()


def test_starting_one_that_stops_waits(bus: LifeBus, heard: list[str]) -> None:
    """start() of a service that is about to stop begins anew when it has."""
    go = Event()

    class Slow(Worker):
        @override
        def run(self) -> None:
            super().run()
            go.wait(PATIENCE)

    slow = Slow(bus)
    slow.start()
    slow.request_stop()
    with in_thread(slow.start) as starting:
        eventually(lambda: is_joining(starting))
        go.set()
    assert slow.state is RUNNING
    slow.stop()
    eventually(lambda: heard == ["started", "stopped"] * 2)


# Failing


def test_it_runs_again(bus: LifeBus, heard: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """An exception of run() is logged with its traceback and emitted, and run() is called again."""
    worker = Worker(bus, failures=2)
    with worker:
        assert worker.running.wait(PATIENCE)
        assert worker.runs == 3
    eventually(lambda: heard == ["started", "error", "started", "error", "started", "stopped"])
    failures = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.message for record in failures] == ["service Worker has failed and is run again in 0 s"] * 2
    assert fields_of(failures[0]) == {"eventbus_service": "Worker", "eventbus_error": "Boom", "eventbus_seconds": 0.0}
    assert failures[0].exc_info


def test_it_gives_up(bus: LifeBus, heard: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """After as many failures as its policy allows the service has failed; starting begins anew."""
    worker = Worker(bus, failures=5)
    worker.start()
    eventually(lambda: worker.state is FAILED)
    assert worker.runs == 4
    assert str(worker.failure) == "the 4. time"
    with pytest.raises(ServiceFailed, match=r"service Worker has failed and is not run again: Boom: the 4\. time") as caught:
        worker.raise_failure()
    assert caught.value.__cause__ is worker.failure
    worker.stop()
    assert worker.state is FAILED
    eventually(lambda: heard == ["started", "error"] * 4 + ["stopped"])
    assert "service Worker has failed and is not run again" in caplog.text
    with worker:
        assert worker.running.wait(PATIENCE)
        assert worker.failure is None
    worker.raise_failure()


def test_without_restarts(bus: LifeBus) -> None:
    """With `restart=None` the first failure is final; run_forever() raises it."""
    worker = Worker(bus, failures=1, restart=None)
    with leaving_nothing(), pytest.raises(ServiceFailed, match=r"Boom"):
        worker.run_forever()
    assert worker.runs == 1


def test_stopping_does_not_wait_for_the_pause(bus: LifeBus, heard: list[str]) -> None:
    """A service that waits for its next run stops at once."""
    worker = Worker(bus, failures=1, restart=RestartPolicy(interval=1000, max_interval=1000))
    worker.start()
    eventually(lambda: worker.state is ServiceState.RESTARTING)
    worker.stop()
    assert (worker.state, worker.runs) == (STOPPED, 1)
    eventually(lambda: heard == ["started", "error", "stopped"])


def test_failing_while_it_stops(bus: LifeBus, heard: list[str]) -> None:
    """An exception of run() after it was asked to stop is reported; it is not run again."""

    class Clumsy(Worker):
        @override
        def run(self) -> None:
            super().run()
            raise Boom

    clumsy = Clumsy(bus)
    with clumsy:
        assert clumsy.running.wait(PATIENCE)
    assert (clumsy.state, clumsy.runs) == (FAILED, 1)
    eventually(lambda: heard == ["started", "error", "stopped"])


def test_sys_exit_is_a_failure(bus: LifeBus) -> None:
    """sys.exit() in run() does not end the service without a word."""

    class Leaver(Worker):
        @override
        def run(self) -> None:
            sys.exit(3)

    with pytest.raises(ServiceFailed, match="SystemExit: 3"):
        Leaver(bus, restart=None).run_forever()


# What it tells


def test_events_with_more_to_say(bus: LifeBus) -> None:
    """lifecycle_event() makes what is emitted, and gets the error."""
    reasons: list[tuple[str, str]] = []
    bus.subscribe(LifeTopic.life)
    bus.attach_callbacks({each: lambda event: reasons.append((event.type, event.reason)) for each in LifeType})
    bus.start_consumer()

    class Talkative(Worker):
        @override
        def lifecycle_event(self, event_type: LifeType, error: BaseException | None) -> LifeEvent:
            return LifeEvent(type=event_type, reason=f"{self.name}: {error}")

    with pytest.raises(ServiceFailed):
        Talkative(bus, failures=1, restart=None).run_forever()
    eventually(
        lambda: (
            reasons
            == [
                ("service_started", "Talkative: None"),
                ("service_error", "Talkative: the 1. time"),
                ("service_stopped", "Talkative: the 1. time"),
            ]
        )
    )


def test_what_cannot_be_told(bus: LifeBus, heard: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """Once it runs, a mistake in lifecycle_event() is logged with its traceback, and the service goes on."""

    class Tongueless(Worker):
        @override
        def lifecycle_event(self, event_type: LifeType, error: BaseException | None) -> LifeType:
            if error is not None:
                raise ValueError("no \x1bwords")
            return event_type

    worker = Tongueless(bus, failures=1)
    with worker:
        assert worker.running.wait(PATIENCE)
    assert (worker.state, worker.runs) == (STOPPED, 2)
    eventually(lambda: heard == ["started", "started", "stopped"])
    (refused,) = [record for record in caplog.records if "could not emit" in record.message]
    assert refused.message == "could not emit service_error of service Tongueless: ValueError: no \\x1bwords"
    assert refused.exc_info


def test_without_a_topic(bus: LifeBus, heard: list[str]) -> None:
    """A service without a topic tells nothing, and needs no types for that."""

    class Silent(Service[MyEvent, MyEventType, MyEventTopic]):
        @override
        def run(self) -> None:
            pass

    with EventBusClient[MyEvent, MyEventType, MyEventTopic](MyEvent, transport=MemoryTransport(MemoryHub())) as other:
        Silent(other).run_forever()


def test_an_enum_without_a_life_cycle() -> None:
    """A topic for the life cycle and no types for it: refused when the service is made, with the remedy."""

    class Mute(Service[MyEvent, MyEventType, MyEventTopic]):
        @override
        def run(self) -> None:
            pass

    client = EventBusClient[MyEvent, MyEventType, MyEventTopic](MyEvent)
    with pytest.raises(InvalidEvent, match=r"MyEventType lacks service_started, service_stopped, service_error: add them"):
        Mute(client, MyEventTopic.other)


def test_an_event_that_needs_more_than_a_type() -> None:
    """start() raises if a bare type cannot stand for the life cycle, and nothing runs."""

    class Needy(BaseEvent[LifeType]):
        time: str

    class Runner(Service[Needy, LifeType, LifeTopic]):
        @override
        def run(self) -> None:
            raise AssertionError

    with EventBusClient[Needy, LifeType, LifeTopic](Needy, transport=MemoryTransport(MemoryHub())) as client:
        runner = Runner(client, LifeTopic.life)
        with pytest.raises(InvalidEvent, match="time"):
            runner.start()
        assert runner.state is STOPPED


def test_a_union_of_events() -> None:
    """The types of the life cycle are found in the right enum of a union's."""

    class One(BaseEvent[MyEventType]):
        pass

    union: Any = One | LifeEvent
    adapter: TypeAdapter[Any] = TypeAdapter(union)

    class Runner(Service[One | LifeEvent, BaseEventType, LifeTopic]):
        @override
        def run(self) -> None:
            pass

        @override
        def lifecycle_event(self, event_type: BaseEventType, error: BaseException | None) -> LifeEvent:
            return LifeEvent(type=LifeType(event_type))

    transport = MemoryTransport(MemoryHub())
    with EventBusClient[One | LifeEvent, BaseEventType, LifeTopic](adapter, transport=transport) as client:
        client.subscribe(LifeTopic.life)
        Runner(client, LifeTopic.life).run_forever()
        assert client.recv_event(PATIENCE) == LifeEvent(type=LifeType.service_started)


def test_a_bus_that_is_away(caplog: pytest.LogCaptureFixture) -> None:
    """A failure to emit is logged, and does not keep the service from its work."""
    client = EventBusClient[LifeEvent, LifeType, LifeTopic](LifeEvent, transport=MemoryTransport(MemoryHub()))
    worker = Worker(client)
    with worker:
        assert worker.running.wait(PATIENCE)
    refused = [record for record in caplog.records if "could not emit" in record.message]
    assert [record.args[0] for record in refused if record.args] == ["service_started", "service_stopped"]  # type: ignore[index] # a tuple
    assert fields_of(refused[0])["eventbus_error"] == NotConnected.__name__


def test_the_end_can_be_heard(bus: LifeBus) -> None:
    """on_end() calls back each time, when the state is final, until its registration is stopped."""
    states: list[ServiceState] = []
    worker = Worker(bus, failures=1, restart=None)
    forget = worker.on_end(lambda: states.append(worker.state))
    worker.start()
    eventually(lambda: states == [FAILED])
    with worker:
        assert worker.running.wait(PATIENCE)
    assert states == [FAILED, STOPPED]
    forget()
    with worker:
        pass
    assert len(states) == 2


def test_a_callback_that_fails(bus: LifeBus, caplog: pytest.LogCaptureFixture) -> None:
    """An exception of a callback of on_end is logged, and does not keep the other callbacks from their call."""
    worker = Worker(bus)

    def leave() -> None:
        sys.exit(3)

    worker.on_end(leave)
    with in_thread(worker.run_forever):
        assert worker.running.wait(PATIENCE)
        worker.request_stop()
    (failed,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert failed.message == "a callback of on_end failed on service Worker"
    assert fields_of(failed) == {"eventbus_service": "Worker", "eventbus_error": "SystemExit"}


def test_the_end_may_start_it_again(bus: LifeBus) -> None:
    """start() may be called by the callback of the end, in the service's own thread."""
    worker = Worker(bus, failures=1, restart=None)
    worker.on_end(lambda: worker.start() if worker.runs < 2 else None)
    worker.start()
    assert worker.running.wait(PATIENCE)
    worker.stop()
    assert (worker.state, worker.runs) == (STOPPED, 2)


# On an event loop


def test_async_start_and_stop(bus: LifeBus, heard: list[str]) -> None:
    """An asynchronous service runs as a task, is cancelled to stop, and may clean up."""

    async def main() -> None:
        worker = AsyncWorker(bus)
        async with worker:
            await worker.start()
            await worker.running.wait()
            assert worker.state is RUNNING
        assert (worker.state, worker.runs, worker.cleaned_up) == (STOPPED, 1, True)
        await worker.stop()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await worker.start()
        await worker.stop()  # before it has begun

    within(main)
    eventually(lambda: heard == ["started", "stopped"] * 2)


def test_async_stop_from_another_thread(bus: LifeBus) -> None:
    """request_stop() may be called from any thread, and any number of times: what is cleaned up is not cancelled."""

    async def main() -> None:
        worker = AsyncWorker(bus)
        running = asyncio.create_task(worker.run_forever())
        await worker.running.wait()

        def ask() -> None:
            for _ in range(5):
                worker.request_stop()

        await asyncio.to_thread(ask)
        await running
        assert (worker.state, worker.cleaned_up) == (STOPPED, True)

    within(main)


def test_async_runs_again_and_gives_up(bus: LifeBus, heard: list[str]) -> None:
    """An asynchronous service that fails is run again, and has failed in the end."""

    async def main() -> None:
        worker = AsyncWorker(bus, failures=9)
        with pytest.raises(ServiceFailed, match=r"the 4\. time"):
            await worker.run_forever()
        assert worker.state is FAILED

    within(main)
    eventually(lambda: heard == ["started", "error"] * 4 + ["stopped"])


def test_async_stop_during_the_pause(bus: LifeBus) -> None:
    """An asynchronous service that waits for its next run stops at once."""

    async def main() -> None:
        async with AsyncWorker(bus, failures=1, restart=RestartPolicy(interval=1000, max_interval=1000)) as worker:
            await until(lambda: worker.state is ServiceState.RESTARTING)
        assert (worker.state, worker.runs) == (STOPPED, 1)

    within(main)


def test_async_one_that_does_not_stop(bus: LifeBus) -> None:
    """stop() of a service that takes no notice of being cancelled raises; so does start()."""

    class Deaf(AsyncWorker):
        @override
        async def run(self) -> None:
            self.running.set()
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                await self.go.wait()

        go: asyncio.Event

    async def main() -> None:
        deaf = Deaf(bus, stop_timeout=0.01)
        deaf.go = asyncio.Event()
        await deaf.start()
        await deaf.running.wait()
        with pytest.raises(ServiceTimeout, match="let `run` end when it is cancelled"):
            await deaf.stop()
        with pytest.raises(ServiceTimeout):
            await deaf.start()
        deaf.go.set()
        await deaf.stop(PATIENCE)
        assert deaf.state is STOPPED

    within(main)


def test_async_cancellation_within_is_a_failure(bus: LifeBus) -> None:
    """A cancelled task that the service awaits is a failure like another; being cancelled from outside is an end."""

    class Unlucky(AsyncWorker):
        @override
        async def run(self) -> None:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future

    async def main() -> None:
        with pytest.raises(ServiceFailed, match="CancelledError"):
            await Unlucky(bus, restart=None).run_forever()
        worker = AsyncWorker(bus)
        running = asyncio.create_task(worker.run_forever())
        await worker.running.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (worker.state, worker.cleaned_up) == (STOPPED, True)

    within(main)


def test_async_cancelled_from_outside_and_failing(bus: LifeBus) -> None:
    """A service whose loop ends, and that fails while it cleans up, has failed: the loop does not wait for another run."""

    class Clumsy(AsyncWorker):
        @override
        async def run(self) -> None:
            try:
                await super().run()
            finally:
                raise Boom

    made: list[Clumsy] = []

    async def main() -> None:
        made.append(Clumsy(bus))
        await made[0].start()
        await made[0].running.wait()

    within(main)
    assert (made[0].state, made[0].runs) == (FAILED, 1)


def test_async_any_exception_is_a_failure(bus: LifeBus) -> None:
    """An exception that is no Exception, as those of some test tools are, is treated alike."""

    class Outcome(BaseException):
        pass

    class Unlucky(AsyncWorker):
        @override
        async def run(self) -> None:
            raise Outcome("odd")

    async def main() -> None:
        with pytest.raises(ServiceFailed, match="Outcome: odd"):
            await Unlucky(bus, restart=None).run_forever()

    within(main)


def test_async_asked_to_stop_when_it_tells_of_its_start(bus: LifeBus, heard: list[str]) -> None:
    """A listener that hears that it has started may ask it to stop at once."""

    class Shy(AsyncWorker):
        @override
        def lifecycle_event(self, event_type: LifeType, error: BaseException | None) -> LifeType:
            if event_type is LifeType.service_started:
                self.request_stop()
            return event_type

    async def main() -> None:
        shy = Shy(bus)
        await shy.run_forever()
        assert shy.state is STOPPED

    within(main)
    eventually(lambda: heard == ["started", "stopped"])


def test_async_start_as_it_ends(bus: LifeBus, heard: list[str]) -> None:
    """start() after the last step of run(), but before its end is emitted, begins anew after that."""

    class Brief(AsyncWorker):
        @override
        async def run(self) -> None:
            if self.runs > 0:
                await super().run()
            self.runs = 1

    async def main() -> None:
        async with Brief(bus) as brief:
            assert brief._task is not None
            while not brief._task.done():
                await asyncio.sleep(0)
            assert brief.state is RUNNING
            await brief.start()
            await brief.running.wait()
            assert brief.state is RUNNING

    within(main)
    eventually(lambda: heard == ["started", "stopped"] * 2)


# Signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_forever_until_a_signal(bus: LifeBus, heard: list[str], number: int) -> None:
    """run_forever() in the main thread stops at SIGINT or SIGTERM and returns; what signals did before they do again."""
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    worker = Worker(bus)

    def interrupt() -> None:
        assert worker.running.wait(PATIENCE)
        os.kill(os.getpid(), number)

    with leaving_nothing(), in_thread(interrupt):
        worker.run_forever()
    assert worker.state is STOPPED
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    eventually(lambda: heard == ["started", "stopped"])


def test_async_run_forever_until_a_signal(bus: LifeBus) -> None:
    """An asynchronous service does the same."""

    async def main() -> None:
        worker = AsyncWorker(bus)
        running = asyncio.create_task(worker.run_forever())
        await worker.running.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await running
        assert (worker.state, worker.cleaned_up) == (STOPPED, True)

    within(main)


def test_no_signal_is_missed(bus: LifeBus) -> None:
    """A signal that does not interrupt the main thread's wait, as one just before a wait begins, is heard, too."""
    worker = Worker(bus)

    def interrupt() -> None:
        assert worker.running.wait(PATIENCE)
        os.kill(os.getpid(), signal.SIGTERM)

    with in_thread(interrupt), signals_elsewhere():
        worker.run_forever()

    async def main() -> None:
        worker = AsyncWorker(bus)

        def interrupt() -> None:
            eventually(worker.running.is_set)
            os.kill(os.getpid(), signal.SIGTERM)

        with in_thread(interrupt), signals_elsewhere():
            await worker.run_forever()

    within(main)


def test_run_forever_in_another_thread(bus: LifeBus) -> None:
    """In another thread signals are left alone; request_stop() ends it."""
    worker = Worker(bus)
    with in_thread(worker.run_forever):
        assert worker.running.wait(PATIENCE)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        worker.request_stop()
    assert worker.state is STOPPED


def test_a_second_signal_ends_what_hangs(bus: LifeBus) -> None:
    """A service that does not stop does not keep the program from ending: the second Ctrl-C interrupts."""
    go = Event()

    class Deaf(Worker):
        @override
        def run(self) -> None:
            self.running.set()
            go.wait()

    deaf = Deaf(bus, stop_timeout=1000)

    def interrupt() -> None:
        assert deaf.running.wait(PATIENCE)
        os.kill(os.getpid(), signal.SIGINT)
        eventually(lambda: deaf.stopping)
        os.kill(os.getpid(), signal.SIGINT)

    try:
        with in_thread(interrupt), pytest.raises(KeyboardInterrupt):
            deaf.run_forever()
    finally:
        go.set()
    deaf.stop(PATIENCE)


FORK = """
import os, signal, sys
from threading import Event
sys.path.insert(0, sys.argv[1])  # where `tests` is
from eventbus.container.signals import on_interrupt
from tests.container.services import Worker, told

with told() as (bus, _):
    worker = Worker(bus)
    with worker, on_interrupt(lambda: None):
        assert worker.running.wait(20)
        runs = worker.runs
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            signal.alarm(30)  # at the latest
            state = worker.state
            worker.start()
            alive = worker._thread.is_alive()
            worker.stop()
            os.write(write, f"{state} {alive} {worker.state}".encode())
            while True:
                Event().wait(0.05)
        print(os.read(read, 100).decode())
        os.kill(child, signal.SIGTERM)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        print(worker.state)
"""


@pytest.mark.process
def test_a_forked_child() -> None:
    """In a forked child a service of the parent has stopped and can be started; SIGTERM ends the child, not the parent."""
    # Python warns of what is tested: that threads are lost in the child.
    done = run_script(FORK, Path(__file__).parents[2], options=("-W", "ignore::DeprecationWarning"))
    assert done.stdout.splitlines() == ["stopped True stopped", "-15", "running"]


# Mistakes


def test_an_init_that_is_not_called(bus: LifeBus) -> None:
    """A service that forgets to call super().__init__() gets an error that says so; other attributes miss as usual."""

    class Forgetful(Worker):
        def __init__(self, bus: LifeBus) -> None:
            self.bus = bus

    for use in (Forgetful.start, Forgetful.request_stop, repr):
        with pytest.raises(AttributeError, match=r"Forgetful has no attribute '\w+': its __init__ has to call super\(\)"):
            use(Forgetful(bus))
    with pytest.raises(AttributeError, match=r"^Worker has no attribute 'rums'$"):
        Worker(bus).rums  # type: ignore[attr-defined] # noqa: B018 # on purpose


def passing(function: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Any]:
    """A decorator that makes a plain function, as many do."""

    @wraps(function)
    def wrapped(self: Any) -> Awaitable[None]:
        return function(self)

    return wrapped


def test_the_wrong_kind_of_run() -> None:
    """An async run() in a Service and a plain one in an AsyncService are refused where they are written."""
    with pytest.raises(TypeError, match=r"Wrong\.run is async: derive from AsyncService"):

        class Wrong(Service[LifeEvent, LifeType, LifeTopic]):
            async def run(self) -> None:  # type: ignore[override] # on purpose
                pass

    with pytest.raises(TypeError, match=r"Plain\.run is not async: make it `async def`"):

        class Plain(AsyncService[LifeEvent, LifeType, LifeTopic]):
            def run(self) -> None:  # type: ignore[override] # on purpose
                pass

    class Wrapped(AsyncWorker):
        @passing
        async def run(self) -> None:
            pass


def test_a_provider_for_a_bus() -> None:
    """A provider of a client, or a marker that nothing has resolved, is no client: refused with the remedy."""
    app = EventBusContainer(event_class=LifeEvent)
    wrong: list[Any] = [EventBusContainer.client, app.client, app, Provide[EventBusContainer.client]]
    for given in wrong:
        with pytest.raises(TypeError, match=r"service Worker got a \w+ as its bus, .* `providers\.Singleton\(Worker, "):
            Worker(given)


def test_run_has_to_be_written() -> None:
    """A service without run() cannot be made."""
    with pytest.raises(TypeError, match="abstract"):
        Service(None)  # type: ignore[abstract,arg-type] # on purpose
    with pytest.raises(TypeError, match="abstract"):
        AsyncService(None)  # type: ignore[abstract,arg-type] # on purpose
