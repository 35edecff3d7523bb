"""The policies of a client whose receive buffer is full, and its log of it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from eventbus import DropReason, ReceivePolicy, RejectReason
from eventbus.transports.memory import MemoryTransport
from tests.support import (
    PATIENCE,
    Bus,
    MyEvent,
    MyEventTopic,
    MyEventType,
    RawPeers,
    Recorder,
    event,
    eventually,
    in_thread,
    is_waiting,
    json_of,
    run_script,
)

TOPIC = MyEventTopic.my_service
STARTED, UPDATED, STOPPED = MyEventType.started, MyEventType.updated, MyEventType.stopped


@contextmanager
def blocking(receive_buffer: int = 2) -> Iterator[tuple[Bus, Recorder]]:
    """A client in memory, with its callback, that blocks when `receive_buffer` events wait for a reader."""
    recorder = Recorder()
    with Bus(
        MyEvent,
        transport=MemoryTransport(),
        topics=[TOPIC],
        receive_buffer=receive_buffer,
        receive_policy=ReceivePolicy.BLOCK,
    ) as client:
        client.attach_callback(UPDATED, recorder)
        assert client.recv_event(0) is None
        yield client, recorder


def consumer() -> threading.Thread | None:
    """The consumer's thread, if one runs."""
    return next((thread for thread in threading.enumerate() if thread.name == "eventbus-consumer"), None)


def wait_until_blocked(client: Bus, received: int) -> None:
    """Return when the consumer waits with `received` events taken."""

    def is_blocked() -> bool:
        thread = consumer()
        return client.stats().received == received and thread is not None and is_waiting(thread)

    eventually(is_blocked)


def emit(client: Bus, *values: float) -> None:
    """Emit them as one message."""
    client.emit_events([event(value) for value in values], TOPIC)


def values(client: Bus, count: int) -> list[float]:
    """The next values in the buffer."""
    return [found.value for _ in range(count) if (found := client.recv_event(0))]


# Blocking


def test_the_consumer_waits_for_a_reader() -> None:
    """With the policy to block nothing is dropped: consumer and callbacks wait until the earlier events are read."""
    with blocking() as (client, recorder):
        emit(client, 1, 2)
        recorder.wait_for(2)
        emit(client, 3, 4, 5)
        wait_until_blocked(client, 2)
        assert recorder.values == [1, 2]
        assert [client.recv_event(PATIENCE) for _ in range(5)] == [event(number) for number in range(1, 6)]
        assert recorder.wait_for(5) == [1, 2, 3, 4, 5]
        assert client.stats().drops == {}


def test_a_slow_reader_gets_everything(connected: Callable[..., Bus]) -> None:
    """A buffer smaller than a batch, over a proxy: a reader that reads one at a time gets every event in order."""
    client = connected(topics=[TOPIC], receive_buffer=3, receive_policy=ReceivePolicy.BLOCK)
    listening = client.listen_forever()
    client.emit_events([event(number) for number in range(2_000)], TOPIC)
    for number in range(2_000, 2_500):
        client.emit_event(event(number), TOPIC)
    assert [next(listening).value for _ in range(2_500)] == list(range(2_500))
    assert client.stats().drops == {}


def test_without_a_reader_nobody_waits() -> None:
    """A service that has callbacks only is not held up by the policy to block: the newest events are kept."""
    recorder = Recorder()
    with Bus(
        MyEvent, transport=MemoryTransport(), topics=[TOPIC], receive_buffer=2, receive_policy=ReceivePolicy.BLOCK
    ) as client:
        client.attach_callback(UPDATED, recorder)
        client.start_consumer()
        emit(client, *range(10))
        assert recorder.wait_for(10) == list(range(10))
        assert values(client, 3) == [8, 9]
        assert client.stats().drops == {DropReason.UNREAD: 8}


def test_a_blocked_consumer_can_be_stopped_and_started() -> None:
    """stop_consumer() waits for no reader: what was received is handled, and kept beyond the limit. Then it blocks anew."""
    with blocking() as (client, recorder):
        emit(client, 1, 2, 3, 4, 5)
        wait_until_blocked(client, 2)
        client.stop_consumer(PATIENCE)
        assert consumer() is None
        assert recorder.values == [1, 2, 3, 4, 5]
        assert values(client, 4) == [1, 2, 3, 4]
        client.start_consumer()
        emit(client, 6, 7, 8)
        wait_until_blocked(client, 6)
        assert values(client, 1) == [5]
        assert [client.recv_event(PATIENCE) for _ in range(3)] == [event(6), event(7), event(8)]
        assert client.stats().drops == {}


def test_a_blocked_consumer_does_not_hold_up_close() -> None:
    """close() while the consumer waits returns, and leaves what was received to be read."""
    with blocking() as (client, recorder):
        emit(client, 1, 2, 3, 4, 5)
        wait_until_blocked(client, 2)
        client.close(PATIENCE)
        assert consumer() is None
        assert recorder.values == [1, 2, 3, 4, 5]
        assert values(client, 5) == [1, 2, 3, 4, 5]


def test_closing_from_a_handler_while_it_would_block() -> None:
    """A handler that closes the client ends the waiting too: the rest of what was received goes into the buffer."""
    entered, go = threading.Event(), threading.Event()

    def gate(event: MyEvent) -> None:
        entered.set()
        assert go.wait(PATIENCE)

    with blocking(receive_buffer=300) as (client, _):
        client.attach_callback(STARTED, gate)
        client.attach_callback(STOPPED, lambda event: client.close())
        client.emit_event(event(0, STARTED), TOPIC)
        assert entered.wait(PATIENCE)
        # One batch, which the consumer takes in two parts; the second does not fit.
        client.emit_events([event(number, STOPPED) for number in range(1, 257)], TOPIC)
        emit(client, *range(257, 500))
        go.set()
        eventually(lambda: consumer() is None)
        assert not client.is_connected()
        assert values(client, 500) == list(range(500))


@pytest.mark.process
def test_a_blocked_consumer_does_not_hold_up_the_exit() -> None:
    """A program that ends while its consumer waits, and has not closed its client, ends at once."""
    done = run_script(
        "from eventbus import ReceivePolicy\n"
        "from eventbus.transports.memory import MemoryTransport\n"
        "from tests.support import *\n"
        "client = Bus(MyEvent, transport=MemoryTransport(), receive_buffer=1, receive_policy=ReceivePolicy.BLOCK)\n"
        "client.connect()\n"
        "client.subscribe(MyEventTopic.other)\n"
        "client.recv_event(0)\n"
        "client.emit_events([event(number) for number in range(5)], MyEventTopic.other)\n"
        "eventually(lambda: client.stats().received == 1)\n"
        "print('done')\n",
        options=("-W", "ignore"),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_a_handler_that_reads_is_not_waited_for() -> None:
    """A callback that calls recv_event() is on the consumer's thread, which cannot wait for itself: the oldest make room."""
    read: list[float] = []
    with Bus(
        MyEvent, transport=MemoryTransport(), topics=[TOPIC], receive_buffer=5, receive_policy=ReceivePolicy.BLOCK
    ) as client:

        def read_one(event: MyEvent) -> None:
            read.extend(values(client, 1))

        client.attach_callback(UPDATED, read_one)
        client.start_consumer()
        emit(client, *range(5))
        eventually(lambda: read == [0, 1, 2, 3, 4])
        emit(client, *range(5, 15))
        eventually(lambda: read == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14])
        assert client.stats().drops == {DropReason.RECEIVE_BUFFER: 5}


def test_a_handler_may_read_beside_another_reader() -> None:
    """While another thread reads too, a callback gets what is there, and never a wait."""
    read: list[float] = []
    with blocking() as (client, _):
        client.attach_callback(UPDATED, lambda event: read.extend(values(client, 1)))

        def read_until_all() -> None:
            while client.stats().handled < 200:
                if found := client.recv_event(0.001):
                    read.append(found.value)

        with in_thread(read_until_all):
            emit(client, *range(100))
        read.extend(values(client, 3))
        assert sorted(read) == list(range(100))


# Dropping


def test_drop_newest_keeps_what_came_first() -> None:
    """With the policy to drop the newest, those that come while the buffer is full are not read; callbacks get all."""
    recorder = Recorder()
    with Bus(
        MyEvent, transport=MemoryTransport(), topics=[TOPIC], receive_buffer=2, receive_policy=ReceivePolicy.DROP_NEWEST
    ) as client:
        client.attach_callback(UPDATED, recorder)
        assert client.recv_event(0) is None
        emit(client, *range(5))
        assert recorder.wait_for(5) == [0, 1, 2, 3, 4]
        assert values(client, 3) == [0, 1]
        assert client.stats().drops == {DropReason.RECEIVE_BUFFER: 3}


def test_drops_are_counted_and_said_by_reason(caplog: pytest.LogCaptureFixture) -> None:
    """Before anybody reads, drops are counted only; then they are warned about once, and what came after that at the end."""
    recorder = Recorder()
    with Bus(MyEvent, transport=MemoryTransport(), topics=[TOPIC], receive_buffer=2) as client:
        client.attach_callback(UPDATED, recorder)
        client.start_consumer()
        emit(client, 1, 2, 3)
        recorder.wait_for(3)
        assert not [line for line in caplog.messages if "dropped" in line]
        assert values(client, 2) == [2, 3]
        for number in range(3):
            emit(client, 4, 5, 6, 7)
            recorder.wait_for(3 + 4 * (number + 1))
        stats = client.stats()
    assert (stats.dropped, stats.drops) == (11, {DropReason.UNREAD: 1, DropReason.RECEIVE_BUFFER: 10})
    lines = [line for line in caplog.messages if "dropped" in line]
    assert [line.split(" received")[0] for line in lines] == ["dropped 2", "dropped 8"]
    assert all("EVENTBUS_RECEIVE_BUFFER" in line and "EVENTBUS_RECEIVE_POLICY" in line for line in lines)


def test_what_a_stop_leaves_unhandled_is_counted_and_said(caplog: pytest.LogCaptureFixture) -> None:
    """Events whose callbacks were not called because a handler has stopped the consumer are dropped for that reason."""
    with Bus(MyEvent, transport=MemoryTransport(), topics=[TOPIC]) as client:
        client.attach_callback(UPDATED, lambda event: client.stop_consumer())
        client.start_consumer()
        emit(client, 1, 2, 3)
        eventually(lambda: consumer() is None)
        assert client.stats().drops == {DropReason.STOPPED: 2}
        assert [line for line in caplog.messages if "dropped 2 received events" in line and "CLOSE_TIMEOUT" in line]


class Forgetful(MemoryTransport):
    """Drops what it is given."""

    def send(self, topic: bytes, payload: bytes, count: int = 1) -> bool:
        self.drops.add(DropReason.SEND_BUFFER, count)
        return False


def test_what_a_transport_drops_counts_too() -> None:
    """A transport that drops events has counts of its own, and stats() has them with the others."""
    with Bus(MyEvent, transport=Forgetful()) as client:
        emit(client, 1, 2, 3)
        assert (client.stats().dropped, client.stats().drops) == (3, {DropReason.SEND_BUFFER: 3})


def test_rejects_are_counted_by_reason(bus: Bus, raw: RawPeers) -> None:
    """A message that is no event is counted for its reason, one that the transport has skipped as well."""
    recorder = Recorder()
    bus.attach_callback(UPDATED, recorder)
    bus.start_consumer()
    publisher = raw.publisher(b"my_service")
    for payload in (
        b"{",
        b'{"type":"unheard","time":""}',
        b'{"type":"updated"}',
        b"[" + json_of(1) + b',{"type":"updated"}]',
    ):
        publisher.send_multipart([b"my_service", payload])
    publisher.send_multipart([b"my_service"])
    publisher.send_multipart([b"my_service", json_of(2)])
    assert recorder.wait_for(2) == [1, 2]
    stats = bus.stats()
    assert stats.rejects == {RejectReason.FRAMES: 1, RejectReason.JSON: 1, RejectReason.TYPE: 1, RejectReason.SCHEMA: 2}
    assert stats.rejected == 5
