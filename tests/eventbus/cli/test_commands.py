"""The arguments of the commands: those that pydantic-settings would take for something else, too."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from eventbus.cli.commands import command_of

ANY_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0") | st.sampled_from(',[]{}"\\=\udc80'), max_size=20)


@pytest.mark.parametrize("command", ["tail", "top", "check"])
def test_json_for_short(command: str) -> None:
    """--json is --format=json, for the commands that have it."""
    assert command_of([command, "--json"]).format == "json"
    assert command_of([command]).format != "json"


def test_json_as_an_argument() -> None:
    """After -- it is an argument as any other."""
    assert command_of(["tail", "--", "--json"]).names == ["--json"]
    assert command_of(["tail", "--", "--json"]).format == "auto"


@pytest.mark.patience
@given(ANY_TEXT)
@settings(max_examples=20, deadline=None)  # each makes a parser of all commands
@example("")
@example("a=[1,2]")
@example('{"')
@example("--json")
def test_conditions_and_types_are_taken_as_they_are_written(text: str) -> None:
    """Whatever signs are in a condition or a type, it arrives as one text."""
    written = [f"--where={text}", f"--type={text}", "--where=a", "--type=b"]
    if not text.startswith("-"):
        written += ["--where", text, "--type", text]
    found = command_of(["tail", *written])
    expected = [text] if len(written) > 4 else []
    assert found.where == [text, "a", *expected]
    assert found.type == [text, "b", *expected]


def test_lists_that_are_split() -> None:
    """Topics are separated by commas, or given one by one; without any there are none."""
    found = command_of(["tail", "a,b", "c", "--topics", "d,e", "--topics=f"])
    assert found.names == ["a", "b", "c"]
    assert found.topics == ("d", "e", "f")
    assert (found.where, found.type) == ([], [])
