"""A Markdown extension that writes generated parts into pages of the reference: the settings and the command line."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markdown import Extension, Markdown
from markdown.preprocessors import Preprocessor

from eventbus.cli.arguments import usage
from eventbus.cli.help import described, overview
from eventbus.cli.spec import COMMANDS, SWITCH
from eventbus.cli.terminal import Paint
from eventbus.settings import EventBusSettings

type Schema = Mapping[str, Any]  # part of a JSON schema


def makeExtension(**_: object) -> Extension:  # noqa: N802 # the name that Markdown looks for
    """Return the extension, for Markdown."""
    return Generated()


class Generated(Extension):
    """Puts what is generated in place of its mark."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802 # as Markdown calls it
        """Run before everything that reads the text."""
        md.preprocessors.register(_Marks(md), "generated", 1_000)


class _Marks(Preprocessor):
    def run(self, lines: list[str]) -> list[str]:
        return [part for line in lines for part in (GENERATED[line]().split("\n") if line in GENERATED else [line])]


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
    """What ``eventbus --help`` says, then each command without the flags that are settings."""
    parts = [f"```text\n{overview(Paint(False), 100)}\n```"]
    for command in COMMANDS:
        parts.append(f"## `eventbus {command.name}`\n\n`{usage(command)}`\n\n{_escaped(command.about)}")
        rows = [(f"`{each.name}{' ...' if each.many else ''}`", _escaped(each.meaning)) for each in command.arguments]
        rows += [
            (f"`{flag.name}`" if flag.kind == SWITCH else f"`{flag.name} {_escaped(flag.value)}`", _escaped(described(flag)))
            for flag in command.flags
        ]
        if rows:
            parts.append(_table(("argument or flag", "meaning"), rows))
        if command.example:
            parts.append(f"For example, `{command.example}`.")
        if command.has_settings:
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


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows))


def _escaped(text: str) -> str:
    return text.replace("|", r"\|").replace("<", "&lt;").replace("*", r"\*")
