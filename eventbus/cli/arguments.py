"""Arguments that pydantic-settings would take for something else, written so that it does not. Pure."""

from collections.abc import Sequence

_WITH_FORMAT = {"tail", "top", "check"}  # commands
_LISTS = ("--where", "--type")
_HIDDEN = "\x7f"  # begins what is hidden; it is on no keyboard


def prepared(arguments: Sequence[str]) -> list[str]:
    """Arguments for pydantic-settings, which splits the parts of a list at commas and reads brackets as JSON.

    Conditions and types may hold both, so they are hidden from it until `revealed`. And ``--json`` is short for
    ``--format=json``: a field of that name would be in the way of one of pydantic's own.
    """
    command = arguments[0] if arguments else ""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    found: list[str] = []
    for argument in arguments[:end]:
        name, equals, value = argument.partition("=")
        if command in _WITH_FORMAT and argument == "--json":
            found.append("--format=json")
        elif command == "tail" and name in _LISTS and equals:
            found.append(f"{name}={_hidden(value)}")
        elif command == "tail" and found and found[-1] in _LISTS and not argument.startswith("-"):
            found.append(_hidden(argument))
        else:
            found.append(argument)
    return [*found, *arguments[end:]]


def revealed(values: object) -> object:
    """The parts of a list with what `prepared` has hidden, as they were written; anything else as it is."""
    return [_revealed(value) for value in values] if isinstance(values, list) else values


def _hidden(value: str) -> str:
    return _HIDDEN + value.encode(errors="surrogateescape").hex()


def _revealed(value: object) -> object:
    if isinstance(value, str) and value.startswith(_HIDDEN):
        return bytes.fromhex(value.removeprefix(_HIDDEN)).decode(errors="surrogateescape")
    return value
