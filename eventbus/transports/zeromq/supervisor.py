"""One thread for the whole process that supervises all links: it follows their connections and sends their echoes."""

import select
from threading import RLock, Thread
from time import monotonic
from typing import Protocol

from eventbus._base.forks import register_fork
from eventbus._base.log import Log
from eventbus._base.waker import Waker

_MAX_SLEEP_S = 3600.0  # poll() takes no longer timeout than some weeks
_NOW = float("-inf")
_RETRY_S = 1.0  # after a defect of ours


class Supervised(Protocol):
    """The link that the supervisor takes care of."""

    def filenos(self) -> tuple[int, ...]:
        """Return descriptors that become readable when there is something to do; negative ones are ignored."""

    def supervise(self, now: float) -> float:
        """Do what is due, without waiting; return when to be called again at the latest. Times are those of `monotonic`."""


class ConnectionSupervisor:
    """Calls `supervise` of each registered object when it is due, in one thread. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = RLock()  # reentrant: any thread may collect a forgotten client, which closes it
        self._due: dict[Supervised, float] = {}  # when each is called at the latest
        self._waker: Waker | None = None
        self._log = Log()
        register_fork(self)

    def watch(self, supervised: Supervised) -> None:
        """Supervise this object from now on.

        Raises:
            OSError: there is no descriptor left.
            RuntimeError: the system lets no more threads start.
        """
        with self._lock:
            waker = self._waker or self._start()
            self._due[supervised] = _NOW
            waker.wake()

    def forget(self, supervised: Supervised) -> None:
        """Undo `watch`. A call of its `supervise` may still be running."""
        with self._lock:
            self._due.pop(supervised, None)
            if self._waker is not None:
                self._waker.wake()

    def wake(self, supervised: Supervised) -> None:
        """Call its `supervise` now, or once more if it is running; does nothing if the object is not watched."""
        with self._lock:
            if supervised in self._due and self._waker is not None:
                self._due[supervised] = _NOW
                self._waker.wake()

    def _after_fork(self) -> None:
        """Begin anew: the thread and all links are the parent's."""
        self._lock, self._due, self._waker = RLock(), {}, None

    def _start(self) -> Waker:
        waker = self._waker = Waker()
        try:
            Thread(target=self._run, args=(waker,), name="eventbus-supervisor", daemon=True).start()
        except BaseException:  # after an interrupt the thread may run all the same: it ends when it gets the lock
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
                due_now = [supervised for supervised, due in self._due.items() if due <= now or supervised in ready]
                self._due.update(dict.fromkeys(due_now, float("inf")))
            for supervised in due_now:
                due = self._supervise(supervised, now)
                filenos[supervised] = set(supervised.filenos()) - {-1}  # the call may have replaced its sockets
                with self._lock:
                    if supervised in self._due:
                        self._due[supervised] = min(self._due[supervised], due)  # another thread may have woken it
            with self._lock:
                filenos = {supervised: filenos.get(supervised, set()) for supervised in self._due}
                due = min(self._due.values(), default=_NOW)
            wanted = {fileno: supervised for supervised, numbers in filenos.items() for fileno in numbers}
            for fileno in owners.keys() - wanted.keys():
                poll.unregister(fileno)
            for fileno in wanted.keys() - owners.keys():
                poll.register(fileno, select.POLLIN)
            owners = wanted
            found = poll.poll(1000 * max(0.0, min(due - monotonic(), _MAX_SLEEP_S)))
            ready = {owners[fileno] for fileno, _ in found if fileno in owners}
            waker.drain()

    def _supervise(self, supervised: Supervised, now: float) -> float:
        try:
            return supervised.supervise(now)
        except Exception as error:
            # A defect of ours. The other links must not suffer from it.
            self._log.exception("supervising %r failed", supervised, error=type(error).__name__)
            return now + _RETRY_S


supervisor = ConnectionSupervisor()
