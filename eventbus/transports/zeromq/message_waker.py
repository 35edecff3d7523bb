"""Waking a thread that waits in `recv`, by a message."""

import uuid
from collections.abc import Callable
from contextlib import suppress
from threading import RLock

import zmq

from eventbus._base.zmq_sockets import Context, Socket, new_socket
from eventbus.transports.zeromq.context import shared_context, unless_closed
from eventbus.wire.frames import PRIVATE

# Plain integers: pyzmq's enums cost a conversion in each call, in which a signal handler may run.
_NOWAIT = int(zmq.DONTWAIT)
_MORE = int(zmq.DONTWAIT | zmq.SNDMORE)


class MessageWaker:
    """Sends a message to an XSUB socket over a connection inside the process.

    A thread that blocks in `recv` needs no poll: it gets an event some 3 µs earlier than one that polls a socket and a
    descriptor and receives then. The connection has a subscription that the proxy never sees: it is made before the proxy is
    connected, and taken back at once, and this end, an XPUB that manages subscriptions by hand, ignores that. An XSUB, other
    than a SUB, passes on what it does not subscribe to.

    At most one message is under way, so nothing piles up when nobody receives.

    Attributes:
        pending: whether a message is under way; it is true before the message can be received.
    """

    def __init__(self, context: Context) -> None:
        self.pending = False
        self._begun = False  # whether the socket was given the first of the message's two frames alone
        self._token = PRIVATE + uuid.uuid4().bytes
        self._endpoint = f"inproc://{uuid.uuid4()}"
        self._lock = RLock()  # reentrant, because a signal handler may wake the thread that its own thread is waking
        self._socket = new_socket(context, zmq.XPUB, linger=0)
        shared_context.keep_alive(self._socket)
        try:
            self._socket.set(zmq.XPUB_MANUAL, 1)
            self._socket.bind(self._endpoint)
        except BaseException:
            self._socket.close(linger=0)
            raise
        # The method in C, which no signal handler can interrupt before it has begun.
        self._send: Callable[[bytes, int], object] = super(zmq.Socket, self._socket).send

    def connect(self, receiver: Socket) -> None:
        """Connect a new XSUB socket; nothing else may be connected to it yet. Messages to an earlier one are forgotten.

        Raises:
            zmq.ZMQError: the context has no room.
        """
        with self._lock:
            if self._socket.closed:
                return
            if self._begun:  # to an earlier one
                self._begun = False
                self._send(b"", _NOWAIT)
            receiver.connect(self._endpoint)
            receiver.send(b"\x01" + self._token)
            while self._socket.recv() != b"\x01" + self._token:
                pass  # what the earlier socket has subscribed to
            self._socket.set(zmq.SUBSCRIBE, self._token)  # for the connection from which the last one came
            receiver.send(b"\x00" + self._token)
            self.pending = False

    def wake(self) -> None:
        """Make the thread that waits in `recv`, or does so next, receive the message. Any thread may call it."""
        with self._lock, unless_closed(self._socket):
            self._drain()
            if self.pending:
                return
            # A signal handler may come after either call, and wake the thread, too. It must find noted what was sent: if it
            # took a message for sent that is not, it could wait for the thread without end.
            if not self._begun:
                self._begun = True
                self._send(self._token, _MORE)
            if self._begun:
                self._begun, self.pending = False, True
                self._send(b"", _NOWAIT)

    def remove_from(self, frames: list[bytes]) -> bool:
        """Remove the message from these frames, if it is there. Call it whenever `pending` and frames were received."""
        if self._token not in frames:
            return False
        index = frames.index(self._token)
        del frames[index : index + 2]
        self.pending = False
        return True

    def process_commands(self) -> None:
        """Let libzmq do what it leaves to the thread that uses a socket: a socket that was connected ends only then."""
        with self._lock, unless_closed(self._socket):
            self._drain()

    def _drain(self) -> None:
        """Read away subscriptions, which this end does not need."""
        with suppress(zmq.Again):
            while True:
                self._socket.recv(_NOWAIT)

    def close(self) -> None:
        """Close this end. Idempotent."""
        with self._lock:
            self._socket.close(linger=0)
