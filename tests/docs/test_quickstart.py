"""docs/quickstart.md: its steps lead to two services that talk, and a test."""

import json
import re
import shutil
import sys
import tomllib
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, Command, Reader, Terminal, commands, needs, section
from tests.docs.wheels import write_wheels
from tests.support import RawPeers


def copy_of_the_project(folder: Path) -> None:
    """Copy the files that an installation needs, so that none writes into the repository."""
    for name in ("eventbus", "container", "settings"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)


def configuration_of_uv(folder: Path, services: Path) -> Path:
    """Write a file that makes uv install the packages that this suite runs with: that needs no network and no cache.

    Args:
        folder: where the file, the packages as wheels, and a cache of its own go.
        services: where uv will run.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheels = folder / "wheels"
    wheels.mkdir()
    write_wheels(wheels, [*project["build-system"]["requires"], *project["project"]["dependencies"], "pytest"])
    options = {"cache-dir": str(folder / "cache"), "find-links": [str(wheels)], "no-index": True, "offline": True}
    configuration = folder / "uv.toml"
    configuration.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in options.items()))
    # Without this file uv could take another Python of the machine, which these packages are not compiled for.
    (services / ".python-version").write_text(sys.executable)
    return configuration


def wait_for_subscriber(reader: Reader, topic: bytes) -> None:
    """Return when a client is subscribed to this topic; an empty one stands for all."""
    with closing(RawPeers(*reader.ports)) as peers:
        peers.publisher(awaited=topic)


def only(code: str) -> Command:
    (command,) = commands(code)
    return command


def without_times(text: str) -> str:
    """The text with one and the same figure in place of each time and duration."""
    return re.sub(r"\d\d:\d\d:\d\d\.\d{3}|\d+\.\d+(?= ?m?s\b)", "#", text)


def without_log(text: str) -> str:
    """The text without the lines that the log of `run` writes beside it."""
    return re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d INFO eventbus: .*\n", "", text, flags=re.MULTILINE)


@pytest.mark.timeout(240)  # an installation and a dozen processes, one after the other
def test_the_quickstart(tmp_path: Path) -> None:
    """Each step does what the page says, and shows what the page shows, in an environment that begins with nothing."""
    needs("uv")
    (tmp_path / "eventbus").mkdir()
    copy_of_the_project(tmp_path / "eventbus")
    folder = tmp_path / "services"
    folder.mkdir()
    reader = Reader(folder, UV_CONFIG_FILE=str(configuration_of_uv(tmp_path, folder)))

    with section("quickstart.md", "Install") as part:
        reader.run(part.one("sh"))
    with section("quickstart.md", "Run a proxy") as part:
        proxy, check = map(only, part.take("console"))
    with ExitStack() as terminals:

        def terminal(command: Command) -> Terminal:
            return terminals.enter_context(reader.terminal(command.text))

        terminal(proxy).wait_for_text(proxy.output)
        assert without_times(reader.run(check.text)) == without_times(check.output)

        with section("quickstart.md", "Watch what passes") as part:
            tail = only(part.one("console"))
            tails = terminal(tail)
            wait_for_subscriber(reader, b"")
        with section("quickstart.md", "Say what can happen") as part:
            part.write(folder)
        with section("quickstart.md", "A service that handles") as part:
            part.write(folder)
            watch = only(part.one("console"))
            watchers = terminal(watch)
            wait_for_subscriber(reader, b"readings")
        with section("quickstart.md", "A service that emits") as part:
            part.write(folder)
            emit, handled, passed = map(only, part.take("console"))
        assert (handled.text, passed.text) == (watch.text, tail.text)
        assert without_log(reader.run(emit.text)) == emit.output
        watchers.wait_for_text(handled.output)
        assert "handler __main__.Watcher.handle_measured: measured on readings" in watchers.text
        shown = tails.wait_for(lambda text: text.count("\n") == passed.output.count("\n"), "the events")
        assert without_times(shown) == without_times(passed.output)
        watchers.press_ctrl_c()
        assert without_log(watchers.wait().replace("^C", "")) == handled.output

    with section("quickstart.md", "Configure") as part:
        write, misspelt = map(commands, part.take("console"))
    assert reader.run("\n".join(command.text for command in write)) == write[-1].output
    assert reader.run(misspelt[0].text, status=2) == misspelt[0].output

    with section("quickstart.md", "Test") as part:
        part.write(folder)
        test = only(part.one("console"))
    assert without_times(reader.run(test.text)) == without_times(test.output)
