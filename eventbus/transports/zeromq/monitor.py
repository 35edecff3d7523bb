"""The status of a socket's connection, as libzmq's socket monitor reports it."""

from threading import RLock
from typing import cast

import zmq

from eventbus._base.zmq_monitor import events_of, monitor
from eventbus._base.zmq_sockets import Context, Socket
from eventbus.transports.zeromq.context import shared_context, unless_closed
from eventbus.transports.zeromq.policy import ConnectionStatus

_UP = int(zmq.EVENT_HANDSHAKE_SUCCEEDED)
_RETRIED = int(zmq.EVENT_CONNECT_RETRIED)
_REFUSED = int(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
_BROKEN_OFF = int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
_DOWN = int(zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED)


class Monitor:
    """Follows one connection through all the sockets that are attached one after the other. Any thread may use it.

    libzmq queues events without a limit, and they are read only in `status`: they are as rare as connections are.

    Attributes:
        lock: held by each method.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self.lock = RLock()
        self._status = ConnectionStatus()
        self._monitored: Socket | None = None
        self._events: Socket | None = None

    def attach(self, socket: Socket) -> None:
        """Follow this socket, which is not connected yet. The calling thread owns it at this moment."""
        with self.lock:
            events = _UP | _RETRIED | _REFUSED | _BROKEN_OFF | _DOWN
            self._events = monitor(self._context, socket, events, keep=shared_context.keep_alive)
            self._monitored = socket

    def detach(self) -> None:
        """Stop following. The calling thread owns the monitored socket at this moment."""
        with self.lock:
            if self._events is not None and self._monitored is not None:
                self._monitored.disable_monitor()
                self._events.close(linger=0)
                self._monitored = self._events = None
            # A connection that goes down with its socket has not failed.
            failures = self._status.failures + self._status.abandoned
            self._status = self._status._replace(up=False, failures=failures, abandoned=False)

    def abandon(self) -> None:
        """Note that no socket could be made: there is none to follow."""
        with self.lock:
            self._status = self._status._replace(abandoned=True)

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when there are new events; -1 if no socket is followed.

        It is edge-triggered: it becomes readable again only after `status` has read all events.
        """
        with self.lock:
            return -1 if self._events is None else cast(int, self._events.get(zmq.FD))

    def status(self) -> ConnectionStatus:
        """Return the status of the connection at this moment."""
        with self.lock:
            events = self._events
            if events is not None:
                with unless_closed(events):
                    for event, _value in events_of(events):
                        self._status = _after(self._status, event)
            return self._status


def _after(status: ConnectionStatus, event: int) -> ConnectionStatus:
    """Return the status after an event."""
    if event == _UP:
        return ConnectionStatus(up=True, handshakes=status.handshakes + 1)
    if event == _RETRIED:  # the last event of a failed attempt, or of a connection that has ended
        return status._replace(up=False, failures=status.failures + 1, abandoned=False)
    if event == _REFUSED:
        return status._replace(up=False, refused=True)
    if event & _BROKEN_OFF:
        return status._replace(up=False, broken_off=status.broken_off + 1)
    return status._replace(up=False, abandoned=True)  # unless _RETRIED follows
