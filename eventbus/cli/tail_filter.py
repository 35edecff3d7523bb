"""The filter of ``eventbus tail``: events by their type, and by the values of their fields. Pure."""

from collections.abc import Collection, Iterable
from typing import Self

from pydantic_core import from_json

from eventbus.errors import InvalidSettings
from eventbus.keys import masked

_MISSING = object()


class Condition:
    """A field must have a value.

    Args:
        path: the field's name; a nested one after the names of the fields around it, with dots: ``sensor.id``.
        value: the value, as Python reads JSON.
    """

    def __init__(self, path: str, value: object) -> None:
        self.path = path
        self.value = value

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a condition as people write it, ``field=value``. A value that is no JSON is a text.

        Raises:
            InvalidSettings: there is no ``=``, or no field before it.
        """
        path, equals, value = text.partition("=")
        if not equals or not all(path.split(".")):
            raise InvalidSettings(
                f"--where {masked(text)!r} is no condition: write field=value, for example --where sensor.id=3"
            )
        try:
            return cls(path, from_json(value, allow_inf_nan=False))
        except (ValueError, TypeError):  # TypeError: a lone surrogate
            return cls(path, value)

    def matches(self, event: object) -> bool:
        """Whether the event has this field with this value."""
        return _equal(_field(event, self.path), self.value)


class EventFilter:
    """Selects events.

    Args:
        types: an event must have one of these; empty: any type.
        conditions: all of them must match.

    Raises:
        InvalidSettings: a condition cannot be read.
    """

    def __init__(self, types: Collection[str] = (), conditions: Iterable[str] = ()) -> None:
        self._types = tuple(types)  # not a set, because the received type may be unhashable
        self._conditions = tuple(map(Condition.parse, conditions))

    @property
    def only_type(self) -> bool:
        """Whether all events that match have the same type."""
        return len(self._types) == 1

    @property
    def exact_fields(self) -> frozenset[str]:
        """The fields that have the same value in all events that match."""
        return frozenset(condition.path for condition in self._conditions)

    def matches(self, event: object) -> bool:
        """Whether to show the event, given as Python reads JSON."""
        if self._types and not (isinstance(event, dict) and event.get("type") in self._types):
            return False
        return all(condition.matches(event) for condition in self._conditions)


def _field(content: object, path: str) -> object:
    if not path:
        return content
    if not isinstance(content, dict):
        return _MISSING
    steps = path.split(".")
    # A field's own name may have dots, too.
    for end in range(1, len(steps) + 1):
        name = ".".join(steps[:end])
        if name in content and (found := _field(content[name], ".".join(steps[end:]))) is not _MISSING:
            return found
    return _MISSING


def _equal(one: object, other: object) -> bool:
    """Whether two values are the same JSON: 1 is 1.0, but unlike in Python, true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[name], other[name]) for name in one)
    return one == other
