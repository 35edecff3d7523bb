"""The original client's view of our messages on the wire: the settings whose messages it can read, and the others."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from dependency_injector import containers, providers

from eventbus import Compression, DeadLetter, Emission, EventBusProxy, Middleware, on
from eventbus.container import EventBusContainer, lifespan
from eventbus.handle.middleware import EmitNext
from eventbus.wire.frames import is_text
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
    expect,
    new,
    new_event,
    numbers_in,
    old,
    old_event,
)

OURS = [RLEvent.model_validate(sample) for sample in SAMPLES]


class Correlation(Middleware):
    """Lets a header travel with each event."""

    def emit(self, emission: Emission, call_next: EmitNext) -> None:
        call_next(replace(emission, headers={"correlation-id": "größe 7"}))


WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "numbered": {"numbered": True},
    "headers": {"middleware": [Correlation()]},
    "both": {"numbered": True, "middleware": [Correlation()]},
}


@pytest.fixture
def receiver(bare: Ports) -> Iterator[Old]:
    """An original client that is subscribed to `corerl`."""
    with old(bare, OLD_TOPIC) as receiver:
        yield receiver


def sent(sender: New, receiver: Old) -> list[list[bytes]]:
    """The frames of the samples that the original finds."""
    sender.introduce(receiver.events)
    for event in OURS:
        sender.emit(event)
    expect(receiver.events, OURS)
    return receiver.client.messages[-len(OURS) :]


@pytest.mark.parametrize("options", WAYS.values(), ids=WAYS.keys())
def test_the_json_is_that_of_pydantic(bare: Ports, receiver: Old, options: dict[str, Any]) -> None:
    """However it is sent, an event is two frames for the original client, the second what `model_dump_json` writes."""
    with new(bare, **options) as sender:
        messages = sent(sender, receiver)
    assert [payload for _, payload in messages] == [event.model_dump_json().encode() for event in OURS]
    assert receiver.client.skipped == 0


def test_the_topic_is_all_that_is_in_the_first_frame(bare: Ports, receiver: Old) -> None:
    """Without numbers and headers, which are off by default, the first frame is the topic and nothing else."""
    with new(bare) as sender:
        assert {topic for topic, _ in sent(sender, receiver)} == {b"corerl"}


def test_headers_follow_the_topic_as_text(bare: Ports, receiver: Old) -> None:
    """With headers, the first frame begins with the topic and NUL, and is text as a whole."""
    with new(bare, middleware=[Correlation()]) as sender:
        [frame] = {topic for topic, _ in sent(sender, receiver)}
    assert frame.decode() == 'corerl\0\0{"correlation-id":"größe 7"}\0'


def test_numbers_follow_the_topic_and_are_no_text(bare: Ports, receiver: Old) -> None:
    """With numbers it begins with the topic and NUL; a client that decodes first frames as text cannot read all of them."""
    with new(bare, numbered=True) as sender:
        sender.introduce(receiver.events)
        for number in range(128):
            sender.emit(new_event(number))
        assert numbers_in(receiver.events, 128) == list(range(128))
    frames = [topic for topic, _ in receiver.client.messages]
    assert all(frame.startswith(b"corerl\0") for frame in frames)
    # A byte that begins no character comes with the 128th of each topic at the latest.
    assert any(not is_text(frame) for frame in frames)


def test_packed_events(bare: Ports, receiver: Old) -> None:
    """Many events in one message are a JSON array, of which the original client can make nothing; single ones it reads."""
    with new(bare) as sender:
        sender.introduce(receiver.events)
        sender.client.emit_events([new_event(1), new_event(2)], TOPIC)
        sender.client.emit_events([new_event(3)], TOPIC)
        sender.emit(new_event(4))
        assert numbers_in(receiver.events, 2) == [3, 4]
    assert receiver.client.skipped == 1
    [array] = [payload for _, payload in receiver.client.messages if payload.startswith(b"[")]
    one, two = new_event(1).model_dump_json(), new_event(2).model_dump_json()
    assert array.decode() == f"[{one},{two}]"


@pytest.mark.parametrize("compression", [Compression.ZLIB, Compression.ZSTD, Compression.LZ4])
def test_compressed_events(bare: Ports, receiver: Old, compression: Compression) -> None:
    """The original client cannot read compressed payloads; it reads those up to the threshold."""
    with new(bare, compression=compression, compression_threshold=1_000) as sender:
        sender.introduce(receiver.events)
        for number, note in enumerate(("short", "long " * 1_000, "short")):
            sender.emit(new_event(number, note=note))
        assert numbers_in(receiver.events, 2) == [0, 2]
    assert receiver.client.skipped == 1


class App(containers.DeclarativeContainer):
    bus = providers.Container(EventBusContainer, event_class=RLEvent)


@pytest.mark.usefixtures("variables")
def test_the_variables_that_avoid_it(place: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    """With EVENTBUS_PACKING=false and EVENTBUS_COMPRESSION=none the original client reads all that emit_events sends."""
    monkeypatch.setenv("EVENTBUS_COMPRESSION_THRESHOLD", "1")
    with old(place, OLD_TOPIC) as receiver, lifespan(App()) as app, new(place) as first:
        first.introduce(receiver.events)
        client = app.bus.client()
        client.connect()  # once more: by now the original's subscription has come to it
        client.emit_events(OURS, TOPIC)
        expect(receiver.events, OURS)
        assert receiver.client.skipped == 0


class Failing:
    """Fails to handle anything."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus

    @on(RLEventType.measured, topic=TOPIC)
    def handle(self, event: RLEvent) -> None:
        raise ValueError(f"no room for {event.value}")


class FailingApp(containers.DeclarativeContainer):
    bus = providers.Container(
        EventBusContainer, event_class=RLEvent, middleware=providers.List(providers.Singleton(DeadLetter, LONGER))
    )
    failing = providers.Singleton(Failing, bus=bus.client)


@pytest.mark.usefixtures("variables")
def test_dead_letters(place: Ports) -> None:
    """An event of the original client that a handler has failed at comes back to it, as a dead letter, as it was."""
    with lifespan(FailingApp()), old(place, OLD_LONGER) as other:
        other.introduce(other.events)  # by a dead letter
        other.emit(old_event(1))
        assert numbers_in(other.events, 1) == [1]
        assert other.client.skipped == 0


def test_a_proxy_of_ours_with_a_limit() -> None:
    """An event beyond our proxy's limit costs the original client its connection for a moment; it goes on by itself."""
    with EventBusProxy(pub_port=0, sub_port=0, max_event_bytes=10_000) as limited:
        ports = Ports(limited.pub_port, limited.sub_port)
        with new(ports, TOPIC) as receiver, old(ports) as sender:
            sender.introduce(receiver.events)
            sender.emit(old_event(1, note="x" * 20_000))
            sender.introduce(receiver.events)
            sender.emit(old_event(2))
            assert numbers_in(receiver.events, 1) == [2]
