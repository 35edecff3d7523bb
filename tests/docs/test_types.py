"""The Python of every page passes mypy, as readers would have it checked."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

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
    """By which names this block can import others, and what each is called here: of several, the last one before it."""
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


@pytest.mark.timeout(180)  # without a cache it reads the types of all dependencies
def test_the_examples_are_typed(tmp_path: Path) -> None:
    """mypy has nothing to say about them."""
    needs_group("lint")
    for page in pages():
        blocks = python_blocks(page)
        for block in blocks:
            (tmp_path / f"{module_of(block)}.py").write_text(as_module(block, blocks))
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
