"""The output of ``eventbus tail``: an event as one line, JSON for programs or text for people. Pure.

Received text is escaped in both, so that it cannot control a terminal.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from pydantic_core import from_json, to_json

from eventbus._base.fields import as_text, flat
from eventbus._base.printable import printable
from eventbus.cli.terminal import Paint, Style
from eventbus.wire.headers import NO_HEADERS, Headers

_MAX_LINE_CHARACTERS = 4_000  # characters of a line for people
_MAX_REMEMBERED = 100  # kinds of events of which the last one is kept, to compare the next one with it
_LAST_FIELDS = {"id", "time"}


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


class Hidden(NamedTuple):
    """The parts that lines for people leave out, because they are the same in every one of them.

    Attributes:
        topic: whether the topic is.
        type: whether the type is.
        fields: the fields that are, nested ones with dots.
    """

    topic: bool = False
    type: bool = False
    fields: frozenset[str] = frozenset()


SHOW_ALL = Hidden()


class TextLines:
    """Events as lines for people; a value that is the same as in the line before it on this topic is dim.

    Args:
        paint: writes the colours.
        hidden: what is left out.
    """

    def __init__(self, paint: Paint, hidden: Hidden = SHOW_ALL) -> None:
        self._paint = paint
        self._hidden = hidden
        self._before: dict[tuple[str, str], dict[str, str]] = {}

    def line(self, received: Received, clock: str) -> str:
        """One line: time, topic, type and fields, those first that tell most, cut off at 4,000 characters.

        Fields are written as `--where` reads them: nested names with dots, texts in quotes only where quotes are needed.
        `id` and `time`, which every event has that has them, come last.

        Args:
            received: the event.
            clock: the time of day, shown if there is no `since_start`.
        """
        paint, hidden = self._paint, self._hidden
        pieces = [paint(clock if received.since_start is None else f"+{received.since_start:.3f}s", Style.DIM)]
        if not hidden.topic:
            pieces.append(paint(printable(received.topic), Style.CYAN))
        fields, kind = received.event, ""
        if isinstance(fields, dict) and isinstance(fields.get("type"), str):
            kind = fields["type"]
            if not hidden.type:
                pieces.append(paint(printable(kind), Style.GREEN))
            fields = {name: value for name, value in fields.items() if name != "type"}
        if isinstance(fields, dict):
            fields = dict(sorted(fields.items(), key=lambda item: item[0] in _LAST_FIELDS))  # otherwise in their order
        headers = ((f"@{name}", as_text(value)) for name, value in received.headers.items())
        pieces += self._fields(chain(flat("", fields), headers), (received.topic, kind))
        return " ".join(pieces)

    def _fields(self, fields: Iterable[tuple[str, str]], of: tuple[str, str]) -> Iterator[str]:
        """Yield each field, as long as there is room in the line."""
        before, now = self._before.get(of, {}), dict[str, str]()
        left = _MAX_LINE_CHARACTERS
        for name, value in fields:
            if name in self._hidden.fields:
                continue
            start = printable(f"{name}=" if name else "", max(1, left))
            rest = printable(value, max(1, left - len(start)))
            now[start] = rest
            is_known = start and before.get(start) == rest
            if start:
                start = self._paint(start + rest if is_known else start, Style.DIM)
            yield start if is_known else start + rest
            left -= len(name) + len(rest) + 2
            if left <= 0:
                break
        if of in self._before or len(self._before) < _MAX_REMEMBERED:
            self._before[of] = now
