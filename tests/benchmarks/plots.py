"""Line charts as SVG, without a library: for a page that is light or dark as its reader wants."""

import math
from collections.abc import Mapping, Sequence
from html import escape

type Points = Sequence[tuple[float, float]]

_WIDTH, _HEIGHT = 640, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 78, 150, 40, 44
_COLOURS = "#1f77b4", "#d62728", "#2ca02c", "#9467bd"
_STYLE = """<style>
text { font: 12px sans-serif; fill: #24292f } .title { font-weight: bold; font-size: 14px }
.axis { stroke: #8c959f; fill: none } .grid { stroke: #d0d7de; fill: none }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .grid { stroke: #30363d } }
</style>"""


def chart(title: str, x: str, y: str, lines: Mapping[str, Points]) -> str:
    """Return a chart with logarithmic axes.

    Args:
        title: above the chart.
        x: what the horizontal axis shows.
        y: what the vertical axis shows.
        lines: the points of each line, by its name; all values are above 0.
    """
    xs = [point[0] for points in lines.values() for point in points]
    ys = [point[1] for points in lines.values() for point in points]
    across, up = _Axis(xs, _LEFT, _WIDTH - _RIGHT), _Axis(ys, _HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">',
        f"<title>{escape(title)}</title>",
        f"<desc>{escape(_described(x, y, lines))}</desc>",
        _STYLE,
        f'<text class="title" x="{_LEFT}" y="20">{escape(title)}</text>',
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(x)}</text>',
        f'<text x="{_LEFT}" y="{_TOP - 6}">{escape(y)}</text>',
    ]
    for tick in up.ticks():
        at = up.place(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" y1="{at:.1f}" x2="{_WIDTH - _RIGHT}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{_short(tick)}</text>')
    below = _HEIGHT - _BOTTOM + 16
    parts += [
        f'<text x="{across.place(tick):.1f}" y="{below}" text-anchor="middle">{_short(tick)}</text>'
        for tick in across.ticks()
    ]
    parts.append(f'<path class="axis" d="M{_LEFT} {_TOP}V{_HEIGHT - _BOTTOM}H{_WIDTH - _RIGHT}"/>')
    for index, (name, points) in enumerate(lines.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        placed = [(across.place(one), up.place(other)) for one, other in points]
        path = " ".join(f"{one:.1f},{other:.1f}" for one, other in placed)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{one:.1f}" cy="{other:.1f}" r="3" fill="{colour}"/>' for one, other in placed]
        parts.append(f'<text x="{_WIDTH - _RIGHT + 10}" y="{placed[-1][1] + 4:.1f}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _described(x: str, y: str, lines: Mapping[str, Points]) -> str:
    """All values as text, for who cannot see the chart."""
    values = ("; ".join(f"{at:g}: {value:.4g}" for at, value in points) for points in lines.values())
    return f"{y} by {x}. " + ". ".join(f"{name}: {text}" for name, text in zip(lines, values, strict=True))


class _Axis:
    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self._low, self._high = math.log10(min(values)), math.log10(max(values))
        if self._high - self._low < 1:  # never less than a power of ten, so that noise looks like noise
            middle = (self._low + self._high) / 2
            self._low, self._high = middle - 0.5, middle + 0.5
        self._start, self._end = start, end

    def place(self, value: float) -> float:
        return self._start + (math.log10(value) - self._low) / (self._high - self._low) * (self._end - self._start)

    def ticks(self) -> list[float]:
        powers = range(math.floor(self._low), math.ceil(self._high) + 1)
        found = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
        inside = [tick for tick in found if self._low <= math.log10(tick) <= self._high]
        return inside if len(inside) <= 8 else [tick for tick in inside if math.log10(tick).is_integer()]


def _short(value: float) -> str:
    for limit, letter in ((1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g}{letter}"
    return f"{value:g}"
