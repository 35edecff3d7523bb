"""Whether a service runs again: pure decisions from times."""

import pytest

from eventbus.container import RestartPolicy
from eventbus.container.restarts import Restarts


def pauses(policy: RestartPolicy, *times: float) -> list[float | None]:
    restarts = Restarts(policy)
    return [restarts.pause_after_failure(now) for now in times]


def test_the_pause_doubles_up_to_the_longest() -> None:
    """Each failure within the window doubles the pause, until it is as long as it may be."""
    assert pauses(RestartPolicy(limit=9, interval=0.5, max_interval=3), 1, 2, 3, 4, 5) == [0.5, 1, 2, 3, 3]
    assert pauses(RestartPolicy(limit=9, interval=5, max_interval=3), 1, 2) == [5, 5]
    assert pauses(RestartPolicy(interval=60), 1, 2) == [60, 60]  # longer than the longest by default
    assert pauses(RestartPolicy(limit=9, interval=0), 1, 2) == [0, 0]


def test_the_failure_after_the_limit_is_final() -> None:
    """The first `limit` failures are followed by another run, the next one is not."""
    assert pauses(RestartPolicy(limit=2, interval=1), 1, 2, 3) == [1, 2, None]
    assert pauses(RestartPolicy(limit=0), 1) == [None]


def test_what_is_older_than_the_window_is_forgiven() -> None:
    """A failure that the window has left behind neither counts nor makes the pause longer."""
    assert pauses(RestartPolicy(limit=2, window=10, interval=1), 0, 1, 10.5, 11.5, 12) == [1, 2, 2, 2, None]
    assert pauses(RestartPolicy(limit=1, window=10, interval=1), *range(0, 100, 11)) == [1] * 10


def test_years_of_failures_take_no_time() -> None:
    """The pause of the thousandth failure is the longest one."""
    assert pauses(RestartPolicy(limit=2000, window=1e9, interval=1e-6), *range(2000))[-1] == 30


@pytest.mark.parametrize("name", ["limit", "window", "interval", "max_interval"])
@pytest.mark.parametrize("value", [-1, float("nan")])
def test_nothing_is_negative(name: str, value: float) -> None:
    """A negative or undefined part is refused by name."""
    with pytest.raises(ValueError, match=f"RestartPolicy\\({name}="):
        RestartPolicy(**{name: value})  # type: ignore[arg-type] # one of them is an int
