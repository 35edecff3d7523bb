"""The arguments: how they are read, and which commands and flags there are."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from docs.setting_flags import settings_as_flags
from eventbus.cli import commands
from eventbus.cli.arguments import Given, command_of, flags_of, parse
from eventbus.cli.setting_flags import SETTINGS
from eventbus.cli.spec import COMMANDS, SWITCH, Command
from eventbus.errors import InvalidSettings
from tests.support import run_script

ANY_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0") | st.sampled_from(',[]{}"\\=\udc80'), max_size=20)


def read(*arguments: str) -> Given:
    return parse(command_of(arguments[0]), arguments[1:])


def test_the_settings_are_flags() -> None:
    """The table of flags is that of the settings. If not: uv run python -m docs.setting_flags"""
    assert list(SETTINGS) == list(settings_as_flags())


def test_every_command_can_run() -> None:
    """Each command that is listed has a function, but for those that need none."""
    assert {command.name for command in COMMANDS} == commands.COMMANDS.keys() | {"completion", "man"}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_flags_say_what_they_take(command: Command) -> None:
    """Each flag has a meaning, and a word for its value unless it is a switch; defaults are among the choices."""
    for flag in flags_of(command).values():
        assert flag.meaning
        assert bool(flag.value) != (flag.kind == SWITCH)
        assert not flag.choices or flag.default in ("", *flag.choices)


@pytest.mark.parametrize("command", ["tail", "top", "check"])
def test_json_for_short(command: str) -> None:
    """--json is --format=json, for the commands that have it."""
    assert read(command, "--json").text("--format") == "json"
    assert read(command).text("--format") != "json"


def test_json_as_an_argument() -> None:
    """After -- it is an argument as any other."""
    assert read("tail", "--", "--json").texts("TOPIC") == ["--json"]
    assert read("tail", "--", "--json").text("--format") == "auto"


def test_flags_stand_anywhere() -> None:
    """Before, between and behind arguments, with a sign of equality or without."""
    found = read("tail", "--count", "2", "a", "--since-start", "b", "--host=plant-1", "c")
    assert (found.texts("TOPIC"), found.whole("--count"), found.is_set("--since-start")) == (["a", "b", "c"], 2, True)
    assert found.settings == {"host": "plant-1"}


@given(ANY_TEXT)
@settings(max_examples=50)
@example("")
@example("a=[1,2]")
@example('{"')
@example("--json")
def test_conditions_and_types_are_taken_as_they_are_written(text: str) -> None:
    """Whatever signs are in a condition or a type, it arrives as one text."""
    written = [f"--where={text}", f"--type={text}", "--where=a", "--type=b"]
    if not text.startswith("-"):
        written += ["--where", text, "--type", text]
    found = read("tail", *written)
    expected = [text] if len(written) > 4 else []
    assert found.texts("--where") == [text, "a", *expected]
    assert found.texts("--type") == [text, "b", *expected]


def test_lists_that_are_split() -> None:
    """Topics are separated by commas, or given one by one; without any there are none."""
    found = read("tail", "a,b", "c", "--topics", "d,e", "--topics=f")
    assert commands._topics(found) == ["a", "b", "c"]
    assert commands.settings_of(found).topics == ("d", "e", "f")
    assert (found.texts("--where"), found.texts("--type")) == ([], [])


def test_nested_settings() -> None:
    """A flag with a dot is a setting of that group; where one is set twice, the last one counts."""
    found = read("proxy", "--security.allow-list=a", "--security.allow-list=b", "--security.secret-key-file=c")
    assert found.settings == {"security": {"allow_list": "b", "secret_key_file": "c"}}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("top", "--interval", "0"), "--interval='0': it must be a number, at least 0.1"),
        (("top", "--interval", "nan"), "--interval='nan': it must be a number, at least 0.1"),
        (("top", "--interval", "4000"), "--interval='4000': it must be a number, at most 3600"),
        (("demo", "--seconds", "0"), "--seconds='0': it must be a number above 0"),
        (("bench", "--events", "1.5"), "--events='1.5': it must be a whole number"),
        (("tail", "--format", "xml"), "--format='xml': it must be auto, text or json"),
        (("schema", "thaw", "app:App"), "ACTION='thaw': it must be freeze or check"),
        (("tail", "--wehre=a=1"), "there is no flag --wehre: did you mean --where?"),
        (("tail", "--bogus"), "there is no flag --bogus: `eventbus tail --help` lists them"),
        (("proxy", "--allow-list=a"), "there is no flag --allow-list: did you mean --security.allow-list?"),
        (("record", "--to="), "--to is empty"),
        (("ui", "--listen", ""), "--listen is empty"),
        (("replay", ""), "FILE is empty"),
        (("tail", "--since-start=1"), "--since-start takes no value"),
        (("tail", "--type"), "--type needs a value: --type TYPE"),
        (("tail", "--type", "--count", "1"), "--type needs a value: --type TYPE"),
        (("keygen",), "NAME is missing: eventbus keygen [OPTIONS] NAME"),
        (("emit",), "TOPIC and EVENT are missing: eventbus emit [OPTIONS] TOPIC EVENT"),
        (("keygen", "a", "b"), "there is one argument too many, 'b': eventbus keygen [OPTIONS] NAME"),
    ],
)
def test_mistakes(arguments: tuple[str, ...], text: str) -> None:
    """Each mistake is explained in the words of the person who made it, with the right form."""
    with pytest.raises(InvalidSettings) as caught:
        read(*arguments)
    assert str(caught.value) == text


@pytest.mark.process
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["tail", "--help-all"], ["completion", "bash"], ["man"]])
def test_help_needs_no_library(arguments: list[str]) -> None:
    """Help, version, completion and the manual page come without pydantic and zmq, which take most of a start."""
    done = run_script(
        "import sys\n"
        "from eventbus.cli.main import main\n"
        f"main({arguments!r})\n"
        "print({'pydantic', 'pydantic_settings', 'zmq', 'asyncio'} & sys.modules.keys(), file=sys.stderr)\n"
    )
    assert (done.returncode, done.stderr) == (0, "set()\n")
    assert done.stdout
