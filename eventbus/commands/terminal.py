"""Colours for people: where they are wanted, and how they are written."""

import os
from collections.abc import Mapping
from enum import StrEnum
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
