"""Whether and when a service that has failed runs again, decided from times alone."""

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How often a service that fails is run again, and after which pause.

    What is older than the window is forgiven: neither does it count, nor does it make the pause longer.

    Attributes:
        limit: how many failures within the window are followed by another run; the next one is final. 0: the first one is.
        window: seconds.
        interval: seconds before the first restart; the pause doubles with each further failure within the window.
        max_interval: the longest pause, in seconds.

    Raises:
        ValueError: one of them is negative.
    """

    limit: int = 5
    window: float = 60.0
    interval: float = 0.5
    max_interval: float = 30.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) >= 0:  # nor is NaN
                raise ValueError(f"RestartPolicy({name}={getattr(self, name)}): it cannot be negative")


class Restarts:
    """The failures of one service, from its start to its end."""

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self._failures: deque[float] = deque()

    def pause_after_failure(self, now: float) -> float | None:
        """Count a failure. Returns the seconds until the next run; None if there is to be none."""
        policy, failures = self._policy, self._failures
        while failures and now - failures[0] > policy.window:
            failures.popleft()
        failures.append(now)
        if len(failures) > policy.limit:
            return None
        interval = min(policy.interval, policy.max_interval)
        for _ in range(len(failures) - 1):
            if interval in (0.0, policy.max_interval):
                break
            interval = min(2 * interval, policy.max_interval)
        return interval
