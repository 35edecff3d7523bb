"""The path of an event, held to a budget: how many calls and lines of ours each event costs.

Counted, not timed, so that it does not depend on the machine. docs/fast-path.md explains the tricks behind these figures. A
change that exceeds the budget makes every event slower: measure what it costs before the budget is raised.
"""

import enum
import gc
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from types import CodeType
from typing import Any

import pytest
import zmq
from prometheus_client import CollectorRegistry

import eventbus
from eventbus import BaseEvent, BaseEventType, EventBusClient, EventBusProxy, Packing
from eventbus.telemetry.prometheus import PrometheusHook
from eventbus.transports.nats.core import CoreTransport
from eventbus.transports.nats.protocol import Parser
from tests.support import PATIENCE, Bus, MyEvent, MyEventTopic, MyEventType, event, eventually

PACKAGE = str(Path(eventbus.__file__).parent)
PYZMQ = str(Path(zmq.__file__).parent)
TOPIC, UPDATED = MyEventTopic.my_service, MyEventType.updated
COUNT = 500

CALLS_TO_EMIT = 2  # emit_event and the publisher's send
LINES_TO_EMIT = 20  # of those two together
LINES_TO_NUMBER = 8
LINES_OF_NATS = 150  # for all that waits, or has come, together
CALLS_TO_EMIT_COUNTED = 4  # those two, and two that count
CALLS_TO_HANDLE_TIMED = 2  # around the handler, and what adds up
LONE_EVENTS = 50
CALLS_TO_HANDLE_A_LONE_ONE = {"_handle", "_take_lone", "dispatch_one", "append"}  # from when it was read to its handler


class Cost:
    """The calls and lines of the package's own Python code that have run, in all threads."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.lines: Counter[str] = Counter()


@contextmanager
def counting() -> Iterator[Cost]:
    """Count calls and lines of the package within the block."""
    gc.collect()  # what other tests have left behind is not collected within the block
    cost = Cost()
    monitoring = sys.monitoring
    tool = monitoring.PROFILER_ID

    def started(code: CodeType, _: int) -> object:
        if not code.co_filename.startswith(PACKAGE):
            return monitoring.DISABLE
        cost.calls[code.co_qualname] += 1
        return None

    def line(code: CodeType, _: int) -> object:
        if not code.co_filename.startswith(PACKAGE):
            return monitoring.DISABLE
        cost.lines[code.co_qualname] += 1
        return None

    monitoring.use_tool_id(tool, "tests")
    try:
        monitoring.register_callback(tool, monitoring.events.PY_START, started)
        monitoring.register_callback(tool, monitoring.events.LINE, line)
        monitoring.set_events(tool, monitoring.events.PY_START | monitoring.events.LINE)
        yield cost
    finally:
        monitoring.set_events(tool, 0)
        monitoring.free_tool_id(tool)
        monitoring.restart_events()


def emitting(cost: Cost) -> dict[str, int]:
    """The calls of what emits, without those of other threads."""
    return {
        name: count for name, count in cost.calls.items() if name.startswith(("EventBusClient.", "Publisher.", "Numbered"))
    }


def test_sharing_messages_costs_no_call_more(connected: Callable[..., Bus]) -> None:
    """With packing `all` an event passes the same two calls; what joins and sends runs once for many events."""
    client = connected(packing=Packing.ALL)
    emitted = event()
    client.emit_event(emitted, TOPIC)
    with counting() as cost:
        for _ in range(COUNT):
            client.emit_event(emitted, TOPIC)
    for_each = {name: count for name, count in cost.calls.items() if count >= COUNT / 2}
    assert for_each.keys() == {"EventBusClient.emit_event", "PackingPublisher.send"}
    assert sum(cost.lines[name] for name in for_each) <= LINES_TO_EMIT * COUNT


@pytest.mark.parametrize("numbered", [False, True], ids=["plain", "numbered"])
def test_emitting_costs_two_calls(connected: Callable[..., Bus], numbered: bool) -> None:
    """An event that nobody observes passes `emit_event` and the publisher's `send`, and no other Python function of ours."""
    bus = connected(numbered=numbered)
    bus.emit_event(event(), TOPIC)  # the encoder and the topic are known from now on
    emitted = event()
    with counting() as cost:
        for _ in range(COUNT):
            bus.emit_event(emitted, TOPIC)
    of_emitting = {name: count for name, count in emitting(cost).items() if count >= COUNT}
    assert sum(of_emitting.values()) == CALLS_TO_EMIT * COUNT, of_emitting
    lines = sum(cost.lines[name] for name in of_emitting)
    assert lines <= (LINES_TO_EMIT + LINES_TO_NUMBER * numbered) * COUNT, cost.lines


@pytest.mark.parametrize("observe", [False, True])
def test_only_observed_clients_pay_for_hooks(connected: Callable[..., Bus], observe: bool) -> None:
    """A hook makes emitting take the longer way; a client without one does not enter it."""

    class Hook(eventbus.EventBusHook):
        def emitted(self, topic: str, events: Sequence[BaseEvent[Any] | BaseEventType], size: int) -> None:
            """Do nothing."""

    client = connected(hooks=[Hook()] if observe else [])
    client.emit_event(event(), TOPIC)
    with counting() as cost:
        client.emit_event(event(), TOPIC)
    assert any(name.startswith("Emitter.") for name in cost.calls) is observe


def test_counting_costs_two_calls(connected: Callable[..., Bus]) -> None:
    """Under Prometheus an event takes the same way, and is counted; sums are made of many events at once."""
    client = connected(hooks=[PrometheusHook(CollectorRegistry())])
    emitted = event()
    client.emit_event(emitted, TOPIC)
    with counting() as cost:
        for _ in range(COUNT):
            client.emit_event(emitted, TOPIC)
    for_each = {name: count for name, count in cost.calls.items() if count >= COUNT}
    assert sum(for_each.values()) == CALLS_TO_EMIT_COUNTED * COUNT, for_each


def test_the_socket_and_the_encoder_are_called_in_c(bus: Bus) -> None:
    """Frames go to pyzmq's C methods: its Python layer is not on the path. Nor is Python's `enum` for an event's type."""
    bus.emit_event(event(), TOPIC)
    seen: Counter[str] = Counter()
    monitoring = sys.monitoring

    def started(code: CodeType, _: int) -> None:
        if code.co_filename.startswith(PYZMQ) or code.co_filename == enum.__file__:
            seen[code.co_qualname] += 1

    monitoring.use_tool_id(monitoring.PROFILER_ID, "tests")
    try:
        monitoring.register_callback(monitoring.PROFILER_ID, monitoring.events.PY_START, started)
        monitoring.set_events(monitoring.PROFILER_ID, monitoring.events.PY_START)
        for _ in range(COUNT):
            bus.emit_event(event(), TOPIC)
    finally:
        monitoring.set_events(monitoring.PROFILER_ID, 0)
        monitoring.free_tool_id(monitoring.PROFILER_ID)
    assert not {name: count for name, count in seen.items() if count >= COUNT}


@pytest.mark.parametrize("observe", [False, True], ids=["alone", "prometheus"])
def test_receiving_costs_calls_per_batch(proxy: EventBusProxy, connected: Callable[..., Bus], observe: bool) -> None:
    """Events that wait are read, decoded and dispatched in loops of C: no Python function of ours is called for each.

    Under Prometheus they are counted together; each call of a handler is timed.
    """
    hooks = [PrometheusHook(CollectorRegistry())] if observe else []
    client: EventBusClient[MyEvent, MyEventType, MyEventTopic] = connected(topics=[TOPIC], hooks=hooks)
    entered, go_on = Event(), Event()
    handled = 0

    def handle(_: MyEvent) -> None:
        nonlocal handled
        if not handled:
            entered.set()
            assert go_on.wait(PATIENCE)
        handled += 1

    client.attach_callback(UPDATED, handle)
    client.start_consumer()
    before = proxy.health().to_subscribers.frames
    client.emit_event(event(), TOPIC)
    assert entered.wait(PATIENCE)
    for _ in range(COUNT):
        client.emit_event(event(), TOPIC)
    eventually(lambda: proxy.health().to_subscribers.frames >= before + 2 * COUNT)
    with counting() as cost:
        go_on.set()
        eventually(lambda: handled == COUNT + 1)
    for_each = {name: count for name, count in cost.calls.items() if count >= COUNT / 10}
    assert len(for_each) == (CALLS_TO_HANDLE_TIMED if observe else 0), for_each
    assert max(for_each.values(), default=0) <= COUNT + 1  # the call that was going on ends here


def test_a_lone_event_takes_four_calls_to_its_handler(connected: Callable[..., Bus]) -> None:
    """Each runs cold, so what is made for many events is not entered."""
    client = connected(topics=[TOPIC])
    handled = 0

    def handle(_: MyEvent) -> None:
        nonlocal handled
        handled += 1

    client.attach_callback(UPDATED, handle)
    client.start_consumer()
    with counting() as cost:
        for number in range(LONE_EVENTS):
            client.emit_event(event(), TOPIC)
            eventually(lambda: handled == number + 1)  # noqa: B023 # it is called within the round
    on_the_way = ("Consumer._handle", "Consumer._take", "Dispatcher.", "ReceiveBuffer.")
    called = {name.partition(".")[2] for name in cost.calls if name.startswith(on_the_way)}
    assert called == CALLS_TO_HANDLE_A_LONE_ONE


def test_nats_costs_no_loop_of_ours() -> None:
    """What waits is written in loops of C, and messages with the same line are read in such loops."""
    transport = CoreTransport()
    buffer = transport._buffer = transport._new_outgoing()

    def write() -> bytes:
        for _ in range(COUNT):
            buffer.send(b"plant", b'{"value":1}')
        return transport.take()

    written = b'PUB eb.plant 11\r\n{"value":1}\r\n' * COUNT
    assert write() == written
    with counting() as cost:
        assert write() == written
    of_emitting = cost.lines.pop("Outgoing.send")
    assert of_emitting <= LINES_TO_EMIT / 2 * COUNT
    assert sum(cost.lines.values()) <= LINES_OF_NATS, cost.lines
    parser = Parser({b"1"})
    with counting() as cost:
        read = parser.feed(b'MSG eb.plant 1 11\r\n{"value":1}\r\n' * COUNT)
    assert read.payloads == [b'{"value":1}'] * COUNT
    assert sum(cost.lines.values()) <= 2 * LINES_OF_NATS, cost.lines
