"""The tables of ``eventbus top``, made with rich; only this module imports that library."""

import logging
import os
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
from eventbus.cli.terminal import understands_codes, wants_colours, width_of
from eventbus.cli.top_views import View, Written
from eventbus.observe.state import ClientState
from eventbus.receive.meter import HISTORY, Line, Snapshot

_logger = logging.getLogger("eventbus")

_SPARKS = "▁▂▃▄▅▆▇█"
_UNITS = ("B", "kB", "MB", "GB", "TB")
_GAP_COLUMNS = 2  # columns between two others
_FIGURES = "EVENTS/S", "BYTES/S", "EVENTS", "LAST SEEN"
_MIN_NAME_COLUMNS, _MIN_TREND_COLUMNS = 16, 8
_HEADING_LINES = 4  # lines below the summary that are no rows
_MAX_NAME_CHARACTERS = 60
_PIPE_COLUMNS = 160

type _Row = tuple[str, Line]  # its name and its figures
type _Columns = tuple[int, list[int], int]  # the widths of the name, of the figures and of the trend


def tables(
    snapshot: Snapshot,
    heading: str,
    trouble: str = "",
    logged: str = "",
    *,
    width: int = _PIPE_COLUMNS,
    height: int | None = None,
) -> Group:
    """Totals, a table of topics and one of publishers.

    Args:
        snapshot: the figures.
        heading: the proxy and the state of the connection.
        trouble: what is wrong now; empty: nothing.
        logged: the last line of the log; empty: none.
        width: columns of the terminal; the trends get the columns that names and figures leave, if there are enough.
        height: lines of the terminal, into which the tables must fit; None: show all rows.
    """
    total = snapshot.total
    summary = f"{rate(total.events_per_second)} events/s, {size(total.bytes_per_second)}/s, {total.events:,} events in all"
    if snapshot.malformed:
        summary += f", {snapshot.malformed:,} malformed messages"
    texts = ((heading, "bold"), (summary, ""), (trouble, "bold red"), (logged, "yellow"))
    above = [Text(printable(text), style, no_wrap=True, overflow="ellipsis") for text, style in texts if text]
    topics, publishers = _rows(snapshot)
    for_topics, for_publishers = len(topics), len(publishers)
    if height is not None:
        for_topics, for_publishers = _fitting(for_topics, for_publishers, height - len(above) - _HEADING_LINES)
    shown = [("TOPIC", topics[:for_topics], len(topics)), ("PUBLISHER", publishers[:for_publishers], len(publishers))]
    columns = _columns([row for _, rows, _ in shown for row in rows], width)
    found: list[RenderableType] = [*above]
    for name, rows, count in shown:
        more = f" {len(rows)}/{count}" if len(rows) < count else ""
        found += ["", _table(name + more, rows, columns)]
    return Group(*found)


def _rows(snapshot: Snapshot) -> tuple[list[_Row], list[_Row]]:
    topics = [(line.name, line) for line in snapshot.topics]
    publishers = [(f"{line.label} {line.name}" if line.label else line.name, line) for line in snapshot.publishers]
    if snapshot.not_numbered is not None:
        publishers.append(("not numbered", snapshot.not_numbered))
    # The row of all others is the last, whatever its rate.
    for rows, others in ((topics, snapshot.other_topics), (publishers, snapshot.other_publishers)):
        if others is not None:
            rows.append(("others", others))
    return topics, publishers


def _fitting(topics: int, publishers: int, lines: int) -> tuple[int, int]:
    """Divide these lines among the tables; one table gets the lines that the other does not need."""
    for_publishers = min(publishers, max(1, lines // 2, lines - topics))
    return min(topics, max(1, lines - for_publishers)), for_publishers


def _figures(line: Line) -> tuple[str, str, str, str]:
    return rate(line.events_per_second), size(line.bytes_per_second), f"{line.events:,}", age(line.last_seen)


def _columns(rows: Sequence[_Row], width: int) -> _Columns:
    """The widths for both tables. Names and trends share what the figures leave; where it is too little, the trends go."""
    figures = [max(map(len, texts)) for texts in zip(_FIGURES, *(_figures(line) for _, line in rows), strict=True)]
    longest = max(
        [_MIN_NAME_COLUMNS, *(min(_MAX_NAME_CHARACTERS, len(printable(name, _MAX_NAME_CHARACTERS))) for name, _ in rows)]
    )
    room = width - sum(figures) - _GAP_COLUMNS * (len(figures) + 1)
    if room < _MIN_NAME_COLUMNS + _MIN_TREND_COLUMNS:
        return min(longest, max(_MIN_NAME_COLUMNS // 2, room + _GAP_COLUMNS)), figures, 0
    bars = min(HISTORY, max(_MIN_TREND_COLUMNS, room - longest))
    return min(longest, room - bars), figures, bars


def _table(heading: str, rows: Sequence[_Row], columns: _Columns) -> Table:
    name_width, figure_widths, bars = columns
    table = Table(box=None, padding=(0, _GAP_COLUMNS, 0, 0), pad_edge=False, header_style="dim")
    table.add_column(heading, no_wrap=True, overflow="ellipsis", width=name_width)
    for name, width in zip(_FIGURES, figure_widths, strict=True):
        table.add_column(name, no_wrap=True, justify="right", width=width)
    if bars:
        table.add_column("TREND", no_wrap=True, overflow="crop", width=bars, style="green")
    for name, line in rows:
        table.add_row(
            Text(printable(name, _MAX_NAME_CHARACTERS), style="cyan"),
            *_figures(line),
            *([sparkline(line.history, bars)] if bars else ()),
            style="" if line.events_per_second else "dim",
        )
    return table


class _Printed(Written):
    """Prints the tables of each snapshot below those of the one before."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def show(self, snapshot: Snapshot, state: ClientState, heading: str, trouble: str) -> None:
        with self._console.capture() as text:  # on a closed pipe rich itself would end the process
            self._console.print(tables(snapshot, heading, trouble, width=self._console.width))
        print(text.get(), flush=True)


class _Screen(logging.Filter):
    """Shows the tables on the whole screen of a terminal, and restores the screen at the end.

    Lines that this package logs in the meantime are shown below the heading: written to the terminal, they would stand in
    the middle of the tables. SIGTERM and Ctrl-Z restore the screen, too.
    """

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._live = Live(console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        self._logged = ""
        self._shown: tuple[Snapshot, str, str] | None = None  # with heading and trouble
        self._size = console.size
        self._to_suspend = False

    def show(self, snapshot: Snapshot, state: ClientState, heading: str, trouble: str) -> None:
        self._shown = snapshot, heading, trouble
        self._draw()

    def adapt(self) -> None:
        if self._to_suspend:
            self._suspend()
        if self._console.size != self._size:
            self._draw()

    def filter(self, record: logging.LogRecord) -> bool:
        self._logged = f"{datetime.fromtimestamp(record.created).astimezone():%H:%M:%S} {record.getMessage()}"
        return False

    def __enter__(self) -> Self:
        _logger.addFilter(self)
        self._before = signal.signal(signal.SIGTERM, _end), signal.signal(signal.SIGTSTP, self._request_suspension)
        self._live.start()
        self._draw()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._live.stop()
        for number, handler in zip((signal.SIGTERM, signal.SIGTSTP), self._before, strict=True):
            signal.signal(number, handler)
        _logger.removeFilter(self)

    def _request_suspension(self, number: int, frame: FrameType | None) -> None:
        self._to_suspend = True  # `adapt` does it: here the screen may be half drawn

    def _suspend(self) -> None:
        """Restore the screen, stop as Ctrl-Z does, and draw again after `fg`."""
        self._to_suspend = False
        self._live.stop()
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)  # returns when the process goes on
        signal.signal(signal.SIGTSTP, handler)
        self._live.start()
        self._draw()

    def _draw(self) -> None:
        self._size = size = self._console.size
        if self._shown is None:
            content: RenderableType = Text("waiting for the first figures …")
        else:
            snapshot, heading, trouble = self._shown
            content = tables(snapshot, heading, trouble, self._logged, width=size.width, height=size.height)
        self._live.update(content, refresh=True)


def view(*, live: bool) -> View:
    """The view that shows tables on standard output.

    Args:
        live: replace the tables of one snapshot by those of the next, if standard output is a terminal that can do it.
    """
    if understands_codes(sys.stdout):
        console = Console(highlight=False, no_color=not wants_colours(sys.stdout))
        return _Screen(console) if live else _Printed(console)
    columns = width_of(sys.stdout) if sys.stdout.isatty() else _PIPE_COLUMNS
    return _Printed(Console(highlight=False, color_system=None, width=columns))


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)  # the status that shells report for it


# Figures as people read them at a glance.


def rate(per_second: float) -> str:
    """A rate; slow ones with a decimal."""
    return f"{per_second:,.0f}" if per_second >= 9.95 or per_second == 0 else f"{per_second:.1f}"


def size(count: float) -> str:
    """A number of bytes, in units of thousands."""
    for unit in _UNITS[:-1]:
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.5 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} {_UNITS[-1]}"


def age(seconds: float | None) -> str:
    """A time in the past, in seconds; None: never."""
    if seconds is None:
        return "never"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 119.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7_170 else f"{seconds / 3600:.0f} h"


def sparkline(values: Sequence[float], width: int) -> str:
    """The latest values as bars, oldest first. The highest one is a full bar; only 0 is the lowest bar."""
    shown = values[-width:]
    highest = max(shown, default=0.0)
    steps = len(_SPARKS) - 1
    return "".join(_SPARKS[0 if value <= 0 else max(1, round(steps * value / highest))] for value in shown).rjust(width)
