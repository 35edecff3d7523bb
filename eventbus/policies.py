"""What happens when a buffer is full."""

from enum import StrEnum


class SendPolicy(StrEnum):
    """What `emit_event` does when the send buffer is full."""

    BLOCK = "block"
    """Wait for room, up to the send timeout; then SendTimeout."""
    RAISE = "raise"
    """SendBufferFull, at once."""
    DROP = "drop"
    """Drop the event and count it."""
