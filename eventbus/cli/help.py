"""The help of the commands, for a person at a terminal. Pure."""

import os
from collections.abc import Iterable, Iterator

from eventbus.cli.arguments import flags_of, usage
from eventbus.cli.spec import COMMANDS, EXIT_STATUSES, HELP, HELP_ALL, SWITCH, VERSION, Command, Flag
from eventbus.cli.terminal import Paint, Style

ABOUT = "A typed event bus over ZeroMQ."
SETTINGS_ARE_VARIABLES = (
    "Each is a variable, too: --pub-port is EVENTBUS_PUB_PORT, and --security.allow-list is EVENTBUS_SECURITY__ALLOW_LIST. "
    "A flag takes precedence."
)

_NARROWEST, _WIDEST = 20, 100
_TWO_COLUMNS = 60  # from this width on, meanings stand beside names, not below them
_INDENT = "  "
_MEANING_COLUMN = 30


def width(columns: int | None = None) -> int:
    """The width of the help, on a terminal with this many columns; None: on this process's."""
    if columns is None:
        given = os.environ.get("COLUMNS", "")
        try:
            columns = int(given) if given.isdigit() else os.get_terminal_size().columns
        except OSError:  # it is no terminal
            columns = 80
    return min(_WIDEST, max(_NARROWEST, columns))


def overview(paint: Paint, columns: int) -> str:
    """The output of ``eventbus --help``: all commands."""
    parts = [f"{paint('usage:', Style.BOLD)} eventbus COMMAND [OPTIONS]", ABOUT]
    for group in dict.fromkeys(command.group for command in COMMANDS):
        rows = ((command.name, command.summary) for command in COMMANDS if command.group == group)
        parts.append(_table(group, rows, paint, columns, 14))
    parts.append(_table("Options", _rows((HELP, VERSION)), paint, columns, 14))
    parts.append(f"`eventbus COMMAND --help` describes a command. {exit_statuses()}")
    return "\n\n".join("\n".join(_wrapped(part, columns)) if "\n" not in part else part for part in parts)


def exit_statuses() -> str:
    """The exit statuses as a sentence."""
    return "Exit status: " + "; ".join(f"{number} {meaning}" for number, meaning in EXIT_STATUSES) + "."


def command_help(command: Command, paint: Paint, columns: int, *, all_settings: bool = False) -> str:
    """The output of ``eventbus COMMAND --help``: its own flags, then settings.

    Args:
        command: the command.
        paint: writes the colours.
        columns: the width of the text.
        all_settings: with all settings; False: with the usual ones.
    """
    parts = [f"{paint('usage:', Style.BOLD)} {usage(command)}", "\n".join(_wrapped(command.about, columns))]
    if command.arguments:
        rows = ((f"{each.name} ..." if each.many else each.name, each.meaning) for each in command.arguments)
        parts.append(_table("Arguments", rows, paint, columns))
    own = [flag for flag in own_flags(command) if flag.name != "--json"]
    parts.append(_table("Options", _rows(own, short=("--json" in flags_of(command))), paint, columns))
    if settings := settings_of(command):
        shown = settings if all_settings else [flag for flag in settings if flag.usual or flag.name in command.usual]
        title = "Settings" if all_settings else f"Settings: {len(shown)} of {len(settings)}, --help-all shows all"
        parts.append(_table(title, _rows(shown), paint, columns))
        parts.append("\n".join(_wrapped(SETTINGS_ARE_VARIABLES, columns)))
    if command.example:
        parts.append(f"{paint('Example', Style.BOLD)}\n{_INDENT}{command.example}")
    return "\n\n".join(parts)


def own_flags(command: Command) -> list[Flag]:
    """The flags of a command that are no settings of all commands, those for help last."""
    last = [HELP, HELP_ALL] if command.has_settings else [HELP]
    return [*command.flags, *last]


def settings_of(command: Command) -> list[Flag]:
    """The settings that are flags of a command and that it does not describe itself."""
    own = {flag.name for flag in own_flags(command)}
    return [flag for flag in flags_of(command).values() if flag.name not in own] if command.has_settings else []


def described(flag: Flag) -> str:
    """The meaning of a flag, with its default."""
    return f"{flag.meaning} [{flag.default}]" if flag.default else flag.meaning


def _rows(flags: Iterable[Flag], *, short: bool = False) -> Iterator[tuple[str, str]]:
    for flag in flags:
        name = flag.name if flag.kind == SWITCH else f"{flag.name} {flag.value}"
        yield name, described(flag) + ("; --json for short" if short and flag.name == "--format" else "")


def _table(
    title: str, rows: Iterable[tuple[str, str]], paint: Paint, columns: int, meaning_column: int = _MEANING_COLUMN
) -> str:
    lines = [paint(title, Style.BOLD)]
    if columns < _TWO_COLUMNS:
        meaning_column = 2 * len(_INDENT)
    for name, meaning in rows:
        shown = _INDENT + paint(name, Style.CYAN)
        wrapped = _wrapped(meaning, columns - meaning_column)
        if len(_INDENT + name) + 2 > meaning_column:
            lines.append(shown)
        else:
            lines.append(shown + " " * (meaning_column - len(_INDENT + name)) + wrapped.pop(0))
        lines += [" " * meaning_column + line for line in wrapped]
    return "\n".join(lines)


def _wrapped(text: str, columns: int) -> list[str]:
    """The text in lines that are no longer than that, if its words are not."""
    lines: list[str] = []
    words: list[str] = []
    for word in text.split(" "):
        if words and len(" ".join([*words, word])) > columns:
            lines.append(" ".join(words))
            words = []
        words.append(word)
    return [*lines, " ".join(words)]
