"""Who writes to a NATS server: the link's thread; while that waits, a thread that sends.

A message that a sending thread writes itself leaves one change of threads earlier. If others have come just before, the
link's thread writes, because many together cost less. If very many wait already, the sending thread writes them: then the
two need not take turns.
"""

from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from select import POLLOUT, poll
from threading import RLock, get_ident
from time import monotonic

from eventbus.transports.nats.connection import Connection, ConnectionLost, reason_of
from eventbus.transports.nats.outgoing import Outgoing

# From one write to the next that a sending thread does: if messages come faster, the link's thread writes many at once.
_OWN_INTERVAL_S = 0.0002
_SOON_S = 0.1  # the link's thread needs no waking if it ends to wait by itself until then: it sees what is due
_ROOM_POLL_MS = 50


class Writing:
    """What is written to the connection of a link, by one thread at a time.

    Args:
        take: returns some of what waits; see `Carrier.take`.
        outgoing: the send buffer; the link's thread waits there.
        urgent: what goes before messages, and the link's thread writes.
        fail: called with a connection that is no good any more, and why.
        stalled: called, while the server reads nothing, with the connection and the time; raises ConnectionLost to give up.

    Attributes:
        rest: what has been written in part goes on with this.
        stalled_since: since when a write does not go on; None: none waits.
    """

    def __init__(
        self,
        take: Callable[[], bytes],
        outgoing: Outgoing,
        urgent: Sized,
        fail: Callable[[Connection, str], object],
        stalled: Callable[[Connection, float], object],
    ) -> None:
        self.rest = b""
        self.stalled_since: float | None = None
        self._take = take
        self._outgoing = outgoing
        self._urgent = urgent
        self._fail = fail
        self._stalled = stalled
        # Held by the thread that writes: the link's except while that waits. Reentrant only because such a lock knows whose
        # it is; see `_write_some`.
        self._lock = RLock()
        self._here: dict[int, None] = {}  # the threads that are in `_write_some`
        self._lent: Connection | None = None  # to others, now
        self._written_at = 0.0
        self._due = 0.0  # when the link's thread ends to wait by itself

    # Any thread

    @property
    def is_interrupted(self) -> bool:
        """Whether this is a signal handler in the midst of `write_here`: nothing is written until it returns."""
        return get_ident() in self._here

    def write_here(self) -> None:
        """Write the message that has just come to wait, in the thread that sends it, or have the link's thread do so."""
        now = monotonic()
        if now < self._written_at + _OWN_INTERVAL_S or not self._write_some(now):
            self._outgoing.wake()

    def write_many(self) -> bool:
        """Write what waits in the thread that sends. Returns False if the link's thread is to do so, or to go on."""
        if self._write_some(monotonic()):
            return True
        self._outgoing.wake()
        return False

    def while_idle(self, action: Callable[[], object]) -> bool:
        """Do something that concerns what is written, if nobody writes now and nothing waits; return whether it was done."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            if self._lent is None or not self._outgoing.idle:
                return False
            action()
            return True
        finally:
            self._lock.release()

    # The link's thread

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Let nobody else write, except while this thread is in `wait`. The rest is lost with its connection."""
        with self._lock:
            try:
                yield
            finally:
                self.rest = b""

    def wait(self, connection: Connection, due: float, unless: Callable[[], bool], *, for_messages: bool) -> None:
        """Wait until there is something to do, at the latest until `due`; meanwhile others may write. Within `owned`."""
        self._due = due
        self._lent = None if connection.channel.keeps or not for_messages else connection
        self._lock.release()
        try:
            self._outgoing.wait(None if due == float("inf") else due - monotonic(), for_messages=for_messages, unless=unless)
        finally:
            self._lock.acquire()
            self._lent = None

    def write(self, connection: Connection, data: bytes) -> None:
        """Write all of this; waits as long as the server reads on.

        Raises:
            ConnectionLost: the connection is no good any more.
            OSError: the same.
        """
        self._written_at = monotonic()
        data, self.rest = self.rest + data, b""
        channel = connection.channel
        view, done = memoryview(data), 0
        while done < len(view) or not channel.flush():
            try:
                done += channel.write(view[done:]) if done < len(view) else 0
                if done == len(view) and channel.flush():
                    break
                self.stalled_since = None
            except BlockingIOError:
                pass
            self._await_room(connection)
        self.stalled_since = None

    def _await_room(self, connection: Connection) -> None:
        writable = poll()
        writable.register(connection.channel.fileno(), POLLOUT)
        if not writable.poll(_ROOM_POLL_MS):
            now = monotonic()
            self.stalled_since = self.stalled_since or now
            self._stalled(connection, now)
        elif connection.lost is not None:
            raise ConnectionLost(connection.lost)

    # A thread that sends

    def _write_some(self, now: float) -> bool:
        """Write what waits, if nobody else writes; return whether nothing is left to do for the link's thread."""
        me = get_ident()
        acquired: bool | None = None
        data = b""
        written: list[int] = []
        if me in self._here:
            return False
        try:
            self._here[me] = None
            acquired = self._lock.acquire(blocking=False)
            if not acquired:
                return False
            connection = self._lent
            # After a rest, too: the link's thread, which is to write it, may not have come to do so yet.
            if connection is None or self._urgent or self.rest:
                return False
            data = self.rest = self._take()
            self._written_at = now
            if not data:
                return False
            try:
                written.extend(connection.channel.writing(data))
            except BlockingIOError:
                pass
            except OSError as error:
                self._fail(connection, reason_of(error))
            return bool(written) and written[0] == len(data) and self._due <= now + _SOON_S
        except BaseException:  # a signal handler has raised: the link's thread does the rest
            self._outgoing.wake()
            raise
        finally:
            # None may come before the release, because there is no call; one may have raised when the lock was acquired.
            if written:  # what is left of it is the link's thread's, also if a signal handler has raised
                self.rest = data[written[0] :]
            del self._here[me]
            if acquired is not False:
                try:  # noqa: SIM105 # suppress() would be such a moment
                    self._lock.release()
                except RuntimeError:  # it is not held
                    pass
