"""The bounded receive buffer."""

import pytest

from eventbus.buffer import ReceiveBuffer
from tests.support import PATIENCE, in_thread


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
    assert buffer.pushed_out == 0
    buffer.extend(list(range(first, first + then)))
    assert (buffer.received, buffer.pushed_out) == (first + then, lost)
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
    """What is in a closed buffer can be read, then None comes at once."""
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


def test_before_a_reader_is_expected_it_keeps_few() -> None:
    """Nobody has read yet: the newest thousand are kept. After expect_reader() as many as the limit allows."""
    buffer: ReceiveBuffer[int] = ReceiveBuffer(5_000)
    buffer.extend(list(range(1_500)))
    assert buffer.pushed_out == 500
    buffer.expect_reader()
    buffer.extend(list(range(1_500, 6_000)))
    assert buffer.pushed_out == 1_000
    assert buffer.get(0) == 1_000
