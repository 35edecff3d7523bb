"""Finds the container that ``module:name`` names, as uvicorn finds an application: the current folder is on the path."""

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, get_origin

from eventbus.errors import InvalidSettings

if TYPE_CHECKING:
    from dependency_injector.containers import Container


def load(name: str) -> "Container":
    """Return the container of this name; of a class, or of a function without arguments, what it returns.

    What the module itself raises when it is imported is not caught, because its traceback tells where.

    Raises:
        InvalidSettings: there is no such module or name, or it is no container.
    """
    module_name, colon, attribute = name.partition(":")
    if not colon or not module_name or not attribute:
        raise InvalidSettings(f"{name!r} names no container: write module:name, such as app:App")
    if "" in module_name.split("."):  # a relative name, or a path such as ../app
        raise InvalidSettings(_no_module(module_name, attribute))
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: object = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there, and imports something that is not
        raise InvalidSettings(_no_module(module_name, attribute)) from None
    for step in attribute.split("."):
        try:
            found = getattr(found, step)
        except AttributeError:
            raise InvalidSettings(_no_name(name, module_name, found)) from None
    return _container(found, name)


def _container(found: object, name: str) -> "Container":
    from eventbus.container.description import is_class_of_containers, is_container  # late, because it imports much

    cls = get_origin(found) or found  # such as EventBusClient[…]
    if isinstance(cls, type) and not is_class_of_containers(cls):
        raise InvalidSettings(f"{name} is no container: it is the class {cls.__qualname__}")
    made = found() if callable(found) and not is_container(found) and _needs_nothing(found, name) else found
    if not is_container(made):
        raise InvalidSettings(f"{name} is no container: it is {type(found).__name__} {found!r}")
    return made


def _needs_nothing(function: Callable[..., object], name: str) -> bool:
    try:
        signature = inspect.signature(function)
    except ValueError:  # it is written in C, and does not tell
        return True
    try:
        signature.bind()
    except TypeError as error:
        raise InvalidSettings(f"{name} is no container, and cannot be called without arguments: {error}") from None
    return True


def _no_module(module_name: str, attribute: str) -> str:
    path = module_name.removeprefix("./").removesuffix(".py").strip("/.")
    dotted = path.replace("/", ".")
    is_path = dotted != module_name and all(part.isidentifier() for part in dotted.split("."))
    meant = f": did you mean {dotted}:{attribute}?" if is_path and not module_name.startswith(("/", "..")) else ""
    return f"there is no module {module_name!r} in {os.getcwd()}, nor on Python's path{meant}"


def _no_name(name: str, module_name: str, module: object) -> str:
    from eventbus.container.description import is_container_class

    containers = [each for each, value in vars(module).items() if is_container_class(value)]
    known = f": did you mean {module_name}:{containers[0]}?" if containers else ""
    return f"there is no {name}{known}"
