"""The decoder of events: pydantic's validator, changed so that it stops at the first wrong element of a collection. Pure.

While an event is refused, pydantic keeps all that is wrong with it, some 350 bytes for each wrong element: a small message,
compressed, could fill the memory of every subscriber. One wrong element is enough to refuse an event.
"""

from collections.abc import Callable
from typing import Any

from pydantic_core import SchemaValidator

_COLLECTIONS = frozenset({"dict", "frozenset", "list", "set", "tuple"})
# What may hold values of the service in a schema, or is not for reading.
_NOT_FOR_READING = frozenset({"cls", "config", "default", "expected", "metadata", "serialization"})


# Any: a core schema is a tree of typed dictionaries, and of values of all kinds.
def decoder_of(schema: Any) -> SchemaValidator:
    """Return a validator for this core schema, which stops at the first wrong element of a collection anywhere in it."""
    # Without `_use_prebuilt=False`, nested models would be read by the validators that they have already. The
    # argument is not documented: where it is missing, only collections outside of models are affected.
    make: Callable[..., SchemaValidator] = SchemaValidator
    adapted = _adapted(schema)
    try:
        return make(adapted, _use_prebuilt=False)
    except TypeError:  # pragma: no cover # another version of pydantic
        return make(adapted)


def _adapted(schema: Any) -> Any:
    match schema:
        case {"type": str() as kind}:
            adapted = {key: value if key in _NOT_FOR_READING else _adapted(value) for key, value in schema.items()}
            if kind in _COLLECTIONS:
                adapted["fail_fast"] = True
            return adapted
        case dict():  # such as fields by their names
            return {key: _adapted(value) for key, value in schema.items()}
        case list() | tuple():
            return type(schema)(map(_adapted, schema))
        case _:
            return schema
