"""``eventbus settings``: the effective settings as variables."""

import functools
import json
import re
import sys

from eventbus.cli.terminal import Paint, Style, wants_colours
from eventbus.keys import masked
from eventbus.settings import EventBusSettings

_SIMPLE = re.compile(r"[\w.,/-]*", re.ASCII)  # no sign that means something else in a list, or in a .env file


def print_settings(settings: EventBusSettings) -> None:
    """Print each variable with its value, and on the line before it its meaning. The output is a valid ``.env`` file."""
    paint = Paint(wants_colours(sys.stdout))
    for path, field in EventBusSettings.fields():
        print(paint(f"# {field.description}", Style.DIM))
        value = _as_text(functools.reduce(getattr, path, settings))
        print(f"{settings.variable(*path)}={masked(value)}")


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
