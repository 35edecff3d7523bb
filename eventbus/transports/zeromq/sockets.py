"""What both sockets of a client share: one ZeroMQ context for the whole process, and how a socket connects."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock, Thread, current_thread, main_thread

import zmq

from eventbus._base.zmq_sockets import Context, Socket, new_socket
from eventbus.options import ZeroMQOptions
from eventbus.transports.zeromq.policy import pause_before_attempt

_MAX_SOCKETS = 65_536  # the default, 1,023, is enough for 250 clients

_TERMINATION_S = 0.1  # what ending libzmq's threads takes when nothing lingers, and some more
_CONNECT_TIMEOUT_MS = 2_000  # of one attempt to connect; without it a lost SYN costs two minutes


class SharedContext:
    """Hands out one `zmq.Context`, which exists while somebody uses it. Any thread may use it.

    When the last client closes, the context is terminated: that flushes what still lingers, and leaves neither a thread nor
    a descriptor behind.
    """

    def __init__(self) -> None:
        self._lock = RLock()  # collecting a forgotten client closes it, wherever a thread happens to be
        self._contexts: list[Context] = []  # one, or none
        self._users = 0
        self._sockets: list[Socket] = []

    @property
    def exists(self) -> bool:
        """Whether somebody uses it at this moment."""
        return bool(self._contexts)

    def acquire(self) -> Context:
        """Return the context, made anew if nobody has it. Each call needs one `release`."""
        with self._lock:
            if not self._contexts:
                context: Context = zmq.Context()
                context.set(zmq.MAX_SOCKETS, _MAX_SOCKETS)
                self._contexts.append(context)
            self._users += 1
            return self._contexts[0]

    def keep(self, socket: Socket) -> None:
        """Let a socket live until somebody closes it, or the context ends.

        A signal handler that raises may leave one behind that nobody knows. Collected, it would be closed, and perhaps
        before the socket that it monitors: libzmq's thread would wait for ever to tell it something.
        """
        with self._lock:
            self._sockets = [other for other in self._sockets if not other.closed]
            self._sockets.append(socket)

    def release(self, timeout: float, *, failed: bool = False) -> None:
        """Give the context back. The last one waits until closed sockets have flushed, but no longer than `timeout` seconds.

        After that they go on until the longest linger of them is over, and the process does not end before. It does if the
        opening has `failed`: there is nothing to flush, and what a signal handler has broken off may never end.
        """
        with self._lock:
            self._users -= 1
            unused = [] if self._users else [self._contexts.pop()]
            sockets = [socket for socket in self._sockets if socket.context in unused]
        for context in unused:
            thread = Thread(target=_terminate, args=(context, sockets), name="eventbus-closing", daemon=failed)
            try:
                thread.start()
            except RuntimeError:  # the interpreter ends, and starts no thread any more
                _terminate(context, sockets)
            else:
                thread.join(timeout + _TERMINATION_S)

    def forget(self) -> None:
        """In a forked child: leave the parent's context alone and begin without one."""
        _inherited.append((self._contexts, self._sockets))
        self._lock, self._contexts, self._users, self._sockets = RLock(), [], 0, []


# What belongs to the parent of a forked process; never collected, for collecting closes.
_inherited: list[tuple[list[Context], list[Socket]]] = []

shared_context = SharedContext()
os.register_at_fork(after_in_child=shared_context.forget)


@contextmanager
def unless_closed(socket: Socket) -> Iterator[None]:
    """Use a socket; that a signal handler has closed it meanwhile is no error."""
    try:
        yield
    except zmq.ZMQError:
        if not socket.closed:
            raise


def _terminate(context: Context, sockets: list[Socket]) -> None:
    """Terminate the context, in a thread that no signal interrupts: pyzmq does not come back to what was interrupted.

    What a failed opening has left behind of these sockets is closed, or it would wait for that for ever.
    """
    if current_thread() is not main_thread():
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    for socket in sockets:
        if not socket.closed:
            socket.disable_monitor()  # before the other end of the monitor is closed
    context.destroy()


def socket_for(
    endpoint: str,
    context: Context,
    kind: int,
    *,
    send_hwm: int,
    receive_hwm: int,
    options: ZeroMQOptions,
    unacknowledged: int,
) -> Socket:
    """Return a new socket with the options of all connections of clients, not connected yet: subscribe first.

    Args:
        endpoint: where it is going to connect to.
        context: the ZeroMQ context.
        kind: the socket type: `zmq.XPUB`, `zmq.SUB`.
        send_hwm: high-water mark of the send queue, in messages; 0: no limit.
        receive_hwm: the same of the receive queue.
        options: how long to wait between attempts to connect, and the keys for CURVE.
        unacknowledged: after how many seconds a connection is given up whose peer acknowledges nothing.
    """
    made = new_socket(context, kind, send_hwm=send_hwm, receive_hwm=receive_hwm, client_keys=options.keys)
    shared_context.keep(made)
    try:
        made.set(zmq.IPV6, "[" in endpoint)  # only for an IPv6 address: else `localhost` would mean ::1 before 127.0.0.1
        # libzmq doubles the interval up to the longest. Its own jitter is the same in every process.
        made.set(zmq.RECONNECT_IVL, max(1, round(1000 * pause_before_attempt(options, 0))))
        made.set(zmq.RECONNECT_IVL_MAX, max(1, round(1000 * pause_before_attempt(options, 30))))
        made.set(zmq.CONNECT_TIMEOUT, _CONNECT_TIMEOUT_MS)
        made.set(zmq.TCP_MAXRT, 1000 * unacknowledged)
    except BaseException:
        made.close(linger=0)
        raise
    return made
