"""Choices that settings name: full buffers, compression, telemetry. Imports nothing of this package, so that they can."""

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


class Compression(StrEnum):
    """What large payloads are compressed with. Receivers tell by the payload, whatever their own setting."""

    NONE = "none"
    """Nothing: the original client, and any other ZeroMQ subscriber, can read every event."""
    ZLIB = "zlib"
    """Python's own; every receiver has it."""
    ZSTD = "zstd"
    """Smaller and faster than zlib. Part of Python from 3.14 on, before that of ``eventbus[zstd]``."""
    LZ4 = "lz4"
    """The fastest, and the least small. Part of ``eventbus[lz4]``."""


class Metrics(StrEnum):
    """Who is told what the client does."""

    NONE = "none"
    """Nobody."""
    PROMETHEUS = "prometheus"
    """The default registry of prometheus-client, part of ``eventbus[prometheus]``."""
    OTEL = "otel"
    """OpenTelemetry's meter provider, part of ``eventbus[otel]``."""


class Traces(StrEnum):
    """Whether spans are made of emitting and handling, and the trace context travels with events."""

    NONE = "none"
    """None."""
    OTEL = "otel"
    """OpenTelemetry's tracer provider, part of ``eventbus[otel]``."""
    OTEL_WITH_BAGGAGE = "otel-with-baggage"
    """As OTEL; the caller's baggage travels too, and handlers get the baggage that came with their events."""


class LogFormat(StrEnum):
    """How the commands write their log."""

    TEXT = "text"
    """Lines for people."""
    JSON = "json"
    """One JSON object per line."""
