"""The tables of `top`, as text."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from eventbus.cli.top_table import age, rate, size, sparkline, tables
from eventbus.receive.meter import Line, Snapshot


def line(name: str, per_second: float = 10.0, events: int = 100) -> Line:
    return Line(name, per_second, 1500.0, events, 150_000, 0.25, (0.0, 5.0, per_second))


def snapshot(topics: int = 2, publishers: int = 1, *, others: bool = False, malformed: int = 0) -> Snapshot:
    return Snapshot(
        interval=1.0,
        total=line("", 1234.5, 5000),
        topics=tuple(line(f"topic-{number}") for number in range(topics)),
        other_topics=line("") if others else None,
        publishers=tuple(line(f"{number:016x}") for number in range(publishers)),
        not_numbered=line("") if others else None,
        other_publishers=line("") if others else None,
        malformed=malformed,
    )


def shown(content: Snapshot, trouble: str = "", said: str = "", *, width: int = 120, height: int | None = None) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None, highlight=False)
    with console.capture() as capture:
        console.print(tables(content, "plant-1: ready", trouble, said, width=width, height=height))
    return [text.rstrip() for text in capture.get().splitlines()]


def test_what_is_shown() -> None:
    """The sums, a row for each topic and each publisher, with rates, sizes, ages and a sparkline."""
    heading, total, empty, topics, first, second, _, publishers, publisher = shown(snapshot())
    assert (heading, total, empty) == ("plant-1: ready", "1,234 events/s, 1.5 kB/s, 5,000 events in all", "")
    assert topics.split() == ["TOPIC", "EVENTS/S", "BYTES/S", "EVENTS", "LAST", "SEEN", "TREND"]
    assert first.split() == ["topic-0", "10", "1.5", "kB", "100", "0.2", "s", "▁▅█"]
    assert second.split()[0] == "topic-1"
    assert publishers.split()[0] == "PUBLISHER"
    assert publisher.split()[0] == "0" * 16


def test_others() -> None:
    """The rows of the others come last in their tables, and malformed messages are counted in the head."""
    lines = shown(snapshot(1, 1, others=True, malformed=3))
    assert lines[1].endswith("5,000 events in all, 3 malformed messages")
    assert [text.split("  ")[0] for text in lines[3:]] == [
        "TOPIC", "topic-0", "others", "", "PUBLISHER", "0" * 16, "not numbered", "others",
    ]  # fmt: skip


def test_trouble_and_what_was_logged() -> None:
    """Both stand above the tables, on a line each."""
    lines = shown(snapshot(), "the proxy is away", "12:00:00 something")
    assert lines[2:4] == ["the proxy is away", "12:00:00 something"]


@pytest.mark.parametrize("height", [5, 8, 12, 20, 40, 200])
@pytest.mark.parametrize(("topics", "publishers"), [(0, 0), (1, 100), (100, 1), (100, 100), (3, 3)])
@pytest.mark.parametrize("trouble", ["", "the proxy is away"])
def test_it_fits_the_terminal(height: int, topics: int, publishers: int, trouble: str) -> None:
    """It has no more lines than the terminal, unless that is very small; then it tells how many rows are left out."""
    lines = shown(snapshot(topics, publishers), trouble, height=height)
    rows = sum(text.startswith("topic-") for text in lines), sum(text.startswith("0000") for text in lines)
    assert len(lines) <= max(height, 9)
    for heading, count, total in zip(("TOPIC", "PUBLISHER"), rows, (topics, publishers), strict=True):
        [title] = [text for text in lines if text.startswith(heading)]
        assert title.startswith(f"{heading} {count}/{total} ") == (count < total)
        assert count >= min(1, total)
    if topics + publishers + 6 + bool(trouble) <= height:
        assert rows == (topics, publishers)
    elif height >= 12:
        assert len(lines) == height


@pytest.mark.parametrize("width", [40, 60, 80, 120, 300])
def test_it_fits_a_narrow_terminal(width: int) -> None:
    """No line is longer than the terminal is wide, and from 60 columns on there is room for all that counts."""
    long = Line("topic-" * 40, 1e6, 1e9, 10**9, 10**12, 3600.0, (1.0,) * 30)
    lines = shown(Snapshot(1.0, long, (long,), None, (line("0" * 16),), None, None, 0), "away " * 60, width=width)
    assert max(map(len, lines)) <= width
    assert len(lines) == 9
    if width >= 60:
        assert {"1,000,000", "1.0", "GB", "1,000,000,000", "60", "min"} <= set(lines[5].split())


def test_what_came_is_escaped() -> None:
    """A topic is text: neither codes nor rich's markup in it mean anything."""
    lines = shown(Snapshot(1.0, line(""), (line("\x1b[31m"), line("[bold]x[/bold]")), None, (), None, None, 0))
    assert lines[4].startswith(r"\x1b[31m ")
    assert lines[5].startswith("[bold]x[/bold] ")


# Figures


@pytest.mark.parametrize(
    ("per_second", "expected"),
    [(0, "0"), (0.04, "0.0"), (0.5, "0.5"), (9.94, "9.9"), (9.96, "10"), (1234.5, "1,234"), (1e6, "1,000,000")],
)
def test_rates(per_second: float, expected: str) -> None:
    """Slow ones have a decimal, fast ones commas."""
    assert rate(per_second) == expected


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.6, "1.0 kB"),
        (1500, "1.5 kB"),
        (99_400, "99.4 kB"),
        (99_600, "100 kB"),
        (2.5e6, "2.5 MB"),
        (3e9, "3.0 GB"),
        (4e15, "4,000.0 TB"),
    ],
)
def test_sizes(count: float, expected: str) -> None:
    """Three digits are enough, in units of thousands."""
    assert size(count) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(None, "never"), (0.04, "0.0 s"), (9.9, "9.9 s"), (10, "10 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h")],
)
def test_ages(seconds: float | None, expected: str) -> None:
    """The unit that a person would use."""
    assert age(seconds) == expected


def test_a_sparkline() -> None:
    """The newest value is at the right; the highest is a full bar, and a value above 0 looks different from 0."""
    assert sparkline([0, 1, 4, 8], 6) == "  ▁▂▅█"
    assert sparkline([8, 0, 0.001, 1], 3) == "▁▂█"
    assert sparkline([0, 0], 2) == "▁▁"
    assert sparkline([], 3) == "   "


@given(st.lists(st.floats(0, 1e12), max_size=40), st.integers(1, 30))
def test_any_sparkline(values: list[float], width: int) -> None:
    """It has as many columns as it may, whatever the values."""
    assert len(sparkline(values, width)) == width
