"""The public names of a package: each is imported at its first use (PEP 562), and its definition marks it as public."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module


def public[Exported](exported: Exported) -> Exported:
    """Let a class or function say `eventbus` as its module: a decorator.

    So tracebacks and pickles depend neither on the file that defines it nor on the module that was imported first.
    """
    exported.__module__ = "eventbus"
    return exported


def lazy(package: str, homes: Mapping[str, tuple[str, ...]]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return a package's ``__getattr__`` and ``__dir__``.

    Args:
        package: its full name.
        homes: the names that each module defines, by the full name of that module.
    """
    home_of = {name: module for module, names in homes.items() for name in names}

    def getattr_(name: str) -> object:
        try:
            module = home_of[name]
        except KeyError:
            raise AttributeError(f"module {package!r} has no attribute {name!r}") from None
        found = getattr(import_module(module), name)
        setattr(sys.modules[package], name, found)
        return found

    def dir_() -> list[str]:
        return sorted({*vars(sys.modules[package]), *home_of})

    return getattr_, dir_
