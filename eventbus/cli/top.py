"""``eventbus top``: what passes through the bus at this moment, by topic and by publisher."""

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import UTC, datetime
from threading import Event, Lock, Thread
from time import monotonic
from types import TracebackType
from typing import Protocol, Self

from eventbus.cli.connection import transport_for
from eventbus.cli.outage import Outage
from eventbus.cli.traffic import Line, Snapshot, Traffic
from eventbus.errors import ExtraMissing
from eventbus.observe.state import ClientState
from eventbus.settings import EventBusSettings
from eventbus.transports.zeromq.transport import ZeroMQTransport
from eventbus.wire import frames as wire

_LOOK = 0.2  # seconds


class View(AbstractContextManager["View"], Protocol):
    """Shows snapshots, one after the other, while it is entered."""

    def show(self, snapshot: Snapshot, state: ClientState, heading: str, trouble: str) -> None:
        """Show this one.

        Args:
            snapshot: what has come.
            state: how the way to the proxy is.
            heading: where it is, for people.
            trouble: what is wrong there, for people; empty: nothing.
        """

    def adapt(self) -> None:
        """Show the last one again if there is another size for it. Called several times per second."""


def top(
    settings: EventBusSettings,
    names: Sequence[str] = (),
    *,
    interval: float = 1.0,
    once: bool = False,
    as_json: bool = False,
) -> None:
    """Show what passes, again after each interval, until the transport is closed for good.

    Args:
        settings: of the command.
        names: topics, beside those of the settings; if there are none at all: all topics.
        interval: seconds from one to the next.
        once: end after the first.
        as_json: a JSON object on each line; False: tables, which on a terminal replace each other.

    Raises:
        ExtraMissing: the library that makes tables is not installed.
    """
    wanted = {wire.topic_frame(name) for name in (*names, *settings.topics)}
    view = JsonLines() if as_json else _tables(once)
    outage = Outage()
    with transport_for(settings) as transport:
        for topic in wanted or {b""}:
            transport.subscribe(topic)
        transport.status.listen(outage)
        transport.open(settings.connect_timeout)
        with _Counter(transport, Traffic(monotonic(), wanted)) as counter, view:
            due = monotonic() + interval
            while not counter.ended.wait(min(_LOOK, max(0.0, due - monotonic()))):
                now = monotonic()
                if now < due:
                    view.adapt()
                    continue
                due += interval
                if due <= now:  # it was stopped, or is too slow: an interval is never shorter
                    due = now + interval
                state = transport.status.state
                heading = f"{settings.host}, ports {settings.pub_port} and {settings.sub_port}: {state}"
                view.show(counter.snapshot(), state, heading, str(outage))
                if once:
                    return
        transport.status.raise_failure()


class Written:
    """What views have in common whose snapshots stay, each below the one before."""

    def adapt(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass


class JsonLines(Written):
    """Prints a JSON object for each snapshot."""

    def show(self, snapshot: Snapshot, state: ClientState, heading: str, trouble: str) -> None:
        print(json_line(snapshot, state, datetime.now(UTC)), flush=True)


def json_line(snapshot: Snapshot, state: ClientState, time: datetime) -> str:
    """The snapshot as one JSON object. Rates are per second, sizes in bytes, ``interval`` and ``last_seen`` in seconds."""
    return json.dumps(
        {
            "time": time.isoformat(),
            "state": state,
            "interval": round(snapshot.interval, 6),
            **_figures(snapshot.total),
            "malformed": snapshot.malformed,
            "topics": [{"topic": line.name, **_figures(line)} for line in snapshot.topics],
            "other_topics": snapshot.other_topics and _figures(snapshot.other_topics),
            "publishers": [{"publisher": line.name, **_figures(line)} for line in snapshot.publishers],
            "not_numbered": snapshot.not_numbered and _figures(snapshot.not_numbered),
            "other_publishers": snapshot.other_publishers and _figures(snapshot.other_publishers),
        }
    )


def _figures(line: Line) -> dict[str, object]:
    return {
        name: round(value, 6) if isinstance(value, float) else value
        for name, value in asdict(line).items()
        if name not in ("name", "history")
    }


def _tables(once: bool) -> View:
    try:
        from eventbus.cli.table import view  # the only thing that needs rich
    except ImportError:
        raise ExtraMissing("top", "for the tables of `eventbus top`; --json needs nothing", library="rich") from None
    return view(live=not once)


class _Counter:
    """Counts in a thread what a transport receives. The transport is closed at the end of the block.

    Attributes:
        ended: set when the transport is closed.
    """

    def __init__(self, transport: ZeroMQTransport, traffic: Traffic) -> None:
        self.ended = Event()
        self._transport = transport
        self._traffic = traffic
        self._lock = Lock()  # guards the traffic
        self._malformed = 0
        self._thread = Thread(target=self._count, name="eventbus-top", daemon=True)

    def snapshot(self) -> Snapshot:
        """End an interval."""
        with self._lock:
            malformed = self._transport.malformed
            self._traffic.reject(malformed - self._malformed)
            self._malformed = malformed
            return self._traffic.tick(monotonic())

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
                    self._traffic.count(batch, monotonic())
        finally:
            self.ended.set()
