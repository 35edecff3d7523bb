"""OpenTelemetry's metrics: what clients count is observed when it is exported, what they time is recorded at once.

The API has no histogram that can be observed, and the SDK takes several microseconds for each recorded value, more than the
bus takes for an event.
"""

from collections.abc import Callable, Iterable
from functools import partial
from threading import Lock
from time import perf_counter
from typing import Any
from weakref import WeakKeyDictionary

from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation, get_meter, get_meter_provider

from eventbus.events import BaseEvent
from eventbus.handle.middleware import Measuring
from eventbus.observe.hooks import AddDuration, AddVolume, CountingHook
from eventbus.observe.state import StateChange
from eventbus.observe.stats import DropReason
from eventbus.policies import Timed
from eventbus.telemetry.aggregation import Volume
from eventbus.telemetry.clients import HasHealth, OpenClients, WatchedClients
from eventbus.telemetry.labels import Bounded, error_type
from eventbus.telemetry.names import (
    CLIENT_COUNT,
    CLIENT_ID,
    CLIENT_IO,
    CLIENT_STATE,
    CLIENT_STATE_CHANGES,
    CONSUMED_MESSAGES,
    CONSUMER_BUSY,
    DESTINATION_NAME,
    DROPPED_MESSAGES,
    ECHO_ROUND_TRIP,
    ERROR_TYPE,
    IO_DIRECTION,
    LOST_MESSAGES,
    OPERATION_DURATION,
    PROCESS_DURATION,
    REASON,
    REJECTED_MESSAGES,
    REPAIRED_MESSAGES,
    SENT_MESSAGES,
)
from eventbus.telemetry.otel_attributes import PROCESS, RECEIVE, SCOPE, SEND, ZEROMQ, Attributes, operation, server
from eventbus.telemetry.thinning import Choose, check_share, chooser
from eventbus.wire.rejects import RejectReason

TRANSMITTED, RECEIVED = "transmit", "receive"  # directions

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)  # seconds, by the conventions

MAX_ERROR_TYPES = 20  # of each topic


class OpenTelemetryMetrics(CountingHook, Measuring):
    """Counts and times what a client does. Give it to the client both as a hook and as a middleware.

    Attributes have a hundred topics at most; later ones count as ``_OTHER``.

    Args:
        host: where the proxy runs, or a NATS server; None without either.
        pub_port: the port for publishers.
        sub_port: the port for subscribers.
        meter_provider: None for OpenTelemetry's global one.
        timed: which of the calls that succeed are in the two histograms. ``auto``: all of a series that has at most a
            thousand per second; of more a random part, a thousand per second on average. A number from 0 to 1: such a part
            of all calls, chosen at random. Calls that fail are all in them, and events are all counted.
        name: of the client, an attribute of the number of clients; empty: none.
        messaging_system: what carries the events, by the conventions: ``zeromq`` or ``nats``.

    Attributes:
        timed: as given.

    Raises:
        InvalidSettings: `timed` is neither.
    """

    def __init__(
        self,
        host: str | None = None,
        pub_port: int | None = None,
        sub_port: int | None = None,
        *,
        meter_provider: MeterProvider | None = None,
        timed: Timed = "auto",
        name: str = "",
        messaging_system: str = ZEROMQ,
    ) -> None:
        if timed != "auto":
            check_share("timed", timed)
        meter = get_meter(SCOPE, meter_provider=meter_provider)
        exported = _exported_of(meter_provider)
        exported.create_instruments(meter)
        self._bus = exported.bus(meter, (host, pub_port, sub_port, messaging_system), timed)
        self._watched = exported.watched
        self.timed = timed
        self._client = server(
            host, pub_port, messaging_system
        )  # a client has one identity in what follows: its publishing side's
        self._named = self._client | ({CLIENT_ID: name} if name else {})
        self._rejected = meter.create_counter(
            REJECTED_MESSAGES, "{message}", "Messages, or elements of packed messages, that were no event."
        )
        self._dropped = meter.create_counter(DROPPED_MESSAGES, "{message}", "Events that were dropped.")
        self._lost = meter.create_counter(
            LOST_MESSAGES, "{message}", "Events of numbering publishers that have never arrived."
        )
        self._repaired = meter.create_counter(
            REPAIRED_MESSAGES, "{message}", "Events that had not arrived, and that a historian had."
        )
        self._clients = meter.create_up_down_counter(CLIENT_COUNT, "{client}", "Clients that are not closed.")
        self._state_changes = meter.create_counter(CLIENT_STATE_CHANGES, "{change}", "Changes of clients to a state.")
        self._open = OpenClients()
        self._topics: Bounded[Attributes] = Bounded(lambda topic: self._client | {DESTINATION_NAME: topic})

    def watch(self, client: HasHealth) -> None:
        """Read the echo's round trip and the consumer's progress from this client's health at each export.

        The clients of one proxy are exported together, as the worst of them. They are kept weakly.
        """
        self._watched.add(client, tuple(self._client.items()))

    def measure[**Arguments](
        self, topic: str, count: int, send: Callable[Arguments, None], *arguments: Arguments.args, **named: Arguments.kwargs
    ) -> None:
        """Count the events, and record the duration, whether the call succeeds or fails."""
        started = perf_counter()
        try:
            send(*arguments, **named)
        except BaseException as error:
            add, record = self._bus.not_sent.get(topic, error)
            add(0, count)
            record(perf_counter() - started)
            raise
        add, record, chooses = self._bus.sent[topic]
        add(0, count)
        if chooses(started):
            record(perf_counter() - started)

    def emitting(self, topic: str) -> AddVolume:
        """Return the counter of a topic's emitted bytes; `measure` counts the events."""
        return self._bus.emitted[topic]

    def receiving(self, topic: str) -> AddVolume:
        """Return the counters of a topic's received events and bytes."""
        return self._bus.received[topic]

    def handling(self, topic: str, handler: str) -> AddDuration:
        """Return what records the durations of a topic's handlers, or of some of their calls."""
        return self._bus.processed[topic]

    # BaseEvent[Any]: as in `EventBusHook`.
    def handler_failed(self, topic: str, event: BaseEvent[Any], handler: str, duration: float, error: BaseException) -> None:
        """Record the duration, with the error."""
        self._bus.not_processed.get(topic, error)(duration)

    def rejected(self, reason: RejectReason, count: int) -> None:
        """Count."""
        self._rejected.add(count, {**self._client, REASON: str(reason)})

    def dropped(self, reason: DropReason, count: int) -> None:
        """Count."""
        self._dropped.add(count, {**self._client, REASON: str(reason)})

    def lost(self, topic: str, count: int) -> None:
        """Count."""
        self._lost.add(count, self._topics[topic])

    def repaired(self, topic: str, count: int) -> None:
        """Count."""
        self._repaired.add(count, self._topics[topic])

    def state_changed(self, change: StateChange) -> None:
        """Count the change, and move the client from its old state to the new one; CLOSED clients are not counted."""
        self._state_changes.add(1, {**self._client, CLIENT_STATE: str(change.state)})
        left, entered = self._open.move(change)
        if left is not None:
            self._clients.add(-1, {**self._named, CLIENT_STATE: str(left)})
        if entered is not None:
            self._clients.add(1, {**self._named, CLIENT_STATE: str(entered)})


type _Endpoints = tuple[str | None, int | None, int | None, str]  # host, port for publishers, for subscribers, system
type _Group = tuple[tuple[str, str | int], ...]  # the attributes of a client


class _Sums:
    """Volumes by their attributes, for an instrument that is observed. Any thread may ask for one."""

    def __init__(self) -> None:
        self._volumes: dict[_Group, Volume] = {}

    def of(self, attributes: Attributes) -> Volume:
        """Return the volume with these attributes, always the same."""
        return self._volumes.setdefault(tuple(attributes.items()), Volume())

    def events(self, _: CallbackOptions) -> Iterable[Observation]:
        """Observe how many events there were."""
        return [Observation(volume.read()[0], dict(key)) for key, volume in list(self._volumes.items())]

    def bytes(self, _: CallbackOptions) -> Iterable[Observation]:
        """Observe how many bytes there were."""
        return [Observation(volume.read()[1], dict(key)) for key, volume in list(self._volumes.items())]


class _Exported:
    """The part that all clients of a meter provider share: a meter takes the callbacks of an observable instrument once."""

    def __init__(self) -> None:
        self.sent, self.consumed, self.io = _Sums(), _Sums(), _Sums()
        self.watched: WatchedClients[_Group] = WatchedClients()
        self._buses: dict[tuple[_Endpoints, Timed], _Bus] = {}
        self._adding = Lock()

    def create_instruments(self, meter: Meter) -> None:
        """Export all of it. Idempotent."""
        meter.create_observable_counter(
            SENT_MESSAGES, [self.sent.events], "{message}", "Events that were emitted, or were to be."
        )
        meter.create_observable_counter(
            CONSUMED_MESSAGES, [self.consumed.events], "{message}", "Events that have arrived and were decoded."
        )
        meter.create_observable_counter(
            CLIENT_IO, [self.io.bytes], "By", "JSON of emitted events before compression; payloads as they arrived."
        )
        meter.create_observable_gauge(
            ECHO_ROUND_TRIP, [self._round_trips], "s", "How long the last echo through the proxy took."
        )
        meter.create_observable_gauge(
            CONSUMER_BUSY, [self._busy], "s", "How long ago the consumer last made progress; 0 while it waits."
        )

    def bus(self, meter: Meter, endpoints: _Endpoints, timed: Timed) -> "_Bus":
        """Return what counts and times the events of one bus, always the same for clients that time alike."""
        with self._adding:
            key = endpoints, timed
            if key not in self._buses:
                self._buses[key] = _Bus(meter, self, endpoints, timed)
            return self._buses[key]

    def _round_trips(self, _: CallbackOptions) -> Iterable[Observation]:
        for group, worst in self.watched.worst().items():
            if worst.round_trip is not None:
                yield Observation(worst.round_trip, dict(group))

    def _busy(self, _: CallbackOptions) -> Iterable[Observation]:
        for group, worst in self.watched.worst().items():
            if worst.busy_for is not None:
                yield Observation(worst.busy_for, dict(group))


class _ByError[Value]:
    """Values of the failures of one operation, by topic and error."""

    def __init__(self, every: Attributes, make: Callable[[Attributes], Value]) -> None:
        def of_topic(topic: str) -> Bounded[Value]:
            attributes = every | {DESTINATION_NAME: topic}
            return Bounded(lambda error: make(attributes | {ERROR_TYPE: error}), MAX_ERROR_TYPES)

        self._values = Bounded(of_topic)
        self._types = Bounded(str)

    def get(self, topic: str, error: BaseException) -> Value:
        return self._values[topic][self._types[error_type(error)]]


class _Bus:
    """Counts and times the events of one bus, by topic; made once, because attributes cost more than counting."""

    def __init__(self, meter: Meter, exported: _Exported, endpoints: _Endpoints, timed: Timed) -> None:
        host, pub_port, sub_port, messaging_system = endpoints
        client = server(host, pub_port, messaging_system)
        send, receive = (
            operation(SEND, host, pub_port, messaging_system),
            operation(RECEIVE, host, sub_port, messaging_system),
        )
        process = operation(PROCESS, host, sub_port, messaging_system)
        sending = meter.create_histogram(
            OPERATION_DURATION, "s", "How long emitting took.", explicit_bucket_boundaries_advisory=BUCKETS
        )
        processing = meter.create_histogram(
            PROCESS_DURATION,
            "s",
            "How long calls of handlers took, with the middleware around them.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )

        def io(topic: str, direction: str) -> AddVolume:
            return exported.io.of(client | {DESTINATION_NAME: topic, IO_DIRECTION: direction}).add

        def not_sent(attributes: Attributes) -> tuple[AddVolume, AddDuration]:
            return exported.sent.of(attributes).add, partial(sending.record, attributes=attributes)

        def sent(attributes: Attributes) -> tuple[AddVolume, AddDuration, Choose]:
            return *not_sent(attributes), chooser(timed)

        def received(topic: str) -> AddVolume:
            add_events, add_bytes = exported.consumed.of(receive | {DESTINATION_NAME: topic}).add, io(topic, RECEIVED)

            def add(size: int, count: int) -> None:
                add_events(size, count)
                add_bytes(size, count)

            return add

        def not_processed(attributes: Attributes) -> AddDuration:
            return partial(processing.record, attributes=attributes)

        def processed(attributes: Attributes) -> AddDuration:
            record, chooses = not_processed(attributes), chooser(timed)

            def record_some(duration: float) -> None:
                if chooses(perf_counter() - duration):
                    record(duration)

            return record_some

        self.emitted = Bounded(lambda topic: io(topic, TRANSMITTED))
        self.received = Bounded(received)
        self.sent = Bounded(lambda topic: sent(send | {DESTINATION_NAME: topic}))
        self.not_sent = _ByError(send, not_sent)
        self.processed = Bounded(lambda topic: processed(process | {DESTINATION_NAME: topic}))
        self.not_processed = _ByError(process, not_processed)


_exported_by: WeakKeyDictionary[MeterProvider, _Exported] = WeakKeyDictionary()
_exported_globally = _Exported()
_sharing = Lock()


def _exported_of(provider: MeterProvider | None) -> _Exported:
    """Return what the clients of this provider share; None is the global provider, also one to come."""
    if provider is None or provider is get_meter_provider():
        return _exported_globally
    with _sharing:
        return _exported_by.setdefault(provider, _Exported())
