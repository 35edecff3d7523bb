"""Which events a person wants to see: by type, and by what their fields are. Pure."""

from collections.abc import Collection, Iterable
from typing import Self

from pydantic_core import from_json

from eventbus.errors import InvalidSettings

_MISSING = object()


class Condition:
    """That a field has a value.

    Args:
        path: the field's name; of a nested one, with the names of those around it and dots between: ``sensor.id``.
        value: what it must be, as JSON is in Python.
    """

    def __init__(self, path: str, value: object) -> None:
        self.path = path
        self.value = value

    @classmethod
    def parse(cls, text: str) -> Self:
        """The condition that a person has written: ``field=value``. What is no JSON is text.

        Raises:
            InvalidSettings: it is none.
        """
        path, equals, value = text.partition("=")
        if not equals or not all(path.split(".")):
            raise InvalidSettings(f"--where {text!r} is no condition: write field=value, for example --where sensor.id=3")
        try:
            return cls(path, from_json(value, allow_inf_nan=False))
        except (ValueError, TypeError):  # what is no UTF-8 is no text to it
            return cls(path, value)

    def holds(self, event: object) -> bool:
        """Whether the event has this field, and this value in it."""
        return _same(_field(event, self.path), self.value)


class Selection:
    """Tells the events that are wanted from the others.

    Args:
        types: of one of these; if there are none, of any.
        conditions: that must all hold.

    Raises:
        InvalidSettings: a condition is none.
    """

    def __init__(self, types: Collection[str] = (), conditions: Iterable[str] = ()) -> None:
        self._types = tuple(types)  # compared, for what came may be anything
        self._conditions = tuple(map(Condition.parse, conditions))

    def admits(self, event: object) -> bool:
        """Whether the event, as JSON is in Python, is wanted."""
        if self._types and not (isinstance(event, dict) and event.get("type") in self._types):
            return False
        return all(condition.holds(event) for condition in self._conditions)


def _field(content: object, path: str) -> object:
    if not path:
        return content
    if not isinstance(content, dict):
        return _MISSING
    steps = path.split(".")
    # A name may have dots in it.
    for end in range(1, len(steps) + 1):
        name = ".".join(steps[:end])
        if name in content and (found := _field(content[name], ".".join(steps[end:]))) is not _MISSING:
            return found
    return _MISSING


def _same(one: object, other: object) -> bool:
    """Whether two values are the same JSON: 1 is 1.0, but true is not 1, as it is in Python."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    return one == other
