"""Imports `dependency_injector.wiring` without the web frameworks that it looks for.

That module imports FastAPI, Starlette and Werkzeug wherever they are installed, which takes longer than all else that a
service imports, for one ``isinstance`` each. Objects of a framework exist only once something else has imported it, so it is
enough to look then. A program that has imported one of them already, or the wiring itself, notices nothing of this.
"""

import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import reload
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from inspect import isclass
from threading import get_ident
from types import ModuleType

_FRAMEWORKS = ("fastapi", "starlette", "werkzeug")


class _Hiding(MetaPathFinder):
    """Hides packages from the imports of the thread that makes it."""

    def __init__(self, packages: set[str]) -> None:
        self._packages = packages
        self._thread = get_ident()

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if get_ident() == self._thread and fullname.partition(".")[0] in self._packages:
            raise ModuleNotFoundError(f"{fullname} is not needed yet", name=fullname)
        return None


def import_wiring() -> None:
    """Import `dependency_injector.wiring`; call this before anything imports that. Any thread."""
    hidden = (
        set() if "dependency_injector.wiring" in sys.modules else {name for name in _FRAMEWORKS if name not in sys.modules}
    )
    if not hidden:
        return
    hiding = _Hiding(hidden)
    sys.meta_path.insert(0, hiding)
    try:
        from dependency_injector import wiring
    finally:
        sys.meta_path.remove(hiding)
    try:
        if "fastapi" in hidden:
            wiring.MARKER_EXTRACTORS.insert(0, _dependency_of_fastapi)
        if "starlette" in hidden:
            wiring.INSPECT_EXCLUSION_FILTERS.append(_is_request_of_starlette)
        if "werkzeug" in hidden:
            wiring.INSPECT_EXCLUSION_FILTERS.append(_is_proxy_of_werkzeug)
    except AttributeError:  # another version, which keeps its checks elsewhere
        reload(wiring)


def _dependency_of_fastapi(parameter: object) -> object:
    kind = _loaded("fastapi.params", "Depends")
    return getattr(parameter, "dependency", None) if isinstance(parameter, kind) else None


def _is_request_of_starlette(thing: object) -> bool:
    with suppress(TypeError):  # of classes that do not let themselves be asked
        return isclass(thing) and issubclass(thing, _loaded("starlette.requests", "Request"))
    return False


def _is_proxy_of_werkzeug(thing: object) -> bool:
    return isinstance(thing, _loaded("werkzeug.local", "LocalProxy"))


def _loaded(module: str, name: str) -> type | tuple[()]:
    """A class that something has imported; else the empty tuple, of which nothing is an instance."""
    return getattr(sys.modules.get(module), name, ())
