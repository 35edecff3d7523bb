"""Numbers as people read them at a glance. Pure."""

from collections.abc import Sequence

_BARS = "▁▂▃▄▅▆▇█"
_UNITS = ("B", "kB", "MB", "GB", "TB")


def rate(per_second: float) -> str:
    """So many per second; slow ones with a decimal."""
    return f"{per_second:,.0f}" if per_second >= 9.95 or per_second == 0 else f"{per_second:.1f}"


def size(count: float) -> str:
    """So many bytes, in units of thousands."""
    for unit in _UNITS[:-1]:
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.5 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} {_UNITS[-1]}"


def age(seconds: float | None) -> str:
    """So long ago; None: never."""
    if seconds is None:
        return "never"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 119.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7_170 else f"{seconds / 3600:.0f} h"


def sparkline(values: Sequence[float], width: int) -> str:
    """The latest values as bars, oldest first: the highest of them all is a full one, and only 0 is the lowest."""
    shown = values[-width:]
    highest = max(shown, default=0.0)
    steps = len(_BARS) - 1
    return "".join(_BARS[0 if value <= 0 else max(1, round(steps * value / highest))] for value in shown).rjust(width)
