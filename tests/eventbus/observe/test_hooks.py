"""Hooks: their calls, the time of these, and their harmlessness."""

import asyncio
import gc
import logging
import weakref
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partialmethod
from typing import Any

import pytest

from eventbus import (
    BaseEvent,
    BaseEventType,
    ClientState,
    DropReason,
    Emission,
    EventBusHook,
    EventTooLarge,
    Middleware,
    Packing,
    ReceivePolicy,
    RejectReason,
    Retry,
    SendBufferFull,
    SendPolicy,
    StateChange,
)
from eventbus.handle.middleware import EmitNext
from eventbus.observe.hooks import AddDuration, AddVolume, CountingHook, Hooks
from eventbus.transports.memory import MemoryTransport
from eventbus.wire.numbering import Numbering
from tests.support import Bus, MyEvent, MyEventTopic, MyEventType, RawPeers, Recorder, event, eventually, json_of

TOPIC = MyEventTopic.my_service
UPDATED = MyEventType.updated


class Told(EventBusHook):
    """Keeps all its calls, as the method's name and its arguments, but for durations."""

    def __init__(self) -> None:
        self.all: list[tuple[object, ...]] = []

    def emitted(self, topic: str, events: Sequence[BaseEvent[Any] | BaseEventType], size: int) -> None:
        self.all.append(("emitted", topic, list(events), size))

    def received(self, topic: str, events: Sequence[BaseEvent[Any]], size: int) -> None:
        self.all.append(("received", topic, list(events), size))

    def handled(self, topic: str, event: BaseEvent[Any], handler: str, duration: float) -> None:
        assert 0 < duration < 20
        self.all.append(("handled", topic, event, handler))

    def handler_failed(self, topic: str, event: BaseEvent[Any], handler: str, duration: float, error: BaseException) -> None:
        assert 0 < duration < 20
        self.all.append(("handler_failed", topic, event, handler, repr(error)))

    def rejected(self, reason: RejectReason, count: int) -> None:
        self.all.append(("rejected", reason, count))

    def dropped(self, reason: DropReason, count: int) -> None:
        self.all.append(("dropped", reason, count))

    def lost(self, topic: str, count: int) -> None:
        self.all.append(("lost", topic, count))

    def state_changed(self, change: StateChange) -> None:
        self.all.append(("state_changed", change.before, change.state))

    def of(self, *names: str) -> list[tuple[object, ...]]:
        return [told for told in self.all if told[0] in names]

    def wait_for(self, count: int, *names: str) -> list[tuple[object, ...]]:
        eventually(lambda: len(self.of(*names)) >= count, what=f"{count} of {names} among {self.all}")
        return self.of(*names)


class Failing(Told):
    """Raises in each method."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def emitted(self, topic: str, events: Sequence[BaseEvent[Any] | BaseEventType], size: int) -> None:
        raise self.error

    received = handled = handler_failed = rejected = dropped = state_changed = emitted  # type: ignore[assignment] # all raise


def handle(event: MyEvent) -> None:
    """A handler with a name."""


HANDLE = f"{__name__}.handle"


def test_the_way_of_an_event(connected: Callable[..., Bus]) -> None:
    """Emitted, received, handled: each is called once, with topic, event and the size of its JSON."""
    hook = Told()
    client = connected(hooks=[hook], topics=[TOPIC])
    client.attach_callback(UPDATED, handle)
    client.start_consumer()
    client.emit_event(event(1), TOPIC)
    hook.wait_for(1, "handled")
    size = len(json_of(1))
    assert hook.wait_for(1, "emitted") == [("emitted", "my_service", [event(1)], size)]
    assert hook.of("received", "handled") == [
        ("received", "my_service", [event(1)], size),
        ("handled", "my_service", event(1), HANDLE),
    ]


def test_many_events_at_once(connected: Callable[..., Bus]) -> None:
    """Packed events reach hooks as one emission and one message, and are handled one by one."""
    hook = Told()
    client = connected(hooks=[hook], topics=[TOPIC])
    client.attach_callback(UPDATED, handle)
    client.start_consumer()
    events = [event(value) for value in range(3)]
    client.emit_events(events, TOPIC)
    assert [told[2] for told in hook.wait_for(3, "handled")] == events
    size = 3 * len(json_of(1))
    assert hook.of("emitted") == [("emitted", "my_service", events, size)]
    assert hook.of("received") == [("received", "my_service", events, size + len("[,,]"))]


def test_bare_types_and_nobody_s_events(connected: Callable[..., Bus]) -> None:
    """A bare type reaches hooks as it was given; an event without a handler is received, and handled by nobody."""
    hook = Told()
    client = connected(hooks=[hook], topics=[TOPIC])
    client.start_consumer()
    client.emit_events([event(1), event(2)], TOPIC)
    client.emit_events([], TOPIC)
    hook.wait_for(1, "received")
    assert hook.of("handled", "handler_failed") == []
    assert len(hook.of("emitted")) == 1


def test_what_was_not_sent_is_not_told() -> None:
    """A refused event does not reach hooks; of many, only those that were sent before the buffer was full do."""
    hook = Told()
    transport = MemoryTransport(queue=2, send_timeout=0)
    with Bus(
        MyEvent, transport=transport, topics=[TOPIC], hooks=[hook], packing=Packing.NONE, max_event_bytes=500
    ) as client:
        with pytest.raises(EventTooLarge):
            client.emit_event(MyEvent(type=UPDATED, time="x" * 500), TOPIC)
        with pytest.raises(SendBufferFull) as caught:
            client.emit_events([event(1), event(2), event(3)], TOPIC)
        assert caught.value.__notes__ == ["2 of these 3 events had been sent before"]
        assert [told[2] for told in hook.of("emitted")] == [[event(1), event(2)]]


def test_a_handler_that_fails(connected: Callable[..., Bus]) -> None:
    """A handler that raises is reported with its error, and the others as handled; as they are counted."""
    hook = Told()
    client = connected(hooks=[hook], topics=[TOPIC])

    def fail(event: MyEvent) -> None:
        raise ValueError("no")

    client.attach_callback(UPDATED, fail)
    client.attach_callback(UPDATED, handle)
    client.start_consumer()
    client.emit_event(event(1), TOPIC)
    hook.wait_for(1, "handled")
    (failed,) = hook.of("handler_failed")
    assert failed[1:3] == ("my_service", event(1))
    assert str(failed[3]).endswith("fail")
    assert failed[4] == "ValueError('no')"
    stats = client.stats()
    assert (stats.handled, stats.handler_errors) == (1, 1)


def test_async_handlers(connected: Callable[..., Bus]) -> None:
    """An async handler is reported when it has finished, failed, or was cancelled."""
    hook = Told()
    client = connected(hooks=[hook], topics=[TOPIC])
    entered = []

    async def handler(event: MyEvent) -> None:
        entered.append(event.value)
        if event.value == 2:
            raise ValueError("no")
        if event.value == 3:
            await asyncio.Event().wait()

    client.attach_callback(UPDATED, handler)
    client.start_consumer()
    for value in (1, 2, 3):
        client.emit_event(event(value), TOPIC)
    eventually(lambda: len(entered) == 3)
    hook.wait_for(2, "handled", "handler_failed")
    client.close(0.2)
    told = hook.wait_for(3, "handled", "handler_failed")
    assert [one[2] for one in told] == [event(1), event(2), event(3)]
    assert [one[4:] for one in told] == [(), ("ValueError('no')",), ("CancelledError()",)]


def test_a_function_that_returns_a_coroutine(connected: Callable[..., Bus]) -> None:
    """A callback that returns an awaitable without being async is reported when that has finished."""
    hook = Told()
    client = connected(hooks=[hook], topics=[TOPIC])
    go = asyncio.Event()

    async def work() -> None:
        await go.wait()

    client.attach_callback(UPDATED, lambda event: work())
    client.start_consumer()
    client.emit_event(event(1), TOPIC)
    client.attach_callback(MyEventType.stopped, lambda event: go._loop.call_soon_threadsafe(go.set))  # type: ignore[attr-defined] # where it waits
    eventually(lambda: getattr(go, "_loop", None) is not None)
    assert hook.of("handled") == []
    client.emit_event(event(2, MyEventType.stopped), TOPIC)
    told = hook.wait_for(2, "handled")  # by two threads, in any order
    for each in (event(1), event(2, MyEventType.stopped)):
        assert each in [one[2] for one in told]


def test_rejects(connected: Callable[..., Bus], raw: RawPeers) -> None:
    """Messages that are no events reach hooks with their reason, also those the transport has skipped: as stats() counts."""
    hook = Told()
    client = connected(hooks=[hook], topics=[TOPIC])
    client.start_consumer()
    publisher = raw.publisher(b"my_service")
    for payload in (b"{", b'{"type":"unheard","time":""}', b'[{"type":"updated"},{"type":"updated"}]'):
        publisher.send_multipart([b"my_service", payload])
    publisher.send_multipart([b"my_service"])
    hook.wait_for(5, "rejected")
    counted: dict[object, int] = {}
    for _, reason, count in hook.of("rejected"):
        assert isinstance(count, int)
        counted[reason] = counted.get(reason, 0) + count
    assert counted == client.stats().rejects
    assert counted[RejectReason.SCHEMA] == 2


def test_losses(connected: Callable[..., Bus], raw: RawPeers) -> None:
    """Events that numbers show to be missing reach hooks with their topic."""
    hook = Told()
    client = connected(hooks=[hook], topics=[TOPIC])
    client.start_consumer()
    publisher = raw.publisher(b"my_service")
    numbering = Numbering()
    for arrives in (True, False, False, True):
        frame = numbering.next(b"my_service")
        numbering.taken(b"my_service")
        if arrives:
            publisher.send_multipart([frame, json_of(1)])
    assert hook.wait_for(1, "lost") == [("lost", "my_service", 2)]


def test_drops_of_the_receive_buffer(connected: Callable[..., Bus]) -> None:
    """Unread events from a full receive buffer are reported as dropped; those of a service that never reads are not."""
    hook = Told()
    client = connected(hooks=[hook], topics=[TOPIC], receive_buffer=2, receive_policy=ReceivePolicy.DROP_NEWEST)
    recorder = Recorder()
    client.attach_callback(UPDATED, recorder)
    client.start_consumer()
    for value in range(4):
        client.emit_event(event(value), TOPIC)
    recorder.wait_for(4)
    assert hook.of("dropped") == []
    client.recv_event(0)
    for value in range(3):
        client.emit_event(event(value), TOPIC)
    assert sum(count for _, _, count in hook.wait_for(1, "dropped") if isinstance(count, int)) > 0
    assert {reason for _, reason, _ in hook.of("dropped")} == {DropReason.RECEIVE_BUFFER}


def test_drops_of_the_send_buffer(dead_ports: tuple[int, int]) -> None:
    """Events that do not fit into the send buffer, or are still in it at the end, are reported as dropped."""
    hook = Told()
    client = Bus(
        MyEvent,
        "127.0.0.1",
        *dead_ports,
        hooks=[hook],
        connect_required=False,
        send_policy=SendPolicy.DROP,
        send_hwm=2,
        linger=0,
    )
    client.connect()
    for value in range(3):
        client.emit_event(event(value), TOPIC)
    assert hook.of("dropped") == [("dropped", DropReason.SEND_BUFFER, 1)]
    client.emit_events([event(3), event(4)], TOPIC)
    assert [told[2] for told in hook.of("emitted")] == [[event(0)], [event(1)]]  # and nothing that was dropped
    client.close()
    assert hook.of("dropped")[2:] == [("dropped", DropReason.CLOSED, 2)]


def test_states(connected: Callable[..., Bus]) -> None:
    """Every change of state is reported from connect() on."""
    hook = Told()
    client = connected(hooks=[hook])
    client.close()
    assert hook.wait_for(3, "state_changed") == [
        ("state_changed", ClientState.CLOSED, ClientState.CONNECTING),
        ("state_changed", ClientState.CONNECTING, ClientState.READY),
        ("state_changed", ClientState.READY, ClientState.CLOSED),
    ]


def test_a_hook_that_is_added_later(connected: Callable[..., Bus]) -> None:
    """A hook can be added at any time, and hears what comes then, once; the others go on hearing."""
    first, second = Told(), Told()
    client = connected(hooks=[first], topics=[TOPIC])
    client.attach_callback(UPDATED, handle)
    client.start_consumer()
    client.emit_event(event(1), TOPIC)
    first.wait_for(1, "handled")
    first.wait_for(2, "state_changed")  # hooks hear of it a little later than `connect` returns
    for _ in range(2):
        client.add_hook(second)
    client.emit_event(event(2), TOPIC)
    assert second.wait_for(1, "handled") == [("handled", "my_service", event(2), HANDLE)]
    assert len(first.wait_for(2, "handled")) == 2
    client.close()
    assert len(second.wait_for(1, "state_changed")) == 1
    assert len(first.wait_for(3, "state_changed")) == 3


@pytest.mark.parametrize(
    "error", [ValueError("broken"), SystemExit(1), asyncio.CancelledError()], ids=lambda error: type(error).__name__
)
def test_a_hook_that_raises_hurts_nobody(
    connected: Callable[..., Bus], raw: RawPeers, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    """A hook's exception is logged with its name; emitting, handling and other hooks go on, and so does the consumer."""
    hook = Told()
    client = connected(hooks=[Failing(error), hook], topics=[TOPIC])
    recorder = Recorder()
    client.attach_callback(UPDATED, recorder)
    client.start_consumer()
    for value in (1, 2):
        client.emit_event(event(value), TOPIC)
    raw.publisher(b"my_service").send_multipart([b"my_service", b"{"])
    hook.wait_for(1, "rejected")
    client.emit_event(event(3), TOPIC)
    assert recorder.wait_for(3) == [1, 2, 3]
    assert [told[2] for told in hook.wait_for(3, "handled")] == [event(1), event(2), event(3)]
    failures = [record for record in caplog.records if "hook Failing.emitted failed" in record.message]
    assert len(failures) == 1  # and not once per event
    assert failures[0].exc_info
    assert failures[0].__dict__["eventbus_hook"] == "Failing.emitted"
    assert client.stats().handler_errors == 0


def test_an_interrupt_is_no_failure_of_a_hook() -> None:
    """Ctrl-C in a hook reaches the program."""
    hooks = Hooks([Failing(KeyboardInterrupt())])
    with pytest.raises(KeyboardInterrupt):
        hooks.emitted("topic", [], 0)


def test_what_no_hook_overrides_is_false() -> None:
    """Code that would have to prepare a hook's arguments can see that no hook wants them."""

    class OnlyDrops(EventBusHook):
        def dropped(self, reason: DropReason, count: int) -> None: ...

    hooks = Hooks([OnlyDrops(), EventBusHook()])
    assert hooks.dropped
    assert not any([hooks.emitted, hooks.received, hooks.handled, hooks.handler_failed, hooks.rejected, hooks.lost])


def test_without_hooks_nothing_is_in_the_way(connected: Callable[..., Bus]) -> None:
    """A client without hooks and middleware calls the callbacks themselves, and is not kept alive by them."""
    client = connected(topics=[TOPIC])
    client.attach_callback(UPDATED, handle)
    assert client._parts.dispatcher.route_of(b"my_service")[UPDATED] == (handle,)
    other = Bus(MyEvent, transport=MemoryTransport())
    gone = weakref.ref(other)
    gc.disable()
    try:
        del other
        assert gone() is None
    finally:
        gc.enable()


def test_no_change_is_missed_when_another_hook_comes() -> None:
    """Adding a hook while changes wait to be reported costs the other hooks none of them."""
    for _ in range(50):
        first = Told()
        with Bus(MyEvent, transport=MemoryTransport(), hooks=[first]) as client:
            client.add_hook(Told())
        assert len(first.wait_for(2, "state_changed")) == 2


@pytest.mark.parametrize("around", [{"hooks": [Told()]}, {"middleware": [Retry()]}], ids=["hook", "middleware"])
def test_an_observed_client_that_is_forgotten_ends(around: dict[str, Any]) -> None:
    """Hooks and middleware do not keep a client alive that nobody has any more, although its consumer runs."""
    client = Bus(MyEvent, transport=MemoryTransport(), topics=[TOPIC], **around)
    client.attach_callback(UPDATED, handle)
    client.connect()
    client.start_consumer()
    known = [client]
    del client

    def forget() -> None:
        known.clear()
        gc.collect()

    with pytest.warns(ResourceWarning, match="never closed"):
        forget()


class Partial(EventBusHook):
    """Overrides a method with something that has no name."""

    def fail(self, *facts: object) -> None:
        raise ValueError("broken")

    received = partialmethod(fail)


def test_a_hook_whose_methods_have_no_names(connected: Callable[..., Bus], caplog: pytest.LogCaptureFixture) -> None:
    """Whatever stands in the place of a method may raise, and hurts nobody."""
    client = connected(hooks=[Partial()], topics=[TOPIC])
    recorder = Recorder()
    client.attach_callback(UPDATED, recorder)
    client.start_consumer()
    client.emit_event(event(1), TOPIC)
    assert recorder.wait_for(1) == [1]
    eventually(lambda: any("hook Partial.received failed" in line for line in caplog.messages))


def test_many_events_of_any_sequence(connected: Callable[..., Bus]) -> None:
    """Middleware may replace many events by any sequence; hooks are given a tuple of it."""

    class Queueing(Middleware):
        def emit(self, emission: Emission, call_next: EmitNext) -> None:
            call_next(replace(emission, events=deque(emission.events)))

    hook = Told()
    client = connected(hooks=[hook], middleware=[Queueing()])
    client.emit_events([event(1), event(2)], TOPIC)
    assert [told[2] for told in hook.of("emitted")] == [[event(1), event(2)]]


def test_attaching_many_under_hooks(connected: Callable[..., Bus]) -> None:
    """The object for a callback and a topic is made once, whatever is attached and detached meanwhile."""
    client = connected(hooks=[Told()], topics=[TOPIC])
    client.attach_callback(UPDATED, handle)
    (before,) = client._parts.dispatcher.route_of(b"my_service")[UPDATED]
    other = Recorder()
    client.attach_callback(UPDATED, other)
    client.detach_callback(UPDATED, other)
    assert client._parts.dispatcher.route_of(b"my_service")[UPDATED] == (before,)


class Counting(CountingHook):
    """Keeps what it is to count, and how often it was asked for what counts."""

    def __init__(self) -> None:
        self.counted: list[tuple[object, ...]] = []
        self.asked: list[str] = []

    def emitting(self, topic: str) -> AddVolume:
        self.asked.append("emitting")
        return lambda size, count: self.counted.append(("emitted", topic, size, count))

    def receiving(self, topic: str) -> AddVolume:
        return lambda size, count: self.counted.append(("received", topic, size, count))

    def handling(self, topic: str, handler: str) -> AddDuration:
        self.asked.append("handling")

        def add(duration: float) -> None:
            assert 0 < duration < 20
            self.counted.append(("handled", topic, handler))

        return add


class CountingAndTold(Counting, Told):
    """Counts, and overrides what other hooks override."""

    def __init__(self) -> None:
        Counting.__init__(self)
        Told.__init__(self)

    emitted, received, handled = Told.emitted, Told.received, Told.handled


def test_what_counts_is_called_once_for_many(connected: Callable[..., Bus], raw: RawPeers) -> None:
    """A counting hook gets sums: of each topic's part of a batch, of a packed message, of one call; and each duration."""
    hook, other = Counting(), Told()
    client = connected(hooks=[hook, other], topics=[TOPIC, MyEventTopic.other])
    client.attach_callback(UPDATED, handle)
    size = len(json_of(1))
    client.emit_event(event(1), TOPIC)
    client.emit_event(event(2), TOPIC)
    client.emit_events([event(3), event(4)], TOPIC)
    client.emit_event(event(5), MyEventTopic.other)
    client.start_consumer()
    other.wait_for(5, "handled")
    assert hook.counted[:4] == [
        ("emitted", "my_service", size, 1),
        ("emitted", "my_service", size, 1),
        ("emitted", "my_service", 2 * size, 2),
        ("emitted", "other", size, 1),
    ]
    for topic, events, bytes_of_all in (("my_service", 4, 4 * size + len("[,]")), ("other", 1, size)):
        arrived = [counted[2:] for counted in hook.counted if counted[:2] == ("received", topic)]
        assert [sum(each) for each in zip(*arrived, strict=True)] == [bytes_of_all, events]
        assert hook.counted.count(("handled", topic, HANDLE)) == events
    assert (hook.asked.count("emitting"), hook.asked.count("handling")) == (3, 2)  # emit_events() asks each time
    assert [told[1] for told in other.of("emitted")] == ["my_service"] * 3 + ["other"]


def test_a_batch_is_counted_at_once() -> None:
    """Messages that were received together are counted together, by topic; ordinary hooks get one by one."""
    counting, other, both = Counting(), Told(), CountingAndTold()
    hooks = Hooks([counting, other, both])
    events = [event(value) for value in (1, 2, 3)]
    hooks.received_batch([b"a", b"b", b"a", b"a"], events, [b"1", b"22", b"333", b"4444"])
    hooks.received_batch([b"a", b"a"], events[:2], [b"1", b"22"])
    hooks.received_batch([b"a"], [], [b"1"])
    assert counting.counted == [("received", "a", 4, 2), ("received", "b", 2, 1), ("received", "a", 3, 2)]
    assert [(told[1], told[3]) for told in other.all] == [("a", 1), ("b", 2), ("a", 3), ("a", 1), ("a", 2)]
    assert both.all == other.all
    assert both.counted == []


def test_a_counting_hook_that_overrides_is_told(connected: Callable[..., Bus]) -> None:
    """A class derived from a counting hook that overrides a method gets each event there, and nothing counts besides."""
    hook = CountingAndTold()
    client = connected(hooks=[hook], topics=[TOPIC])
    client.attach_callback(UPDATED, handle)
    client.start_consumer()
    client.emit_event(event(1), TOPIC)
    hook.wait_for(1, "handled")
    hook.wait_for(1, "emitted")  # perhaps the last, because the emitting thread calls it
    counted = Counter(told[0] for told in hook.of("emitted", "received", "handled"))
    assert counted == {"emitted": 1, "received": 1, "handled": 1}
    assert hook.counted == []


def test_async_handlers_are_timed(connected: Callable[..., Bus]) -> None:
    """The durations of async handlers are recorded as those of others, when they have finished; failures are not."""
    hook = Counting()
    client = connected(hooks=[hook], topics=[TOPIC])

    async def handler(event: MyEvent) -> None:
        await asyncio.sleep(0)
        if event.value == 1:
            raise ValueError("no")

    client.attach_callback(UPDATED, handler)
    client.start_consumer()
    client.emit_events([event(1), event(2)], TOPIC)
    eventually(lambda: client.stats().handled == 1)
    name = f"{__name__}.{handler.__qualname__}"
    assert [counted for counted in hook.counted if counted[0] == "handled"] == [("handled", "my_service", name)]


def test_a_disabled_client_tells_nothing() -> None:
    """A client that is not enabled emits to nobody, and so calls no hook."""
    hook, later = Told(), Told()
    with Bus(MyEvent, enabled=False, hooks=[hook]) as client:
        client.add_hook(later)
        client.emit_event(event(1), TOPIC)
        client.emit_events([event(1)], TOPIC)
    assert hook.all == later.all == []


def test_in_a_forked_child_hooks_go_on(caplog: pytest.LogCaptureFixture) -> None:
    """A client that a child makes anew from what it has forgotten tells the same hooks."""
    caplog.set_level(logging.CRITICAL)
    hook = Told()
    client = Bus(MyEvent, transport=MemoryTransport(), topics=[TOPIC], hooks=[hook])
    client.attach_callback(UPDATED, handle)
    client._after_fork()  # what a child does first
    client.attach_callback(UPDATED, handle)
    with client:
        client.start_consumer()
        client.emit_event(event(1), TOPIC)
        hook.wait_for(1, "handled")
    assert len(hook.of("emitted")) == 1
