"""Metrics for Prometheus: a hook that counts and times in a registry of prometheus-client."""

from collections.abc import Iterable, Mapping
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge
    from prometheus_client.metrics_core import GaugeMetricFamily
    from prometheus_client.registry import Collector
except ModuleNotFoundError as error:
    error.add_note("pip install 'eventbus[prometheus]'")
    raise

from eventbus.events import BaseEvent
from eventbus.observe.hooks import AddDuration, AddVolume, CountingHook
from eventbus.observe.state import ClientState, StateChange
from eventbus.observe.stats import DropReason
from eventbus.telemetry.clients import HasHealth, OpenClients, WatchedClients, WorstHealth
from eventbus.telemetry.labels import Bounded, error_type
from eventbus.telemetry.names import (
    BUSY,
    CLIENTS,
    DROPPED,
    EMITTED_BYTES,
    EMITTED_EVENTS,
    HANDLER_DURATION,
    HANDLER_ERRORS,
    LOST,
    NAMED_CLIENTS,
    RECEIVED_BYTES,
    RECEIVED_EVENTS,
    REJECTED,
    REPAIRED,
    ROUND_TRIP,
    STATE_CHANGES,
)
from eventbus.telemetry.prometheus_series import Name, durations, volumes
from eventbus.wire.rejects import RejectReason

# Labels
TOPIC, HANDLER, OUTCOME, ERROR_TYPE, REASON, STATE = "topic", "handler", "outcome", "error_type", "reason", "state"
NAME = "name"

SUCCESS, ERROR = "success", "error"  # outcomes

MAX_ERROR_TYPES = 20  # of each handler

# Seconds. Most handlers take less than the smallest bucket of prometheus-client's defaults.
BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class PrometheusHook(CountingHook):
    """Counts and times what clients do. All hooks of a registry share its metrics, so a process may have many clients.

    Labels have a hundred topics and a hundred handlers at most; later ones count as ``_OTHER``. prometheus-client's
    multiprocess mode works, except for the gauges that `watch` adds. A client that is connected already, as with `add_hook`,
    needs a hook of its own: else its state is counted as that of another one.

    Args:
        registry: the registry of the metrics.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._metrics = _metrics_of(registry)
        self._open = OpenClients()

    def watch(self, client: HasHealth) -> None:
        """Read the echo's round trip, the consumer's progress and the name from this client's health at each scrape.

        The hook keeps the client weakly.
        """
        self._metrics.watched.add(client, None)

    def emitting(self, topic: str) -> AddVolume:
        """Return the counters of a topic's emitted events and bytes."""
        return self._metrics.emitted[topic]

    def receiving(self, topic: str) -> AddVolume:
        """Return the counters of a topic's received events and bytes."""
        return self._metrics.received[topic]

    def handling(self, topic: str, handler: str) -> AddDuration:
        """Return the histogram of the durations of a handler's calls."""
        return self._metrics.succeeded[handler]

    # BaseEvent[Any]: as in `EventBusHook`.
    def handler_failed(self, topic: str, event: BaseEvent[Any], handler: str, duration: float, error: BaseException) -> None:
        """Record the duration, and count the error."""
        add_duration, errors = self._metrics.failed[handler]
        add_duration(duration)
        errors[self._metrics.error_types[error_type(error)]].inc()

    def rejected(self, reason: RejectReason, count: int) -> None:
        """Count."""
        self._metrics.rejected.labels(reason).inc(count)

    def dropped(self, reason: DropReason, count: int) -> None:
        """Count."""
        self._metrics.dropped.labels(reason).inc(count)

    def lost(self, topic: str, count: int) -> None:
        """Count."""
        self._metrics.lost[topic].inc(count)

    def repaired(self, topic: str, count: int) -> None:
        """Count."""
        self._metrics.repaired[topic].inc(count)

    def state_changed(self, change: StateChange) -> None:
        """Count the change, and move the client from its old state to the new one; CLOSED has no gauge."""
        self._metrics.state_changes.labels(change.state).inc()
        left, entered = self._open.move(change)
        if left is not None:
            self._metrics.clients.labels(left).dec()
        if entered is not None:
            self._metrics.clients.labels(entered).inc()


class _Metrics:
    """The metrics of one registry. Series are looked up once, because a lookup costs as much as counting."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, unit: str, meaning: str, *labels: str) -> Counter:
            return Counter(name, meaning, labels, unit=unit, registry=registry)

        emitted = volumes(
            registry,
            Name(EMITTED_EVENTS, "events", "Events that the transport has taken."),
            Name(EMITTED_BYTES, "bytes", "JSON of emitted events, before it is compressed."),
            TOPIC,
        )
        received = volumes(
            registry,
            Name(RECEIVED_EVENTS, "events", "Events that have arrived and were decoded."),
            Name(RECEIVED_BYTES, "bytes", "Payloads of received events, as they came."),
            TOPIC,
        )
        handling = durations(
            registry,
            Name(HANDLER_DURATION, "seconds", "How long calls of handlers took, with the middleware around them."),
            BUCKETS,
            HANDLER,
            OUTCOME,
        )
        errors = counter(HANDLER_ERRORS, "errors", "Calls of handlers that raised or were cancelled.", HANDLER, ERROR_TYPE)
        lost = counter(LOST, "events", "Events of numbering publishers that have never arrived.", TOPIC)
        repaired = counter(REPAIRED, "events", "Events that had not arrived, and that a historian had.", TOPIC)

        def series_of_failed(handler: str) -> tuple[AddDuration, Bounded[Counter]]:
            of_types = Bounded(lambda error: errors.labels(handler, error), MAX_ERROR_TYPES)
            return handling(handler, ERROR), of_types

        self.emitted = Bounded(emitted)
        self.received = Bounded(received)
        self.succeeded = Bounded(lambda handler: handling(handler, SUCCESS))
        self.failed = Bounded(series_of_failed)
        self.error_types = Bounded(str)
        self.lost = Bounded(lost.labels)
        self.repaired = Bounded(repaired.labels)
        self.rejected = counter(
            REJECTED, "messages", "Messages, or elements of packed messages, that were no event.", REASON
        )
        self.dropped = counter(DROPPED, "events", "Events that did not get to where they were going.", REASON)
        self.clients = Gauge(
            CLIENTS,
            "Clients that are not closed, by their state.",
            (STATE,),
            unit="clients",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.state_changes = counter(STATE_CHANGES, "changes", "Changes of clients to a state.", STATE)
        # All series exist from the start, because rate() and increase() do not see a series' first count.
        for reject in RejectReason:
            self.rejected.labels(reject)
        for drop in DropReason:
            if drop is not DropReason.UNREAD:  # hooks are not called for these
                self.dropped.labels(drop)
        for state in ClientState:
            self.state_changes.labels(state)
            if state is not ClientState.CLOSED:
                self.clients.labels(state)
        self.watched = WatchedClients[None]()
        registry.register(_HealthCollector(self.watched))


class _HealthCollector(Collector):
    """Reads the health of clients at each scrape; of several clients, it exports the worst."""

    def __init__(self, clients: WatchedClients[None]) -> None:
        self._clients = clients

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Return the names without reading any client."""
        return _families(_NO_CLIENT, {})

    def collect(self) -> Iterable[GaugeMetricFamily]:
        return _families(self._clients.worst().get(None, _NO_CLIENT), self._clients.names())


_NO_CLIENT = WorstHealth(None, None)


def _families(worst: WorstHealth, names: Mapping[str, int]) -> list[GaugeMetricFamily]:
    """Return the families, each without a sample if it has no value."""
    info = GaugeMetricFamily(NAMED_CLIENTS, "Clients that are not closed, by their name.", labels=(NAME,), unit="clients")
    for name, count in names.items():
        info.add_metric([name], count)
    return [
        info,
        GaugeMetricFamily(ROUND_TRIP, "How long the last echo through the proxy took.", worst.round_trip, unit="seconds"),
        GaugeMetricFamily(
            BUSY, "How long ago the consumer last made progress; 0 while it waits.", worst.busy_for, unit="seconds"
        ),
    ]


_shared: WeakKeyDictionary[CollectorRegistry, _Metrics] = WeakKeyDictionary()
_sharing = Lock()


def _metrics_of(registry: CollectorRegistry) -> _Metrics:
    with _sharing:
        metrics = _shared.get(registry)
        if metrics is None:
            metrics = _shared[registry] = _Metrics(registry)
        return metrics
