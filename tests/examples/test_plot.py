"""Curves as text."""

from plot import plot


def test_a_value_over_what_it_should_be() -> None:
    """The value hides what it should be; the scale has the highest and every third line."""
    assert plot([0.0, 1.0, 2.0, None], [2.0, 2.0, 2.0, 2.0], height=3) == [
        "    2.00 |--*-",
        "         | *",
        "         |*",
    ]


def test_the_scale_tells_values() -> None:
    """Every third line is marked, evenly from the highest to the lowest."""
    lines = plot([0.0, 6.0], [3.0, 3.0], height=7)
    assert [line[:8].strip() for line in lines] == ["6.00", "", "", "3.00", "", "", "0.00"]
    assert lines[3] == "    3.00 |--"


def test_neighbours_are_averaged() -> None:
    """More values than columns are averaged evenly; what is not known does not count."""
    assert plot([0.0, 2.0, None, 3.0, 5.0], [None] * 5, width=3, height=5) == [
        "    5.00 |  *",
        "         |",
        "         | *",
        "    2.00 |",
        "         |*",
    ]


def test_a_flat_curve() -> None:
    """Equal values give one line."""
    assert plot([1.5] * 4, [1.5] * 4, height=3)[0] == "    1.50 |****"


def test_nothing() -> None:
    """An empty series gives no lines."""
    assert plot([], []) == []
    assert plot([None], [None]) == []
