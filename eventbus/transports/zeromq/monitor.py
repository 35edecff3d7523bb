"""What becomes of a socket's connection, as libzmq's socket monitor tells it."""

from dataclasses import replace
from threading import RLock
from typing import cast

import zmq

from eventbus._base.zmq_monitor import events_of, monitor
from eventbus._base.zmq_sockets import Context, Socket
from eventbus.transports.zeromq.policy import ConnectionStatus
from eventbus.transports.zeromq.sockets import shared_context, unless_closed

_UP = int(zmq.EVENT_HANDSHAKE_SUCCEEDED)
_RETRIED = int(zmq.EVENT_CONNECT_RETRIED)
_REFUSED = int(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
_DOWN = int(zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED)
_HANDSHAKES = int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)


class Monitor:
    """Follows one leg, over all the sockets that it is given one after the other. Any thread may look.

    libzmq queues what happens, without a limit, and nothing is read until somebody looks: these events are as rare as
    connections are.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lock = RLock()
        self._leg = ConnectionStatus()
        self._monitored: Socket | None = None
        self._events: Socket | None = None

    def attach(self, socket: Socket) -> None:
        """Follow this socket, which is not connected yet. The caller owns it at this moment."""
        with self._lock:
            self._events = monitor(
                self._context, socket, _UP | _RETRIED | _REFUSED | _DOWN | _HANDSHAKES, keep=shared_context.keep
            )
            self._monitored = socket

    def detach(self) -> None:
        """Stop following. The caller owns the monitored socket at this moment."""
        with self._lock:
            if self._events is not None and self._monitored is not None:
                self._monitored.disable_monitor()
                self._events.close(linger=0)
                self._monitored = self._events = None
            # That a connection goes down with its socket is nobody's failure.
            failures = self._leg.failures + self._leg.abandoned
            self._leg = replace(self._leg, up=False, failures=failures, abandoned=False)

    def abandon(self) -> None:
        """Note that there is no socket to follow, for none could be made."""
        with self._lock:
            self._leg = replace(self._leg, abandoned=True)

    def fileno(self) -> int:
        """A descriptor that becomes readable when there is something new to `look` at; -1 if nothing is followed.

        It tells of changes only: it stays unreadable until everything that has happened was looked at.
        """
        with self._lock:
            return -1 if self._events is None else cast(int, self._events.get(zmq.FD))

    def look(self) -> ConnectionStatus:
        """How the leg is at this moment."""
        with self._lock:
            events = self._events
            if events is not None:
                with unless_closed(events):
                    for event, _value in events_of(events):
                        self._leg = _after(self._leg, event)
            return self._leg


def _after(leg: ConnectionStatus, event: int) -> ConnectionStatus:
    """How a leg is after an event."""
    if event == _UP:
        return ConnectionStatus(up=True, handshakes=leg.handshakes + 1)
    if event == _RETRIED:  # the last of a failed attempt, or of a connection that has ended
        return replace(leg, up=False, failures=leg.failures + 1, abandoned=False)
    if event == _REFUSED:
        return replace(leg, up=False, refused=True)
    if event & _HANDSHAKES:
        return replace(leg, up=False, broken_off=leg.broken_off + 1)
    return replace(leg, up=False, abandoned=True)  # unless the next one says that it tries again
