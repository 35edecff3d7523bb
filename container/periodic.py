"""Calling something again and again: methods marked with `@every`, and heartbeats of services."""

from collections.abc import Callable
from math import floor
from threading import Event, Thread, current_thread

from eventbus._base.clock import clock, in_service


class Periodic:
    """Calls a function at a fixed interval, in a thread of its own between `start` and `stop`.

    The seconds are from the beginning of one call to the beginning of the next. If a call takes longer, those that should
    have begun meanwhile are left out.

    Args:
        name: of what is called; its thread has it, too.
        seconds: from one call to the next.
        call: must not raise.
        delay: seconds before the first call.

    Attributes:
        name: as given.
    """

    def __init__(self, name: str, seconds: float, call: Callable[[], object], *, delay: float = 0.0) -> None:
        self.name = name
        self._seconds = seconds
        self._call = call
        self._delay = delay
        self._ending = Event()
        self._thread = Thread(target=self._run, name=f"eventbus-every-{name}", daemon=True)

    def start(self) -> None:
        """Start. Once only.

        Raises:
            RuntimeError: the system refuses another thread.
        """
        clock().starting(self._thread)
        self._thread.start()

    def request_stop(self) -> None:
        """Let no further call begin; does not block."""
        self._ending.set()

    def stop(self, timeout: float) -> bool:
        """Let no further call begin, and wait for one that is going on; False if it goes on. Does not wait from inside."""
        self.request_stop()
        if self._thread is current_thread() or self._thread.ident is None:
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        in_service.set(True)
        due = clock().now() + self._delay
        while not clock().wait(self._ending, max(0.0, due - clock().now())):
            self._call()
            due += self._seconds
            if (late := clock().now() - due) > 0:
                due += self._seconds * (floor(late / self._seconds) + 1)
