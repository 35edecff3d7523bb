"""Events of several classes: which classes a service's events have, and how one is chosen by its type. Pure.

pydantic tries the members of a plain union one after the other. Here the type of an event chooses the class at once, in
pydantic's core, so that a union of fifty classes is read as fast as one class.
"""

from collections.abc import Iterator, Mapping
from enum import Enum
from inspect import get_annotations
from types import MappingProxyType
from typing import Any, Literal, TypeAliasType, Union, get_args, get_origin

from pydantic import BaseModel

from eventbus.errors import InvalidEvent
from eventbus.events import BaseEvent

_NOTHING: Mapping[str, object] = MappingProxyType({})


def with_subclasses(event_class: Any) -> Any:
    """Return the event class, or the union of it and of those subclasses that narrow the field `type`.

    Args:
        event_class: a class, or a union of classes, which is returned as it is.

    Raises:
        InvalidEvent: two subclasses narrow it to the same type.
    """
    if isinstance(event_class, TypeAliasType):
        return with_subclasses(event_class.__value__)
    if not (isinstance(event_class, type) and issubclass(event_class, BaseModel) and "type" in event_class.model_fields):
        return event_class
    root = generic_of(event_class)
    if root.__module__ == BaseEvent.__module__:  # that of everybody's events
        return event_class
    values = frozenset(type_values(event_class))
    found = list(_narrowing(root, values))
    claimed: dict[object, type[BaseModel]] = {}
    for cls in found:
        for value in type_values(cls):
            other = claimed.setdefault(value, cls)
            if other is not cls:
                raise InvalidEvent(
                    f"{other.__qualname__} and {cls.__qualname__} are both for events of type '{value}', and the event "
                    f"class {event_class.__name__} stands for all its subclasses: name a union of those that you mean"
                )
    if not found:
        return event_class
    # A base class that is generic in its type is not itself the class of any event.
    return Union[*found] if not values else Union[event_class, *found]


def generic_of(cls: type[Any]) -> type[Any]:
    """Return the class itself, or the generic model that it was made from by ``[…]``, whose subclasses are not its own."""
    metadata: Any = getattr(cls, "__pydantic_generic_metadata__", None) or {}
    origin: type[Any] | None = metadata.get("origin")
    return origin or cls


def type_values(cls: type[BaseModel]) -> Iterator[object]:
    """The values that the field `type` of a class allows: members of an enum, literals, or a union of either."""
    return _values(cls.model_fields["type"].annotation)


# Any: a core schema is a tree of typed dictionaries, and of values of all kinds.
def tagged(schema: Any, classes_of: Mapping[str, type[BaseModel]]) -> Any:
    """Return a core schema in which the type chooses the member of the union at the top.

    Args:
        schema: of a union of classes, each of which stands in it once.
        classes_of: the class of each type.
    """
    definitions: list[Any] = []
    union = schema
    if schema["type"] == "definitions":
        definitions, union = [*schema["definitions"]], schema["schema"]
    if union["type"] != "union":
        return schema
    references = {}
    for member in union["choices"]:
        if isinstance(member, tuple):  # with a label
            member = member[0]
        if member["type"] == "definition-ref":
            defined = next(one for one in definitions if one["ref"] == member["schema_ref"])
            references[next(model_classes(defined))] = member
        else:  # defined once, because a class may stand for many types
            cls = next(model_classes(member))
            reference = f"eventbus:{len(definitions)}"
            definitions.append(member | {"ref": reference})
            references[cls] = {"type": "definition-ref", "schema_ref": reference}
    return {
        "type": "definitions",
        "schema": {
            "type": "tagged-union",
            "choices": {value: references[cls] for value, cls in classes_of.items()},
            "discriminator": "type",
            "from_attributes": False,
        },
        "definitions": definitions,
    }


def class_of_each_type(classes: tuple[type[BaseModel], ...]) -> Mapping[str, type[BaseModel]] | None:
    """Return the class of each type, as JSON has it; None if the type does not tell the class.

    What two classes have is for the one that derives from the other.
    """
    found: dict[str, type[BaseModel]] = {}
    for cls in classes:
        if cls.model_fields["type"].validation_alias is not None:
            return None
        values = list(map(_text_of, type_values(cls)))
        if not values:
            return None
        for value in values:
            other = cls if value is None else found.get(value, cls)
            if value is None or not (issubclass(cls, generic_of(other)) or issubclass(other, generic_of(cls))):
                return None
            found[value] = cls if issubclass(cls, generic_of(other)) else other
    return found


def _text_of(value: object) -> str | None:
    """The text that a type is in JSON; None if it is a number, or whatever an enum may have."""
    value = value.value if isinstance(value, Enum) else value
    return value if isinstance(value, str) else None


def model_classes(schema: object, defined: Mapping[str, object] = _NOTHING) -> Iterator[type[BaseModel]]:
    """The event classes at the top of a core schema, outside of fields: one model, or the members of a union."""
    match schema:
        case {"type": "model", "cls": type() as cls} if issubclass(cls, BaseModel):
            yield cls
        case {"type": "definition-ref", "schema_ref": str() as reference}:
            yield from model_classes(defined.get(reference))
        case {"type": "definitions", "schema": inner, "definitions": [*definitions]}:
            yield from model_classes(inner, {one["ref"]: one for one in definitions})
        case dict():
            for inner in schema.values():
                yield from model_classes(inner, defined)
        case list() | tuple():
            for inner in schema:
                yield from model_classes(inner, defined)


def _narrowing(cls: type[BaseModel], values: frozenset[object]) -> Iterator[type[BaseModel]]:
    for derived in cls.__subclasses__():
        own = frozenset(type_values(derived)) if "type" in get_annotations(derived) else frozenset()
        if own and (own < values or not values):
            yield derived
        yield from _narrowing(derived, values)


def _values(annotation: object) -> Iterator[object]:
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        yield from annotation
    elif get_origin(annotation) is Literal:
        yield from get_args(annotation)
    else:
        for argument in get_args(annotation):
            yield from _values(argument)
