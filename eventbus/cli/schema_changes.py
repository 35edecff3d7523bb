"""Compares two versions of an event's JSON schema: what older readers, and older writers, do not get along with. Pure.

A writer writes all of its fields; a reader needs those that it requires, and ignores those that it does not know. So both
questions are the same one, asked in both directions: does this reader accept all that this writer writes?
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil, floor, inf
from typing import Any

type Schema = Mapping[str, Any]  # part of a JSON schema

_LEAST, _MOST = ("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")
_LEAST_SIZES, _MOST_SIZES = ("minLength", "minItems"), ("maxLength", "maxItems")
_SAME = ("pattern", "multipleOf", "format")


@dataclass(frozen=True, slots=True)
class Change:
    """A difference that matters.

    Attributes:
        path: the field, nested ones with dots.
        text: what is wrong, for people.
        skipped: whether only events of a new type are not read, which readers skip and count.
    """

    path: str
    text: str
    skipped: bool = False


def refusals(writer: Schema, reader: Schema) -> list[Change]:
    """Return why a reader with one schema refuses what a writer with the other one writes; empty: it reads it all."""
    return list(dict.fromkeys(_Comparison(writer, reader).compare(writer, reader, "")))


class _Comparison:
    def __init__(self, writer: Schema, reader: Schema) -> None:
        self._writer_definitions: Schema = writer.get("$defs", {})
        self._reader_definitions: Schema = reader.get("$defs", {})
        self._compared: set[tuple[object, object]] = set()  # recursive models would never end

    def compare(self, writer: Schema, reader: Schema, path: str) -> Iterator[Change]:
        """Yield what the reader refuses of the values that the writer's schema describes."""
        references = writer.get("$ref"), reader.get("$ref")
        if all(references):
            if references in self._compared:
                return
            self._compared.add(references)
        writer, reader = _resolved(writer, self._writer_definitions), _resolved(reader, self._reader_definitions)
        for choice in _choices(writer):
            answers = [list(self._of_one(choice, accepted, path)) for accepted in _choices(reader)]
            if all(answers):  # each of what the reader accepts is something else
                yield from min(answers, key=len)

    def _of_one(self, writer: Schema, reader: Schema, path: str) -> Iterator[Change]:
        writer, reader = _resolved(writer, self._writer_definitions), _resolved(reader, self._reader_definitions)
        if "anyOf" in writer or "oneOf" in writer or "anyOf" in reader or "oneOf" in reader:
            yield from self.compare(writer, reader, path)
            return
        written, accepted = _values(writer), _values(reader)
        if accepted is not None:
            if written is None:
                yield Change(path, f"only {_listed(accepted)} are read, and anything may be written")
            elif new := [value for value in written if value not in accepted]:
                yield Change(path, f"{_listed(new)} may be written, and is not read", skipped=path == "type")
            return
        kinds, known = _types(writer), _types(reader)
        if known and not (kinds and kinds <= known | ({"integer"} if "number" in known else set())):
            yield Change(path, f"{_kinds(kinds)} may be written, and {_kinds(known)} is read")
            return
        yield from _bounds(writer, reader, path)
        yield from self._objects(writer, reader, path)
        yield from self._arrays(writer, reader, path)

    def _objects(self, writer: Schema, reader: Schema, path: str) -> Iterator[Change]:
        written: Schema = writer.get("properties", {})
        read: Schema = reader.get("properties", {})
        for name in reader.get("required", ()):
            if name not in written:
                yield Change(_inner(path, name), "it is required, and not written")
        accepted = reader.get("additionalProperties")
        for name in written:
            if name in read:
                yield from self.compare(written[name], read[name], _inner(path, name))
            elif accepted is False:
                yield Change(_inner(path, name), "it is written, and unknown fields are forbidden")
            elif isinstance(accepted, Mapping):
                yield from self.compare(written[name], accepted, _inner(path, name))
        values = writer.get("additionalProperties")
        if isinstance(accepted, Mapping) and values not in (None, False):
            yield from self.compare({} if values is True else values, accepted, f"{path}.*")

    def _arrays(self, writer: Schema, reader: Schema, path: str) -> Iterator[Change]:
        if isinstance(writer.get("items"), Mapping) and isinstance(reader.get("items"), Mapping):
            yield from self.compare(writer["items"], reader["items"], f"{path}[]")
        for number, (item, accepted) in enumerate(
            zip(writer.get("prefixItems", ()), reader.get("prefixItems", ()), strict=False)
        ):
            yield from self.compare(item, accepted, f"{path}[{number}]")


def _resolved(schema: Schema, definitions: Schema) -> Schema:
    while "$ref" in schema:
        schema = definitions.get(schema["$ref"].rpartition("/")[2], {})
    return schema


def _choices(schema: Schema) -> list[Schema]:
    return schema.get("anyOf") or schema.get("oneOf") or [schema]


def _values(schema: Schema) -> list[object] | None:
    """The only values of a schema that lists them."""
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _types(schema: Schema) -> set[str]:
    """The JSON types of a schema's values; empty: any."""
    values = _values(schema)
    if values is not None and "type" not in schema:
        return {_TYPE_NAMES[type(value)] for value in values}
    found = schema.get("type", [])
    return {found} if isinstance(found, str) else set(found)


_TYPE_NAMES = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    type(None): "null",
    list: "array",
    dict: "object",
}


def _bounds(writer: Schema, reader: Schema, path: str) -> Iterator[Change]:
    is_whole = _types(writer) == {"integer"}
    for names, sign in ((_LEAST, 1), (_MOST, -1)):
        written, read = (_limit(schema, names, sign, is_whole) for schema in (writer, reader))
        if read is not None and (written is None or read > written):
            yield _narrower(writer, reader, names, path)
    for name in _LEAST_SIZES:
        if reader.get(name, 0) > writer.get(name, 0):
            yield _narrower(writer, reader, (name,), path)
    for name in _MOST_SIZES:
        if name in reader and (name not in writer or reader[name] < writer[name]):
            yield _narrower(writer, reader, (name,), path)
    for name in _SAME:
        if name in reader and reader[name] != writer.get(name):
            yield _narrower(writer, reader, (name,), path)


def _limit(schema: Schema, names: tuple[str, str], sign: int, is_whole: bool) -> tuple[float, bool] | None:
    """The tightest bound of numbers, where more is tighter: `> 0` than `>= 0`; but of whole numbers it is `>= 1`."""
    found = [(sign * schema[name], name.startswith("exclusive")) for name in names if abs(schema.get(name, inf)) != inf]
    if is_whole:
        found = [(floor(value) + 1 if is_exclusive else ceil(value), False) for value, is_exclusive in found]
    return max(found, default=None)


def _narrower(writer: Schema, reader: Schema, names: tuple[str, ...], path: str) -> Change:
    read, written = (
        " and ".join(f"{name} {schema[name]}" for name in names if name in schema) for schema in (reader, writer)
    )
    return Change(path, f"it is read with {read}, and written with {written or f'no {names[0]}'}")


def _inner(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _listed(values: list[object]) -> str:
    return ", ".join(str(value) for value in values)


def _kinds(kinds: set[str]) -> str:
    return " or ".join(sorted(kinds)) or "anything"
