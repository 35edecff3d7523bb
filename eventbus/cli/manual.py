"""The manual page, for man: roff with the macros of man(7). Pure."""

from collections.abc import Iterator

from eventbus.cli.arguments import usage
from eventbus.cli.help import ABOUT, SETTINGS_ARE_VARIABLES, described, own_flags
from eventbus.cli.setting_flags import SETTINGS
from eventbus.cli.spec import COMMANDS, EXIT_STATUSES, SWITCH, Command, Flag


def page() -> str:
    """Return the page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield '.TH EVENTBUS 1 "" "eventbus" "User Commands"'
    yield from (".SH NAME", "eventbus \\- a typed event bus over ZeroMQ")
    yield from (".SH SYNOPSIS", ".B eventbus", "\\fICOMMAND\\fR [\\fIOPTIONS\\fR]", ".br", ".B eventbus \\-\\-version")
    yield from (".SH DESCRIPTION", _text(ABOUT), ".SH COMMANDS")
    for command in COMMANDS:
        yield from _command(command)
    yield from (".SH SETTINGS", "Commands that use the bus take each setting as a flag.", _text(SETTINGS_ARE_VARIABLES))
    for flag in SETTINGS:
        yield from _flag(flag)
    yield ".SH EXIT STATUS"
    for number, meaning in EXIT_STATUSES:
        yield from (".TP", f".B {number}", _text(meaning))
    yield from (
        ".SH ENVIRONMENT",
        ".TP",
        ".B EVENTBUS_\\fISETTING\\fR",
        "A setting; \\fBeventbus settings\\fR lists them.",
        ".TP",
        ".B NO_COLOR",
        "If it is set and not empty, nothing is written in colours.",
        ".SH FILES",
        ".TP",
        ".I .env",
        "Settings of the current folder, as \\fBeventbus settings\\fR prints them.",
    )


def _command(command: Command) -> Iterator[str]:
    yield from (f".SS {_text(usage(command))}", _text(command.about))
    for argument in command.arguments:
        yield from (".TP", f".I {_text(argument.name)}", _text(argument.meaning))
    for flag in own_flags(command):
        yield from _flag(flag)
    if command.example:
        yield from (".PP", "Example:", ".PP", ".RS", ".nf", _text(command.example), ".fi", ".RE")


def _flag(flag: Flag) -> Iterator[str]:
    value = "" if flag.kind == SWITCH else f" \\fI{_text(flag.value)}\\fR"
    yield from (".TP", f"\\fB{_text(flag.name)}\\fR{value}", _text(described(flag)))


def _text(text: str) -> str:
    """A text as roff shows it: signs that mean something to roff are escaped."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga").replace('"', "\\(dq")
    return f"\\&{text}" if text.startswith(".") else text
