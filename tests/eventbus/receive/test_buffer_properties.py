"""The receive buffer against a model that is too simple to be wrong, over many sequences of calls."""

from itertools import count, islice
from threading import Thread

from hypothesis import given, settings
from hypothesis import strategies as st

from eventbus.observe.stats import DropLog, DropReason
from eventbus.policies import ReceivePolicy
from eventbus.receive.buffer import UNREAD, ReceiveBuffer
from tests.support import PATIENCE, eventually

LIMITS = st.sampled_from([1, 2, 5, UNREAD + 500])
SIZES = st.sampled_from([0, 1, 2, 3, 7, 600])
CALLS = st.lists(SIZES | st.sampled_from(["get", "get", "get", "expect", "open", "close", "release", "hold"]), max_size=40)


class Model:
    """The model of the buffer, one event at a time. A policy to block is not asked to wait here."""

    def __init__(self, limit: int, policy: ReceivePolicy) -> None:
        self.limit, self.policy = limit, policy
        self.kept: list[int] = []
        self.expected = False
        self.received = self.read = self.unread = self.dropped = 0

    def extend(self, events: list[int]) -> None:
        for event in events:
            self.received += 1
            if len(self.kept) < (self.limit if self.expected else min(self.limit, UNREAD)):
                self.kept.append(event)
            elif not self.expected:
                self.kept = [*self.kept[1:], event]
                self.unread += 1
            elif self.policy is ReceivePolicy.DROP_OLDEST:
                self.kept = [*self.kept[1:], event]
                self.dropped += 1
            elif self.policy is ReceivePolicy.DROP_NEWEST:
                self.dropped += 1
            else:
                self.kept.append(event)

    def get(self) -> int | None:
        if not self.kept:
            return None
        self.read += 1
        return self.kept.pop(0)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(LIMITS, st.sampled_from(ReceivePolicy), CALLS)
def test_it_does_as_the_model(limit: int, policy: ReceivePolicy, calls: list[int | str]) -> None:
    """After any sequence of calls, what is read, kept and dropped is what the model says; nothing else gets lost."""
    drops = DropLog()
    buffer: ReceiveBuffer[int] = ReceiveBuffer(limit, policy, drops)
    model = Model(limit, policy)
    numbers = count()
    for call in calls:
        match call:
            case int():
                events = list(islice(numbers, call))
                if policy is ReceivePolicy.BLOCK:
                    buffer.release()  # for nobody reads meanwhile
                buffer.extend(events)
                model.extend(events)
            case "get":
                assert buffer.get(0) == model.get()
            case "expect":
                thread = Thread(target=buffer.expect_reader)  # the writer's own thread would not be waited for
                thread.start()
                thread.join()
                model.expected = True
            case _:
                getattr(buffer, call)()
        assert list(buffer._events) == model.kept
        dropped = drops.counts.get(DropReason.RECEIVE_BUFFER, 0)
        assert (buffer.received, buffer.unread, dropped) == (model.received, model.unread, model.dropped)
        assert buffer.received == model.read + len(model.kept) + buffer.unread + dropped


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.integers(1, 8), st.lists(st.integers(0, 20), max_size=8), st.integers(0, 60))
def test_blocking_loses_nothing(limit: int, sizes: list[int], reads: int) -> None:
    """Whatever the batches, and whenever the waiting ends, a reader gets every event in order; before that, few wait."""
    buffer: ReceiveBuffer[int] = ReceiveBuffer(limit, ReceivePolicy.BLOCK)
    buffer.open()
    buffer.expect_reader()
    numbers = count()
    batches = [list(islice(numbers, size)) for size in sizes]

    def write() -> None:
        for batch in batches:
            buffer.extend(batch)

    writing = Thread(target=write, daemon=True)
    writing.start()
    reads = min(reads, sum(sizes))
    for number in range(reads):
        assert buffer.get(PATIENCE) == number
        assert len(buffer._events) <= limit
    eventually(lambda: buffer.received == min(sum(sizes), reads + limit))
    assert writing.is_alive() or buffer.received == sum(sizes)
    buffer.release()
    writing.join(PATIENCE)
    assert [buffer.get(0) for _ in range(reads, sum(sizes))] == list(range(reads, sum(sizes)))
    assert (buffer.get(0), buffer.received) == (None, sum(sizes))
