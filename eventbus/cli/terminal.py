"""Writing to a terminal: colours, a progress bar, and characters that the terminal does not have."""

import os
from collections.abc import Mapping
from enum import StrEnum
from io import TextIOWrapper
from typing import IO, Self

_NAME_COLUMNS, _BAR_COLUMNS, _PERCENT_COLUMNS = 24, 30, 6
_CLEAR_LINE = "\r\x1b[K"


class Style(StrEnum):
    """The look of a piece of text: parameters of the control sequence SGR (ECMA-48)."""

    BOLD = "1"
    DIM = "2"
    RED = "1;31"
    GREEN = "32"
    YELLOW = "33"
    CYAN = "36"


class Paint:
    """Puts text in a style.

    Args:
        on: False: text stays as it is.
    """

    def __init__(self, on: bool) -> None:
        self._on = on

    def __call__(self, text: str, style: Style) -> str:
        """Return the text, which must be printable, in this style."""
        return f"\x1b[{style}m{text}\x1b[0m" if self._on else text


def understands_codes(stream: IO[str], environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the stream is a terminal that follows control sequences."""
    return stream.isatty() and environment.get("TERM", "dumb") != "dumb"


def width_of(stream: IO[str]) -> int:
    """The columns of the terminal that the stream is; 80 if it does not tell."""
    return os.get_terminal_size(stream.fileno()).columns or 80


def wants_colours(stream: IO[str], environment: Mapping[str, str] = os.environ) -> bool:
    """Whether to write colours to the stream: it is a terminal that has them, and `NO_COLOR` is not set (https://no-color.org)."""
    return understands_codes(stream, environment) and not environment.get("NO_COLOR")


def escape_unencodable(stream: IO[str]) -> None:
    """Let the stream write characters that its encoding does not have as escapes, instead of raising an error."""
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")


class ProgressBar:
    """Shows progress on one line of a terminal, and clears the line at the end of the block.

    Args:
        name: shown before the bar.
        total: the amount of all work.
        stream: where to show it. If it is no terminal, nothing is written.
    """

    def __init__(self, name: str, total: int, stream: IO[str]) -> None:
        self._name = name
        self._total = total
        self._stream = stream
        self._shown = understands_codes(stream)

    def __call__(self, done: int) -> None:
        """Show that this amount of the work is done."""
        if self._shown:
            # A longer one would begin another line each time.
            columns = width_of(self._stream) - 1
            self._stream.write(_CLEAR_LINE + bar(self._name, done / self._total, columns))
            self._stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            self._stream.write(_CLEAR_LINE)
            self._stream.flush()


def bar(name: str, fraction: float, columns: int = _NAME_COLUMNS + _BAR_COLUMNS + _PERCENT_COLUMNS) -> str:
    """The bar as text, when this fraction of the work is done, in this many columns at most."""
    fraction = min(1.0, max(0.0, fraction))
    length = min(_BAR_COLUMNS, max(0, columns - _NAME_COLUMNS - _PERCENT_COLUMNS))
    full = int(length * fraction)
    return f"{name:{_NAME_COLUMNS}}{'█' * full}{'░' * (length - full)} {100 * fraction:3.0f} %"[-max(1, columns) :]
