"""The ZeroMQ context that all clients of a process share."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock, Thread, current_thread, main_thread
from weakref import WeakSet

import zmq

from eventbus._base.forks import register_fork
from eventbus._base.zmq_sockets import Context, Socket

_MAX_SOCKETS = 65_536  # the default, 1,023, is enough for 250 clients

_TERMINATION_S = 0.1  # what ending libzmq's threads takes when nothing lingers, and some more


class Use:
    """The use of the context by one link, until `SharedContext.release`, or until nobody refers to this any more.

    Attributes:
        context: the context.
    """

    def __init__(self, context: Context) -> None:
        self.context = context


class SharedContext:
    """Hands out one `zmq.Context`, which exists as long as it has users. Any thread may use it.

    When the last client closes, the context is terminated: closed sockets flush what they still have, and no thread and no
    descriptor is left.
    """

    def __init__(self) -> None:
        self._lock = RLock()  # reentrant: any thread may collect a forgotten client, which closes it
        self._contexts: list[Context] = []  # one, or none
        self._uses: WeakSet[Use] = WeakSet()  # an exception from a signal handler may let one be forgotten
        self._sockets: list[Socket] = []

    @property
    def exists(self) -> bool:
        """Whether it has users at this moment."""
        return bool(self._contexts)

    def acquire(self) -> Use:
        """Use the context; the first user makes it. Each use needs one `release`."""
        with self._lock:
            if not self._contexts:
                context: Context = zmq.Context()
                context.set(zmq.MAX_SOCKETS, _MAX_SOCKETS)
                self._contexts.append(context)
            use = Use(self._contexts[0])
            self._uses.add(use)
            return use

    def keep_alive(self, socket: Socket) -> None:
        """Keep a reference to a socket until it is closed or the context ends.

        An exception from a signal handler may cut a socket off from its owner. The garbage collector would close it then,
        perhaps before the socket that it monitors, and libzmq's thread would wait without end to send it an event.
        """
        with self._lock:
            self._sockets = [other for other in self._sockets if not other.closed]
            self._sockets.append(socket)

    def release(self, use: Use, timeout: float, *, failed: bool = False) -> None:
        """Give the context back, once. The last user waits until closed sockets have flushed, for up to `timeout` seconds.

        After that they go on flushing until the longest linger of them is over, and the process does not end before. It does
        if the opening has `failed`: there is nothing to flush, and what a signal handler has interrupted may never end.
        """
        with self._lock:
            if use not in self._uses:
                return
            self._uses.discard(use)
            unused = [] if self._uses else [self._contexts.pop()]
            sockets = [socket for socket in self._sockets if socket.context in unused]
        for context in unused:
            thread = Thread(target=_terminate, args=(context, sockets), name="eventbus-closing", daemon=failed)
            try:
                thread.start()
            except RuntimeError:  # the interpreter shuts down and starts no more threads
                _terminate(context, sockets)
            else:
                thread.join(timeout + _TERMINATION_S)

    def _after_fork(self) -> None:
        """Leave the parent's context alone, and begin without one."""
        _inherited.append((self._contexts, self._sockets))
        self._lock, self._contexts, self._uses, self._sockets = RLock(), [], WeakSet(), []


# In a forked child: what belongs to the parent. Never collected, because collecting closes.
_inherited: list[tuple[list[Context], list[Socket]]] = []

shared_context = SharedContext()
register_fork(shared_context)


@contextmanager
def unless_closed(socket: Socket) -> Iterator[None]:
    """Use a socket, and ignore that a signal handler closes it meanwhile."""
    try:
        yield
    except zmq.ZMQError:
        if not socket.closed:
            raise


def _terminate(context: Context, sockets: list[Socket]) -> None:
    """Terminate the context, in a thread that no signal interrupts: pyzmq does not resume an interrupted termination.

    Sockets that a failed opening has left open are closed first, because terminating would wait for them without end.
    """
    if current_thread() is not main_thread():
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    for socket in sockets:
        if not socket.closed:
            socket.disable_monitor()  # before the other end of the monitor is closed
    context.destroy()
