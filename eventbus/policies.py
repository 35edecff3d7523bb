"""What a client does when one of its buffers is full. Imports nothing of this package, so that settings can name it."""

from enum import StrEnum


class ReceivePolicy(StrEnum):
    """What happens to events when the receive buffer is full; their callbacks are called in any case.

    It applies from the first call of `recv_event` or `listen_forever` on; until then the newest events are kept.
    """

    DROP_OLDEST = "drop_oldest"
    """The oldest events in the buffer make room."""
    DROP_NEWEST = "drop_newest"
    """Those that arrive do not get into the buffer."""
    BLOCK = "block"
    """The consumer waits for a reader, and so do the callbacks, which it calls. If that lasts, messages queue up on the way
    until the proxy's queue for this client is full, and the proxy drops them, uncounted.

    Only readers in other threads are waited for. A callback that calls `recv_event` is on the consumer's own thread: as long
    as nobody else has read, the oldest events make room, as with `DROP_OLDEST`. Stopping the consumer ends the waiting; what
    it has received by then goes into the buffer beyond its limit.
    """


class SendPolicy(StrEnum):
    """What `emit_event` does when the send buffer is full."""

    BLOCK = "block"
    """Wait for room, up to the send timeout; then SendTimeout."""
    RAISE = "raise"
    """SendBufferFull, at once."""
    DROP = "drop"
    """Drop the event and count it."""
