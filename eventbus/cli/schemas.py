"""``eventbus schema``: the JSON schemas of a container's events in files, and what has changed since they were written."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from eventbus.cli.schema_changes import Change, refusals
from eventbus.container.description import Description
from eventbus.errors import InvalidSettings

type Schema = dict[str, Any]  # a JSON schema


def schemas_of(description: Description) -> dict[str, Schema]:
    """The schema of each event class of a container, by its name.

    Raises:
        InvalidSettings: two classes have the same name.
    """
    classes: dict[str, type[BaseModel]] = {}
    for cls in (cls for bus in description.buses for cls in bus.classes):
        if classes.setdefault(cls.__name__, cls) is not cls:
            places = " and ".join(f"{one.__module__}.{one.__qualname__}" for one in (classes[cls.__name__], cls))
            raise InvalidSettings(
                f"two event classes have the same name, {places}: rename one, because files have these names"
            )
    return {name: cls.model_json_schema() for name, cls in classes.items()}


def freeze(description: Description, directory: Path) -> list[Path]:
    """Write one file for each event class. Return the files. Files of other classes stay.

    Raises:
        InvalidSettings: a file cannot be written, or two classes have the same name.
    """
    written = []
    for name, schema in schemas_of(description).items():
        path = _file(directory, name)
        try:
            directory.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        except OSError as error:
            raise InvalidSettings(f"cannot write {path}: {error.strerror}") from None
        written.append(path)
    return written


def frozen(directory: Path) -> dict[str, Schema]:
    """The schemas in the files of a folder, by the names of their classes.

    Raises:
        InvalidSettings: there is no file, or one is no schema.
    """
    found: dict[str, Schema] = {}
    for path in sorted(directory.glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InvalidSettings(f"cannot read {path}: {error}") from None
        if not isinstance(content, dict):
            raise InvalidSettings(f"{path} is no JSON schema")
        found[path.stem] = content
    if not found:
        raise InvalidSettings(f"there are no schemas in {directory}: write them with `eventbus schema freeze`")
    return found


def check(before: Mapping[str, Schema], now: Mapping[str, Schema]) -> tuple[bool, list[str]]:
    """Return whether old and new versions understand each other, and what is to be said, one line for each change."""
    good, lines = True, []
    for name in [*before, *(name for name in now if name not in before)]:
        if name not in now:
            good = False
            lines.append(f"BREAKS  {name}: the class is gone, and older writers still emit its events")
        elif name not in before:
            lines.append(f"new     {name}: freeze it")
        elif before[name] == now[name]:
            lines.append(f"same    {name}")
        else:
            found = list(_changes(name, before[name], now[name]))
            good &= not any(line.startswith("BREAKS") for line in found)
            lines += found or [f"good    {name}: old and new versions understand each other; freeze it"]
    return good, lines


def _changes(name: str, before: Schema, now: Schema) -> Iterator[str]:
    for who, writer, reader in (("older readers", now, before), ("older writers", before, now)):
        for change in refusals(writer, reader):
            yield _line(name, who, change)


def _line(name: str, who: str, change: Change) -> str:
    if change.skipped and who == "older readers":
        return f"note    {name}.{change.path}: older readers skip and count events of the new type: {change.text}"
    return f"BREAKS  {name}.{change.path}: {who}: {change.text}"


def _file(directory: Path, name: str) -> Path:
    return directory / f"{name}.json"
