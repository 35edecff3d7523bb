"""Reads arguments as the commands of `spec` describe them. Pure, and without pydantic."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, NoReturn

from eventbus.cli.spec import BY_NAME, HELP, HELP_ALL, NUMBER, SWITCH, WHOLE, Argument, Command, Flag

type Settings = dict[str, str | list[str] | dict[str, str]]
type Value = str | int | float | bool | list[str]

_SHORT = {"-h": "--help"}
_NEVER_EMPTY = {"FILE", "DIRECTORY", "ADDRESS"}  # for pathlib, an empty path is the current folder


class Given(NamedTuple):
    """The arguments of a command line, parsed.

    Attributes:
        command: the command.
        values: of its arguments and its own flags, by name: ``TOPIC``, ``--count``. Without those that were left out.
        settings: values of settings as texts, nested ones in a dict of their own; made for `EventBusSettings(**settings)`.
        help: whether help is asked for; `all_settings`: with all of them.
    """

    command: Command
    values: dict[str, Value]
    settings: Settings
    help: bool = False
    all_settings: bool = False

    def text(self, name: str) -> str:
        """The value of an argument, or of a flag or its default, as text."""
        return str(self.values.get(name, self._default(name)))

    def texts(self, name: str) -> list[str]:
        """The values of an argument or a flag that may be repeated."""
        found = self.values.get(name, [])
        return found if isinstance(found, list) else [str(found)]

    def number(self, name: str) -> float | None:
        """The value of a flag that is a number, or its default; None: it has neither."""
        found = self.values.get(name, self._default(name))
        return float(found) if isinstance(found, str | int | float) and found != "" else None

    def whole(self, name: str) -> int | None:
        """The value of a flag that is a whole number, or its default; None: it has neither."""
        found = self.number(name)
        return None if found is None else int(found)

    def is_set(self, name: str) -> bool:
        """Whether a switch was given."""
        return name in self.values

    def _default(self, name: str) -> str:
        flag = self.command.flag(name)
        return flag.default if flag else ""


def parse(command: Command, arguments: Sequence[str]) -> Given:
    """Read what follows the name of a command.

    Flags may stand anywhere, as ``--flag value`` or ``--flag=value``; behind ``--`` everything is an argument.

    Raises:
        InvalidSettings: an argument is wrong or missing; the text names it and the remedy.
    """
    values: dict[str, Value] = {}
    settings: Settings = {}
    placed: list[str] = []
    left = iter(arguments)
    known: dict[str, Flag] = {}
    for text in left:
        if text == "--":
            placed += left
        elif text == "-" or not text.startswith("-"):
            placed.append(text)
        else:
            known = known or flags_of(command)  # here, because most commands are given without flags
            name, equals, value = text.partition("=")
            flag = known.get(_SHORT.get(name, name))
            if flag is None:
                _fail(_unknown(name, known, command))
            if flag in (HELP, HELP_ALL):
                return Given(command, {}, {}, help=True, all_settings=flag is HELP_ALL)
            if flag.kind == SWITCH:
                if equals:
                    _fail(f"{name} takes no value")
                values["--format" if name == "--json" else name] = "json" if name == "--json" else True
                continue
            if not equals:
                value = next(left, "--")
                if value == "--" or value.partition("=")[0] in known:
                    _fail(f"{name} needs a value: {name} {flag.value}")
            if flag.setting:
                _put(settings, flag, value)
            else:
                _add(values, flag, _checked(flag, value))
    _place(command, placed, values)
    return Given(command, values, settings)


def command_of(name: str) -> Command:
    """Return the command of this name.

    Raises:
        InvalidSettings: there is none, or a flag stands before it.
    """
    if name.startswith("-"):
        _fail(_before_the_command(name))
    if name not in BY_NAME:
        _fail(f"there is no command {name!r}: {_did_you_mean(name, BY_NAME, '`eventbus --help` lists them')}")
    return BY_NAME[name]


def flags_of(command: Command) -> dict[str, Flag]:
    """All flags of a command by name: its own, the settings, and those that show help."""
    flags = {HELP.name: HELP}
    if command.has_settings:
        from eventbus.cli.setting_flags import SETTINGS

        flags |= {HELP_ALL.name: HELP_ALL} | {flag.name: flag for flag in SETTINGS}
    return flags | {flag.name: flag for flag in command.flags}


def usage(command: Command) -> str:
    """The first line of its help."""
    placed = (f"[{each.name} ...]" if each.many else each.name for each in command.arguments)
    options = ["[OPTIONS]"] if command.flags or command.has_settings else []
    return " ".join(["eventbus", command.name, *options, *placed])


def _place(command: Command, placed: Sequence[str], values: dict[str, Value]) -> None:
    """Give the arguments that stand by place to the names that they have."""
    wanted = list(command.arguments)
    if wanted and wanted[-1].many:
        last = wanted.pop()
        values[last.name] = list(placed[len(wanted) :])
    elif len(placed) > len(wanted):
        extra = placed[len(wanted)]
        _fail(f"there is one argument too many, {extra!r}: {usage(command)}")
    for argument, text in zip(wanted, placed, strict=False):
        values[argument.name] = _chosen(argument, text)
    if len(placed) < len(wanted):
        missing = " and ".join(each.name for each in wanted[len(placed) :])
        _fail(f"{missing} {'is' if len(wanted) - len(placed) == 1 else 'are'} missing: {usage(command)}")


def _chosen(what: Argument | Flag, text: str) -> str:
    if not text and (what.name if isinstance(what, Argument) else what.value) in _NEVER_EMPTY:
        _fail(f"{what.name} is empty")
    if what.choices and text not in what.choices:
        known = ", ".join(what.choices[:-1]) + f" or {what.choices[-1]}"
        _fail(f"{what.name}={text!r}: it must be {known}")
    return text


def _checked(flag: Flag, text: str) -> Value:
    """The value of a command's own flag."""
    if flag.kind not in (WHOLE, NUMBER):
        return _chosen(flag, text)
    what = "a whole number" if flag.kind == WHOLE else "a number"
    try:
        value = int(text) if flag.kind == WHOLE else float(text)
    except ValueError:
        _fail(f"{flag.name}={text!r}: it must be {what}")
    if flag.least is not None and not value >= flag.least:
        _fail(f"{flag.name}={text!r}: it must be {what}, at least {flag.least:g}")
    if flag.above is not None and not value > flag.above:
        _fail(f"{flag.name}={text!r}: it must be {what} above {flag.above:g}")
    if flag.most is not None and not value <= flag.most:
        _fail(f"{flag.name}={text!r}: it must be {what}, at most {flag.most:g}")
    return value


def _add(values: dict[str, Value], flag: Flag, value: Value) -> None:
    if not flag.repeated:
        values[flag.name] = value
        return
    known = values.setdefault(flag.name, [])
    if isinstance(known, list):
        known.append(str(value))


def _put(settings: Settings, flag: Flag, value: str) -> None:
    """Set a setting; the last one counts, but those that may be repeated add up."""
    *outer, name = flag.path
    if outer:
        group = settings.setdefault(outer[0], {})
        if isinstance(group, dict):
            group[name] = value
    elif flag.repeated:
        known = settings.setdefault(name, [])
        if isinstance(known, list):
            known.append(value)
    else:
        settings[name] = value


def _before_the_command(text: str) -> str:
    name = text.partition("=")[0]
    known = {flag: None for command in BY_NAME.values() for flag in flags_of(command)}
    if name in known or name in _SHORT:
        return f"{text} stands before the command: write `eventbus COMMAND {text} …`"
    return f"there is no flag {name}: {_did_you_mean(name, [*known, '--version'], '`eventbus --help` lists the commands')}"


def _unknown(name: str, known: Iterable[str], command: Command) -> str:
    return f"there is no flag {name}: {_did_you_mean(name, known, f'`eventbus {command.name} --help` lists them')}"


def _did_you_mean(name: str, known: Iterable[str], otherwise: str) -> str:
    import difflib  # late, because few people mistype

    bare = {each.removeprefix("--"): each for each in known}  # in which dashes are nothing alike
    name = name.removeprefix("--")
    nested = [each for each in bare if each.rpartition(".")[2] == name]  # allow-list for security.allow-list
    close = nested or difflib.get_close_matches(name, bare, n=1)
    return f"did you mean {bare[close[0]]}?" if close else otherwise


def _fail(text: str) -> NoReturn:
    from eventbus.errors import InvalidSettings  # both late, because most arguments are right
    from eventbus.keys import masked

    raise InvalidSettings(masked(text))
