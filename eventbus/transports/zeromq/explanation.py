"""Finds out in time why no proxy answers, without delaying a client that connects."""

from collections.abc import Callable
from threading import Thread
from typing import TYPE_CHECKING

from eventbus._base.deadline import Deadline

if TYPE_CHECKING:
    from eventbus.transports.zeromq.reachability import CheckFailed

# The longest explanation is that of a program that accepts connections and is silent: it is greeted, and then asked as a web
# server would be, each for a second.
_EXPLANATION_S, _MIN_EXPLANATION_S = 2.5, 0.2
_CHECK_TIMEOUT_S = 1.0


class Explanation:
    """Finds out in a thread why no proxy answers, shortly before a caller's deadline. One thread at a time.

    Args:
        find: makes the checks, with a timeout in seconds for each, and returns the first failure; None if there is none.
    """

    def __init__(self, find: Callable[[float], "CheckFailed | None"]) -> None:
        self._find = find
        self._begun = False
        self._found: CheckFailed | None = None
        self._thread = Thread(target=self._run, name="eventbus-diagnosis", daemon=True)
        self._timeout = 0.0

    def begin_before(self, deadline: Deadline) -> bool:
        """Begin if the deadline comes soon. Returns True, for conditions that are checked again and again."""
        if not self._begun and deadline.left() < min(_EXPLANATION_S, deadline.timeout / 2):
            self._begun = True
            self._timeout = max(_MIN_EXPLANATION_S, min(_CHECK_TIMEOUT_S, deadline.left()))
            self._thread.start()
        return True

    def found(self) -> "CheckFailed | None":
        """Return what was found; None if nothing was by now."""
        if self._begun:
            self._thread.join(_MIN_EXPLANATION_S)
        return self._found

    def _run(self) -> None:
        self._found = self._find(self._timeout)
