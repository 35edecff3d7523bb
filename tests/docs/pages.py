"""The code blocks of the documentation, for tests that execute them.

A test takes a section of a page, and has to take every block of it; `test_pages.py` checks that every section with a block
is taken by some test. So nothing is shown to a reader that the suite has not executed.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>```+)(?P<info>.*)$")
_HEADING = re.compile(r"^#{1,6} +(?P<title>.*?) *$")
_TITLE = re.compile(r'title="(?P<title>[^"]*)"')


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        where: the page and the number of the block's first line.
        language: what follows the fence, ``python`` for example; empty if nothing does.
        title: what ``title="…"`` says behind it, by convention the name of the file that it is; or empty.
        code: what is in it, without the indentation of the fence.
    """

    where: str
    language: str
    title: str
    code: str


@dataclass
class Section:
    """What stands below one heading, up to the next one of any level."""

    page: str
    heading: str
    blocks: list[Block] = field(default_factory=list)
    _taken: set[Block] = field(default_factory=set)

    def take(self, language: str, title: str | None = None) -> list[str]:
        """The code of the blocks in this language, in their order; only those of this title, unless that is None."""
        found = [block for block in self.blocks if block.language == language and title in (None, block.title)]
        assert found, f"{self.page}, {self.heading}: no block in {language} {title or ''}"
        self._taken.update(found)
        return [block.code for block in found]

    def one(self, language: str, title: str | None = None) -> str:
        """The code of the only such block."""
        (code,) = self.take(language, title)
        return code

    def write(self, folder: Path) -> None:
        """Write every block that has a title to the file of that name."""
        for block in self.blocks:
            if block.title:
                path = folder / block.title
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.code)
                self._taken.add(block)

    def check_taken(self) -> None:
        """Fail if a block has not been taken."""
        left = [block.where for block in self.blocks if block not in self._taken]
        assert not left, f"not executed: {', '.join(left)}"


def sections(page: str) -> list[Section]:
    """The sections of a page, README.md or one below docs/; the first has the page's title, or none."""
    found = [Section(page, "")]
    opened: re.Match[str] | None = None
    code: list[str] = []
    start = 0
    for number, line in enumerate(path_of(page).read_text().splitlines(), 1):
        fence = _FENCE.match(line)
        if opened is None:
            if fence:
                opened, code, start = fence, [], number + 1
            elif heading := _HEADING.match(line):
                found.append(Section(page, heading["title"]))
        elif fence and fence["fence"] == opened["fence"] and not fence["info"].strip():
            language, _, rest = opened["info"].strip().partition(" ")
            title = _TITLE.search(rest)
            text = "".join(f"{each.removeprefix(opened['indent'])}\n" for each in code)
            found[-1].blocks.append(Block(f"{page}:{start}", language, title["title"] if title else "", text))
            opened = None
        else:
            code.append(line)
    assert opened is None, f"{page}: a block is not closed"
    return found


@contextmanager
def section(page: str, heading: str) -> Iterator[Section]:
    """The section below this heading; at the end of the block all of its code must have been taken.

    Give both as literals, for `test_pages.py` reads them in the source of the tests.
    """
    (found,) = [each for each in sections(page) if each.heading == heading]
    yield found
    found.check_taken()


def path_of(page: str) -> Path:
    """The file of a page."""
    return ROOT / page if page == "README.md" else ROOT / "docs" / page


def python(*arguments: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run Python in this folder, with warnings as errors, until it ends."""
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
