"""The consumer's thread: starting, stopping, and what must not fall between."""

import threading

import pytest

from eventbus import EventBusProxy, NotConnected
from eventbus.transports.memory import MemoryTransport
from eventbus.wire import Batch
from tests.support import PATIENCE, Bus, MyEvent, MyEventTopic, MyEventType, Recorder, event, eventually

TOPIC = MyEventTopic.my_service


class StoppedInBetween(MemoryTransport):
    """Lets somebody stop the consumer after it has read a batch and before it handles it."""

    def __init__(self) -> None:
        super().__init__()
        self.has_read, self.go_on = threading.Event(), threading.Event()

    def receive(self) -> Batch | None:
        batch = super().receive()
        if batch and batch[0]:
            self.has_read.set()
            assert self.go_on.wait(PATIENCE)
        return batch


def test_what_was_read_when_it_is_stopped_is_handled() -> None:
    """A batch that the consumer has read when stop_consumer() comes is handled, not forgotten."""
    transport = StoppedInBetween()
    recorder = Recorder()
    with Bus(MyEvent, transport=transport) as client:
        client.attach_callback(MyEventType.updated, recorder)
        client.subscribe(TOPIC)
        client.start_consumer()
        client.emit_event(event(1), TOPIC)
        assert transport.has_read.wait(PATIENCE)
        stopping = threading.Thread(target=client.stop_consumer, args=(PATIENCE,), daemon=True)
        stopping.start()
        transport.go_on.set()
        stopping.join(PATIENCE)
        assert recorder.values == [1]
        assert (client.stats().received, client.stats().dropped) == (1, 0)


def test_close_is_not_undone_by_a_reader(proxy: EventBusProxy) -> None:
    """A thread that calls recv_event() over and over does not start the consumer again while close() closes."""
    for _ in range(10):
        client = Bus(MyEvent, "127.0.0.1", proxy.pub_port, proxy.sub_port)
        client.connect()
        refused = threading.Event()

        def read(client: Bus = client, refused: threading.Event = refused) -> None:
            try:
                while True:
                    client.recv_event(0.001)
            except NotConnected:
                refused.set()

        threading.Thread(target=read, daemon=True).start()
        eventually(lambda: any(thread.name == "eventbus-consumer" for thread in threading.enumerate()))
        client.close(PATIENCE)
        assert not [thread for thread in threading.enumerate() if thread.name == "eventbus-consumer"]
        assert refused.wait(PATIENCE)


def test_it_starts_only_while_connected() -> None:
    """Before connect() and after close() starting is refused; after connecting again it is not."""
    client = Bus(MyEvent, transport=MemoryTransport())
    with pytest.raises(NotConnected):
        client.start_consumer()
    with client:
        client.start_consumer()
    with pytest.raises(NotConnected):
        client.start_consumer()
    with client:
        client.start_consumer()
