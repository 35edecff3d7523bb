"""``eventbus settings``: the effective settings as variables."""

import functools
import json
import re
import sys

from eventbus.cli.terminal import Paint, Style, wants_colours
from eventbus.keys import masked
from eventbus.settings import EventBusSettings

_QUOTES = {"'", '"', "`"}
_COMMENT = re.compile(r"\s#")
_SIMPLE = re.compile(r"[\w.,/-]*", re.ASCII)  # no sign that means something else in a list, or in a .env file


def print_settings(settings: EventBusSettings) -> None:
    """Print each variable with its value, and on the line before it its meaning. The output is a valid ``.env`` file."""
    paint = Paint(wants_colours(sys.stdout))
    for path, field in EventBusSettings.fields():
        print(paint(f"# {field.description}", Style.DIM))
        value = masked(_as_text(functools.reduce(getattr, path, settings)))
        print(f"{settings.variable(*path)}={_as_line(value)}")


def _as_line(value: str) -> str:
    """A value as it stands in a file: in quotes if it would be read as something else without them."""
    if value == value.strip() and value[:1] not in _QUOTES and not _COMMENT.search(value) and value.isprintable():
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _as_text(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case tuple():
            listed = ",".join(value)
            return listed if _SIMPLE.fullmatch(listed) else json.dumps(value)
        case _:
            return str(value)
