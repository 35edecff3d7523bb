"""Numbers at a glance."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus.cli.figures import age, rate, size, sparkline


@pytest.mark.parametrize(
    ("per_second", "expected"),
    [(0, "0"), (0.04, "0.0"), (0.5, "0.5"), (9.94, "9.9"), (9.96, "10"), (1234.5, "1,234"), (1e6, "1,000,000")],
)
def test_rates(per_second: float, expected: str) -> None:
    """Slow ones have a decimal, fast ones commas."""
    assert rate(per_second) == expected


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.6, "1.0 kB"),
        (1500, "1.5 kB"),
        (99_400, "99.4 kB"),
        (99_600, "100 kB"),
        (2.5e6, "2.5 MB"),
        (3e9, "3.0 GB"),
        (4e15, "4,000.0 TB"),
    ],
)
def test_sizes(count: float, expected: str) -> None:
    """Three digits are enough, in units of thousands."""
    assert size(count) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(None, "never"), (0.04, "0.0 s"), (9.9, "9.9 s"), (10, "10 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h")],
)
def test_ages(seconds: float | None, expected: str) -> None:
    """The unit that a person would use."""
    assert age(seconds) == expected


def test_a_sparkline() -> None:
    """The newest value is at the right; the highest is a full bar, what is not 0 can be told from 0."""
    assert sparkline([0, 1, 4, 8], 6) == "  ▁▂▅█"
    assert sparkline([8, 0, 0.001, 1], 3) == "▁▂█"
    assert sparkline([0, 0], 2) == "▁▁"
    assert sparkline([], 3) == "   "


@given(st.lists(st.floats(0, 1e12), max_size=40), st.integers(1, 30))
def test_any_sparkline(values: list[float], width: int) -> None:
    """It has as many columns as it may, whatever the values."""
    assert len(sparkline(values, width)) == width
