"""What mkdocs writes into pages of the reference when it builds the site: the settings and the command line."""

import io
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout, suppress
from typing import Any
from unittest.mock import patch

from pydantic_settings import CliApp

from eventbus.cli.commands import CommandLine
from eventbus.settings import EventBusSettings

type Schema = Mapping[str, Any]  # part of a JSON schema

_ENTRY = re.compile(r"^  (?P<names>-\S.*?|\w+)(?:\s{2,}(?P<text>\S.*))?$")
_NO_DEFAULT = re.compile(r" \(default: (?:None|null|\[\]|)\)$")


def on_page_markdown(markdown: str, **_: object) -> str:
    """Put what is generated in place of its mark."""
    for mark, generate in GENERATED.items():
        if mark in markdown:
            markdown = markdown.replace(mark, generate())
    return markdown


def settings_table() -> str:
    """Every variable with its flag, what it takes, its default and what it means."""
    schema = EventBusSettings.model_json_schema()
    rows = []
    for path, field in EventBusSettings.fields():
        variable = EventBusSettings.variable(*path)
        default = "" if field.default in ((), None) else str(field.default)
        rows.append(
            (
                f"`{variable}`{{ #{variable} }}<br>`{_flag(path)}`",
                _takes(_schema_of(schema, path), schema),
                f"`{default.lower() if isinstance(field.default, bool) else default}`" if default else "",
                _escaped(field.description or ""),
            )
        )
    return _table(("variable and flag", "takes", "default", "meaning"), rows)


def commands() -> str:
    """What ``eventbus --help`` says, then the help of each command without the flags that are settings."""
    parts = [f"```text\n{_help().strip()}\n```"]
    of_settings = set(_entries(_help("settings")))  # a command that has no flags of its own
    for name in CommandLine.model_fields:
        text = _help(name)
        about = text.split("\n\n")[1]
        entries = list(_entries(text))
        own = [(f"`{names}`", _escaped(meaning)) for names, meaning in entries if (names, meaning) not in of_settings]
        parts.append(f"## `eventbus {name}`\n\n{_escaped(about)}")
        if own:
            parts.append(_table(("argument", "meaning"), own))
        if not of_settings.isdisjoint(entries):
            parts.append("Every [setting](settings.md) is a flag, too.")
    return "\n\n".join(parts)


GENERATED: Mapping[str, Callable[[], str]] = {"<!-- settings -->": settings_table, "<!-- commands -->": commands}


def _flag(path: tuple[str, ...]) -> str:
    return "--" + ".".join(path).replace("_", "-")


def _schema_of(schema: Schema, path: tuple[str, ...]) -> Schema:
    """The part of the settings' schema that describes one field."""
    found = schema
    for name in path:
        found = _resolved(found, schema)["properties"][name]
    return found


def _resolved(part: Schema, schema: Schema) -> Schema:
    """A part with what it refers to, and without null as one of the things that it may be."""
    if "anyOf" in part:
        choices = [each for each in part["anyOf"] if each.get("type") != "null"]
        if len(choices) > 1:  # a ByteSize: a text with a unit, or a number
            return {"format": "size"}
        (part,) = choices
    if "$ref" in part:
        part = {**schema["$defs"][part["$ref"].rpartition("/")[2]], **part}
    return part


def _takes(part: Schema, schema: Schema) -> str:
    """What a variable takes, in words: its type, and the range of a number."""
    part = _resolved(part, schema)
    match part:
        case {"enum": values}:
            return ", ".join(f"`{value}`" for value in values)
        case {"type": "boolean"}:
            return "`true`, `false`"
        case {"type": "integer"}:
            return f"integer{_range(part)}"
        case {"type": "number"}:
            return f"seconds{_range(part)}"
        case {"type": "array"}:
            return "texts, as `a,b`"
        case {"format": "size"}:
            return "bytes, or a size such as `200MiB`"
        case {"format": "path"}:
            return "path"
        case {"format": "password"}:
            return "secret text"
        case _:
            return "text"


def _range(part: Schema) -> str:
    least = f" > {part['exclusiveMinimum']:,g}" if "exclusiveMinimum" in part else f" ≥ {part['minimum']:,g}"
    if "exclusiveMaximum" in part:
        return f"{least}, < {part['exclusiveMaximum']:,}"
    return f"{least}, ≤ {part['maximum']:,}" if "maximum" in part else least


def _help(*command: str) -> str:
    """What ``--help`` prints, each entry on a line, or on two."""
    output = io.StringIO()
    with patch.dict(os.environ, COLUMNS="1000" if command else "100"), redirect_stdout(output), suppress(SystemExit):
        CliApp.run(CommandLine, cli_args=[*command, "--help"])
    return output.getvalue()


def _entries(text: str) -> Iterator[tuple[str, str]]:
    """The arguments and flags of a help with what they mean, but for ``--help``."""
    lines = iter(text.splitlines())
    for line in lines:
        if found := _ENTRY.match(line):
            meaning = found["text"] or next(lines).strip()
            names = ", ".join(re.findall(r"--?[\w.-]+", found["names"])) or found["names"]
            if "--help" not in names:
                yield names, _NO_DEFAULT.sub("", meaning)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows))


def _escaped(text: str) -> str:
    return text.replace("|", r"\|").replace("<", "&lt;").replace("*", r"\*")
