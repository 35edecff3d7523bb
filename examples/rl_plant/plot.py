"""Two curves as text. Pure."""

from collections.abc import Sequence

VALUE, TARGET = "*", "-"


def plot(values: Sequence[float | None], targets: Sequence[float | None], *, width: int = 70, height: int = 12) -> list[str]:
    """Draw values (``*``) over what they should be (``-``), from left to right; returns the lines, the upper one first.

    Args:
        values: one for each step; None where it is not known. If there are more than fit, neighbours are averaged.
        targets: as many.
        width: the most columns that the curves take, without the scale to their left.
        height: the number of lines.
    """
    columns = [_averages(series, width) for series in (values, targets)]
    known = [value for series in columns for value in series if value is not None]
    if not known:
        return []
    lowest, highest = min(known), max(known)
    span = highest - lowest or 1.0

    def row(value: float) -> int:
        """The row of a value, counted from above."""
        return round((highest - value) / span * (height - 1))

    lines = [[" "] * len(columns[0]) for _ in range(height)]
    for series, sign in ((columns[1], TARGET), (columns[0], VALUE)):
        for column, value in enumerate(series):
            if value is not None:
                lines[row(value)][column] = sign
    scale = [f"{highest - span * number / (height - 1):8.2f}" if number % 3 == 0 else " " * 8 for number in range(height)]
    return [f"{mark} |{''.join(line)}".rstrip() for mark, line in zip(scale, lines, strict=True)]


def _averages(series: Sequence[float | None], width: int) -> list[float | None]:
    """Reduce the values to at most this many, each the average of as many neighbours."""
    each = -(-len(series) // width)
    averages: list[float | None] = []
    for start in range(0, len(series), max(1, each)):
        known = [value for value in series[start : start + each] if value is not None]
        averages.append(sum(known) / len(known) if known else None)
    return averages
