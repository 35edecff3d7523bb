"""`packing=Packing.ALL` at the client: events share messages, and everything else is as it was."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from eventbus import Compression, EventBusHook, Middleware, Packing, SendPolicy, current_headers
from eventbus.events import BaseEvent, BaseEventType
from eventbus.handle.middleware import Emission, EmitNext
from eventbus.observe.stats import DropReason
from eventbus.telemetry.prometheus import PrometheusHook
from eventbus.wire.compression import is_compressed
from tests.support import Bus, MyEvent, MyEventTopic, MyEventType, RawPeers, Recorder, event, eventually, json_of, read_until

TOPIC, OTHER = MyEventTopic.my_service, MyEventTopic.other
COUNT = 2_000


class Tagging(Middleware):
    """Gives every hundred events a header of their own."""

    def __init__(self) -> None:
        self.emitted = 0

    def emit(self, emission: Emission, call_next: EmitNext) -> None:
        call_next(replace(emission, headers={"tag": str(self.emitted // 100)}))
        self.emitted += 1


class Hook(EventBusHook):
    """Keeps the values of what was emitted."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def emitted(self, topic: str, events: Sequence[BaseEvent[Any] | BaseEventType], size: int) -> None:
        self.values += [each.value for each in events if isinstance(each, MyEvent)]


@pytest.mark.parametrize(
    "options",
    [{}, {"numbered": True}, {"compression": Compression.ZLIB, "compression_threshold": 500}, {"packing_max_wait": 0.0}],
    ids=["plain", "numbered", "compressed", "waiting for nothing"],
)
def test_everything_arrives_in_order(connected: Callable[..., Bus], bus: Bus, options: dict[str, Any]) -> None:
    """However they travel, events of one topic and many batches between them arrive once and in order."""
    recorder = Recorder()
    bus.attach_callback(MyEventType.updated, recorder)
    bus.start_consumer()
    client = connected(packing=Packing.ALL, **options)
    for number in range(COUNT):
        if number % 500 == 499:
            client.emit_events([event(number), event(number + 0.5)], TOPIC)
        else:
            client.emit_event(event(number), TOPIC)
    values = recorder.wait_for(COUNT + 4)
    assert values == sorted(set(values))
    assert client.stats().emitted == len(values) == COUNT + 4
    assert (bus.stats().lost, bus.stats().rejected) == (0, 0)


def test_messages_are_few_and_as_receivers_know_them(connected: Callable[..., Bus], raw: RawPeers) -> None:
    """The first event is a message as ever; many others share one, as those of emit_events() do, and can be compressed."""
    subscriber = raw.subscriber()
    client = connected(packing=Packing.ALL, compression=Compression.ZLIB, compression_threshold=200)
    for number in range(COUNT):
        client.emit_event(event(number), TOPIC)
    client.emit_event(event(), OTHER)
    messages = read_until(subscriber, b"other")
    assert messages[0] == [b"my_service", json_of(0)]
    assert len(messages) < COUNT / 4
    assert {topic for topic, _ in messages} == {b"my_service"}
    assert any(is_compressed(payload) for _, payload in messages)


def test_headers_stay_with_their_events(connected: Callable[..., Bus], bus: Bus) -> None:
    """Only events with the same headers share a message; hooks are told each event, also on this way."""
    seen: list[tuple[float, str]] = []
    bus.attach_callback(MyEventType.updated, lambda each: seen.append((each.value, current_headers()["tag"])))
    bus.start_consumer()
    hook = Hook()
    client = connected(packing=Packing.ALL, middleware=[Tagging()], hooks=[hook])
    for number in range(COUNT):
        client.emit_event(event(number), TOPIC)
    eventually(lambda: len(seen) == COUNT)
    assert seen == [(number, str(number // 100)) for number in range(COUNT)]
    assert hook.values == list(range(COUNT))


def test_metrics_count_events(connected: Callable[..., Bus], bus: Bus) -> None:
    """Prometheus counts events, not messages, on both sides."""
    registry = CollectorRegistry()
    recorder = Recorder()
    bus.add_hook(PrometheusHook(registry))
    bus.attach_callback(MyEventType.updated, recorder)
    bus.start_consumer()
    client = connected(packing=Packing.ALL, hooks=[PrometheusHook(CollectorRegistry())])
    for number in range(COUNT):
        client.emit_event(event(number), TOPIC)
    recorder.wait_for(COUNT)
    eventually(lambda: registry.get_sample_value("eventbus_received_events_total", {"topic": "my_service"}) == COUNT)
    assert client.stats().emitted == COUNT


def test_what_waits_for_the_proxy_is_counted_in_events(dead_ports: tuple[int, int]) -> None:
    """Without a proxy, the send buffer takes as many events as its high-water mark says, and close() counts them."""
    client = Bus(
        MyEvent,
        "127.0.0.1",
        *dead_ports,
        packing=Packing.ALL,
        connect_required=False,
        send_hwm=600,
        send_policy=SendPolicy.DROP,
    )
    client.connect(5)
    for number in range(1_000):
        client.emit_event(event(number), TOPIC)
    assert (client.stats().emitted, client.stats().drops) == (600, {DropReason.SEND_BUFFER: 400})
    client.close(0)
    assert client.stats().drops == {DropReason.SEND_BUFFER: 400, DropReason.CLOSED: 600}
