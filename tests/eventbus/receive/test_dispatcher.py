"""Events to callbacks and buffer, without any socket."""

import logging
import sys

import pytest

from eventbus._base.deadline import Deadline
from eventbus.observe.stats import Counters, DropLog, DropReason, EventBusStats
from eventbus.receive.buffer import ReceiveBuffer
from eventbus.receive.dispatcher import Dispatcher
from eventbus.receive.stream import EventStream
from tests.support import PATIENCE, MyCallback, MyEvent, MyEventType, Recorder, event, eventually

UPDATED = MyEventType.updated


class Bench:
    """A dispatcher with what stands around it."""

    def __init__(self) -> None:
        self.buffer: ReceiveBuffer[MyEvent] = ReceiveBuffer(5)
        self.counters = Counters()
        self.dispatcher: Dispatcher[MyEvent] = Dispatcher(self.buffer, self.counters)
        self.dispatcher.subscribe(b"a")

    def stats(self) -> EventBusStats:
        return self.counters.snapshot(
            emitted=0, received=self.buffer.received, unread=self.buffer.unread, malformed=0, drops={}
        )

    def attach(self, callback: MyCallback, topic: bytes | None = None, event_type: MyEventType = UPDATED) -> None:
        self.dispatcher.attach(event_type, callback, topic)

    def dispatch(self, *events: MyEvent, topic: bytes = b"a") -> None:
        self.dispatcher.dispatch([self.dispatcher.route_of(topic)] * len(events), list(events), [topic] * len(events))


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_subscribe_and_unsubscribe_are_idempotent(bench: Bench) -> None:
    """Each says whether it changed anything."""
    dispatcher = bench.dispatcher
    assert [dispatcher.subscribe(b"b"), dispatcher.subscribe(b"b")] == [True, False]
    assert dispatcher.topics == {b"a", b"b"}
    assert [dispatcher.unsubscribe(b"b"), dispatcher.unsubscribe(b"b")] == [True, False]


def test_only_exact_topics_are_taken(bench: Bench) -> None:
    """A longer name that starts like a subscribed topic was not asked for."""
    assert bench.dispatcher.takes(b"a")
    assert not bench.dispatcher.takes(b"ab")
    assert bench.dispatcher.routes_of([b"a", b"ab"]) is None


def test_the_empty_topic_takes_everything(bench: Bench) -> None:
    """A subscription to all topics takes any, until it is undone; an exact one stays."""
    bench.dispatcher.subscribe(b"")
    assert bench.dispatcher.takes(b"whatever")
    bench.dispatcher.route_of(b"whatever")
    assert bench.dispatcher.routes_of([b"whatever"]) is not None
    bench.dispatcher.unsubscribe(b"")
    assert not bench.dispatcher.takes(b"whatever")
    assert bench.dispatcher.takes(b"a")


def test_learned_topics_are_bounded(bench: Bench) -> None:
    """Subscribed to everything, a flood of new topics does not fill the memory."""
    bench.dispatcher.subscribe(b"")
    for number in range(12_000):
        bench.dispatcher.route_of(b"%d" % number)
    assert len(bench.dispatcher.routes) <= 10_001


def test_callbacks_run_in_the_order_of_attaching(bench: Bench) -> None:
    """Several callbacks of one type run one after the other, as attached."""
    calls: list[str] = []
    bench.attach(lambda event: calls.append("first"))
    bench.attach(lambda event: calls.append("second"))
    bench.dispatch(event(1), event(2))
    assert calls == ["first", "second"] * 2


def test_callbacks_get_their_type_and_topic_only(bench: Bench) -> None:
    """A callback is called for its event type, and for its topic if it names one."""
    bench.dispatcher.subscribe(b"b")
    of_type, of_topic, other_type = Recorder(), Recorder(), Recorder()
    bench.attach(of_type)
    bench.attach(of_topic, topic=b"b")
    bench.attach(other_type, event_type=MyEventType.stopped)
    bench.dispatch(event(1), topic=b"a")
    bench.dispatch(event(2), topic=b"b")
    assert (of_type.values, of_topic.values, other_type.values) == ([1, 2], [2], [])


def test_detach_undoes_exactly_that_attach(bench: Bench) -> None:
    """A callback goes when type, callback and topic are those of its attach; detaching twice is harmless."""
    recorder = Recorder()
    bench.attach(recorder)
    bench.dispatcher.detach(UPDATED, recorder, b"a")
    bench.dispatcher.detach(MyEventType.stopped, recorder, None)
    bench.dispatch(event(1))
    for _ in range(2):
        bench.dispatcher.detach(UPDATED, recorder, None)
    bench.dispatch(event(2))
    assert recorder.values == [1]


def test_attaching_inside_a_handler_starts_with_the_next_batch(bench: Bench) -> None:
    """A callback that attaches another does not change how the present event is handled."""
    late = Recorder()

    def handler(event: MyEvent) -> None:
        bench.dispatcher.detach(UPDATED, handler, None)
        bench.attach(late)

    bench.attach(handler)
    bench.dispatch(event(1))
    assert late.values == []
    bench.dispatch(event(2))
    assert late.values == [2]


@pytest.mark.parametrize("failure", [ValueError("no"), SystemExit(1)], ids=["error", "exit"])
def test_a_raising_callback_hurts_nobody_else(
    bench: Bench, failure: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """A callback's exception is logged with its event and counted; the other callbacks and events are handled."""

    def fails(event: MyEvent) -> None:
        raise failure

    recorder = Recorder()
    bench.attach(fails)
    bench.attach(recorder)
    bench.dispatch(event(1), event(2))
    assert recorder.values == [1, 2]
    stats = bench.stats()
    assert (stats.received, stats.handled, stats.handler_errors) == (2, 2, 2)
    [first, _] = caplog.records
    assert first.levelno == logging.ERROR
    assert "fails" in first.message
    assert "value=1.0" in first.message
    assert first.exc_info
    assert first.exc_info[1] is failure


class Shy(MyEvent):
    """Has a repr that fails."""

    def __repr__(self) -> str:
        raise RecursionError


def test_an_event_that_cannot_be_shown_hurts_nobody(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """If the repr of an event raises, its class is named in the line, and the next event is handled."""
    calls = Recorder()

    def fails(event: MyEvent) -> None:
        calls(event)
        raise ValueError

    bench.attach(fails)
    bench.dispatch(Shy(type=UPDATED, time="", value=1), event(2))
    assert calls.values == [1, 2]
    assert caplog.records[0].message.endswith("an event of Shy whose repr failed")


def test_abandon_leaves_the_batch_after_the_present_event(bench: Bench) -> None:
    """After abandon() the rest of the batch is not handled, and what has a callback is counted; the next one is handled."""
    recorder = Recorder()

    def abandons(event: MyEvent) -> None:
        bench.dispatcher.abandon()

    bench.attach(recorder)
    bench.attach(abandons)
    bench.dispatch(event(1), event(2), event(3, MyEventType.stopped), event(3))
    assert recorder.values == [1]
    assert bench.stats().drops == {DropReason.STOPPED: 2}
    bench.dispatch(event(4))
    assert recorder.values == [1, 4]


def test_the_position_moves_on_with_each_event(bench: Bench) -> None:
    """While a batch is dispatched, another thread can tell how many of its events are left."""
    positions: list[tuple[int, int]] = []
    bench.attach(lambda event: positions.append(bench.dispatcher.position()))
    assert bench.dispatcher.position() == (0, 0)
    bench.dispatch(event(1), event(2), event(3))
    bench.dispatch(event(4))
    assert positions == [(3, 2), (3, 1), (3, 0), (4, 0)]


def test_every_event_is_buffered(bench: Bench) -> None:
    """Events get into the receive buffer whether they have callbacks or not, and what it pushes out is counted."""
    bench.attach(Recorder())
    bench.dispatch(*[event(number) for number in range(4)], *[event(number, MyEventType.stopped) for number in range(4, 7)])
    assert bench.stats().drops == {DropReason.UNREAD: 2}
    assert [found.value for _ in range(5) if (found := bench.buffer.get(0))] == [2, 3, 4, 5, 6]


def test_coroutines_are_run_and_counted(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """An async callback counts as handled when its coroutine has finished, and as failed when that raised."""

    async def handler(event: MyEvent) -> None:
        if event.value:
            sys.exit(3)

    bench.attach(handler)
    bench.dispatch(event(0), event(1))
    eventually(lambda: bench.stats().handled + bench.stats().handler_errors == 2)
    assert bench.dispatcher.coroutines.close(Deadline(PATIENCE)) == 0
    assert bench.stats().handler_errors == 1
    assert "value=1.0" in caplog.text


def test_a_stream_that_comes_after_the_end(bench: Bench) -> None:
    """Another thread has closed the client while it was made: nobody else would end it."""

    def stream() -> EventStream[MyEvent]:
        return EventStream(None, 1, DropLog(), None, lambda: None)

    early, late = stream(), stream()
    bench.dispatcher.buffer.open()
    bench.dispatcher.add_stream(early)
    assert early.is_open
    bench.dispatcher.end()
    bench.dispatcher.add_stream(late)
    assert not early.is_open
    assert not late.is_open
