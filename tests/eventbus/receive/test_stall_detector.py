"""Telling a consumer that is stuck from one that is idle or slow."""

import threading
from itertools import pairwise
from time import monotonic

from eventbus.observe.hooks import Hooks
from eventbus.observe.stats import Counters
from eventbus.policies import ReceivePolicy
from eventbus.receive.buffer import ReceiveBuffer
from eventbus.receive.consumer import Consumer
from eventbus.receive.dispatcher import Dispatcher
from eventbus.receive.stall_detector import Progress, StallDetector
from eventbus.transports.memory import MemoryTransport
from eventbus.wire.codec import Codec
from tests.support import PATIENCE, MyCallback, MyEvent, MyEventType, eventually, json_of

IDLE = Progress(wanted=True, running=True, busy_for=0.0)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_counts_from_the_look_that_found_it_there() -> None:
    """At the same position it counts on; at another one it starts again, because nobody knows when that was reached."""
    clock = Clock()
    detector = StallDetector(clock)
    assert detector.busy_for("here") == 0.0
    clock.now = 107.0
    assert detector.busy_for("here") == 7.0
    clock.now = 110.0
    assert detector.busy_for("there") == 0.0
    clock.now = 111.0
    assert detector.busy_for("there") == 1.0


def test_a_known_time_is_preferred() -> None:
    """If it is known when the position was reached, it counts from then, also in later looks."""
    clock = Clock()
    detector = StallDetector(clock)
    assert detector.busy_for("here", since=40.0) == 60.0
    clock.now = 101.0
    assert detector.busy_for("here") == 61.0
    assert detector.busy_for("here", since=101.0) == 61.0
    assert detector.busy_for("there", since=102.0) == 0.0  # a clock that another thread has read later


class Bench:
    """A consumer that is open, with what stands around it; messages on topic `a` are for it."""

    def __init__(self, callback: MyCallback | None = None, *, limit: int = 10_000) -> None:
        self.transport = MemoryTransport()
        self.transport.subscribe(b"a")
        self.transport.open(PATIENCE)
        self.buffer: ReceiveBuffer[MyEvent] = ReceiveBuffer(limit, ReceivePolicy.BLOCK)
        counters = Counters()
        self.dispatcher: Dispatcher[MyEvent] = Dispatcher(self.buffer, counters)
        self.dispatcher.subscribe(b"a")
        if callback is not None:
            self.dispatcher.attach(MyEventType.updated, callback, None)
        self.codec: Codec[MyEvent] = Codec(MyEvent)
        self.consumer = Consumer(self.transport, self.codec, self.dispatcher, counters, Hooks())
        self.consumer.open()

    def send(self, count: int) -> None:
        """Send one batch of `count` events."""
        self.transport.send(b"a", b"[%s]" % b",".join([json_of()] * count))

    def is_busy(self) -> bool:
        return self.consumer.progress().busy_for > 0.02


def test_it_says_whether_the_thread_runs() -> None:
    """Before start() and after stop() no thread runs, and then nothing is busy."""
    bench = Bench()
    assert bench.consumer.progress() == Progress(wanted=False, running=False, busy_for=0.0)
    bench.consumer.start()
    assert bench.consumer.progress() == IDLE
    bench.consumer.stop(PATIENCE)
    assert bench.consumer.progress() == Progress(wanted=False, running=False, busy_for=0.0)


def test_idle_is_not_stuck() -> None:
    """A consumer that waits for messages is not busy, however long ago the last one came, and whatever was seen before."""
    bench = Bench()
    bench.consumer.start()
    for number in range(1, 4):
        bench.send(2)
        eventually(lambda number=number: bench.buffer.received == 2 * number)  # type: ignore[misc] # a lambda's default
        eventually(lambda: bench.consumer.progress() == bench.consumer.progress() == IDLE)
    bench.consumer.stop(PATIENCE)


def test_a_handler_that_does_not_return_is_seen() -> None:
    """While a handler hangs, the time without progress grows; for a batch's first event the first look knows it already."""
    entered, go = threading.Event(), threading.Event()

    def hang(event: MyEvent) -> None:
        entered.set()
        assert go.wait(PATIENCE)

    bench = Bench(hang)
    bench.consumer.start()
    bench.send(3)
    assert entered.wait(PATIENCE)
    first = bench.consumer.progress()
    assert first.running
    assert first.busy_for > 0.0
    eventually(bench.is_busy)
    go.set()
    eventually(lambda: bench.consumer.progress() == IDLE)
    bench.consumer.stop(PATIENCE)


def test_slow_is_not_stuck() -> None:
    """A consumer that takes its time over a long batch is not busy for long whenever another event is being handled."""
    handled = 0
    steps = threading.Semaphore(0)

    def handle(event: MyEvent) -> None:
        nonlocal handled
        handled += 1
        assert steps.acquire(timeout=PATIENCE)

    bench = Bench(handle)
    bench.consumer.start()
    bench.send(600)
    eventually(lambda: handled == 1)
    for number in range(2, 600, 7):
        steps.release(7 if number > 2 else 1)
        eventually(lambda number=number: handled == number)  # type: ignore[misc] # a lambda's default
        assert bench.consumer.progress().busy_for == 0.0
    eventually(bench.is_busy)
    steps.release(600)
    eventually(lambda: bench.consumer.progress() == IDLE)
    assert handled == 600
    bench.consumer.stop(PATIENCE)


def test_refusing_is_progress() -> None:
    """Each message that is looked at by itself is progress, also if it is refused: large ones may take long together."""
    bench = Bench()
    since: list[float] = []

    def refuse(json: bytes) -> list[MyEvent]:
        since.append(monotonic() - bench.consumer.progress().busy_for)
        eventually(bench.is_busy)
        raise ValueError

    bench.codec.decode = refuse  # type: ignore[method-assign] # stands for an event that takes long to refuse
    for _ in range(4):
        bench.transport.send(b"a", bytes(100_000))  # too large to be decoded together with others
    bench.consumer.start()
    eventually(lambda: len(since) == 4)
    assert all(later - earlier > 0.01 for earlier, later in pairwise(since))
    eventually(lambda: bench.consumer.progress() == IDLE)
    bench.consumer.stop(PATIENCE)


def test_waiting_for_a_reader_is_busy_until_one_comes() -> None:
    """A consumer that waits for room in the receive buffer makes no progress; each event that is read is progress."""
    bench = Bench(limit=2)
    bench.buffer.expect_reader()
    bench.consumer.start()
    bench.send(5)
    eventually(lambda: bench.buffer.received == 2)
    eventually(bench.is_busy)
    assert bench.buffer.get(0)
    eventually(lambda: bench.buffer.received == 3)
    assert bench.consumer.progress().busy_for == 0.0
    bench.consumer.stop(PATIENCE)
    assert bench.buffer.received == 5
