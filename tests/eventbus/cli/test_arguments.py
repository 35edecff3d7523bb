"""Arguments that pydantic-settings would take for something else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus.cli.arguments import prepared, revealed


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["tail"],
        ["--help"],
        ["emit", "--where", "a,b"],
        ["emit", "--json"],
        ["tail", "--", "--json"],
        ["tail", "--where"],
    ],
)
def test_most_arguments_stay(arguments: list[str]) -> None:
    """Only what would be misread is rewritten, and only for the commands that have it."""
    assert prepared(arguments) == arguments


@pytest.mark.parametrize("command", ["tail", "top", "check"])
def test_json_for_short(command: str) -> None:
    """--json is --format=json."""
    assert prepared([command, "a", "--json", "b"]) == [command, "a", "--format=json", "b"]


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0") | st.sampled_from(',[]{}"\\=\udc80')))
def test_conditions_come_through(condition: str) -> None:
    """Whatever a condition holds: it is one argument that nothing splits, and afterwards as it was."""
    for written in (
        [[f"--where={condition}"]] if condition.startswith("-") else [["--where", condition], [f"--where={condition}"]]
    ):
        value = prepared(["tail", *written])[-1].removeprefix("--where=")
        assert value.isascii()
        assert not set(value) & set(',[]{}"\\')
        assert revealed([value]) == [condition]


def test_what_was_not_hidden_stays() -> None:
    """Values that come from a variable are as they are."""
    assert revealed(["a=1", 3]) == ["a=1", 3]
    assert revealed("no list") == "no list"
