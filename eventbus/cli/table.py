"""The tables of ``eventbus top``, made with rich; nothing else of the package needs that library."""

import logging
import signal
import sys
from collections.abc import Sequence
from datetime import datetime
from types import FrameType, TracebackType
from typing import NoReturn, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from eventbus._base.printable import printable
from eventbus.cli.figures import age, rate, size, sparkline
from eventbus.cli.terminal import understands_codes, wants_colours
from eventbus.cli.top import View, Written
from eventbus.cli.traffic import HISTORY, Line, Snapshot
from eventbus.observe.state import ClientState

_logger = logging.getLogger("eventbus")

_GAP = 2  # columns between two
_FIGURES = "EVENTS/S", "BYTES/S", "EVENTS", "LAST SEEN"
_NAME, _BARS = 16, 8  # columns that a name and a sparkline have at least
_HEADINGS = 4  # lines below the summary that hold no row
_LONGEST = 60  # characters of a name
_WIDE = 160  # columns, where there is no terminal to tell

type _Row = tuple[str, Line]  # what it is called, and what it has
type _Columns = tuple[int, list[int], int]  # how wide the name, the figures and the sparkline are


def tables(
    snapshot: Snapshot, heading: str, trouble: str = "", said: str = "", *, width: int = _WIDE, height: int | None = None
) -> Group:
    """Totals, a table of topics and one of publishers.

    Args:
        snapshot: what has come.
        heading: where it comes from.
        trouble: what is wrong at this moment, if anything is.
        said: what was logged last, if anything was.
        width: columns of the terminal; the sparklines take what names and figures leave.
        height: lines of the terminal, for which rows are left out; None: all are shown.
    """
    total = snapshot.total
    summary = f"{rate(total.events_per_second)} events/s, {size(total.bytes_per_second)}/s, {total.events:,} events in all"
    if snapshot.malformed:
        summary += f", {snapshot.malformed:,} malformed messages"
    texts = ((heading, "bold"), (summary, ""), (trouble, "bold red"), (said, "yellow"))
    above = [Text(printable(text), style, no_wrap=True, overflow="ellipsis") for text, style in texts if text]
    topics, publishers = _rows(snapshot)
    for_topics, for_publishers = len(topics), len(publishers)
    if height is not None:
        for_topics, for_publishers = _fitting(for_topics, for_publishers, height - len(above) - _HEADINGS)
    shown = [("TOPIC", topics[:for_topics], len(topics)), ("PUBLISHER", publishers[:for_publishers], len(publishers))]
    columns = _columns([row for _, rows, _ in shown for row in rows], width)
    found: list[RenderableType] = [*above]
    for name, rows, count in shown:
        more = f" {len(rows)}/{count}" if len(rows) < count else ""
        found += ["", _table(name + more, rows, columns)]
    return Group(*found)


def _rows(snapshot: Snapshot) -> tuple[list[_Row], list[_Row]]:
    topics = [(line.name, line) for line in snapshot.topics]
    publishers = [(line.name, line) for line in snapshot.publishers]
    if snapshot.not_numbered is not None:
        publishers.append(("not numbered", snapshot.not_numbered))
    # Others stay the last, whatever their rate.
    for rows, others in ((topics, snapshot.other_topics), (publishers, snapshot.other_publishers)):
        if others is not None:
            rows.append(("others", others))
    return topics, publishers


def _fitting(topics: int, publishers: int, lines: int) -> tuple[int, int]:
    """How many rows of each are shown on so many lines; what one table does not need the other one has."""
    for_publishers = min(publishers, max(1, lines // 2, lines - topics))
    return min(topics, max(1, lines - for_publishers)), for_publishers


def _figures(line: Line) -> tuple[str, str, str, str]:
    return rate(line.events_per_second), size(line.bytes_per_second), f"{line.events:,}", age(line.last_seen)


def _columns(rows: Sequence[_Row], width: int) -> _Columns:
    """The same for both tables. Figures are never cut off; names and sparklines share what they leave."""
    figures = [max(map(len, texts)) for texts in zip(_FIGURES, *(_figures(line) for _, line in rows), strict=True)]
    longest = max([_NAME, *(min(_LONGEST, len(printable(name, _LONGEST))) for name, _ in rows)])
    room = width - sum(figures) - _GAP * (len(figures) + 1)
    bars = min(HISTORY, max(_BARS, room - longest))
    return min(longest, max(_NAME, room - bars)), figures, bars


def _table(heading: str, rows: Sequence[_Row], columns: _Columns) -> Table:
    name_width, figure_widths, bars = columns
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="dim")
    table.add_column(heading, no_wrap=True, overflow="ellipsis", width=name_width)
    for name, width in zip(_FIGURES, figure_widths, strict=True):
        table.add_column(name, no_wrap=True, justify="right", width=width)
    table.add_column("TREND", no_wrap=True, overflow="crop", width=bars, style="green")
    for name, line in rows:
        table.add_row(
            Text(printable(name, _LONGEST), style="cyan"),
            *_figures(line),
            sparkline(line.history, bars),
            style="" if line.events_per_second else "dim",
        )
    return table


class _Printed(Written):
    """Prints tables one below the other."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def show(self, snapshot: Snapshot, state: ClientState, heading: str, trouble: str) -> None:
        with self._console.capture() as text:  # rich itself would end the process when nobody reads it
            self._console.print(tables(snapshot, heading, trouble, width=self._console.width))
        print(text.get(), flush=True)


class _Screen(logging.Filter):
    """Shows tables on the whole screen of a terminal in place of each other; what was there before is back at the end.

    What this package logs meanwhile is shown below the heading: written to the terminal, it would end up in the midst of it.
    SIGTERM ends the process in an orderly manner.
    """

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._live = Live(console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        self._said = ""
        self._shown: tuple[Snapshot, str, str] | None = None
        self._size = console.size

    def show(self, snapshot: Snapshot, state: ClientState, heading: str, trouble: str) -> None:
        self._shown = snapshot, heading, trouble
        self._draw()

    def adapt(self) -> None:
        if self._console.size != self._size:
            self._draw()

    def filter(self, record: logging.LogRecord) -> bool:
        self._said = f"{datetime.fromtimestamp(record.created).astimezone():%H:%M:%S} {record.getMessage()}"
        return False

    def __enter__(self) -> Self:
        _logger.addFilter(self)
        self._before = signal.signal(signal.SIGTERM, _end)
        self._live.start()
        self._live.update(Text("waiting for the first figures …"), refresh=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._live.stop()
        signal.signal(signal.SIGTERM, self._before)
        _logger.removeFilter(self)

    def _draw(self) -> None:
        self._size = size = self._console.size
        if self._shown is not None:
            snapshot, heading, trouble = self._shown
            content = tables(snapshot, heading, trouble, self._said, width=size.width, height=size.height)
            self._live.update(content, refresh=True)


def view(*, live: bool) -> View:
    """What shows tables on standard output.

    Args:
        live: in place of each other, where there is a terminal that can do so.
    """
    if understands_codes(sys.stdout):
        console = Console(highlight=False, no_color=not wants_colours(sys.stdout))
        return _Screen(console) if live else _Printed(console)
    return _Printed(Console(highlight=False, color_system=None, width=_WIDE))


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)  # the status that shells give to it
