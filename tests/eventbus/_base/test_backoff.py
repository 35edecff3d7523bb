"""Exponential back-off."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus._base.backoff import backoff, jittered


def test_intervals_double_up_to_the_longest() -> None:
    """The first interval follows no failure; each failure doubles it until the longest is reached."""
    assert [backoff(failures, 0.5, 3.0) for failures in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]


@pytest.mark.parametrize(("first", "longest", "expected"), [(0.0, 5.0, 0.0), (5.0, 1.0, 1.0), (0.1, 0.0, 0.0)])
def test_corners(first: float, longest: float, expected: float) -> None:
    """No interval stays none, and the longest bounds the first as well."""
    assert backoff(3, first, longest) == expected


@pytest.mark.patience
@given(st.integers(0, 10**9))
def test_any_number_of_failures(failures: int) -> None:
    """An endless outage does not overflow."""
    assert backoff(failures, 0.001, 60.0) <= 60.0


@given(st.floats(0, 1e6))
def test_jitter_keeps_at_least_half(interval: float) -> None:
    """A random part is between half and all of the interval."""
    assert interval / 2 <= jittered(interval) <= interval
