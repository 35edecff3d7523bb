"""The Python of every page passes mypy and pyright, as readers would have it checked, against what is in the wheel."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.docs.pages import ROOT, Block, needs_group, pages, sections

EVERYWHERE = "quickstart.md"  # whose modules other pages import too


def python_blocks(page: str) -> list[Block]:
    """The Python of a page, in its order."""
    return [block for part in sections(page) for block in part.blocks if block.language == "python"]


def module_of(block: Block) -> str:
    """A name that no other block has: those of different pages must not be taken for one module."""
    return re.sub(r"\W", "_", f"{block.page.removesuffix('.md')}_{block.line}")


def stem(block: Block) -> str:
    """The name by which other blocks import this one; empty for one without a title."""
    return block.title.removesuffix(".py").replace("/", ".")


def imported(block: Block, others: list[Block]) -> Iterator[tuple[str, str]]:
    """The names by which this block imports others, and their modules: of several, the last one before it."""
    known = {stem(other): module_of(other) for other in python_blocks(EVERYWHERE)}
    known |= {stem(other): module_of(other) for other in reversed(others) if other.line > block.line}
    known |= {stem(other): module_of(other) for other in others if other.line < block.line}
    yield from ((name, module) for name, module in known.items() if name)


def as_module(block: Block, others: list[Block]) -> str:
    """The block as a module: what it imports by other blocks' titles has their names, and lines have the page's numbers."""
    code = block.code
    for name, module in imported(block, others):
        code = re.sub(rf"^(\s*)from {re.escape(name)} import", rf"\1from {module} import", code, flags=re.MULTILINE)
        code = re.sub(rf"^(\s*)import {re.escape(name)}$", rf"\1import {module} as {name}", code, flags=re.MULTILINE)
    return "\n" * (block.line - 1) + code


def write_modules(folder: Path) -> None:
    """Write the Python of all pages, each block as a module."""
    for page in pages():
        blocks = python_blocks(page)
        for block in blocks:
            (folder / f"{module_of(block)}.py").write_text(as_module(block, blocks))


@pytest.mark.timeout(180)  # without a cache it reads the types of all dependencies
def test_mypy(tmp_path: Path) -> None:
    """mypy has nothing to say about them."""
    needs_group("lint")
    write_modules(tmp_path)
    config = tmp_path / "mypy.ini"
    # Not that of this project: examples may do without annotations.
    config.write_text(
        "[mypy]\ncheck_untyped_defs = true\ndisable_error_code = var-annotated\nignore_missing_imports = true\n"
    )
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--config-file", str(config)),
            *("--cache-dir", str(ROOT / ".mypy_cache" / "docs"), "--python-version", "3.12", str(tmp_path)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The content of the wheel: the package as users have it, built from a copy, so that the checkout stays as it is."""
    needs_group("lint")
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for name in ("eventbus", "container", "settings"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    build = "from setuptools import build_meta; import sys; print(build_meta.build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", build, str(built)], cwd=source, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    (file,) = built.glob("*.whl")
    with ZipFile(file) as archive:
        archive.extractall(built / "site")
    return built / "site"


# What a type checker cannot know, because others have not written it down.
FOREIGN = (
    re.compile(r'"bus" could not be resolved'),  # the original client, in a page about leaving it
    re.compile(r'Type of "override" is partially unknown'),  # dependency_injector's providers
)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("mode", ["standard", "strict"])
def test_pyright(wheel: Path, tmp_path: Path, mode: str) -> None:
    """pyright has nothing to say about them, in strict mode neither."""
    write_modules(tmp_path)
    if mode == "strict":
        for module in tmp_path.glob("migration_*.py"):
            module.unlink()  # the original client has no types
    config = {"typeCheckingMode": mode, "pythonVersion": "3.12", "extraPaths": [str(wheel)]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(config))
    done = subprocess.run(
        [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable, "--project", str(tmp_path), "--outputjson"],
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    said = json.loads(done.stdout)
    assert said["summary"]["filesAnalyzed"] > 30
    found = [
        f"{Path(each['file']).name}:{each['range']['start']['line'] + 1}: {each['message']}"
        for each in said["generalDiagnostics"]
        if not any(pattern.search(each["message"]) for pattern in FOREIGN)
    ]
    assert found == []
