"""Who is connected to a proxy's two ports: what libzmq tells of its sockets, counted in a thread.

libzmq queues what it tells without a limit, and a bounded queue would make it wait, with all messages of the proxy. So
somebody must read all the time, which costs nothing as long as nobody comes or goes.
"""

import uuid
from collections import Counter
from itertools import islice
from threading import Lock, Thread
from time import monotonic

import zmq

from eventbus._base.zmq_monitor import events_of, monitor
from eventbus._base.zmq_sockets import Context, Socket, new_socket
from eventbus.proxy.health import Connections, HandshakeFailures
from eventbus.wire.frames import PRIVATE

_ACCEPTED, _ENDED = int(zmq.EVENT_ACCEPTED), int(zmq.EVENT_DISCONNECTED)
_THROUGH = int(zmq.EVENT_HANDSHAKE_SUCCEEDED)
_NO_DETAIL = int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)
_PROTOCOL = int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
_AUTH = int(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
_STOPPED = int(zmq.EVENT_MONITOR_STOPPED)
_ALL = _ACCEPTED | _ENDED | _THROUGH | _NO_DETAIL | _PROTOCOL | _AUTH | _STOPPED

_NOWAIT = int(zmq.DONTWAIT)
_BATCH = 256  # events of one socket before those of another
_HANDSHAKE = 6.0  # seconds, in which every handshake has come to an end: proxies give it five
_SUBSCRIBE, _UNSUBSCRIBE = 1, 0


class Port:
    """What has become of the connections to one port, from the events that tell of it. One thread at a time.

    Some handshakes fail without a word: with a peer that greets as no ZeroMQ does, such as a browser. Those are what was
    accepted and has neither got through nor failed, but for what may still be in the midst of its handshake. So much of it
    as is sure counts at once, and all when nobody has come for six seconds.
    """

    def __init__(self) -> None:
        self._open: dict[int, float] = {}  # descriptors, and when they were accepted; the newest are the last
        self._ended: Counter[int] = Counter()  # before it was told that they were accepted: two threads of libzmq tell
        self._counts: Counter[int] = Counter()
        self._silent = 0

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self._open)

    def note(self, event: int, value: int, now: float) -> None:
        """Take in an event.

        Args:
            event: which.
            value: the connection's descriptor, of those that have one.
            now: in seconds.
        """
        self._counts[event] += 1
        if event == _ACCEPTED:
            if self._ended[value]:
                self._ended[value] -= 1
            else:
                self._open[value] = now
        elif event == _ENDED:
            if self._open.pop(value, None) is None:
                self._ended[value] += 1
        elif event == _STOPPED:
            self.failures(now)
            self._open.clear()
            self._counts[_THROUGH] = self._counts[_ACCEPTED]  # nobody knows of those that were open: they have not failed

    def failures(self, now: float) -> HandshakeFailures:
        """How many handshakes have failed; never less than the last time."""
        counts = self._counts
        told = counts[_NO_DETAIL] + counts[_PROTOCOL] + counts[_AUTH]
        undecided = 0
        for accepted in reversed(self._open.values()):
            if now - accepted > _HANDSHAKE:
                break
            undecided += 1
        self._silent = max(self._silent, counts[_ACCEPTED] - counts[_THROUGH] - told - undecided)
        return HandshakeFailures(counts[_NO_DETAIL], counts[_PROTOCOL] + self._silent, counts[_AUTH])


class ConnectionCounter:
    """Counts connections, failed handshakes and subscriptions, from its creation to `end`. Any thread may ask.

    Args:
        context: of both sockets.
        frontend: the proxy's socket for publishers. The caller owns both, and has not bound them yet.
        backend: that for subscribers.
        subscriptions: whether to count those that publishers are told.
    """

    def __init__(self, context: Context, frontend: Socket, backend: Socket, *, subscriptions: bool) -> None:
        self._lock = Lock()  # guards the ports
        self._ports = Port(), Port()
        self._subscribed: set[bytes] = set()
        self._monitored = frontend, backend
        self._monitors: list[Socket] = []
        self._upstream: list[Socket] = []  # one, or none
        try:
            for socket in self._monitored:
                self._monitors.append(monitor(context, socket, _ALL))
            if subscriptions:
                self._upstream.append(_upstream_end(context, frontend))
            self._thread = Thread(target=self._run, name="eventbus-proxy-counter", daemon=True)
            self._thread.start()
        except BaseException:
            self._stop_monitors()
            self._close()
            raise

    @property
    def connections(self) -> Connections:
        """Those that are open."""
        with self._lock:
            return Connections(*(port.open for port in self._ports))

    @property
    def handshake_failures(self) -> HandshakeFailures:
        """How many there were at both ports."""
        with self._lock:
            now = monotonic()
            publishers, subscribers = (port.failures(now) for port in self._ports)
            return publishers + subscribers

    @property
    def subscriptions(self) -> int:
        """How many different ones publishers know of at this moment, without tokens."""
        return len(self._subscribed)

    def end(self) -> None:
        """Count no more; returns when its thread has ended. The caller owns both sockets, and closes them after this."""
        self._stop_monitors()
        self._thread.join()

    def _stop_monitors(self) -> None:
        # Before those are closed that listen: libzmq would wait for ever to tell somebody who is not there.
        for socket in self._monitored:
            socket.disable_monitor()

    def _close(self) -> None:
        for socket in (*self._monitors, *self._upstream):
            socket.close(linger=0)

    def _run(self) -> None:
        poller = zmq.Poller()
        for socket in (*self._monitors, *self._upstream):
            poller.register(socket, zmq.POLLIN)
        running = len(self._monitors)
        while running:
            ready = dict(poller.poll())
            for port, socket in zip(self._ports, self._monitors, strict=True):
                if socket in ready:
                    with self._lock:
                        running -= _follow(port, socket)
            for socket in self._upstream:
                if socket in ready:
                    self._follow_subscriptions(socket)
        self._subscribed.clear()
        self._close()

    def _follow_subscriptions(self, socket: Socket) -> None:
        try:
            for _ in range(_BATCH):
                frame = socket.recv(_NOWAIT)
                topic = frame[1:]
                if topic.startswith(PRIVATE) or not frame:
                    continue
                if frame[0] == _SUBSCRIBE:
                    self._subscribed.add(topic)
                elif frame[0] == _UNSUBSCRIBE:
                    self._subscribed.discard(topic)
        except zmq.Again:
            pass


def _follow(port: Port, socket: Socket) -> bool:
    """Take in what has happened at a port; whether that was the last of it."""
    for event, value in islice(events_of(socket), _BATCH):
        port.note(event, value, monotonic())
        if event == _STOPPED:
            return True
    return False


def _upstream_end(context: Context, frontend: Socket) -> Socket:
    """A publisher that never sends: the proxy tells it of subscriptions as it tells all publishers."""
    address = f"inproc://eventbus-upstream-{uuid.uuid4().hex}"
    made = new_socket(context, zmq.XPUB)
    try:
        frontend.bind(address)
        made.connect(address)
    except BaseException:
        made.close(linger=0)
        raise
    return made
