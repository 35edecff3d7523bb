"""Events go between the original client and this one, both ways, at any proxy: each once, in order, and equal."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence

import pytest
from dependency_injector import containers, providers

from eventbus import on
from eventbus.container import EventBusContainer, lifespan
from tests.interop import original
from tests.interop.support import (
    LONGER,
    OLD_LONGER,
    OLD_TOPIC,
    SAMPLES,
    TOPIC,
    Bus,
    New,
    Old,
    Ports,
    RLEvent,
    RLEventType,
    contents,
    expect,
    new,
    new_event,
    numbers_in,
    old,
    old_event,
)
from tests.support import PATIENCE, in_thread

OURS = [RLEvent.model_validate(sample) for sample in SAMPLES]
THEIRS = [original.RLEvent.model_validate(sample) for sample in SAMPLES]


def one_by_one(client: Bus, events: Sequence[RLEvent]) -> None:
    for event in events:
        client.emit_event(event, TOPIC)


def at_once(client: Bus, events: Sequence[RLEvent]) -> None:
    client.emit_events(events, TOPIC)


@pytest.mark.parametrize("emit", [one_by_one, at_once])
@pytest.mark.parametrize("numbered", [False, True])
def test_what_is_emitted_here(place: Ports, emit: Callable[[Bus, Sequence[RLEvent]], None], numbered: bool) -> None:
    """The original client gets every event, and from its queue too: emitted one by one, or many at once and not packed."""
    with old(place, OLD_TOPIC) as receiver, new(place, packing=False, numbered=numbered) as sender:
        sender.introduce(receiver.events)
        emit(sender.client, OURS)
        expect(receiver.events, OURS)
        queued = [receiver.client.recv_event() for _ in receiver.events]
        assert queued == receiver.events
        assert receiver.client.skipped == 0


def test_what_the_original_emits(place: Ports) -> None:
    """A client with callbacks gets every event of the original client, and none is rejected."""
    with new(place, TOPIC) as receiver, old(place) as sender:
        sender.introduce(receiver.events)
        for event in THEIRS:
            sender.emit(event)
        expect(receiver.events, THEIRS)
        stats = receiver.client.stats()
        assert (stats.rejected, stats.lost, stats.repeated) == (0, 0, 0)


def by_asking(client: Bus) -> Iterator[RLEvent]:
    while (event := client.recv_event(PATIENCE)) is not None:
        yield event


def by_listening(client: Bus) -> Iterator[RLEvent]:
    yield from client.listen_forever()


@pytest.mark.parametrize("read", [by_asking, by_listening])
def test_what_is_read_of_the_original(place: Ports, read: Callable[[Bus], Iterator[RLEvent]]) -> None:
    """`recv_event` and `listen_forever` return every event of the original client."""
    with new(place, TOPIC) as receiver, old(place) as sender:
        found: list[RLEvent] = []

        def collect() -> None:
            for event in read(receiver.client):
                found.append(event)
                if event.type is RLEventType.stopped:
                    break

        with in_thread(collect):
            sender.introduce(found)
            for event in [*THEIRS, old_event(0, original.RLEventType.stopped)]:
                sender.emit(event)
        assert contents(found[:-1]) == contents(THEIRS)


class Agent:
    """Answers what it hears on one topic on another."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.heard: list[RLEvent] = []

    @on(RLEventType.measured, topic=TOPIC)
    def handle(self, event: RLEvent) -> None:
        self.heard.append(event)
        self.bus.emit_event(event, LONGER)


class AsyncAgent(Agent):
    @on(RLEventType.measured, topic=TOPIC)
    async def handle(self, event: RLEvent) -> None:  # type: ignore[override] # what a handler returns is ignored
        super().handle(event)


class App(containers.DeclarativeContainer):
    bus = providers.Container(EventBusContainer, event_class=RLEvent)
    agent = providers.Singleton(Agent, bus=bus.client)


class AsyncApp(containers.DeclarativeContainer):
    bus = providers.Container(EventBusContainer, event_class=RLEvent)
    agent = providers.Singleton(AsyncAgent, bus=bus.client)


@pytest.mark.parametrize("app_class", [App, AsyncApp])
@pytest.mark.usefixtures("variables")
def test_handlers_in_a_container(place: Ports, app_class: type[App | AsyncApp]) -> None:
    """Handlers marked with @on get every event of the original client, and what they emit reaches it; `async` ones too."""
    with old(place, OLD_LONGER) as other, lifespan(app_class()) as app:
        other.introduce(other.events)  # by an answer
        for event in THEIRS:
            other.emit(event)
        expect(other.events, THEIRS)
        expect(app.agent().heard, THEIRS)


@pytest.mark.process
def test_in_a_process_of_its_own(place: Ports) -> None:
    """The original client as a program, in which this package is not even imported, answers every event."""
    program = [sys.executable, "-W", "error", original.__file__, *map(str, place)]
    with subprocess.Popen(program) as process:
        try:
            with new(place, TOPIC) as client:
                # By an answer: its subscriber and its publisher have both joined then.
                client.introduce(client.events, LONGER)
                for number in range(200):
                    client.emit(new_event(number), LONGER)
                client.emit(new_event(200, RLEventType.stopped), LONGER)
                assert numbers_in(client.events, 201) == list(range(201))
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


def test_a_mixed_fleet(place: Ports) -> None:
    """Two publishers and two subscribers of each kind on one topic: all get all, and each publisher's events in order."""
    count = 200
    with (
        old(place, OLD_TOPIC) as old_one,
        old(place, OLD_TOPIC) as old_two,
        new(place, TOPIC) as new_one,
        new(place, TOPIC, numbered=True) as new_two,
        old(place) as old_three,
        new(place) as new_three,
    ):
        receivers: list[Old | New] = [old_one, old_two, new_one, new_two]
        publishers: list[Old | New] = [old_one, old_three, new_two, new_three]  # two that receive too, two that do not
        for publisher in publishers:
            for receiver in receivers:
                publisher.introduce(receiver.events)
        for number in range(count):
            for index, publisher in enumerate(publishers):
                publisher.emit(publisher.event(index * count + number))
        for receiver in receivers:
            found = numbers_in(receiver.events, 4 * count)
            by_publisher = [[value for value in found if value // count == index] for index in range(4)]
            assert by_publisher == [list(range(index * count, (index + 1) * count)) for index in range(4)]
        assert (old_one.client.skipped, new_one.client.stats().rejected) == (0, 0)
