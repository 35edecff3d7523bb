"""Events as lines, for programs and for people."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus.cli.tail_filter import Condition
from eventbus.cli.tail_lines import Hidden, Received, TextLines, json_line
from eventbus.cli.terminal import Paint

CLOCK = "12:00:00.123"
ODD = st.text(st.characters() | st.sampled_from("\x1b\n\r\x07\x7f\x9b\u2028\u202e'\"= "))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | ODD,
    lambda inner: st.lists(inner) | st.dictionaries(ODD, inner),
    max_leaves=20,
)


def text(received: Received, *, colours: bool = False) -> str:
    return TextLines(Paint(colours)).line(received, CLOCK)


def test_json_for_programs() -> None:
    """Topic and event, and nothing else unless there is more."""
    assert json_line(Received("plant", {"type": "started"})) == '{"topic": "plant", "event": {"type": "started"}}'
    whole = Received("plant", [1], {"trace": "00-ab"}, 1.23456789)
    assert json.loads(json_line(whole)) == {
        "topic": "plant",
        "event": [1],
        "headers": {"trace": "00-ab"},
        "since_start": 1.234568,
    }


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"type": "started", "value": 1.5, "on": True, "none": None}, "started value=1.5 on=true none=null"),
        ({"type": "started"}, "started"),
        ({"value": 1, "type": "started"}, "started value=1"),
        ({"value": 1}, "value=1"),
        ({"type": 1}, "type=1"),
        ({}, ""),
        ({"id": "3f", "time": "12:00", "type": "a", "b": 1}, "a b=1 id=3f time=12:00"),
        ({"a": {"b": {"c": 1}, "d": {}}, "e": [1, {"f": 2}]}, 'a.b.c=1 a.d={} e=[1, {"f": 2}]'),
        ({"text": "plain"}, "text=plain"),
        ({"text": "größe"}, "text=größe"),
        ({"text": "two words"}, 'text="two words"'),
        ({"text": "3"}, 'text="3"'),
        ({"text": "true"}, 'text="true"'),
        ({"text": ""}, 'text=""'),
        ({"text": "a=b"}, 'text="a=b"'),
        ([1, "a"], '[1, "a"]'),
        ("text", "text"),
        (None, "null"),
    ],
)
def test_text_for_people(event: object, expected: str) -> None:
    """Time, topic, type and the fields, nested ones with dots; texts in quotes where they would be read otherwise."""
    assert text(Received("plant", event)) == f"{CLOCK} plant {expected}".rstrip()


def test_headers_and_the_time_since_the_start() -> None:
    """Headers come last, with an @; the seconds since the start take the place of the clock."""
    received = Received("plant", {"type": "started"}, {"trace": "00-ab"}, 1.23456)
    assert text(received) == "+1.235s plant started @trace=00-ab"


def test_colours() -> None:
    """In colour, it is the same text with codes between that end before the line does."""
    received = Received("plant", {"type": "started", "value": 1})
    assert text(received, colours=True) == (
        f"\x1b[2m{CLOCK}\x1b[0m \x1b[36mplant\x1b[0m \x1b[32mstarted\x1b[0m \x1b[2mvalue=\x1b[0m1"
    )


def test_what_is_the_same_in_every_line() -> None:
    """Fields that the user asked for are left out; a value that is that of the last such event is dim."""
    hidden = TextLines(Paint(False), Hidden(topic=True, type=True, fields=frozenset({"sensor.id"})))
    event = {"type": "alarm", "sensor": {"id": 3}, "level": 0.93}
    assert hidden.line(Received("plant", event), CLOCK) == f"{CLOCK} level=0.93"

    lines = TextLines(Paint(True), Hidden(topic=True, type=True))
    lines.line(Received("plant", {"type": "a", "x": 1, "y": 1}), CLOCK)
    lines.line(Received("plant", {"type": "b", "x": 2, "y": 2}), CLOCK)
    assert lines.line(Received("plant", {"type": "a", "x": 1, "y": 2}), CLOCK) == (
        f"\x1b[2m{CLOCK}\x1b[0m \x1b[2mx=1\x1b[0m \x1b[2my=\x1b[0m2"
    )


def test_a_long_event_is_cut_off() -> None:
    """However many and however long the fields are, the line is short enough for a terminal."""
    for event in ({"type": "a", "text": "x" * 1_000_000}, {"type": "a"} | dict.fromkeys(map(str, range(10_000)), 1)):
        assert len(text(Received("plant", event))) < 4_500
    assert text(Received("plant", {"text": "x" * 1_000_000})).endswith("x…")


@given(ODD, JSON, st.dictionaries(ODD, ODD))
def test_nothing_reaches_the_terminal_as_it_was(topic: str, event: object, headers: dict[str, str]) -> None:
    """Whatever was received: both kinds of line are one line, and print."""
    received = Received(topic, event, headers)
    assert text(received).isprintable()
    assert json_line(received).isprintable()


@pytest.mark.patience
@given(st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), ODD | st.integers() | st.booleans() | st.none()))
def test_what_is_shown_can_be_asked_for(fields: dict[str, object]) -> None:
    """A field, as it is shown, is the condition that it fulfils; unless something in it had to be escaped."""
    for name, value in fields.items():
        shown = text(Received("plant", {name: value}))
        if name != "type" and not (isinstance(value, str) and not value.isprintable()):
            assert Condition.parse(shown.removeprefix(f"{CLOCK} plant ")).matches({name: value})
