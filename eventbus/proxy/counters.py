"""Counting the connections to a proxy's two ports, from libzmq's monitor events, in a thread.

libzmq's queue of events has no limit, and a limit would block the proxy with all its messages while the queue is full. So a
thread reads all the time, which costs nothing while no client connects or disconnects.
"""

import uuid
from collections import Counter
from itertools import islice
from threading import Lock, Thread
from time import monotonic

import zmq

from eventbus._base.zmq_monitor import events_of, monitor
from eventbus._base.zmq_sockets import Context, Socket, new_socket
from eventbus.proxy.guard import HANDSHAKES_END_S, ConnectionGuard
from eventbus.proxy.health import Connections, HandshakeFailures
from eventbus.proxy.refusals import Refusals
from eventbus.wire.frames import PRIVATE

_ACCEPTED, _DISCONNECTED = int(zmq.EVENT_ACCEPTED), int(zmq.EVENT_DISCONNECTED)
_SUCCEEDED = int(zmq.EVENT_HANDSHAKE_SUCCEEDED)
_NO_DETAIL = int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)
_PROTOCOL = int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
_AUTH = int(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
_STOPPED = int(zmq.EVENT_MONITOR_STOPPED)
_LISTENING = int(zmq.EVENT_LISTENING)
_ALL = _LISTENING | _ACCEPTED | _DISCONNECTED | _SUCCEEDED | _NO_DETAIL | _PROTOCOL | _AUTH | _STOPPED

_PUBLISHERS = 0  # the index of their port
_NOWAIT = int(zmq.DONTWAIT)
_CLOSING_MS = 1  # libzmq closes a connection after it has told its end
_BATCH_EVENTS = 256  # events of one socket before those of another
_SUBSCRIBE, _UNSUBSCRIBE = b"\x01", b"\x00"


class Port:
    """The connections to one port and how their handshakes ended, from monitor events. One thread at a time.

    libzmq reports no failure when a peer's greeting is not ZeroMQ's, such as a browser's. The number of those is that of
    accepted connections, minus succeeded and reported failed handshakes, minus handshakes that may still be under way. It
    is a lower bound at any time, and exact when no connection has come for six seconds.
    """

    def __init__(self) -> None:
        self._open: dict[int, float] = {}  # when each descriptor was accepted; the newest is the last
        # Ends that were reported before their beginnings, because two threads of libzmq report.
        self._ended: Counter[int] = Counter()
        self._counts: Counter[int] = Counter()
        self._unreported = 0

    @property
    def open(self) -> int:
        """The number of open connections."""
        return len(self._open)

    @property
    def opened(self) -> dict[int, float]:
        """The time at which each open connection was accepted, by its descriptor; the newest is the last."""
        return self._open

    def note(self, event: int, value: int, now: float) -> None:
        """Count an event.

        Args:
            event: the kind of event, a number of libzmq.
            value: the connection's descriptor, if the kind has one.
            now: the time, in seconds.
        """
        self._counts[event] += 1
        if event == _ACCEPTED:
            if self._ended[value]:
                self._ended[value] -= 1
            else:
                self._open[value] = now
        elif event == _DISCONNECTED:
            if self._open.pop(value, None) is None:
                self._ended[value] += 1
        elif event == _STOPPED:
            self.failures(now)
            self._open.clear()
            self._counts[_SUCCEEDED] = self._counts[_ACCEPTED]  # what was open has not failed

    def failures(self, now: float) -> HandshakeFailures:
        """Return how many handshakes have failed; never fewer than before."""
        counts = self._counts
        reported = counts[_NO_DETAIL] + counts[_PROTOCOL] + counts[_AUTH]
        under_way = 0
        for accepted in reversed(self._open.values()):
            if now - accepted > HANDSHAKES_END_S:
                break
            under_way += 1
        self._unreported = max(self._unreported, counts[_ACCEPTED] - counts[_SUCCEEDED] - reported - under_way)
        return HandshakeFailures(counts[_NO_DETAIL], counts[_PROTOCOL] + self._unreported, counts[_AUTH])


class ConnectionCounter:
    """Counts connections, failed handshakes and subscriptions, from its creation to `end`. Any thread may read the counts.

    Args:
        context: the context of both sockets.
        frontend: the proxy's socket for publishers. The caller owns both sockets, and has not bound them yet.
        backend: the proxy's socket for subscribers.
        guard: limits connections; this thread reports new ones and subscriptions to it, and lets it check all several times
            a second.
        subscriptions: whether to count the subscriptions that the proxy sends to publishers.
        encrypted: whether the sockets use CURVE.
    """

    def __init__(
        self,
        context: Context,
        frontend: Socket,
        backend: Socket,
        guard: ConnectionGuard,
        *,
        subscriptions: bool,
        encrypted: bool = False,
    ) -> None:
        self._guard = guard
        self._lock = Lock()  # guards the ports
        self._ports = Port(), Port()
        self._refusals = Refusals(encrypted=encrypted)
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
        """The open connections to each port."""
        with self._lock:
            return Connections(*(port.open for port in self._ports))

    @property
    def handshake_failures(self) -> HandshakeFailures:
        """The number of failed handshakes, at both ports."""
        with self._lock:
            now = monotonic()
            publishers, subscribers = (port.failures(now) for port in self._ports)
            return publishers + subscribers

    @property
    def subscriptions(self) -> int:
        """The number of different subscriptions that publishers know of now, without tokens."""
        return len(self._subscribed)

    def end(self) -> None:
        """Stop counting; returns when the thread has ended. The caller closes both sockets after this."""
        self._stop_monitors()
        self._thread.join()

    def _stop_monitors(self) -> None:
        # Before the listening sockets are closed: libzmq would wait without end to send an event to a closed one.
        for socket in self._monitored:
            socket.disable_monitor()

    def _close(self) -> None:
        for socket in (*self._monitors, *self._upstream):
            socket.close(linger=0)
        self._refusals.close()

    def _run(self) -> None:
        poller = zmq.Poller()
        for socket in (*self._monitors, *self._upstream):
            poller.register(socket, zmq.POLLIN)
        running = len(self._monitors)
        check_due = monotonic()
        while running:
            timeout = max(0, round(1000 * (check_due - monotonic())))
            ready = dict(poller.poll(min(timeout, _CLOSING_MS) if self._refusals.is_waiting else timeout))
            for index, socket in enumerate(self._monitors):
                if socket in ready:
                    running -= self._note_events(index, socket)
            for connection in self._refusals.refused():
                self._guard.refused(connection)
            for socket in self._upstream:
                if socket in ready:
                    self._follow_subscriptions(socket)
            if monotonic() >= check_due:
                check_due = monotonic() + self._guard.interval_s
                self._guard.check(self._opened, monotonic())
        self._subscribed.clear()
        self._close()

    def _note_events(self, index: int, socket: Socket) -> bool:
        """Count the waiting events of a port; return whether that was the last one."""
        accepted = []
        opened = self._ports[index].opened
        with self._lock:
            for event, value in islice(events_of(socket), _BATCH_EVENTS):
                self._ports[index].note(event, value, monotonic())
                if event == _STOPPED:
                    return True
                if event == _LISTENING:
                    self._guard.listens(value)
                elif event == _ACCEPTED:
                    accepted.append(value)
                if index == _PUBLISHERS:
                    self._watch(event, value, is_open=value in opened)
        for descriptor in accepted:
            self._guard.accepted(index, descriptor, self._opened, monotonic())
        return False

    def _watch(self, event: int, descriptor: int, *, is_open: bool) -> None:
        if event == _LISTENING:
            self._refusals.listens(descriptor)
        elif event == _ACCEPTED and is_open:  # an end may be reported before its beginning
            self._refusals.opened(descriptor)
        elif event == _DISCONNECTED:
            self._refusals.ended(descriptor)

    @property
    def _opened(self) -> tuple[dict[int, float], dict[int, float]]:
        publishers, subscribers = self._ports
        return publishers.opened, subscribers.opened

    def _follow_subscriptions(self, socket: Socket) -> None:
        try:
            for _ in range(_BATCH_EVENTS):
                frame = socket.recv(_NOWAIT)
                action, topic = frame[:1], frame[1:]
                if action == _SUBSCRIBE:
                    self._guard.subscribed()
                    if not topic.startswith(PRIVATE):
                        self._subscribed.add(topic)
                elif action == _UNSUBSCRIBE:
                    self._guard.unsubscribed()
                    self._subscribed.discard(topic)
        except zmq.Again:
            pass


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
