"""Many threads that do everything to the same clients at once.

The storm is a program of its own, because it may abort the process: ``python -m tests.faults.test_threads``.
"""

import random
import sys
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from threading import Event, Lock, Thread, current_thread
from time import monotonic
from typing import Any

import pytest

from eventbus import BaseEventTopic, EventBusClient, EventBusProxy, NotConnected
from tests.faults.programs import end_within, expect_resources, ignore_log, resources, run_program
from tests.support import PATIENCE, Bus, MyEvent, MyEventTopic, MyEventType, event, eventually, run_threads

THREADS = 64
EMITTERS = 16  # threads that emit through clients that nobody closes
AHEAD = 100  # events that an emitter may be ahead of the receiver: no queue overflows

# Made by a function, whose result type checkers do not understand.
Topic: Any = BaseEventTopic("Topic", [f"of_{number}" for number in range(EMITTERS)] + ["private", "others", "more"])  # type: ignore[call-arg]

type StormBus = EventBusClient[MyEvent, MyEventType, Any]


@pytest.mark.process
def test_a_storm_of_threads(proxy: EventBusProxy, soak_seconds: float | None) -> None:
    """64 threads emit, subscribe, attach, consume, connect and close at once.

    Nothing but NotConnected is raised, and only by clients that are closed meanwhile. What each thread emits through a
    client that nobody closes, or before it closes it itself, arrives completely and in order. Everything ends and nothing is
    left.
    """
    seconds = soak_seconds or 3.0
    run_program("tests.faults.test_threads", proxy.pub_port, proxy.sub_port, seconds, seconds=seconds)


@pytest.mark.patience
def test_starting_and_stopping_at_once(bus: Bus, soak_seconds: float | None) -> None:
    """Threads that start and stop the consumer while others subscribe never make it miss that it is wanted, or not."""
    end = monotonic() + (soak_seconds or 1.0)
    slowest = 0.0

    def act(number: int) -> None:
        nonlocal slowest
        for _ in range(50):
            if number % 2:
                bus.start_consumer()
            else:
                began = monotonic()
                bus.stop_consumer(PATIENCE / 2)
                slowest = max(slowest, monotonic() - began)
            bus.subscribe(MyEventTopic.other)
            bus.unsubscribe(MyEventTopic.other)

    while monotonic() < end:
        run_threads(8, act)
    assert slowest < PATIENCE / 4


def test_a_replaced_consumer_ends(bus: Bus) -> None:
    """A consumer that is stopped inside its handler, where another one is started, ends with that handler."""
    first: list[Thread] = []
    started = Event()

    def replace(_: MyEvent) -> None:
        first.append(current_thread())
        bus.stop_consumer()
        bus.start_consumer()
        started.set()

    bus.attach_callback(MyEventType.updated, replace)
    bus.start_consumer()
    bus.emit_event(event(1), MyEventTopic.my_service)
    assert started.wait(PATIENCE)
    eventually(lambda: not first[0].is_alive(), PATIENCE)


# The program.


class Storm:
    """The clients, and what came out of each topic."""

    def __init__(self, pub_port: int, sub_port: int, seconds: float) -> None:
        self._ports = pub_port, sub_port
        self._end = monotonic() + seconds
        self._numbers = count(1)
        self._lock = Lock()
        self.received: dict[str, int] = defaultdict(int)  # the last number of each emitting thread
        self.private: dict[int, int] = defaultdict(int)  # the last number of each private client
        self.expected_private: dict[int, int] = {}
        self.disorder: list[str] = []
        self.steady = [self.client() for _ in range(4)]
        self.mayflies = [self.client() for _ in range(8)]
        # Of nothing that is emitted without waiting for it: queues would overflow.
        self.receiver = self.client(topics=[topic for topic in Topic if topic not in ("others", "more")], receive_buffer=1)
        for number in range(EMITTERS):
            self.receiver.attach_callback(MyEventType.updated, self._record(f"of_{number}"), topic=Topic[f"of_{number}"])
        self.receiver.attach_callback(MyEventType.updated, self._record_private, topic=Topic.private)
        for client in (self.receiver, *self.steady):
            client.connect(PATIENCE)
        self.receiver.start_consumer()

    def client(self, **options: Any) -> StormBus:
        return EventBusClient(MyEvent, "127.0.0.1", *self._ports, linger=PATIENCE, close_timeout=PATIENCE, **options)

    def is_over(self) -> bool:
        return monotonic() > self._end

    def emit(self, number: int, moods: random.Random) -> None:
        """Emit running numbers on a topic of this thread, and change what the client does."""
        topic, client, pause = f"of_{number}", self.steady[number % len(self.steady)], Event()
        emitted = 0
        while not self.is_over():
            for _ in range(moods.randrange(20)):
                emitted += 1
                client.emit_event(event(emitted), Topic[topic])
            self.fiddle(client, moods)
            while emitted - self.received[topic] > AHEAD:
                pause.wait(0.001)
        eventually(lambda: self.received[topic] == emitted, what=f"{emitted} events of {topic}, {self.received[topic]} came")

    def fiddle(self, client: StormBus, moods: random.Random) -> None:
        """Do something to a client that keeps it open."""
        action: Callable[[], object] = moods.choice(
            [
                lambda: client.subscribe(Topic.others),
                lambda: client.subscribe(Topic.more),
                lambda: client.unsubscribe(Topic.others),
                lambda: client.unsubscribe(Topic.more),
                lambda: client.attach_callback(MyEventType.updated, repr, topic=moods.choice([None, Topic.others])),
                lambda: client.detach_callback(MyEventType.updated, repr, topic=moods.choice([None, Topic.others])),
                lambda: client.on_state_change(repr)(),
                lambda: client.emit_event(event(1), Topic.others),
                lambda: client.emit_events([event(1)] * 10, Topic.more),
                lambda: client.start_consumer(),
                lambda: client.stop_consumer(),
                lambda: client.recv_event(0.001),
                lambda: client.connect(PATIENCE),
                lambda: client.health(),
                lambda: (client.stats(), client.state, client.topics, client.is_connected(), repr(client)),
            ]
        )
        action()

    def disturb(self, _number: int, moods: random.Random) -> None:
        """Do everything to clients that others use too, also connect and close them."""
        while not self.is_over():
            client = moods.choice(self.mayflies)
            with suppress(NotConnected):
                match moods.randrange(10):
                    case 0:
                        client.close(moods.choice([0.0, 0.01, PATIENCE]))
                    case 1 | 2:
                        client.connect(PATIENCE)
                    case _:
                        self.fiddle(client, moods)

    def come_and_go(self, _number: int, moods: random.Random) -> None:
        """Open clients of this thread's own, emit, and close them."""
        while not self.is_over():
            name, events = next(self._numbers), moods.randrange(20)
            with self.client() as client:
                for number in range(events):
                    client.emit_event(MyEvent(type=MyEventType.updated, time=str(name), value=number + 1), Topic.private)
            with self._lock:
                self.expected_private[name] = events

    def _record(self, topic: str) -> Callable[[MyEvent], object]:
        def record(received: MyEvent) -> None:
            if received.value != self.received[topic] + 1:
                self.disorder.append(f"{topic}: {received.value} after {self.received[topic]}")
            self.received[topic] = int(received.value)

        return record

    def _record_private(self, received: MyEvent) -> None:
        name = int(received.time)
        if received.value != self.private[name] + 1:
            self.disorder.append(f"client {name}: {received.value} after {self.private[name]}")
        self.private[name] = int(received.value)


def main(pub_port: int, sub_port: int, seconds: float) -> None:
    end_within(seconds)
    ignore_log()  # close(0) says that it does not wait for handlers
    sys.setswitchinterval(0.0005)
    before = resources()
    storm = Storm(pub_port, sub_port, seconds)
    errors: list[BaseException] = []
    roles = [storm.emit] * EMITTERS + [storm.come_and_go] * 8 + [storm.disturb] * (THREADS - EMITTERS - 8)

    def run(number: int) -> None:
        try:
            roles[number](number, random.Random(number))
        except BaseException as error:
            errors.append(error)

    threads = [Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise ExceptionGroup("in threads", [error for error in errors if isinstance(error, Exception)])

    def missing() -> dict[int, tuple[int, int]]:
        """The numbers of events received and expected of the private clients, where these differ."""
        came = {name: (storm.private[name], last) for name, last in storm.expected_private.items()}
        return {name: both for name, both in came.items() if both[0] != both[1]}

    with suppress(AssertionError):
        eventually(lambda: not missing())
    assert not missing(), (missing(), storm.receiver.stats(), len(storm.expected_private), storm.disorder[:5])
    for client in (*storm.steady, *storm.mayflies, storm.receiver):
        client.close()
    assert not storm.disorder, storm.disorder[:10]
    expect_resources(before)
    print(f"{sum(storm.received.values())} events in order, {len(storm.expected_private)} clients came and went")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
