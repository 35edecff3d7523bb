"""Views of ``eventbus top``: what shows its figures, and the one that prints JSON."""

import json
from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import UTC, datetime
from types import TracebackType
from typing import Protocol, Self

from eventbus.observe.state import ClientState
from eventbus.receive.meter import Line, Snapshot


class View(AbstractContextManager["View"], Protocol):
    """Shows snapshots, inside a `with` block."""

    def show(self, snapshot: Snapshot, state: ClientState, heading: str, trouble: str) -> None:
        """Show a snapshot.

        Args:
            snapshot: the figures.
            state: the state of the connection.
            heading: the proxy and that state, for people.
            trouble: what is wrong with the connection, for people; empty: nothing.
        """

    def adapt(self) -> None:
        """Follow the terminal: a new size, Ctrl-Z. Called several times per second."""


class Written:
    """The common part of views that print each snapshot below the one before."""

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
            "publishers": [
                {"publisher": line.name, "name": line.label or None, **_figures(line)} for line in snapshot.publishers
            ],
            "not_numbered": snapshot.not_numbered and _figures(snapshot.not_numbered),
            "other_publishers": snapshot.other_publishers and _figures(snapshot.other_publishers),
        }
    )


def _figures(line: Line) -> dict[str, object]:
    return {
        name: round(value, 6) if isinstance(value, float) else value
        for name, value in asdict(line).items()
        if name not in ("name", "history", "label")
    }
