"""Reading annotations: which classes they name."""

import typing
from collections.abc import Awaitable, Collection, Iterator
from types import NoneType, SimpleNamespace, UnionType
from typing import Annotated, Any, NewType, TypeAliasType, Union

_NEVER = (typing.Never, typing.NoReturn)


def classes_in(annotation: object) -> Iterator[type]:
    """Yield the classes that a value with this annotation may have: several for a union, `object` where it names none.

    What a collection contains counts too, because its elements are as easily reached.
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is None:
        yield NoneType
    elif annotation is Any:  # a class as well
        yield object
    elif annotation in _NEVER:
        return
    elif isinstance(annotation, TypeAliasType):
        yield from classes_in(annotation.__value__)
    elif isinstance(origin, TypeAliasType):
        yield from classes_in(origin.__value__)
    elif isinstance(annotation, NewType):
        yield from classes_in(annotation.__supertype__)
    elif origin is Annotated:
        yield from classes_in(arguments[0])
    elif origin in (Union, UnionType):
        for argument in arguments:
            yield from classes_in(argument)
    elif isinstance(origin, type):
        yield origin
        if issubclass(origin, Collection | Awaitable):
            for argument in arguments:
                if argument is not ...:
                    yield from classes_in(argument)
    elif isinstance(annotation, type):
        yield annotation
    else:
        yield object


def evaluated(annotation: object, function: object) -> object:
    """Return a function's annotation, evaluated if it is a text; Any if that fails.

    Each annotation is evaluated alone, because others may use names that are imported for type checkers only.
    """
    holder = SimpleNamespace(__annotations__={"it": annotation})
    try:
        hints = typing.get_type_hints(holder, globalns=getattr(function, "__globals__", None), include_extras=True)
    except Exception:  # an annotation may be any text
        return Any
    return hints["it"]


def is_protocol(cls: type) -> bool:
    """Whether the class is a Protocol, which says nothing of the classes that have its methods."""
    return bool(getattr(cls, "_is_protocol", False))
