"""`monitor`: libzmq tells what happens to the connections of a socket."""

from collections.abc import Iterator

import pytest
import zmq

from eventbus._base.zmq_monitor import events_of, monitor
from eventbus._base.zmq_sockets import Context, Socket, new_socket
from tests.support import PATIENCE, eventually

ACCEPTED, ENDED = int(zmq.EVENT_ACCEPTED), int(zmq.EVENT_DISCONNECTED)


class Monitored:
    """A socket to which others connect, and its monitor's events."""

    def __init__(self) -> None:
        self.context: Context = zmq.Context()
        self.socket = new_socket(self.context, zmq.XSUB)
        self.kept: list[Socket] = []
        self.listening = monitor(self.context, self.socket, ACCEPTED | ENDED, keep=self.kept.append)
        self.endpoint = f"tcp://127.0.0.1:{self.socket.bind_to_random_port('tcp://127.0.0.1')}"

    def come_and_go(self) -> None:
        """A peer connects, and leaves after the event of that."""
        with new_socket(self.context, zmq.XPUB, linger=0) as peer:
            peer.connect(self.endpoint)
            assert self.listening.poll(round(1000 * PATIENCE))

    def events(self, count: int) -> list[int]:
        """The next events, as soon as there are `count` of them."""
        found: list[int] = []

        def enough() -> bool:
            found.extend(event for event, _ in events_of(self.listening))
            return len(found) >= count

        eventually(enough, PATIENCE)
        return found


@pytest.fixture
def monitored() -> Iterator[Monitored]:
    made = Monitored()
    yield made
    made.socket.disable_monitor()
    made.context.destroy(linger=0)


def test_events_come_in_order(monitored: Monitored) -> None:
    """Each event of the mask comes once, in order, and reading does not wait for more."""
    assert monitored.kept == [monitored.listening]
    assert list(events_of(monitored.listening)) == []
    for _ in range(3):
        monitored.come_and_go()
        assert monitored.events(2) == [ACCEPTED, ENDED]


def test_a_read_that_was_interrupted(monitored: Monitored) -> None:
    """When only the first frame of an event was read, the next events are read all the same."""
    monitored.come_and_go()
    monitored.listening.recv()
    assert monitored.events(1) == [ENDED]


def test_a_socket_that_cannot_be_monitored() -> None:
    """In a context without room it is an error, and nothing is left behind; when there is room it works."""
    context: Context = zmq.Context()
    context.set(zmq.MAX_SOCKETS, 2)
    sockets = [new_socket(context, zmq.XSUB), new_socket(context, zmq.PAIR)]
    with pytest.raises(zmq.ZMQError):
        monitor(context, sockets[0], ACCEPTED)
    context.destroy(linger=0)
