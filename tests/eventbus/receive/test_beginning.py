"""Topics that begin with stored messages, without a bus: what is held, left out and handed on."""

from collections.abc import Callable, Iterator
from threading import Event, Thread, current_thread

import pytest

from eventbus.errors import HistorianMissing, HistoryDamaged, NotConnected
from eventbus.observe.state import ClientState, Status
from eventbus.policies import Start
from eventbus.receive.beginning import Receiver
from eventbus.receive.from_historian import FromHistorian, Read
from eventbus.wire.history import Portion, Query, Stored
from eventbus.wire.starts import From
from tests.support import PATIENCE

MARK = b"_history/mark"


def connected() -> Status:
    """The state of a client that is connected."""
    status = Status("here")
    status.change(ClientState.READY, "opened")
    return status


def from_historian(
    read: Read,
    replay: Callable[[list[Stored]], object],
    wake: Callable[[], object] = lambda: None,
    status: Status | None = None,
) -> FromHistorian:
    """Beginnings of a client that is connected."""

    def ignore(_: object) -> None: ...

    return FromHistorian(Receiver(ignore, replay, status or connected(), wake), read, ignore, ignore, lambda: MARK)


def test_a_topic_that_begins_while_its_messages_are_at_hand() -> None:
    """They came because another topic is a prefix of it, before the query was sent: what is stored has them already."""
    replayed: list[Stored] = []

    def read(query: Query, topic: bytes | None) -> Iterator[Portion]:
        yield Portion([Stored(1, 0.0, b"plant-1", b"{}")], 1)

    beginnings = from_historian(read, replayed.extend)

    def is_stopped() -> bool:
        if not replayed:  # another thread subscribes at this moment
            beginnings.register(b"plant-1", From(Start.ALL))
            beginnings.begin(b"plant-1")
        return False

    frames, _ = beginnings.take(([b"plant-1", b"plant"], [b"{}", b"{}"]), is_stopped)
    assert frames == [b"plant"]
    assert [message.first for message in replayed] == [b"plant-1"]
    frames, _ = beginnings.take(([b"plant-1", MARK, b"plant-1"], [b"{}", b"", b"{}"]), lambda: False)
    assert frames == [b"plant-1"]
    assert beginnings.is_idle


def begun(read: Read, replayed: list[Stored], status: Status | None = None) -> FromHistorian:
    """What one topic has begun with that is asked for by `read`."""
    beginnings = from_historian(read, replayed.extend, status=status)
    beginnings.register(b"plant", From(Start.ALL))
    beginnings.begin(b"plant")
    beginnings.take(([], []), lambda: False)
    return beginnings


def test_a_mark_that_is_lost_with_the_connection() -> None:
    """Live events are left out until the mark comes; it does not, so the client asks at once for what has come since."""
    replayed: list[Stored] = []
    asked: list[int] = []

    def read(query: Query, topic: bytes | None) -> Iterator[Portion]:
        asked.append(query.after)
        yield Portion([Stored(len(asked), 0.0, b"plant", b"{}")], len(asked))

    beginnings = begun(read, replayed)
    beginnings.take(([b"plant"], [b"{}"]), lambda: False)
    assert [message.position for message in replayed] == [1]
    beginnings.reconnected()
    beginnings.take(([], []), lambda: False)
    assert [message.position for message in replayed] == [1, 2]
    assert asked == [0, 1]


def test_a_mark_that_is_lost_because_the_client_was_closed() -> None:
    """What comes to the client that is open again is live."""
    beginnings = begun(lambda query, topic: iter([Portion([], 1)]), [])
    beginnings.reopened()
    assert beginnings.is_idle
    assert beginnings.take(([b"plant"], [b"{}"]), lambda: False) == ([b"plant"], [b"{}"])


def test_a_client_that_is_closed_before_its_consumer_is_stopped() -> None:
    """It does not take what is stored for lost: the rest is read when it is open again."""
    replayed: list[Stored] = []
    asked: list[int] = []

    def read(query: Query, topic: bytes | None) -> Iterator[Portion]:
        asked.append(query.after)
        yield Portion([Stored(len(asked), 0.0, b"plant", b"{}")], 2)
        if len(asked) == 1:
            raise NotConnected("here")

    begun(read, replayed)
    assert [message.position for message in replayed] == [1, 2]
    assert asked == [0, 1]


@pytest.mark.parametrize("answered", [False, True])
def test_an_answer_that_is_lost_with_the_connection(answered: bool) -> None:
    """That there is no historian, or that one answers badly, is believed only if the connection has lasted."""
    replayed: list[Stored] = []
    asked: list[int] = []
    status = connected()

    def read(query: Query, topic: bytes | None) -> Iterator[Portion]:
        asked.append(query.after)
        if len(asked) == 1:
            if answered:
                yield Portion([Stored(1, 0.0, b"plant", b"{}")], 2)
            status.change(ClientState.DEGRADED, "lost")
            status.change(ClientState.READY, "back")
            raise HistoryDamaged("here", "a part of it is missing") if answered else HistorianMissing("here", 5.0)
        yield Portion([Stored(2, 0.0, b"plant", b"{}")] if query.after < 2 else [], 2)

    begun(read, replayed, status)
    assert [message.position for message in replayed] == ([1, 2] if answered else [2])
    assert asked[:2] == [0, int(answered)]  # once more for what has come since, if the mark was lost, too


def test_another_thread_takes_over() -> None:
    """The last one is still in a handler; what it was to begin with begins in the new one."""
    replayed: list[Stored] = []
    woken = Event()
    inside, may_go_on = Event(), Event()
    stopped: set[Thread] = set()

    def read(query: Query, topic: bytes | None) -> Iterator[Portion]:
        for position in range(query.after + 1, 4):
            yield Portion([Stored(position, 0.0, b"plant", b"{}")], 3)

    def replay(messages: list[Stored]) -> None:
        replayed.extend(messages)
        inside.set()
        assert may_go_on.wait(PATIENCE)

    beginnings = from_historian(read, replay, woken.set)
    beginnings.register(b"plant", From(Start.ALL))
    beginnings.begin(b"plant")
    thread = Thread(target=beginnings.take, args=(([], []), lambda: current_thread() in stopped))
    thread.start()
    assert inside.wait(PATIENCE)
    stopped.add(thread)
    assert beginnings.take(([b"plant"], [b"{}"]), lambda: False) == ([], [])
    may_go_on.set()
    assert woken.wait(PATIENCE)
    thread.join()
    beginnings.take(([], []), lambda: False)
    assert [message.position for message in replayed] == [1, 2, 3]
