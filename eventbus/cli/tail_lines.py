"""The output of ``eventbus tail``: an event as one line, JSON for programs or text for people. Pure.

Received text is escaped in both, so that it cannot control a terminal.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from pydantic_core import from_json, to_json

from eventbus._base.printable import printable
from eventbus.cli.terminal import Paint, Style
from eventbus.wire.headers import NO_HEADERS, Headers

_MAX_LINE_CHARACTERS = 4_000  # characters of a line for people


@dataclass(frozen=True, slots=True)
class Received:
    """A received event.

    Attributes:
        topic: its topic.
        event: its JSON as Python reads it, usually a dict with a type.
        headers: its headers.
        since_start: seconds since the subscriptions took effect; None: not to be shown.
    """

    topic: str
    event: object
    headers: Headers = NO_HEADERS
    since_start: float | None = None


def json_line(received: Received) -> str:
    """One JSON object: ``topic``, ``event``, and ``headers`` and ``since_start`` if there are any.

    Numbers that JSON does not have, such as NaN, become null, because other parsers refuse them.
    """
    content: dict[str, object] = {"topic": received.topic, "event": received.event}
    if received.headers:
        content["headers"] = dict(received.headers)
    if received.since_start is not None:
        content["since_start"] = round(received.since_start, 6)
    try:
        return json.dumps(content, allow_nan=False)
    except ValueError:
        return json.dumps(from_json(to_json(content, inf_nan_mode="null")))


def text_line(received: Received, clock: str, paint: Paint) -> str:
    """One line for people: time, topic, type and fields, cut off at 4,000 characters.

    Fields are written as `--where` reads them: nested names with dots, texts in quotes only where quotes are needed.

    Args:
        received: the event.
        clock: the time of day, shown if there is no `since_start`.
        paint: writes the colours.
    """
    when = clock if received.since_start is None else f"+{received.since_start:.3f}s"
    pieces = [paint(when, Style.DIM), paint(printable(received.topic), Style.CYAN)]
    fields = received.event
    if isinstance(fields, dict) and isinstance(fields.get("type"), str):
        pieces.append(paint(printable(fields["type"]), Style.GREEN))
        fields = {name: value for name, value in fields.items() if name != "type"}
    left = _MAX_LINE_CHARACTERS
    headers = ((f"@{name}", _text(value)) for name, value in received.headers.items())
    for name, value in chain(_flat("", fields), headers):
        start = printable(f"{name}=" if name else "", max(1, left))
        rest = printable(value, max(1, left - len(start)))
        pieces.append(paint(start, Style.DIM) + rest if start else rest)
        left -= len(start) + len(rest) + 1
        if left <= 0:
            break
    return " ".join(pieces)


def _flat(path: str, value: object) -> Iterator[tuple[str, str]]:
    """The fields of a value, each with its path."""
    if isinstance(value, dict) and (value or not path):
        for name, inner in value.items():
            yield from _flat(f"{path}.{name}" if path else name, inner)
    else:
        yield path, _text(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _text(value: str) -> str:
    """A text as it is, or in quotes if it would be read as something else without them."""
    try:
        from_json(value, allow_inf_nan=False)
    except (ValueError, TypeError):  # TypeError: a lone surrogate
        if value and not any(char.isspace() or char in "\"'=" for char in value):
            return value
    return json.dumps(value, ensure_ascii=False)
