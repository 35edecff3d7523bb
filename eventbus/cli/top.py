"""``eventbus top``: events per second by topic and by publisher, live."""

from collections.abc import Sequence
from dataclasses import replace
from threading import Event, Lock, Thread
from time import monotonic
from types import TracebackType
from typing import Self

from eventbus.cli.connection import Outage, transport_for, wanted_topics
from eventbus.cli.publisher_names import PublisherNames
from eventbus.cli.top_views import JsonLines, View
from eventbus.errors import ExtraMissing
from eventbus.policies import TransportKind
from eventbus.receive.meter import Meter, Snapshot
from eventbus.settings import EventBusSettings
from eventbus.transports.contract import Transport

_POLL_INTERVAL_S = 0.2


def top(
    settings: EventBusSettings,
    names: Sequence[str] = (),
    *,
    interval: float = 1.0,
    once: bool = False,
    as_json: bool = False,
) -> None:
    """Show the figures of each interval, until the client gives up reconnecting or the user interrupts it.

    Args:
        settings: the settings of the command.
        names: topics to count beside `settings.topics`; if both are empty, all topics.
        interval: seconds.
        once: end after the first interval.
        as_json: print a JSON object on each line; False: tables, live on a terminal.

    Raises:
        ExtraMissing: the library that makes tables is not installed.
        ProxyUnreachable, HandshakeFailed, ReconnectFailed: there is no connection to the proxy.
    """
    wanted = wanted_topics(settings, names)
    view = JsonLines() if as_json else _tables(once)
    with transport_for(settings) as transport:
        outage = Outage(transport.remedies.peer)
        for topic in wanted or {b""}:
            transport.subscribe(topic)
        transport.status.listen(outage)
        transport.open(settings.connect_timeout)
        with _MeterThread(transport, Meter(monotonic(), wanted)) as counting, PublisherNames(settings) as names_of, view:
            due = monotonic() + interval
            while not counting.ended.wait(min(_POLL_INTERVAL_S, max(0.0, due - monotonic()))):
                view.adapt()
                now = monotonic()
                if now < due:
                    continue
                due += interval
                if due <= now:  # the process was stopped, or is too slow: begin a whole interval
                    due = now + interval
                state = transport.status.state
                heading = f"{_place(settings, transport)}: {state}"
                view.show(_labelled(counting.snapshot(), names_of, wait=once), state, heading, str(outage))
                if once:
                    return
        transport.status.raise_failure()


def _labelled(snapshot: Snapshot, names: PublisherNames, *, wait: bool) -> Snapshot:
    """The snapshot with the names of its publishers, as far as they are known."""
    known = names.of([line.name for line in snapshot.publishers], wait=wait)
    if not known:
        return snapshot
    return replace(snapshot, publishers=tuple(replace(line, label=known.get(line.name, "")) for line in snapshot.publishers))


def _place(settings: EventBusSettings, transport: Transport) -> str:
    if settings.transport is TransportKind.ZEROMQ:
        return f"{settings.host}, ports {settings.pub_port} and {settings.sub_port}"
    return transport.endpoints


def _tables(once: bool) -> View:
    try:
        from eventbus.cli.top_table import view  # needs rich
    except ImportError:
        raise ExtraMissing("top", "for the tables of `eventbus top`; --json works without it", library="rich") from None
    return view(live=not once)


class _MeterThread:
    """Receives from a transport and counts, in a thread of its own. The end of the block closes the transport.

    Attributes:
        ended: set when the transport is closed.
    """

    def __init__(self, transport: Transport, meter: Meter) -> None:
        self.ended = Event()
        self._transport = transport
        self._meter = meter
        self._lock = Lock()  # guards the meter
        self._malformed = 0
        self._thread = Thread(target=self._count, name="eventbus-top", daemon=True)

    def snapshot(self) -> Snapshot:
        """End an interval."""
        with self._lock:
            malformed = self._transport.malformed
            self._meter.reject(malformed - self._malformed)
            self._malformed = malformed
            return self._meter.tick(monotonic())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._transport.close(0.0)
        self._thread.join()

    def _count(self) -> None:
        try:
            while (batch := self._transport.receive()) is not None:
                with self._lock:
                    self._meter.count(batch, monotonic())
        finally:
            self.ended.set()
