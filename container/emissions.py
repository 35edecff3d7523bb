"""The emissions of a class, as its source says: topics and types in calls of `emit_event`, `request` and the like."""

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator

from eventbus.events import BaseEventTopic, BaseEventType

_EMITTING = {"emit_event", "aemit_event", "emit_events"}
_ASKING = {"request", "arequest", "request_all", "arequest_all"}
_MISSING = object()

type Emission = tuple[str | None, tuple[str, ...], str, bool]
"""A topic, None if it is not known; types, none if they are not known; the method; and whether it waits for an answer."""


def emissions_of(cls: type) -> list[Emission]:
    """Return what a class emits, base classes too, each once. Code that has no source says nothing."""
    found: dict[Emission, None] = {}
    for base in reversed(cls.__mro__):
        if is_ours(base) or base.__module__.partition(".")[0] in sys.stdlib_module_names:
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
        except (OSError, TypeError, SyntaxError):
            continue
        names = vars(sys.modules.get(base.__module__, object)) | vars(base)
        for method in _methods(tree):
            found |= dict.fromkeys(_in_method(method, names))
    return list(found)


def _methods(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield the functions in the source of a class. One that is defined inside of another is a part of that."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
        else:
            yield from _methods(node)


def is_ours(cls: type) -> bool:
    """Whether a class is of this package or of dependency_injector; the demonstration is as good as a user's program."""
    package = cls.__module__.partition(".")[0]
    return package in ("eventbus", "dependency_injector") and cls.__module__ != "eventbus.container.demo"


def _in_method(method: ast.FunctionDef | ast.AsyncFunctionDef, names: dict[str, object]) -> Iterator[Emission]:
    assigned = {
        target.id: node.value
        for node in ast.walk(method)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for call in ast.walk(method):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
            continue
        asks = call.func.attr in _ASKING
        if not asks and call.func.attr not in _EMITTING:
            continue
        given = dict(zip(("event", "topic"), call.args, strict=False)) | {
            one.arg: one.value for one in call.keywords if one.arg
        }
        event = given.get("event") or given.get("events")
        topics = [one.value for one in _constants(given.get("topic"), names, assigned) if isinstance(one, BaseEventTopic)]
        types = [one.value for one in _constants(event, names, assigned) if isinstance(one, BaseEventType)]
        if asks and not (topics or types):
            continue  # something else that has such a method, as clients of HTTP do
        for topic in topics or (None,):
            yield topic, tuple(dict.fromkeys(types)), method.name, asks


def _constants(node: ast.AST | None, names: dict[str, object], assigned: dict[str, ast.expr]) -> Iterator[object]:
    """Yield the values of the names that stand in an expression, also in what was assigned to a variable of it."""
    if node is None:
        return
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and part.id in assigned:
            variable = assigned[part.id]
            yield from _constants(variable, names, {name: value for name, value in assigned.items() if name != part.id})
        elif isinstance(part, ast.Attribute):
            value = _value(part, names)
            if value is not _MISSING:
                yield value
        elif isinstance(part, ast.Call) and isinstance(cls := _value(part.func, names), type):
            yield from _types_of(cls)


def _value(node: ast.AST, names: dict[str, object]) -> object:
    """The value of a dotted name. Nothing is called; a class's own attributes are looked up, those of objects are not."""
    if isinstance(node, ast.Name):
        return names.get(node.id, _MISSING)
    if isinstance(node, ast.Attribute):
        owner = _value(node.value, names)
        if isinstance(owner, type) or inspect.ismodule(owner):
            return getattr(owner, node.attr, _MISSING)
    return _MISSING


def _types_of(cls: type) -> Iterator[object]:
    """The one type that all events of a class have, if its field says so by its default."""
    fields = getattr(cls, "model_fields", None)
    if isinstance(fields, dict) and "type" in fields:
        yield fields["type"].default
