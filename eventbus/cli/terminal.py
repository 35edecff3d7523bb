"""What a terminal can do: where colours are wanted, how they are written, and signs that it does not have."""

import os
from collections.abc import Mapping
from enum import StrEnum
from io import TextIOWrapper
from typing import IO


class Style(StrEnum):
    """How a piece of text looks: the parameters of SGR (ECMA-48)."""

    BOLD = "1"
    DIM = "2"
    RED = "1;31"
    GREEN = "32"
    YELLOW = "33"
    CYAN = "36"


class Paint:
    """Writes text in a style, or as it is.

    Args:
        on: whether there are colours.
    """

    def __init__(self, on: bool) -> None:
        self._on = on

    def __call__(self, text: str, style: Style) -> str:
        """The text, which must be printable, in this style."""
        return f"\x1b[{style}m{text}\x1b[0m" if self._on else text


def understands_codes(stream: IO[str], environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this is a terminal that can do more than print one line after the other."""
    return stream.isatty() and environment.get("TERM", "dumb") != "dumb"


def wants_colours(stream: IO[str], environment: Mapping[str, str] = os.environ) -> bool:
    """Whether to write in colours: to a terminal that has them, unless `NO_COLOR` is set (https://no-color.org)."""
    return understands_codes(stream, environment) and not environment.get("NO_COLOR")


def tolerate_all_signs(stream: IO[str]) -> None:
    """From now on write what the stream's encoding does not have as an escape: it is no error."""
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
