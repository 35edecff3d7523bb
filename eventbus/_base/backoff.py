"""Exponential back-off: how long to wait before the next attempt."""

import random

_MAX_DOUBLINGS = 30  # after these every interval is the longest one; many more would overflow a float


def backoff(failures: int, first: float, longest: float) -> float:
    """Return the interval after a number of failures: `first` after none, doubled by each, at most `longest`.

    Args:
        failures: attempts that have failed since one succeeded, without the first of them.
        first: seconds.
        longest: seconds.
    """
    return min(first * 2.0 ** min(failures, _MAX_DOUBLINGS), longest)


def jittered(interval: float) -> float:
    """Return a random part of an interval, at least half of it, so that many clients do not reconnect in step."""
    return random.uniform(0.5, 1.0) * interval
