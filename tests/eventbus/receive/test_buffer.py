"""The bounded receive buffer."""

import pytest

from eventbus.observe.stats import DropLog, DropReason
from eventbus.policies import ReceivePolicy
from eventbus.receive.buffer import ReceiveBuffer
from tests.support import PATIENCE, eventually, in_thread, is_waiting


@pytest.fixture
def buffer() -> ReceiveBuffer[int]:
    made: ReceiveBuffer[int] = ReceiveBuffer(3)
    made.open()
    return made


def test_oldest_first(buffer: ReceiveBuffer[int]) -> None:
    """Events come out in the order in which they went in."""
    buffer.extend([1, 2, 3])
    assert [buffer.get(0), buffer.get(0), buffer.get(0), buffer.get(0)] == [1, 2, 3, None]


@pytest.mark.parametrize(
    ("first", "then", "lost", "kept"), [(2, 2, 1, [1, 2, 3]), (0, 5, 2, [2, 3, 4]), (3, 3, 3, [3, 4, 5])]
)
def test_full_drops_oldest_and_says_how_many(
    buffer: ReceiveBuffer[int], first: int, then: int, lost: int, kept: list[int]
) -> None:
    """Beyond the limit the oldest events make room, and are counted."""
    buffer.extend(list(range(first)))
    assert buffer.unread == 0
    buffer.extend(list(range(first, first + then)))
    assert (buffer.received, buffer.unread) == (first + then, lost)
    assert [buffer.get(0), buffer.get(0), buffer.get(0)] == kept


def test_a_waiting_reader_gets_the_next_event(buffer: ReceiveBuffer[int]) -> None:
    """get(None) waits for the next event, and several readers get one each."""
    found: list[int | None] = []
    with in_thread(lambda: found.append(buffer.get(None))), in_thread(lambda: found.append(buffer.get(PATIENCE))):
        buffer.extend([1, 2])
    assert sorted(number or 0 for number in found) == [1, 2]


def test_close_sends_waiting_readers_home(buffer: ReceiveBuffer[int]) -> None:
    """A reader that waits without a limit gets None when the buffer closes."""
    found: list[int | None] = []
    with in_thread(lambda: found.append(buffer.get(None))):
        buffer.close()
    assert found == [None]


def test_closed_stays_readable(buffer: ReceiveBuffer[int]) -> None:
    """Events in a closed buffer can be read, then None comes at once."""
    buffer.extend([1])
    buffer.close()
    assert [buffer.get(None), buffer.get(None)] == [1, None]


def test_open_again(buffer: ReceiveBuffer[int]) -> None:
    """A buffer that was closed and opened lets readers wait again."""
    buffer.close()
    buffer.open()
    found: list[int | None] = []
    with in_thread(lambda: found.append(buffer.get(None))):
        buffer.extend([7])
    assert found == [7]


def test_before_a_reader_is_expected_it_keeps_few(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody has read yet: the newest thousand are kept, the rest counts as unread. Then as many as the limit allows."""
    drops = DropLog()
    buffer: ReceiveBuffer[int] = ReceiveBuffer(5_000, drops=drops)
    buffer.extend(list(range(1_500)))
    assert (buffer.unread, drops.counts, caplog.messages) == (500, {}, [])
    buffer.expect_reader()
    buffer.extend(list(range(1_500, 6_000)))
    assert (buffer.unread, drops.counts) == (500, {DropReason.RECEIVE_BUFFER: 500})
    assert "dropped 500 received events" in caplog.text
    assert buffer.get(0) == 1_000


def test_before_a_reader_is_expected_it_keeps_fewer_large_ones() -> None:
    """Only 64 MiB of large events are kept before the first read. A reader gets as many events as the limit allows."""
    buffer: ReceiveBuffer[int] = ReceiveBuffer(5_000)
    for number in range(200):
        buffer.make_room(1_000_000)
        buffer.extend([number])
    assert (buffer.received, buffer.unread) == (200, 133)
    buffer.expect_reader()
    for number in range(200, 400):
        buffer.make_room(1_000_000)
        buffer.extend([number])
    assert (buffer.received, buffer.unread) == (400, 133)
    assert buffer.get(0) == 133


@pytest.mark.parametrize("policy", ReceivePolicy)
def test_before_a_reader_is_expected_every_policy_keeps_the_newest(policy: ReceivePolicy) -> None:
    """Nobody has read yet: the oldest make room, whatever the policy, and nobody waits."""
    buffer: ReceiveBuffer[int] = ReceiveBuffer(3, policy)
    buffer.extend([1, 2, 3, 4, 5])
    assert (buffer.received, buffer.unread) == (5, 2)
    assert [buffer.get(0), buffer.get(0), buffer.get(0), buffer.get(0)] == [3, 4, 5, None]


# The policies, once somebody reads


def reading(policy: ReceivePolicy, limit: int = 3) -> tuple[ReceiveBuffer[int], DropLog]:
    """An open buffer that will be read, and its log."""
    drops = DropLog()
    buffer: ReceiveBuffer[int] = ReceiveBuffer(limit, policy, drops)
    buffer.open()
    buffer.expect_reader()
    return buffer, drops


def test_drop_oldest() -> None:
    """When it is full the oldest events make room."""
    buffer, drops = reading(ReceivePolicy.DROP_OLDEST)
    buffer.extend([1, 2])
    buffer.extend([3, 4])
    buffer.extend([5])
    assert (buffer.received, drops.counts) == (5, {DropReason.RECEIVE_BUFFER: 2})
    assert [buffer.get(0), buffer.get(0), buffer.get(0), buffer.get(0)] == [3, 4, 5, None]


def test_drop_newest() -> None:
    """When it is full what comes does not get in, until there is room again."""
    buffer, drops = reading(ReceivePolicy.DROP_NEWEST)
    buffer.extend([1, 2])
    buffer.extend([3, 4])
    buffer.extend([5])
    assert buffer.get(0) == 1
    buffer.extend([6, 7])
    assert (buffer.received, drops.counts) == (7, {DropReason.RECEIVE_BUFFER: 3})
    assert [buffer.get(0), buffer.get(0), buffer.get(0), buffer.get(0)] == [2, 3, 6, None]


def test_block_waits_for_the_reader() -> None:
    """When it is full the writer waits, also within a batch that is larger than the buffer; everything comes in order."""
    buffer, drops = reading(ReceivePolicy.BLOCK)

    def write() -> None:
        buffer.extend([1, 2])
        buffer.extend(list(range(3, 11)))

    with in_thread(write) as writing:
        for number in range(1, 11):
            eventually(lambda number=number: buffer.received == min(10, number + 2))  # type: ignore[misc] # a default
            if number < 8:
                eventually(lambda: is_waiting(writing))
            assert buffer.get(0) == number
    assert (buffer.get(0), drops.counts) == (None, {})


def test_block_lets_a_batch_pass_that_fits() -> None:
    """Nobody waits while there is room for all."""
    buffer, _ = reading(ReceivePolicy.BLOCK)
    buffer.extend([1, 2, 3])
    assert buffer.get(0) == 1
    buffer.extend([4])
    assert [buffer.get(0), buffer.get(0), buffer.get(0), buffer.get(0)] == [2, 3, 4, None]


def test_release_ends_the_waiting() -> None:
    """After release() what the writer has goes in beyond the limit, and nobody waits; after hold() they do again."""
    buffer, drops = reading(ReceivePolicy.BLOCK)
    with in_thread(lambda: buffer.extend([1, 2, 3, 4, 5])) as writing:
        eventually(lambda: is_waiting(writing))
        buffer.release()
    buffer.extend([6, 7])
    assert (buffer.received, drops.counts) == (7, {})
    buffer.hold()
    with in_thread(lambda: buffer.extend([8])) as writing:
        eventually(lambda: is_waiting(writing))
        assert [buffer.get(0) for _ in range(5)] == [1, 2, 3, 4, 5]
    assert [buffer.get(0) for _ in range(4)] == [6, 7, 8, None]


def test_a_reader_on_the_writers_own_thread_is_not_waited_for() -> None:
    """Nobody could read while the writer waits for itself: the oldest make room until another thread reads."""
    drops = DropLog()
    buffer: ReceiveBuffer[int] = ReceiveBuffer(3, ReceivePolicy.BLOCK, drops)
    buffer.open()
    buffer.extend([1])
    buffer.expect_reader()
    buffer.extend([2, 3, 4, 5])
    assert (buffer.unread, drops.counts) == (0, {DropReason.RECEIVE_BUFFER: 2})
    with in_thread(buffer.expect_reader):
        pass
    assert buffer.get(0) == 3
    with in_thread(lambda: buffer.extend([6, 7])) as writing:
        eventually(lambda: is_waiting(writing))
        assert [buffer.get(0), buffer.get(PATIENCE), buffer.get(PATIENCE), buffer.get(PATIENCE)] == [4, 5, 6, 7]


def test_an_unknown_policy_is_refused() -> None:
    """A policy may be given as the text that its variable has, and no other."""
    assert ReceiveBuffer[int](1, "block")._policy is ReceivePolicy.BLOCK  # type: ignore[arg-type] # mypy knows it, too
    with pytest.raises(ValueError, match="drop_all"):
        ReceiveBuffer[int](1, "drop_all")  # type: ignore[arg-type] # mypy knows it, too
