"""The decoder of events: pydantic's validator, changed so that it stops at the first wrong element of a collection. Pure.

While an event is refused, pydantic keeps all that is wrong with it, some 350 bytes for each wrong element: a small message,
compressed, could fill the memory of every subscriber. One wrong element is enough to refuse an event.

A careful decoder, for large JSON, also stops at the first missing field (see `required`), and refuses sets and dictionaries
whose elements were chosen to collide (see `collisions`).
"""

import sys
from collections.abc import Callable
from typing import Any

from pydantic_core import SchemaValidator

from eventbus.wire.collisions import careless_bytes, guarded
from eventbus.wire.required import demanding

_COLLECTIONS = frozenset({"dict", "frozenset", "list", "set", "tuple"})
# What may hold values of the service in a schema, or is not for reading.
_NOT_FOR_READING = frozenset({"cls", "config", "default", "expected", "metadata", "serialization"})


# Any: a core schema is a tree of typed dictionaries, and of values of all kinds.
def decoder_of(schema: Any, *, careful: bool = False) -> SchemaValidator:
    """Return a validator for this core schema, which stops at the first wrong element of a collection anywhere in it.

    Args:
        schema: the schema.
        careful: the decoder reads nothing but JSON, may raise `required.FieldMissing`, and takes 0.1 to 0.3 µs for each
            element or key of a collection in which collisions are possible.
    """
    # Without `_use_prebuilt=False`, nested models would be read by the validators that they have already. The
    # argument is not documented: where it is missing, only collections outside of models are affected.
    make: Callable[..., SchemaValidator] = SchemaValidator
    adapted = _adapted(demanding(schema) if careful else schema, careful)
    try:
        return make(adapted, _use_prebuilt=False)
    except TypeError:  # pragma: no cover # another version of pydantic
        return make(adapted)


def max_careless_bytes(schema: Any) -> int:
    """Return up to how many bytes of JSON a decoder for this core schema need not refuse collisions."""
    match schema:
        case {"type": str()}:
            inner = (value for key, value in schema.items() if key not in _NOT_FOR_READING)
            return min(careless_bytes(schema), *map(max_careless_bytes, inner), sys.maxsize)
        case dict():
            return min(map(max_careless_bytes, schema.values()), default=sys.maxsize)
        case list() | tuple():
            return min(map(max_careless_bytes, schema), default=sys.maxsize)
        case _:
            return sys.maxsize


def _adapted(schema: Any, careful: bool) -> Any:
    match schema:
        case {"type": str() as kind}:
            adapted = {key: value if key in _NOT_FOR_READING else _adapted(value, careful) for key, value in schema.items()}
            if kind in _COLLECTIONS:
                adapted["fail_fast"] = True
            return guarded(adapted) if careful and careless_bytes(schema) < sys.maxsize else adapted
        case dict():  # such as fields by their names
            return {key: _adapted(value, careful) for key, value in schema.items()}
        case list() | tuple():
            return type(schema)(_adapted(one, careful) for one in schema)
        case _:
            return schema
