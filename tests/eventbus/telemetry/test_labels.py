"""The labels of telemetry: printable, and limited in number."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus import SendBufferFull
from eventbus.telemetry.labels import LIMIT, OTHER, Bounded, error_type
from tests.support import run_threads


def test_each_name_has_a_value_of_its_own() -> None:
    """A name's value is made once, of the name."""
    made: list[str] = []

    def make(name: str) -> list[str]:
        made.append(name)
        return [name]

    values = Bounded(make)
    assert values["a"] is values["a"]
    assert values["b"] == ["b"]
    assert made == ["a", "b"]


def test_beyond_the_limit_all_share_one() -> None:
    """However many names come, those after the limit have one value, and nothing grows; the first keep theirs."""
    values = Bounded(lambda name: [name], limit=3)
    for number in range(1_000):
        values[str(number)]
    assert [values[str(number)] for number in range(5)] == [["0"], ["1"], ["2"], [OTHER], [OTHER]]
    assert values["3"] is values["999"]
    assert len(values) == 3


@given(name=st.text() | st.text(min_size=300))
def test_names_are_printable(name: str) -> None:
    """Whatever a name is, a value is made of one that prints, that UTF-8 can carry and that is not long."""
    shown = Bounded(str)[name]
    assert shown.isprintable()
    assert len(shown.encode()) <= 4 * 255


def test_threads_do_not_get_past_the_limit() -> None:
    """Threads that look up new names at once make no more values than the limit, and the same one for the same name."""
    values = Bounded(lambda name: [name])
    found: list[dict[str, list[str]]] = [{} for _ in range(8)]

    def look_up(thread: int) -> None:
        for number in range(2 * LIMIT):
            found[thread][str(number)] = values[str(number)]

    run_threads(8, look_up)
    assert len(values) == LIMIT
    for name in values:
        assert all(each[name] is values[name] for each in found)


class Inner:
    class Failed(Exception):
        pass


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("no"), "ValueError"),
        (SystemExit(1), "SystemExit"),
        (SendBufferFull("here", 1), "eventbus.SendBufferFull"),
        (Inner.Failed(), f"{__name__}.Inner.Failed"),
    ],
)
def test_errors_go_by_their_class(error: BaseException, expected: str) -> None:
    """An error's type is its class with its module, without one where it is Python's own."""
    assert error_type(error) == expected
