"""Decides whether and when a failed service runs again: a pure function of the times of its failures."""

from collections import deque
from dataclasses import dataclass

from eventbus._base.backoff import backoff


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """The number of restarts of a failing service, and the pauses before them.

    Failures that are older than the window neither count nor make the pause longer.

    Attributes:
        limit: the number of failures within the window that are followed by a restart; the next one is final. With 0 the
            first one is.
        window: seconds.
        interval: seconds before the first restart; the pause doubles with each further failure within the window.
        max_interval: up to which the pause doubles, in seconds; a longer `interval` stays as it is.

    Raises:
        ValueError: an attribute is negative.
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
    """The failures of one service between its start and its end."""

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self._failures: deque[float] = deque()

    def pause_after_failure(self, now: float) -> float | None:
        """Count a failure. Returns the seconds until the restart; None if the failure is final."""
        policy, failures = self._policy, self._failures
        while failures and now - failures[0] > policy.window:
            failures.popleft()
        failures.append(now)
        if len(failures) > policy.limit:
            return None
        return backoff(len(failures) - 1, policy.interval, max(policy.interval, policy.max_interval))
