"""libzmq's socket monitor: a PAIR socket on which libzmq tells what happens to the connections of another socket.

`zmq.utils.monitor` does the same, and imports asyncio for it.
"""

import struct
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress

import zmq

from eventbus._base.zmq_sockets import Context, Socket

_EVENT = struct.Struct("=HI")
_NOWAIT = int(zmq.DONTWAIT)


def monitor(
    context: Context, socket: Socket, events: int, keep: Callable[[Socket], object] = lambda listening: None
) -> Socket:
    """Return a new socket on which libzmq tells the events of another one. Read them with `events_of`.

    libzmq queues the events without a limit: a bounded queue would make its thread wait, which has all connections of the
    context. At the end call ``socket.disable_monitor()`` before you close the returned socket, or libzmq's thread waits for
    ever to tell a peer that is gone.

    Args:
        context: the context of both.
        socket: the socket to monitor, not connected or bound yet. The calling thread owns it at this moment.
        events: a mask of `zmq.EVENT_…`.
        keep: called with the new socket before it is used, for callers that must not let it be collected.
    """
    address = f"inproc://eventbus-monitor-{uuid.uuid4().hex}"  # must be unique in the context
    listening = context.socket(zmq.PAIR)
    keep(listening)
    try:
        listening.set_hwm(0)
        socket.monitor(address, events)
        listening.connect(address)
    except BaseException:
        socket.disable_monitor()
        listening.close(linger=0)
        raise
    return listening


def events_of(listening: Socket) -> Iterator[tuple[int, int]]:
    """Yield all events that are there, oldest first, as ``(event, value)``; does not wait.

    Frames are read one at a time. So a caller that was interrupted between the two frames of an event loses nothing but that
    event, and a signal handler may read the rest.
    """
    with suppress(zmq.Again):
        while True:
            frame = listening.recv(_NOWAIT)
            if len(frame) == _EVENT.size:  # else it is the endpoint, which comes second
                event, value = _EVENT.unpack(frame)
                yield event, value
