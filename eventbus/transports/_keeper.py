"""One thread for the whole process that looks after all open paths: it follows their connections and sends their echoes."""

import logging
import os
import select
from threading import RLock, Thread
from time import monotonic
from typing import Protocol

from eventbus.transports._waker import Waker

logger = logging.getLogger("eventbus")

_LONGEST = 3600.0  # seconds


class Ward(Protocol):
    """What the keeper looks after."""

    def filenos(self) -> tuple[int, ...]:
        """Descriptors that become readable when there is something to do; negative ones are ignored."""

    def keep(self, now: float) -> float:
        """Do what is due, without waiting; return when to be called again at the latest. `now` is `time.monotonic`'s."""


class Keeper:
    """Calls `keep` of its wards when it is due, in a thread that exists while there are any. Any thread may call it."""

    def __init__(self) -> None:
        self._lock = RLock()  # collecting a forgotten client closes it, wherever a thread happens to be
        self._wards: frozenset[Ward] = frozenset()
        self._waker: Waker | None = None

    def watch(self, ward: Ward) -> None:
        """Look after it from now on.

        Raises:
            OSError: there is no descriptor left.
            RuntimeError: the system lets no thread start any more.
        """
        with self._lock:
            waker = self._waker or self._start()
            self._wards |= {ward}
            waker.wake()

    def forget(self, ward: Ward) -> None:
        """Look after it no more. A call of its `keep` may still be running."""
        with self._lock:
            self._wards -= {ward}
            if self._waker is not None:
                self._waker.wake()

    def wake(self) -> None:
        """Look at all wards now."""
        waker = self._waker
        if waker is not None:
            waker.wake()

    def _start(self) -> Waker:
        waker = Waker()
        try:
            Thread(target=self._run, args=(waker,), name="eventbus-keeper", daemon=True).start()
        except BaseException:
            waker.close()
            raise
        self._waker = waker
        return waker

    def _run(self, waker: Waker) -> None:
        poll = select.poll()
        registered: set[int] = set()
        while True:
            with self._lock:
                wards = self._wards
                if not wards:
                    self._waker = None
                    waker.close()
                    return
            now = monotonic()
            due = min(self._keep(ward, now) for ward in wards)
            # After keeping, for that may have given them new ones.
            wanted = {waker.fileno(), *(fileno for ward in wards for fileno in ward.filenos())} - {-1}
            for fileno in registered - wanted:
                poll.unregister(fileno)
            for fileno in wanted - registered:
                poll.register(fileno, select.POLLIN)
            registered = wanted
            poll.poll(1000 * max(0.0, min(due - monotonic(), _LONGEST)))
            waker.drain()

    def _keep(self, ward: Ward, now: float) -> float:
        try:
            return ward.keep(now)
        except Exception:
            # A defect of ours, which must not leave the others alone.
            logger.exception("looking after %r failed", ward)
            return now + 1.0


keeper = Keeper()
os.register_at_fork(after_in_child=keeper.__init__)  # type: ignore[misc] # the thread is the parent's
