"""The historian within a proxy: a thread that keeps what the proxy passes on and answers queries, over sockets in memory.

The messages cross no network, so a publisher or subscriber hardly notices.
"""

import signal
import uuid
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from time import sleep
from typing import cast

import zmq

from eventbus._base.log import Log
from eventbus._base.zmq_sockets import Context, Socket, new_socket
from eventbus.history.server import HistoryServer
from eventbus.wire.frames import Batch, Prefixes, messages
from eventbus.wire.history import Kept

# Plain integers: pyzmq's enums cost a conversion in each call.
_NOWAIT = int(zmq.DONTWAIT)
_MORE = int(zmq.DONTWAIT | zmq.SNDMORE)
_MORE_FRAMES = int(zmq.RCVMORE)
_FLAGS = [_NOWAIT] * 2 * 512  # one for each frame of the longest batch
_QUEUE_MESSAGES = 100_000  # that wait to be kept; more than these are dropped
# A batch costs as much processor time as many messages. After one that is neither tiny nor large, wait a moment for more: on
# a busy machine the path of events pays for this thread.
_FEW, _MANY, _GATHERING_S = 4, 256, 0.001
_EVERYTHING = Prefixes([b""])


class Recording:
    """Feeds a `HistoryServer` with what one run of a proxy passes on, from its creation to `stop`.

    Native forwarding takes it for a subscriber to everything, and for a publisher of answers. An `Enforcer` hands messages
    over itself, because it knows its peers by their keys: by `record`, and answers come out of `answers`.

    Args:
        context: that of the proxy's sockets.
        frontend: the proxy's socket for publishers.
        backend: the proxy's socket for subscribers.
        server: keeps and answers; nobody else uses it meanwhile.
        enforced: whether an `Enforcer` passes messages on.

    Attributes:
        answers: a socket from which the enforcer takes answers of two frames; None for native forwarding.
        dropped: how many messages were not handed over, because too many waited.
        taken: how many messages have come.
    """

    def __init__(
        self, context: Context, frontend: Socket, backend: Socket, server: HistoryServer, *, enforced: bool
    ) -> None:
        self._server = server
        self._log = Log()
        self.dropped = 0
        self.taken = 0
        self.answers: Socket | None = None
        self._handing_over: Socket | None = None
        self._control, self._commands = _pair(context, zmq.PAIR, zmq.PAIR)
        if enforced:
            self._handing_over, self._incoming = _pair(context, zmq.PUSH, zmq.PULL, _QUEUE_MESSAGES)
            self.answers, self._outgoing = _pair(context, zmq.PULL, zmq.PUSH)
        else:
            self._incoming = new_socket(context, zmq.SUB, receive_hwm=_QUEUE_MESSAGES, linger=0)
            self._incoming.subscribe(b"")
            _join(backend, self._incoming)
            self._outgoing = new_socket(context, zmq.XPUB, linger=0)
            _join(frontend, self._outgoing)
        self._receive = cast(Callable[[int], bytes], super(zmq.Socket, self._incoming).recv)
        self._thread = Thread(target=self._run, name="eventbus-proxy-history", daemon=True)
        self._thread.start()

    def kept(self, passed: int) -> Kept:
        """What the history has, after this many messages have passed. Any thread may ask."""
        return self._server.kept._replace(behind=max(0, passed - self.taken))

    def record(self, first: bytes, payload: bytes) -> None:
        """Hand a message over; for the enforcer's thread only."""
        assert self._handing_over is not None
        try:
            self._handing_over.send(first, _MORE)
            self._handing_over.send(payload, _NOWAIT)
        except zmq.Again:
            self.dropped += 1

    def stop(self) -> None:
        """Keep what has been handed over, and stop; returns when the thread has ended."""
        if self._thread.is_alive():
            with suppress(zmq.Again):  # it has ended at this very moment
                self._control.send(b"", _NOWAIT)
        self._thread.join()
        for socket in (self._control, self._handing_over, self.answers):
            if socket is not None:
                socket.close(linger=0)

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        poller = zmq.Poller()
        poller.register(self._incoming, zmq.POLLIN)
        poller.register(self._commands, zmq.POLLIN)
        is_publisher = self._handing_over is None
        if is_publisher:
            poller.register(self._outgoing, zmq.POLLIN)
        try:
            while True:
                ready = dict(poller.poll())
                if self._outgoing in ready:
                    self._read_subscriptions()
                if self._incoming in ready:
                    batch = self._read()
                    self._take(batch)
                    if _FEW < len(batch[0]) < _MANY:
                        sleep(_GATHERING_S)
                elif self._commands in ready:  # nothing is left
                    return
        except Exception as error:
            self._log.exception("the history of the proxy has ended", error=type(error).__name__)
        finally:
            for socket in (self._incoming, self._outgoing, self._commands):
                socket.close(linger=0)

    def _read(self) -> Batch:
        """Read a batch, asking only for the last message where it ends."""
        frames: list[bytes] = []
        with suppress(zmq.Again):
            frames.extend(map(self._receive, _FLAGS))
            while self._incoming.get(_MORE_FRAMES):
                frames.append(self._receive(_NOWAIT))
        batch, _ = messages(frames, _EVERYTHING)
        return batch

    def _take(self, batch: Batch) -> None:
        self.taken += len(batch[0])
        for message in self._server.take(*batch):
            if self._handing_over is None:
                self._read_subscriptions()  # else the socket might not know yet who has asked, and drop the answer
            self._outgoing.send(message.first, zmq.SNDMORE)
            self._outgoing.send(message.payload)

    def _read_subscriptions(self) -> None:
        with suppress(zmq.Again):
            while True:
                self._outgoing.recv(_NOWAIT)


def _pair(context: Context, one: int, other: int, limit: int = 0) -> tuple[Socket, Socket]:
    """Two sockets that are connected; the first one's kind binds."""
    address = f"inproc://eventbus-history-{uuid.uuid4().hex}"
    made = [new_socket(context, kind, send_hwm=limit, receive_hwm=limit, linger=0) for kind in (one, other)]
    made[0].bind(address)
    made[1].connect(address)
    return made[0], made[1]


def _join(bound: Socket, other: Socket) -> None:
    address = f"inproc://eventbus-history-{uuid.uuid4().hex}"
    bound.bind(address)
    other.connect(address)
