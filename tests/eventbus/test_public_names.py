"""The public names: what `eventbus` exports, under which module's name, and what importing it costs."""

import ast
import json
import pickle
import pkgutil
from pathlib import Path
from types import ModuleType

import pytest

import eventbus
import eventbus.container
from tests.support import run_script

LATE = {"eventbus.proxy", "eventbus.stamped_event", "eventbus.transports.zeromq.reachability", "tomllib", "asyncio"}
"""Modules that a client does not need until it asks for them."""

SOURCE = ast.parse(Path(eventbus.__file__).read_text())


def test_the_list_is_in_order() -> None:
    """Each name is exported once, in alphabetical order, and is there."""
    assert list(eventbus.__all__) == sorted(set(eventbus.__all__))
    assert set(eventbus.__all__) <= set(dir(eventbus))


def test_type_checkers_see_what_programs_get() -> None:
    """The imports for type checkers agree with the table that programs use, and with `__all__`."""
    imported = {
        alias.name: node.module
        for node in ast.walk(SOURCE)
        if isinstance(node, ast.ImportFrom)
        and str(node.module).startswith("eventbus.")
        and node.module != "eventbus.exports"
        for alias in node.names
    }
    assert imported == {name: module for module, names in eventbus._HOMES.items() for name in names}
    assert set(imported) == set(eventbus.__all__)


@pytest.mark.parametrize("package", [eventbus, eventbus.container], ids=lambda package: package.__name__)
def test_no_module_has_a_public_name(package: ModuleType) -> None:
    """No module is named as what its package exports: the import of the module would take its place."""
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    assert modules.isdisjoint(package.__all__)


@pytest.mark.parametrize("name", eventbus.__all__)
def test_each_name_says_that_it_is_public(name: str) -> None:
    """Each export calls `eventbus` its module, and is pickled by that name."""
    exported = getattr(eventbus, name)
    assert exported.__module__ == "eventbus"
    assert exported.__qualname__ == name
    assert pickle.loads(pickle.dumps(exported)) is exported


@pytest.mark.process
def test_a_pickle_from_before_anything_was_asked_for() -> None:
    """A process that has not asked for a late name yet reads a pickle that has it."""
    pickled = pickle.dumps(eventbus.EventBusProxy)
    done = run_script(f"import pickle\nprint(pickle.loads({pickled!r}))\n")
    assert done.stdout == "<class 'eventbus.EventBusProxy'>\n"


def test_a_name_that_is_not_there() -> None:
    """Another name raises as with every module."""
    with pytest.raises(AttributeError, match="module 'eventbus' has no attribute 'EventBusClint'"):
        eventbus.EventBusClint  # type: ignore[attr-defined] # noqa: B018 # mypy knows it, too
    with pytest.raises(ImportError, match="cannot import name 'Nothing'"):
        from eventbus import Nothing  # type: ignore[attr-defined] # noqa: F401 # mypy knows it, too


@pytest.mark.process
def test_importing_the_package_imports_no_other() -> None:
    """`import eventbus` loads nothing but itself, so that the command line can answer `--version` at once."""
    done = run_script(
        "import sys\nimport eventbus\nprint(*(n for n in sys.modules if n.partition('.')[0] in NAMES))\n".replace(
            "NAMES", repr(("eventbus", "pydantic", "zmq", "dependency_injector"))
        )
    )
    assert done.stdout.split() == ["eventbus.exports", "eventbus"]


@pytest.mark.process
def test_importing_a_client_imports_no_proxy() -> None:
    """A client does not load the proxy until it is asked for."""
    done = run_script(
        "import json, sys\n"
        "from eventbus import EventBusClient\n"
        "before = list(sys.modules)\n"
        "from eventbus import EventBusProxy\n"
        "print(json.dumps([before, list(sys.modules)]))\n"
    )
    before, after = json.loads(done.stdout)
    assert LATE.isdisjoint(before)
    assert "eventbus.proxy" in after
