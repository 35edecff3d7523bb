"""The code blocks of the documentation, for tests that execute them.

A test takes a section of a page, and has to take every block of it; `test_pages.py` checks that every section with a block
is taken by some test. So nothing is shown to a reader that the suite has not executed.
"""

import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from time import monotonic
from typing import Any

import pexpect
import pytest
from packaging.requirements import Requirement

from tests.container.support import free_ports
from tests.support import PATIENCE

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>```+)(?P<info>.*)$")
_HEADING = re.compile(r"^#{1,6} +(?P<title>.*?) *$")
_TITLE = re.compile(r'title="(?P<title>[^"]*)"')
_PROMPT = "$ "


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        page: where it stands.
        line: the number of its first line there.
        language: what follows the fence, ``python`` for example; empty if nothing does.
        title: what ``title="…"`` says behind it, by convention the name of the file that it is; or empty.
        code: what is in it, without the indentation of the fence.
    """

    page: str
    line: int
    language: str
    title: str
    code: str


@dataclass
class Section:
    """The content below one heading, up to the next one of any level."""

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
        left = [f"{block.page}:{block.line}" for block in self.blocks if block not in self._taken]
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
            found[-1].blocks.append(Block(page, start, language, title["title"] if title else "", text))
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


def pages() -> list[str]:
    """Every page."""
    return ["README.md", *sorted(str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md"))]


def write_events(folder: Path) -> None:
    """Write what examples import as `events`: the module of the quickstart."""
    with section("quickstart.md", "Say what can happen") as part:
        part.write(folder)


@contextmanager
def modules(folder: Path, *names: str) -> Iterator[list[Any]]:
    """Modules in a folder that examples were written to, imported; at the end of the block nobody knows them any more."""
    of_folder = {path.stem for path in folder.glob("*.py")}
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(str(folder))
        for name in of_folder & sys.modules.keys():
            del sys.modules[name]


@dataclass(frozen=True)
class Command:
    """One command of a block in ``console``.

    Attributes:
        text: what is typed, behind the prompt.
        output: what is shown below it.
    """

    text: str
    output: str


def commands(code: str) -> list[Command]:
    """The commands of a block in ``console``."""
    assert code.startswith(_PROMPT), f"no prompt: {code}"
    parts = re.split(rf"^{re.escape(_PROMPT)}", code, flags=re.MULTILINE)[1:]
    return [Command(text, output) for text, _, output in (part.partition("\n") for part in parts)]


class Reader:
    """A reader who follows a page, in a scratch folder, and in as many terminals as it takes.

    The bus has free ports, which the environment names. Where commands and their output name the ports of the page, they
    stand for those; so a page shows what its readers see.

    Args:
        folder: where everything happens. What its ``.venv`` has installed comes first, then this project.
        ports: the proxy's; None for free ones.
        variables: more of the environment.

    Attributes:
        ports: the proxy's.
        environment: of all commands.
    """

    def __init__(self, folder: Path, ports: tuple[int, int] | None = None, **variables: str) -> None:
        self.folder = folder
        self.ports = pub_port, sub_port = ports or free_ports()
        others = (port for port in iter(lambda: free_ports()[0], None) if port not in (pub_port, sub_port))
        http_port = next(others)
        ui_port = next(port for port in others if port != http_port)
        self._ports = {"5559": str(pub_port), "5560": str(sub_port), "9464": str(http_port), "5561": str(ui_port)}
        foreign = ("EVENTBUS_", "PYTEST_", "UV_", "VIRTUAL_ENV", "COLUMNS", "LINES")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)} | {
            "EVENTBUS_PUB_PORT": str(pub_port),
            "EVENTBUS_SUB_PORT": str(sub_port),
            "NO_COLOR": "1",
            "PATH": os.pathsep.join([str(folder / ".venv" / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]),
            **variables,
        }

    def run(self, commands: str, status: int = 0) -> str:
        """Run commands in a shell until they end, with this status; what they wrote, errors too, as a page would show it."""
        done = subprocess.run(
            ["sh", "-e", "-c", self._as_run(commands)],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=5 * PATIENCE,
            check=False,
        )
        assert done.returncode == status, f"{commands}\nended with {done.returncode}:\n{done.stdout}"
        return self._as_shown(done.stdout)

    @contextmanager
    def terminal(self, commands: str) -> Iterator["Terminal"]:
        """A terminal in which these commands run; what still runs at the end of the block is killed."""
        child = pexpect.spawn(
            "sh",
            ["-e", "-c", self._as_run(commands)],
            cwd=str(self.folder),
            env=self.environment | {"TERM": "dumb"},
            dimensions=(50, 200),
            encoding="utf-8",
        )
        try:
            yield Terminal(child, self._as_shown)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)  # its shell, and what that runs: a proxy takes no notice of a hangup
            child.close(force=True)

    def _as_run(self, commands: str) -> str:
        for shown, real in self._ports.items():
            commands = re.sub(rf"\b{shown}\b", real, commands)
        return commands

    def _as_shown(self, text: str) -> str:
        for shown, real in self._ports.items():
            text = re.sub(rf"\b{real}\b", shown, text)
        return text


class Terminal:
    """A terminal of a `Reader`, in which commands run."""

    def __init__(self, child: pexpect.spawn, as_shown: Callable[[str], str]) -> None:
        self._child = child
        self._as_shown = as_shown
        self._written = ""

    @property
    def text(self) -> str:
        """The text written to it until now, as a page would show it."""
        return self._as_shown(self._written.replace("\r\n", "\n"))

    def wait_for(self, wanted: Callable[[str], object], what: object = "") -> str:
        """Read what the commands write until its `text` is as wanted, and return that."""
        end = monotonic() + PATIENCE
        while not wanted(self.text):
            assert monotonic() < end, f"not within {PATIENCE:g} s: {what or wanted}\n{self.text}"
            assert self._read() or wanted(self.text), f"ended: {what or wanted}\n{self.text}"
        return self.text

    def wait_for_text(self, text: str) -> None:
        """Read what the commands write until this is there."""
        self.wait_for(lambda written: text in written, repr(text))

    def press_ctrl_c(self) -> None:
        """Interrupt what runs in it."""
        self._child.sendintr()

    def wait(self) -> str:
        """Read until the commands end, and return all that was written."""
        end = monotonic() + PATIENCE
        while self._read():
            assert monotonic() < end, f"it does not end:\n{self.text}"
        return self.text

    def _read(self) -> bool:
        """Take what comes within a short time; False at the end."""
        try:
            self._written += self._child.read_nonblocking(65_536, 0.05)
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            return False
        return True


def needs(*programs: str) -> None:
    """Skip the test if a program is missing that the page uses and that no dependency brings."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def needs_group(name: str) -> None:
    """Skip the test if a distribution of this dependency group in pyproject.toml is missing."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    for requirement in map(Requirement, groups[name]):
        try:
            distribution(requirement.name)
        except PackageNotFoundError:
            pytest.skip(f"{requirement.name} is not installed: uv sync --all-groups")
