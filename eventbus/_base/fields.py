"""A JSON value as fields for people: each with its path, and its value as `--where` of ``eventbus tail`` reads it. Pure."""

import json
from collections.abc import Iterator

from pydantic_core import from_json


def flat(path: str, value: object) -> Iterator[tuple[str, str]]:
    """Yield the fields of a value, nested ones too, each with its path: names with dots between.

    Args:
        path: that of the value itself; empty: it is a whole event.
        value: as Python reads JSON.
    """
    if isinstance(value, dict) and (value or not path):
        for name, inner in value.items():
            yield from flat(f"{path}.{name}" if path else name, inner)
    else:
        yield path, as_text(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def as_text(value: str) -> str:
    """A text as it is, or in quotes if it would be read as something else without them."""
    try:
        from_json(value, allow_inf_nan=False)
    except (ValueError, TypeError):  # TypeError: a lone surrogate
        if value and not any(char.isspace() or char in "\"'=" for char in value):
            return value
    return json.dumps(value, ensure_ascii=False)
