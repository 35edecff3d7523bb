"""Required fields: an event is refused at the first one that is missing. Pure.

For each field that is missing, pydantic copies all of the model's JSON into an error: a class of 30 fields takes 30 times as
long to refuse an event of 16 MiB as to decode it. One missing field is enough to refuse an event. But not within a union,
which then tries its next member, nor where a validator of the service may handle the error.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, Never

from pydantic_core import core_schema

# What refuses its value if any part of it is refused, and where the parts are in its schema.
_PARTS = {
    "default": ("schema",),
    "definitions": ("schema",),
    "dict": ("values_schema",),
    "frozenset": ("items_schema",),
    "function-after": ("schema",),
    "function-before": ("schema",),
    "list": ("items_schema",),
    "model": ("schema",),
    "model-field": ("schema",),
    "model-fields": ("fields",),
    "nullable": ("schema",),
    "set": ("items_schema",),
    "tagged-union": ("choices",),
    "tuple": ("items_schema",),
}
_WRAPPERS = frozenset({"function-after", "function-before", "nullable"})
_MAY_HAVE_DEFAULT = frozenset(
    {"chain", "default", "definition-ref", "definitions", "function-wrap", "json-or-python", "lax-or-strict"}
)


class FieldMissing(Exception):
    """A required field is missing.

    Attributes:
        field: its name in JSON.
    """

    def __init__(self, field: str) -> None:
        super().__init__(field)
        self.field = field

    def __str__(self) -> str:
        return f"{self.field}: Field required"


# Any: a core schema is a tree of typed dictionaries, and of values of all kinds.
def demanding(schema: Any) -> Any:
    """Return a core schema whose validator raises FieldMissing for most fields that are missing."""
    definitions = {one["ref"]: one for one in schema["definitions"]} if schema["type"] == "definitions" else {}
    # Those to which something refers that does not always refuse its value.
    tolerated: set[str] = set()
    new = {reference for one in (schema, *definitions.values()) for reference in _tolerated(one, refuses=True)}
    while new:
        tolerated |= new
        new = {
            reference for name in new if name in definitions for reference in _tolerated(definitions[name], refuses=False)
        } - tolerated
    adapted = _adapted(schema)
    if definitions:
        adapted["definitions"] = [one if name in tolerated else _adapted(one) for name, one in definitions.items()]
    return adapted


def _tolerated(schema: Any, *, refuses: bool) -> Iterator[str]:
    """The references in a schema, but for those of which each error is one of the whole."""
    match schema:
        case {"type": "definition-ref", "schema_ref": reference}:
            if not refuses:
                yield reference
        case {"type": str()}:
            parts = _parts(schema)
            for key, value in schema.items():
                if key != "definitions":
                    yield from _tolerated(value, refuses=refuses and key in parts)
        case dict():
            for value in schema.values():
                yield from _tolerated(value, refuses=refuses)
        case list() | tuple():
            for value in schema:
                yield from _tolerated(value, refuses=refuses)


def _adapted(schema: Any) -> Any:
    match schema:
        case {"type": "model-fields", "fields": fields}:
            return {**schema, "fields": {name: _required(name, field) for name, field in fields.items()}}
        case {"type": str()}:
            parts = _parts(schema)
            return {key: _adapted(value) if key in parts else value for key, value in schema.items()}
        case list():
            return list(map(_adapted, schema))
        case _:  # the choices of a tagged union
            return {key: _adapted(value) for key, value in schema.items()}


def _parts(schema: Any) -> tuple[str, ...]:
    return () if schema.get("on_error", "raise") != "raise" else _PARTS.get(schema["type"], ())


def _required(name: str, field: Any) -> Any:
    inner = field["schema"]
    adapted = _adapted(inner)
    if not _may_have_default(inner):
        alias = field.get("validation_alias")
        missing = partial(_raise_missing, alias if isinstance(alias, str) else name)
        adapted = core_schema.with_default_schema(adapted, default_factory=missing)
    return {**field, "schema": adapted}


def _may_have_default(schema: Any) -> bool:
    kind = schema["type"]
    return kind in _MAY_HAVE_DEFAULT or (kind in _WRAPPERS and _may_have_default(schema["schema"]))


def _raise_missing(field: str) -> Never:
    raise FieldMissing(field)
