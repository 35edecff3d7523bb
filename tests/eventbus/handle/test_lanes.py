"""Lanes: which of several waiting things may begin."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from eventbus.handle.lanes import Lanes


def drain(lanes: Lanes[int]) -> list[int]:
    """Begin what may begin, without anything ending."""
    found = []
    while (entry := lanes.next()) is not None:
        found.append(entry[1])
    return found


def test_one_key_is_one_after_the_other() -> None:
    """What has the same key waits for the one before; other keys do not, up to the limit."""
    lanes: Lanes[int] = Lanes(3)
    for number, key in enumerate("aabacd"):
        lanes.add(key, number)
    assert drain(lanes) == [0, 2, 4]
    assert (lanes.running, lanes.waiting) == (3, 3)
    lanes.done("b")
    assert drain(lanes) == [5]
    lanes.done("a")
    assert drain(lanes) == [1]
    lanes.done("a")
    assert drain(lanes) == [3]


def test_how_many_may_begin() -> None:
    """Those that are ready, as far as the limit lets them; not those that wait for their key."""
    lanes: Lanes[int] = Lanes(2)
    for number, key in enumerate("aabc"):
        lanes.add(key, number)
    assert lanes.startable == 2
    assert drain(lanes) == [0, 2]
    assert lanes.startable == 0
    lanes.done("a")
    assert lanes.startable == 1
    lanes.done("b")
    assert lanes.startable == 2


def test_without_a_key_there_is_no_order() -> None:
    """The key None does not bind."""
    lanes: Lanes[int] = Lanes(2)
    for number in range(3):
        lanes.add(None, number)
    assert drain(lanes) == [0, 1]
    lanes.done(None)
    assert drain(lanes) == [2]


def test_clearing_leaves_what_runs() -> None:
    """What waits is returned; what runs can end, and its key goes on."""
    lanes: Lanes[int] = Lanes(1)
    for number, key in enumerate("aabb"):
        lanes.add(key, number)
    assert drain(lanes) == [0]
    assert sorted(lanes.clear()) == [1, 2, 3]
    assert (lanes.running, lanes.waiting) == (1, 0)
    lanes.add("a", 4)
    lanes.add("b", 5)
    lanes.done("a")
    assert drain(lanes) == [5]
    lanes.done("b")
    assert drain(lanes) == [4]


@settings(max_examples=100)
@given(
    st.lists(st.one_of(st.none(), st.integers(0, 3)), max_size=60),
    st.integers(1, 4),
    st.randoms(use_true_random=False),
)
def test_everything_runs_once_in_order(keys: list[int | None], limit: int, random: Random) -> None:
    """Whatever ends when: each thing runs once, no more than allowed at once, and those of one key in order."""
    lanes: Lanes[int] = Lanes(limit)
    running: list[tuple[object, int]] = []
    begun: list[tuple[object, int]] = []
    pending = list(enumerate(keys))
    while pending or running or lanes.waiting:
        if pending and random.random() < 0.5:
            number, key = pending.pop(0)
            lanes.add(key, number)
        while (entry := lanes.next()) is not None:
            running.append(entry)
            begun.append(entry)
        assert len(running) == lanes.running <= limit
        keyed = [key for key, _ in running if key is not None]
        assert len(keyed) == len(set(keyed))
        if running and random.random() < 0.5:
            ended, _ = running.pop(random.randrange(len(running)))
            lanes.done(ended)
    assert sorted(number for _, number in begun) == list(range(len(keys)))
    for key in {key for key in keys if key is not None}:
        of_key = [number for other, number in begun if other == key]
        assert of_key == sorted(of_key)
