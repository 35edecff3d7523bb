"""Whether a socket's connection is up, as libzmq's socket monitor tells it."""

import struct
import uuid
from threading import Lock

import zmq

from eventbus.transports._sockets import Context, Socket

_UP = int(zmq.EVENT_HANDSHAKE_SUCCEEDED)
_DOWN = int(zmq.EVENT_DISCONNECTED)


class Monitor:
    """Follows one connecting socket from creation to `close`. Any thread may ask.

    libzmq queues what happens, without a limit, and nothing is read until somebody asks: these events are as rare as
    connections are.
    """

    def __init__(self, context: Context, monitored: Socket) -> None:
        address = f"inproc://eventbus-monitor-{uuid.uuid4().hex}"  # must be unique in the process
        self._lock = Lock()
        self._up = False
        self._monitored = monitored
        self._events = context.socket(zmq.PAIR)
        self._events.set_hwm(0)
        monitored.monitor(address, _UP | _DOWN)
        self._events.connect(address)

    def is_up(self) -> bool:
        """Whether the last thing that happened was a completed handshake; False once closed."""
        with self._lock:
            while not self._events.closed and self._events.poll(0):
                event, _value = struct.unpack("=HI", self._events.recv())
                self._events.recv()  # the endpoint
                self._up = event == _UP
            return self._up and not self._events.closed

    def close(self) -> None:
        """Stop following. The caller owns the monitored socket at this moment."""
        with self._lock:
            self._monitored.disable_monitor()
            self._events.close(linger=0)
