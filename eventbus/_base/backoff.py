"""Exponential back-off: how long to wait before the next attempt."""

import random

_MOST_DOUBLINGS = 30  # beyond that any interval is the longest one, and a float would overflow in the end


def backoff(failures: int, first: float, longest: float) -> float:
    """Return the interval after so many failures: `first` after none, twice as long after each, up to `longest`.

    Args:
        failures: how many attempts have failed since one succeeded, not counting the first.
        first: seconds.
        longest: seconds.
    """
    return min(first * 2.0 ** min(failures, _MOST_DOUBLINGS), longest)


def jittered(interval: float) -> float:
    """Return a random part of an interval, at least half of it, so that many clients do not come back in step."""
    return random.uniform(0.5, 1.0) * interval
