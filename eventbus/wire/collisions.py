"""Sets and dictionaries that are made of what was received, and that collisions do not make slow. Pure, but for a clock.

Python's hashes of texts and bytes are secret, those of numbers are not: a publisher can choose 100,000 whole numbers,
floats, decimals, UUIDs or tuples of these that all collide, and making a set of them takes minutes. Keys of JSON are texts,
so this concerns fields such as `set[int]` and `dict[UUID, str]` only. There, elements are put in a few at a time, and what
that takes beyond a multiple of hashing them is added up: nothing but collisions makes it long.
"""

import sys
from collections import deque
from collections.abc import Callable, Sized
from functools import partial
from itertools import repeat
from time import thread_time
from typing import Any

from pydantic_core import PydanticCustomError, PydanticKnownError, core_schema

_SECRET = frozenset({"bytes", "date", "datetime", "str", "time"})  # Python's hashes of these
_FEW = frozenset({"bool", "enum", "literal", "none"})  # different ones that there can be
# JSON of up to these bytes holds too few elements to take long: of those that C compares, and of those that Python may.
_MAX_CARELESS_BYTES, _MAX_CARELESS_BYTES_IN_PYTHON = 65_536, 4_096
_ELEMENTS_AT_ONCE = 64
_MAX_EXCESS_S = 0.01  # of processor time; putting 100,000 whole numbers in takes 0.005 s
_USUAL_MULTIPLE = 4  # of the time for hashing: as long may putting in take without any excess


# Any: a core schema is a tree of typed dictionaries, and of values of all kinds; elements are whatever validators make.


def careless_bytes(schema: Any) -> int:
    """Return up to how many bytes of JSON the set or dictionary of this core schema, itself, cannot be slow to make."""
    match schema:
        case {"type": "set" | "frozenset"}:
            return _careless_bytes_of(schema.get("items_schema"))
        case {"type": "dict", "keys_schema": keys}:
            return _careless_bytes_of(keys)
        case _:
            return sys.maxsize


def guarded(schema: Any) -> Any:
    """Return the schema of a set or dictionary, which is to read JSON, such that elements which collide are an error."""
    adapted = dict(schema)
    reference = adapted.pop("ref", None)
    # Counted when equal ones are one.
    limits = adapted.pop("min_length", None) or 0, adapted.pop("max_length", None)
    if schema["type"] == "dict":
        # The keys have hashes of their own, by identity, until they are put in.
        adapted["keys_schema"] = core_schema.no_info_after_validator_function(repeat, schema["keys_schema"])
        return core_schema.no_info_after_validator_function(partial(_dictionary, *limits), adapted, ref=reference)
    # Not a list: of a set and a list in a union, pydantic takes JSON's array for the list.
    items = [schema.get("items_schema") or core_schema.any_schema()]
    elements = core_schema.tuple_schema(items, variadic_item_index=0, fail_fast=schema.get("fail_fast"))
    make = partial(_set, schema["type"] == "frozenset", *limits)
    return core_schema.no_info_after_validator_function(make, elements, ref=reference)


def _careless_bytes_of(elements: Any) -> int:
    match elements:
        case {"type": kind} if kind in _SECRET or kind in _FEW:
            return sys.maxsize
        case {"type": "int" | "float"}:
            return _MAX_CARELESS_BYTES
        case {"type": "nullable" | "default", "schema": inner}:
            return _careless_bytes_of(inner)
        case {"type": "union", "choices": list() as choices}:
            return min(_careless_bytes_of(choice[0] if isinstance(choice, tuple) else choice) for choice in choices)
        case {"type": "tuple", "items_schema": list() as items} if all(
            _careless_bytes_of(one) == sys.maxsize for one in items
        ):
            return sys.maxsize
        case _:
            return _MAX_CARELESS_BYTES_IN_PYTHON


def _set(frozen: bool, least: int, most: int | None, elements: tuple[Any, ...]) -> set[Any] | frozenset[Any]:
    made: set[Any] = _filled(set, elements, None)
    _check_length(made, "Frozenset" if frozen else "Set", least, most)
    return frozenset(made) if frozen else made


def _dictionary(least: int, most: int | None, members: dict["repeat[Any]", Any]) -> dict[Any, Any]:
    made: dict[Any, Any] = _filled(dict, tuple(map(next, members)), tuple(members.values()))
    _check_length(made, "Dictionary", least, most)
    return made


def _check_length(made: Sized, kind: str, least: int, most: int | None) -> None:
    what = {"field_type": kind, "actual_length": len(made)}
    if len(made) < least:
        raise PydanticKnownError("too_short", {**what, "min_length": least})
    if most is not None and len(made) > most:
        raise PydanticKnownError("too_long", {**what, "max_length": most})


def _filled(make: Callable[[], Any], keys: tuple[Any, ...], values: tuple[Any, ...] | None) -> Any:
    made = make()
    excess = 0.0
    for begin in range(0, len(keys), _ELEMENTS_AT_ONCE):
        excess += _excess_of(made, keys, values, begin)
        if excess > _MAX_EXCESS_S:
            # Once more, because something else may have held the processor up.
            again, excess = make(), 0.0
            for start in range(0, begin + 1, _ELEMENTS_AT_ONCE):
                excess += _excess_of(again, keys, values, start)
            if excess > _MAX_EXCESS_S / 2:
                raise PydanticCustomError("collisions", "Elements or keys have hashes that collide")
            excess = 0.0
    return made


def _excess_of(made: Any, keys: tuple[Any, ...], values: tuple[Any, ...] | None, begin: int) -> float:
    """Put some in; return the seconds that this has taken too long."""
    end = begin + _ELEMENTS_AT_ONCE
    some = keys[begin:end]
    start = thread_time()
    try:
        deque(map(hash, some), maxlen=0)
    except TypeError:
        raise PydanticKnownError("set_item_not_hashable") from None
    hashed = thread_time()
    made.update(some if values is None else zip(some, values[begin:end], strict=True))
    return (thread_time() - hashed) - _USUAL_MULTIPLE * (hashed - start)
