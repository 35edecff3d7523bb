"""Choices that settings offer: transport, full buffers, compression, telemetry, log format."""

from enum import StrEnum
from typing import Literal

from eventbus.exports import public


@public
class ReceivePolicy(StrEnum):
    """The policy for a full receive buffer: what happens to events. Their callbacks are called in any case.

    It applies from the first call of `recv_event` or `listen_forever` on; until then the newest events are kept.
    """

    DROP_OLDEST = "drop_oldest"
    """The oldest events in the buffer make room."""
    DROP_NEWEST = "drop_newest"
    """Arriving events do not get into the buffer."""
    BLOCK = "block"
    """The consumer waits for a reader, and so do the callbacks, because the consumer calls them. If that lasts, messages
    queue up on the way until the proxy's queue for this client is full; then the proxy drops them, uncounted.

    The consumer waits for readers in other threads only. A callback that calls `recv_event` is on the consumer's own thread:
    until another thread has read, the oldest events make room, as with `DROP_OLDEST`. Stopping the consumer ends the wait;
    what it has received by then goes into the buffer beyond its limit.
    """


@public
class SendPolicy(StrEnum):
    """The policy for a full send buffer: what `emit_event` does."""

    BLOCK = "block"
    """Wait for room, up to the send timeout; then SendTimeout."""
    RAISE = "raise"
    """SendBufferFull, at once."""
    DROP = "drop"
    """Drop the event and count it."""


@public
class Packing(StrEnum):
    """Which events share messages. Receivers with the original client cannot read such messages.

    For both switches of earlier versions: true is BATCHES, false is NONE.
    """

    NONE = "none"
    """None: each event is a message of its own."""
    BATCHES = "batches"
    """Those of one `emit_events`."""
    ALL = "all"
    """Those, and events of `emit_event` that come faster than messages are sent."""

    @classmethod
    def _missing_(cls, value: object) -> "Packing | None":
        text = str(value).lower() if isinstance(value, bool | str) else ""
        return cls.BATCHES if text in _TRUE else cls.NONE if text in _FALSE else None


# As pydantic reads switches.
_TRUE = frozenset({"true", "t", "yes", "y", "on", "1"})
_FALSE = frozenset({"false", "f", "no", "n", "off", "0"})


@public
class Compression(StrEnum):
    """The compression of large payloads. Receivers recognise it by the payload, regardless of their own setting."""

    NONE = "none"
    """No compression: the original client, and any other ZeroMQ subscriber, can read every event."""
    ZLIB = "zlib"
    """Part of Python, so every receiver has it."""
    ZSTD = "zstd"
    """Smaller and faster than zlib. Part of Python since 3.14; earlier versions need ``eventbus[zstd]``."""
    LZ4 = "lz4"
    """The fastest, with the largest payloads of the three. Needs ``eventbus[lz4]``."""


@public
class Start(StrEnum):
    """Where a subscription begins. A time, or how long ago, is possible, too."""

    NEW = "new"
    """With what is emitted from now on."""
    LAST = "last"
    """With the newest event of each topic."""
    ALL = "all"
    """With the oldest event that is kept."""


class Metrics(StrEnum):
    """The library that receives the client's metrics."""

    NONE = "none"
    """Nowhere."""
    PROMETHEUS = "prometheus"
    """The default registry of prometheus-client. Needs ``eventbus[prometheus]``."""
    OTEL = "otel"
    """OpenTelemetry's meter provider. Needs ``eventbus[otel]``."""


type Timed = float | Literal["auto"]
"""Which of the calls that succeed OpenTelemetry times: a part of them, from 0 to 1, or as many as cost little (``auto``)."""


class Traces(StrEnum):
    """Whether emitting and handling are traced as spans, and the trace context travels with events."""

    NONE = "none"
    """No spans."""
    OTEL = "otel"
    """OpenTelemetry's tracer provider. Needs ``eventbus[otel]``."""
    OTEL_WITH_BAGGAGE = "otel-with-baggage"
    """As OTEL; the caller's baggage travels too, and handlers get the baggage that came with their events."""


class LogFormat(StrEnum):
    """The format of the log of the commands."""

    TEXT = "text"
    """Lines for people."""
    JSON = "json"
    """One JSON object per line."""


class TransportKind(StrEnum):
    """The transport that carries events."""

    ZEROMQ = "zeromq"
    """ZeroMQ, over a proxy."""
    NATS = "nats"
    """A NATS server passes events on live."""
    JETSTREAM = "jetstream"
    """A NATS server stores events."""
