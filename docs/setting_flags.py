"""Writes ``eventbus/cli/setting_flags.py``: the settings as flags, for a command line that starts without pydantic.

Run ``python -m docs.setting_flags`` when a setting has changed; a test compares the file with the settings.
"""

import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ByteSize

from eventbus.cli.spec import Flag
from eventbus.settings import EventBusSettings

PATH = Path(__file__).parents[1] / "eventbus" / "cli" / "setting_flags.py"

_USUAL = ("host", "pub_port", "sub_port", "security.server_public_key", "security.secret_key_file")

_HEAD = '''\
"""The settings as flags. Made from the settings by ``python -m docs.setting_flags``: do not edit."""

from eventbus.cli.spec import Flag

SETTINGS: tuple[Flag, ...] = (
'''

type Schema = Mapping[str, Any]  # part of a JSON schema


def rendered() -> str:
    """The file, formatted."""
    entries = "".join(f"    {_call(flag)},\n" for flag in settings_as_flags())
    command = ["ruff", "format", "--stdin-filename", str(PATH), "-"]
    return subprocess.run(command, input=f"{_HEAD}{entries})\n", capture_output=True, text=True, check=True).stdout


def settings_as_flags() -> Iterator[Flag]:
    """The flag of each setting."""
    schema = EventBusSettings.model_json_schema()
    for path, field in EventBusSettings.fields():
        name = ".".join(path)
        part = schema_of(schema, path)
        takes, choices = _takes(name, part)
        yield Flag(
            f"--{name}".replace("_", "-"),
            field.description or "",
            takes,
            choices=choices,
            default=default_of(field.default),
            repeated=part.get("type") == "array",
            setting=True,
            usual=name in _USUAL,
        )


def _call(flag: Flag) -> str:
    """The code that makes a flag; what has its default is left out."""
    given = {name: value for name, value in flag._asdict().items() if value != Flag._field_defaults.get(name, ...)}
    return f"Flag({', '.join(f'{name}={value!r}' for name, value in given.items())})"


def default_of(value: object) -> str:
    """A default as people write it; empty: none."""
    if value in ((), None):
        return ""
    if isinstance(value, ByteSize):
        return value.human_readable().replace(".0", "")
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def schema_of(schema: Schema, path: tuple[str, ...]) -> Schema:
    """The part of the settings' schema that describes one field."""
    found = schema
    for name in path:
        found = _resolved(found, schema)["properties"][name]
    return _resolved(found, schema)


def _resolved(part: Schema, schema: Schema) -> Schema:
    """A part with what it refers to, and without null or a word as one of the things that it may be."""
    if "anyOf" in part:
        choices = [each for each in part["anyOf"] if each.get("type") != "null" and "const" not in each]
        if len(choices) > 1:  # a ByteSize: a text with a unit, or a number
            return {"format": "size"}
        (part,) = choices
    if "$ref" in part:
        part = {**schema["$defs"][part["$ref"].rpartition("/")[2]], **part}
    return part


def _takes(name: str, part: Schema) -> tuple[str, tuple[str, ...]]:
    """What a flag takes: a word for it, and the choices if there are some."""
    match part:
        case {"enum": values}:
            return "", tuple(map(str, values))
        case {"type": "boolean"}:
            return "", ("true", "false")
        case {"type": "integer"}:
            return "PORT" if name.endswith("port") else "BYTES" if "bytes" in name or "threshold" in name else "N", ()
        case {"type": "number", "maximum": 1}:
            return "SHARE", ()
        case {"type": "number"}:
            return "SECONDS", ()
        case {"type": "array"}:
            return "A,B", ()
        case {"format": "size"}:
            return "SIZE", ()
        case {"format": "path"}:
            return "FILE", ()
        case {"format": "password"}:
            return "TOKEN" if name.endswith("token") else "KEY", ()
        case _:
            return "HOST" if name.endswith("host") else "KEY" if name.endswith("key") else "TEXT", ()


if __name__ == "__main__":
    PATH.write_text(rendered())
