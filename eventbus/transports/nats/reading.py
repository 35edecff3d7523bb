"""Who reads a connection: the thread that receives messages while it waits for some, else one of the connection's own."""

from collections.abc import Callable
from contextlib import suppress
from select import POLLIN, poll
from threading import Lock
from time import monotonic
from typing import Protocol

from eventbus._base.waker import Waker

# Between two looks of the reader's thread whether the receiver has kept up: if not, it reads from then on. Until then a
# server keeps what comes, and answers come late.
_LOOK_S = 0.02
_BUSY_S = 1.0  # for which the reader's thread goes on then: it reads while the receiver decodes
_LOOKS_BEFORE_SLEEP = 50  # while nothing comes
_GATHER_S = 0.002


class Awaited(Protocol):
    """What a receiver waits for.

    Attributes:
        interrupt: called, if there is something, when `is_due` becomes true; by whichever thread makes it so.
    """

    interrupt: Callable[[], object] | None

    @property
    def is_due(self) -> bool:
        """Whether there is no more need to wait."""


class Reading:
    """The reading of one connection. A message that the receiver reads itself comes one change of threads earlier.

    The receiver reads while it waits in `receive`. If it has not waited for a while, because it is handling messages or more
    come than it can handle, the reader's thread reads; and does until the receiver waits again.

    Args:
        read: reads what is there, without waiting, and hands it on; raises BlockingIOError if there is nothing. It may
            raise anything else.
        descriptor: what it reads from.
        fail: called with what `read` has raised, from the thread that reads. It calls `end`.
        gathers: whether the reader's thread, when something has come, is to wait 2 ms for more: each time that it runs takes
            more from others than what it reads, such as from a thread that sends all the time.

    Raises:
        OSError: the process may open no more descriptors.
    """

    def __init__(
        self,
        read: Callable[[], object],
        descriptor: int,
        fail: Callable[[Exception], object],
        gathers: Callable[[], bool] = lambda: False,
    ) -> None:
        self._read = read
        self._fail = fail
        self._gathers = gathers
        self._descriptor = descriptor
        self._waker = Waker()
        # Only the receiver is woken: two threads that wait for one waker could take it from each other.
        self._readers_poll, self._receivers_poll = poll(), poll()
        self._readers_poll.register(descriptor, POLLIN)
        self._receivers_poll.register(descriptor, POLLIN)
        self._receivers_poll.register(self._waker, POLLIN)
        self._reading = Lock()  # held while bytes are read and handed on, never while waiting for some
        self._receiving = Lock()  # held by the receiver while it is here
        self._lent = False  # whether the receiver reads
        self._waits = 0  # how often the receiver has waited, because it had read everything
        self._is_waiting = False
        self._needed = False  # whether the reader's thread is to read at once
        self._sleeps = False  # whether the reader's thread looks at nothing until it is called
        self._is_gathering = False
        self._calls = Lock()
        self._calls.acquire()
        self._ended = False
        self._busy_until = 0.0

    # Any thread

    def end(self) -> None:
        """Let everybody stop reading. The reader's thread waits for bytes, so shut the connection as well."""
        self._ended = True
        self._waker.wake()
        self._call()

    def need(self) -> None:
        """An answer is awaited: read at once, if the receiver does not wait."""
        if self._lent and not self._is_waiting:
            self._needed = True
            self._call()

    def hurry(self) -> None:
        """Somebody is kept waiting now: gather no longer."""
        if self._is_gathering:
            self._call()

    def close(self) -> None:
        """Return when the receiver has left. After `end`."""
        with self._receiving:
            self._waker.close()

    def abandon(self) -> None:
        """Close the descriptors in a forked child."""
        self._waker.close()

    # The receiver's thread

    def await_(self, awaited: Awaited) -> None:
        """Read until what is awaited is there, or the connection has ended; not if this thread has not kept up lately.

        Not for the main thread: a signal handler that closes the connection waits for what this thread would read.
        """
        if monotonic() < self._busy_until:
            return
        with self._receiving:
            with self._reading:
                self._lent = True
            while not (awaited.is_due or self._ended):
                while not self._read_now():
                    if not self._wait_for(awaited):
                        break

    def _wait_for(self, awaited: Awaited) -> bool:
        """Wait until there are bytes, or what is awaited; return whether there are only bytes."""
        self._waits += 1
        awaited.interrupt = self._waker.wake
        self._is_waiting = True
        only_bytes = False
        # Asked again: it may have become true before there was something to be called.
        if not (awaited.is_due or self._ended):
            ready = self._receivers_poll.poll()
            only_bytes = len(ready) == 1 and ready[0][0] == self._descriptor
            if not only_bytes:
                self._waker.drain()
        self._is_waiting = False
        awaited.interrupt = None
        if self._sleeps:
            self._call()
        return only_bytes

    # The reader's thread

    def run(self) -> None:
        """Read until the connection has ended, except while the receiver does."""
        while not self._ended:
            if self._lent:
                self._await_absence()
            elif not self._read_now(unless_lent=True):
                self._readers_poll.poll()
                if self._gathers():
                    self._is_gathering = True
                    self._calls.acquire(timeout=_GATHER_S)
                    self._is_gathering = False

    def _await_absence(self) -> None:
        """Wait until the receiver has not kept up for a while, or is away and somebody needs an answer."""
        seen, looks = -1, 0
        while not (self._ended or self._needed):
            if seen == self._waits and not self._is_waiting:
                self._busy_until = monotonic() + _BUSY_S
                break
            looks = looks + 1 if seen == self._waits else 0
            seen = self._waits
            self._sleeps = looks >= _LOOKS_BEFORE_SLEEP
            # Looked at again, because the receiver looks at `_sleeps` when it has waited.
            if self._sleeps and self._is_waiting and seen == self._waits:
                called = self._calls.acquire()
            else:
                called = self._calls.acquire(timeout=_LOOK_S)
            self._sleeps = False
            if called:  # perhaps the receiver has just stopped waiting: that is no absence yet
                seen = -1
        with self._reading:
            self._needed = False
            self._lent = False

    # Both

    def _read_now(self, *, unless_lent: bool = False) -> bool:
        """Read what is there; False if there is nothing."""
        try:
            with self._reading:
                if not (unless_lent and self._lent):
                    self._read()
            return True
        except BlockingIOError:
            return False
        except Exception as error:
            self._fail(error)
            return True

    def _call(self) -> None:
        """Let the reader's thread look at once, now or the next time."""
        with suppress(RuntimeError):  # it is about to
            self._calls.release()
