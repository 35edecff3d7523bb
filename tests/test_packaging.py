"""The content of the wheel."""

import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import run_script

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """The content of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def packages_on_disk() -> Iterator[str]:
    """Every folder with an __init__.py below eventbus, through the links too."""
    for folder, _, names in os.walk(ROOT / "eventbus", followlinks=True):
        if "__init__.py" in names:
            yield ".".join(Path(folder).relative_to(ROOT).parts)


def folders_with_code() -> Iterator[str]:
    """Every folder with Python files below eventbus."""
    for folder, _, names in os.walk(ROOT / "eventbus", followlinks=True):
        if any(name.endswith(".py") for name in names):
            yield ".".join(Path(folder).relative_to(ROOT).parts)


def test_every_package_is_in_the_wheel(project: dict[str, Any]) -> None:
    """The list of packages in pyproject.toml is what lies on the disk: setuptools would leave the rest out silently."""
    assert sorted(project["tool"]["setuptools"]["packages"]) == sorted(packages_on_disk())


def test_every_folder_with_code_is_a_package() -> None:
    """No folder with Python files lacks its __init__.py."""
    assert sorted(folders_with_code()) == sorted(packages_on_disk())


def test_the_three_floors_are_one_import_package(project: dict[str, Any]) -> None:
    """The folders at the root are mapped into eventbus for the wheel, and linked into it for everybody else."""
    mapping = project["tool"]["setuptools"]["package-dir"]
    assert mapping == {"eventbus.container": "container", "eventbus.settings": "settings"}
    for package, folder in mapping.items():
        link = ROOT.joinpath(*package.split("."))
        assert link.readlink() == Path("..", folder)  # relative: a checkout may lie anywhere
        assert link.resolve() == ROOT / folder


def test_the_package_is_typed(project: dict[str, Any]) -> None:
    """py.typed is there and is shipped."""
    assert (ROOT / "eventbus" / "py.typed").is_file()
    assert "py.typed" in project["tool"]["setuptools"]["package-data"]["eventbus"]


def test_the_page_is_shipped(project: dict[str, Any]) -> None:
    """All files of the page of `eventbus ui` are in the wheel."""
    (pattern,) = project["tool"]["setuptools"]["package-data"]["eventbus.ui"]
    folder = ROOT / "eventbus" / "ui"
    assert {*folder.glob(pattern)} == {
        path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")
    }


def test_there_are_four_dependencies(project: dict[str, Any]) -> None:
    """An installation brings exactly these four with it."""
    names = {re.split(r"[<>=!~\[; ]", dependency, maxsplit=1)[0] for dependency in project["project"]["dependencies"]}
    assert names == {"pyzmq", "pydantic", "pydantic-settings", "dependency-injector"}
    assert len(project["project"]["dependencies"]) == 4


def test_uv_run_installs_no_linters_and_no_documentation_tools(project: dict[str, Any]) -> None:
    """The dependency groups installed by default are those that the tests need."""
    assert project["tool"]["uv"]["default-groups"] == ["test"]
    assert project["dependency-groups"].keys() == {"test", "lint", "bench", "docs"}


@pytest.mark.process
def test_the_plain_import_is_light() -> None:
    """A client is imported without asyncio, pydantic_settings and dependency_injector."""
    done = run_script("import sys\nfrom eventbus import EventBusClient\nprint(*sys.modules, sep='\\n')")
    assert done.returncode == 0
    loaded = set(done.stdout.split())
    assert {"eventbus", "eventbus.client"} <= loaded
    heavy = {"asyncio", "pydantic_settings", "dependency_injector", "eventbus.container", "eventbus.settings"}
    assert loaded.isdisjoint(heavy)


@pytest.mark.process
def test_every_public_name_is_there() -> None:
    """The names in __all__ of the three packages can be imported."""
    done = run_script("from eventbus import *\nfrom eventbus.container import *\nfrom eventbus.settings import *\n")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_command_is_installed(project: dict[str, Any]) -> None:
    """`eventbus` on the command line is the same as `python -m eventbus`."""
    assert project["project"]["scripts"] == {"eventbus": "eventbus.cli.program:program"}
