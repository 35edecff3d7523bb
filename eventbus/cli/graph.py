"""``eventbus graph``: a picture of a container as Mermaid's text or as SVG. Pure."""

from collections.abc import Iterator
from html import escape
from typing import NamedTuple

from eventbus.container.description import Description, Flow

ANY_TOPIC = "any topic"
UNKNOWN_TOPIC = "a topic that is computed"
_ANY_TYPE = "any type"
_ROLES = {True: "asks", False: "answers"}  # by whether it is emitted


class Edge(NamedTuple):
    """Events between a component and a topic; `emits` tells the direction."""

    component: str
    topic: str
    label: str
    emits: bool


def edges(description: Description) -> list[Edge]:
    """The arrows of the picture: one for each component, topic and direction."""
    found: dict[tuple[str, str, bool], list[str]] = {}
    for component in description.components:
        for emits, flows in ((True, component.emits), (False, component.handles)):
            for flow in flows:
                types = found.setdefault((component.name, _topic(flow, emits=emits), emits), [])
                labels = (f"{name} ({_ROLES[emits]})" if flow.answered else name for name in flow.types or (_ANY_TYPE,))
                types += [label for label in labels if label not in types]
    return [Edge(name, topic, ", ".join(types), emits) for (name, topic, emits), types in found.items()]


def _topic(flow: Flow, *, emits: bool) -> str:
    return flow.topic or (UNKNOWN_TOPIC if emits else ANY_TOPIC)


def mermaid(description: Description) -> str:
    """Return the picture as a flowchart in Mermaid's language."""
    arrows = edges(description)
    names = {name: f"c{number}" for number, name in enumerate(dict.fromkeys(arrow.component for arrow in arrows))}
    topics = {name: f"t{number}" for number, name in enumerate(dict.fromkeys(arrow.topic for arrow in arrows))}
    lines = ["flowchart LR", f"    %% {_mermaid_text(description.name)}: who emits and handles what"]
    lines += [f'    {key}["{_mermaid_text(name)}"]' for name, key in names.items()]
    lines += [f'    {key}(["{_mermaid_text(name)}"])' for name, key in topics.items()]
    for arrow in arrows:
        ends = names[arrow.component], topics[arrow.topic]
        start, end = ends if arrow.emits else ends[::-1]
        lines.append(f'    {start} -->|"{_mermaid_text(arrow.label)}"| {end}')
    return "\n".join(lines)


def _mermaid_text(text: str) -> str:
    return "".join(f"#{ord(char)};" if char in '"#<>&\n\r' else char for char in text)


_STYLE = """\
svg { font: 14px system-ui, sans-serif; background: #fff }
rect { fill: #eef2ff; stroke: #4051b5 } .topic rect { fill: #fff8e1; stroke: #b26a00 }
text { fill: #1b1b1f; text-anchor: middle } .label { font-size: 12px }
.start { text-anchor: start } .end { text-anchor: end } .title { font-weight: 600; text-anchor: start }
path { fill: none; stroke: #6b7280; stroke-width: 1.5 } marker path { fill: #6b7280; stroke: none }
.label { paint-order: stroke; stroke: #fff; stroke-width: 5px }
@media (prefers-color-scheme: dark) {
  svg { background: #1e2129 } rect { fill: #2a3050; stroke: #9fa8da } .topic rect { fill: #3a2f18; stroke: #ffb74d }
  text { fill: #e6e6ec } path { stroke: #9aa0aa } marker path { fill: #9aa0aa } .label { stroke: #1e2129 }
}"""
_ROW, _BOX, _TOP, _GAP = 64, 36, 60, 190  # pixels: from row to row, height of a box, above the first, between columns
_LABEL = 15  # pixels from the line of one label to that of the next
_CHAR = 8.2  # pixels that a character takes at most, about


def svg(description: Description) -> str:
    """Return the picture as SVG: who emits on the left, topics in the middle, who handles on the right."""
    arrows = edges(description)
    columns = [
        list(dict.fromkeys(arrow.component for arrow in arrows if arrow.emits)),
        list(dict.fromkeys(arrow.topic for arrow in arrows)),
        list(dict.fromkeys(arrow.component for arrow in arrows if not arrow.emits)),
    ]
    _untangle(columns, arrows)
    longest = max((len(arrow.label) for arrow in arrows), default=0)
    gap = max(_GAP, round(longest * _CHAR * 0.8) + 40)
    widths = [round(max([6, *map(len, names)]) * _CHAR) + 28 for names in columns]
    lefts = [20, 20 + widths[0] + gap, 20 + widths[0] + widths[1] + 2 * gap]
    rows = max(1, *map(len, columns))
    width, height = lefts[2] + widths[2] + 20, _TOP + rows * _ROW + 10

    def middle(column: int, name: str) -> float:
        names = columns[column]
        return _TOP + _ROW * ((rows - len(names)) / 2 + names.index(name)) + _BOX / 2

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}">',
        f"<title>{_text(description.name)}: who emits and handles what</title>",
        f"<desc>{_text('; '.join(map(_sentence, arrows)))}</desc>",
        f"<style>{_STYLE}</style>",
        '<marker id="end" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0 8 4 0 8z"/></marker>',
        f'<text class="title" x="20" y="30">{_text(description.name)}</text>',
    ]
    drawn: set[tuple[int, int]] = set()  # where labels are, so that none hides another
    for arrow in arrows:
        columns_of = (0, arrow.component), (1, arrow.topic)
        if not arrow.emits:
            columns_of = (1, arrow.topic), (2, arrow.component)
        (left, start), (right, end) = columns_of
        x1, y1 = lefts[left] + widths[left], middle(left, start)
        x2, y2 = lefts[right], middle(right, end)
        bend = (x2 - x1) / 2
        parts.append(
            f'<path marker-end="url(#end)" d="M{x1:g} {y1:g}C{x1 + bend:g} {y1:g} {x2 - bend:g} {y2:g} {x2:g} {y2:g}"/>'
        )
        # At the end where fewer lines meet.
        same = [one for one in arrows if one.emits == arrow.emits]
        of_component = sum(one.component == arrow.component for one in same)
        of_topic = sum(one.topic == arrow.topic for one in same)
        at_right = (of_topic <= of_component) == arrow.emits
        parts.append(
            _label(arrow.label, x2 - 14, y2, drawn, "end") if at_right else _label(arrow.label, x1 + 8, y1, drawn, "start")
        )
    for column, names in enumerate(columns):
        kind = ' class="topic"' if column == 1 else ""
        for name in names:
            x, y = lefts[column], middle(column, name)
            parts.append(
                f'<g{kind}><rect x="{x}" y="{y - _BOX / 2:g}" width="{widths[column]}" height="{_BOX}" '
                f'rx="{_BOX / 2 if column == 1 else 5:g}"/>'
                f'<text x="{x + widths[column] / 2:g}" y="{y + 5:g}">{_text(name)}</text></g>'
            )
    return "\n".join([*parts, "</svg>"])


def _sentence(arrow: Edge) -> str:
    """An arrow for those who cannot see it."""
    verb, preposition = ("emits", "to") if arrow.emits else ("handles", "of")
    return f"{arrow.component} {verb} {arrow.label} {preposition} {arrow.topic}"


def _untangle(columns: list[list[str]], arrows: list[Edge]) -> None:
    """Sort each column by the places of what its names are connected to in the column before it."""
    for column, before in ((1, 0), (2, 1)):
        ends = [(arrow.topic, arrow.component) if column == 1 else (arrow.component, arrow.topic) for arrow in arrows]

        def place(name: str, known: list[str] = columns[before], ends: list[tuple[str, str]] = ends) -> float:
            places = [known.index(other) for one, other in ends if one == name and other in known]
            return sum(places) / len(places) if places else len(known)

        columns[column].sort(key=place)


def _label(text: str, x: float, y: float, drawn: set[tuple[int, int]], kind: str) -> str:
    at = round(x), round(y - 5)
    while any(abs(at[0] - other[0]) < _GAP / 2 and abs(at[1] - other[1]) < _LABEL for other in drawn):
        at = at[0], at[1] + _LABEL
    drawn.add(at)
    return f'<text class="label {kind}" x="{at[0]}" y="{at[1]}">{_text(text)}</text>'


def _text(text: str) -> str:
    return escape("".join(_printable(text)))


def _printable(text: str) -> Iterator[str]:
    """XML cannot have most control characters, not even escaped."""
    for char in text:
        yield char if char.isprintable() else "?"
