"""One thread for the whole process that looks after all open paths: it follows their connections and sends their echoes."""

import logging
import os
import select
from threading import RLock, Thread
from time import monotonic
from typing import Protocol

from eventbus._base.waker import Waker

logger = logging.getLogger("eventbus")

_LONGEST = 3600.0  # seconds
_NOW = float("-inf")


class Supervised(Protocol):
    """What the supervisor looks after."""

    def filenos(self) -> tuple[int, ...]:
        """Descriptors that become readable when there is something to do; negative ones are ignored."""

    def keep(self, now: float) -> float:
        """Do what is due, without waiting; return when to be called again at the latest. `now` is `time.monotonic`'s."""


class ConnectionSupervisor:
    """Calls `keep` of each connection that it supervises when it is due, in one thread. Any thread may call it."""

    def __init__(self) -> None:
        self._lock = RLock()  # collecting a forgotten client closes it, wherever a thread happens to be
        self._due: dict[Supervised, float] = {}  # when each is to be kept at the latest
        self._waker: Waker | None = None

    def watch(self, supervised: Supervised) -> None:
        """Look after it from now on.

        Raises:
            OSError: there is no descriptor left.
            RuntimeError: the system lets no thread start any more.
        """
        with self._lock:
            waker = self._waker or self._start()
            self._due[supervised] = _NOW
            waker.wake()

    def forget(self, supervised: Supervised) -> None:
        """Look after it no more. A call of its `keep` may still be running."""
        with self._lock:
            self._due.pop(supervised, None)
            if self._waker is not None:
                self._waker.wake()

    def wake(self, supervised: Supervised) -> None:
        """Keep it now, or once more if that is being done, if it is looked after."""
        with self._lock:
            if supervised in self._due and self._waker is not None:
                self._due[supervised] = _NOW
                self._waker.wake()

    def _start(self) -> Waker:
        waker = self._waker = Waker()
        try:
            Thread(target=self._run, args=(waker,), name="eventbus-supervisor", daemon=True).start()
        except BaseException:  # after an interrupt it may run all the same, and ends when it gets the lock
            self._waker = None
            waker.close()
            raise
        return waker

    def _run(self, waker: Waker) -> None:
        poll = select.poll()
        with self._lock:
            if self._waker is not waker:
                return
            poll.register(waker.fileno(), select.POLLIN)
        filenos: dict[Supervised, set[int]] = {}
        owners: dict[int, Supervised] = {}
        ready: set[Supervised] = set()
        while True:
            with self._lock:
                if not self._due:
                    self._waker = None
                    waker.close()
                    return
                now = monotonic()
                turn = [supervised for supervised, due in self._due.items() if due <= now or supervised in ready]
                self._due.update(dict.fromkeys(turn, float("inf")))
            for supervised in turn:
                due = self._keep(supervised, now)
                # Keeping may have given it new ones.
                filenos[supervised] = set(supervised.filenos()) - {-1}
                with self._lock:
                    if supervised in self._due:
                        self._due[supervised] = min(self._due[supervised], due)  # somebody may have woken it meanwhile
            with self._lock:
                filenos = {supervised: filenos.get(supervised, set()) for supervised in self._due}
                due = min(self._due.values(), default=_NOW)
            wanted = {fileno: supervised for supervised, numbers in filenos.items() for fileno in numbers}
            for fileno in owners.keys() - wanted.keys():
                poll.unregister(fileno)
            for fileno in wanted.keys() - owners.keys():
                poll.register(fileno, select.POLLIN)
            owners = wanted
            found = poll.poll(1000 * max(0.0, min(due - monotonic(), _LONGEST)))
            ready = {owners[fileno] for fileno, _ in found if fileno in owners}
            waker.drain()

    def _keep(self, supervised: Supervised, now: float) -> float:
        try:
            return supervised.keep(now)
        except Exception as error:
            # A defect of ours, which must not leave the others alone.
            logger.exception("looking after %r failed", supervised, extra={"eventbus_error": type(error).__name__})
            return now + 1.0


supervisor = ConnectionSupervisor()
os.register_at_fork(after_in_child=supervisor.__init__)  # type: ignore[misc] # the thread is the parent's
