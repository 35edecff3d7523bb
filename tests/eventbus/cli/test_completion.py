"""Shell completion in real shells, and the manual page in a real man."""

import os
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pexpect
import pyte
import pytest

from eventbus.cli.completion import script
from eventbus.cli.manual import page
from eventbus.cli.spec import COMMANDS
from tests.support import PATIENCE, eventually

pytestmark = pytest.mark.process


def needed(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


def output(*command: str, folder: Path) -> list[str]:
    """The lines that a program printed; it must print nothing else."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=2 * PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def in_bash(folder: Path, *words: str) -> list[str]:
    listed = " ".join(f"'{word}'" for word in words)
    code = (
        f"source ./script; COMP_WORDS=({listed}); COMP_CWORD={len(words) - 1}; _eventbus; "
        '(( ${#COMPREPLY[@]} )) && printf "%s\\n" "${COMPREPLY[@]}"; true'
    )
    return output("bash", "--norc", "-c", code, folder=folder)


def in_fish(folder: Path, *words: str) -> list[str]:
    line = " ".join(words)
    found = output("fish", "--no-config", "-c", f"source ./script; complete -C '{line}'", folder=folder)
    return [each.split("\t")[0] for each in found]


def in_zsh(folder: Path, *words: str) -> list[str]:
    """zsh completes on a terminal only: all words that are on it then."""
    screen = pyte.Screen(120, 100)
    stream = pyte.ByteStream(screen)
    child = pexpect.spawn("zsh", ["-f"], cwd=str(folder), env=os.environ | {"TERM": "vt100"}, dimensions=(100, 120))

    def wait_for(condition: Callable[[str], object]) -> None:
        def read() -> bool:
            with suppress(pexpect.TIMEOUT):
                stream.feed(child.read_nonblocking(65_536, 0.1))
            return bool(condition("\n".join(line.rstrip() for line in screen.display)))

        eventually(read)

    try:
        child.sendline("PS1=; LISTMAX=1000; autoload -U compinit; compinit -u -D; source ./script; clear; echo 'be''gun'")
        wait_for(lambda text: "begun" in text and "echo" not in text)
        child.send(" ".join(words))
        child.send("\t\t")  # the second lists what the first could not decide
        child.send("\x01: \x05 -end-")  # what is typed behind it comes when that is done
        wait_for(lambda text: "-end-" in text)
        return " ".join(screen.display).replace("-end-", "").split()
    finally:
        child.close(force=True)


SHELLS: dict[str, Callable[..., list[str]]] = {"bash": in_bash, "fish": in_fish, "zsh": in_zsh}


@pytest.mark.parametrize("shell", SHELLS)
def test_completion(shell: str, tmp_path: Path) -> None:
    """Commands, flags, choices, files and folders are completed, and nothing that does not belong there."""
    needed(shell)
    (tmp_path / "script").write_text(script(shell))
    (tmp_path / "a-file").touch()
    (tmp_path / "a-folder").mkdir()

    def complete(*words: str) -> set[str]:
        return {word.rstrip("/") for word in SHELLS[shell](tmp_path, "eventbus", *words)}

    assert complete("") >= {command.name for command in COMMANDS}
    assert "tail" not in complete("che")
    assert complete("tail", "--s") >= {"--since-start", "--sub-port"}
    assert "--pub-port" not in complete("bench", "--")
    assert complete("completion", "") >= {"bash", "zsh", "fish"}
    assert complete("check", "--send-policy", "") >= {"block", "raise", "drop"}
    assert complete("proxy", "--security.allow-list", "a-f") >= {"a-file", "a-folder"}
    assert "a-file" not in complete("keygen", "--directory", "a-")
    assert complete("replay", "a-f") >= {"a-file", "a-folder"}
    assert "a-file" not in complete("replay", "--")


def test_choices_behind_a_sign_of_equality(tmp_path: Path) -> None:
    """Bash splits there."""
    (tmp_path / "script").write_text(script("bash"))
    assert in_bash(tmp_path, "eventbus", "check", "--format", "=", "t") == ["text"]
    assert in_bash(tmp_path, "eventbus", "check", "--format", "=") == ["text", "json"]


def test_the_manual_page(tmp_path: Path) -> None:
    """groff and man have nothing to complain of, and everything is in it."""
    needed("groff")
    (tmp_path / "eventbus.1").write_text(page())
    text = " ".join(output("groff", "-man", "-Tascii", "-ww", "-P-cbou", "eventbus.1", folder=tmp_path))
    for command in COMMANDS:
        assert f"eventbus {command.name}" in text
    assert "--security.allow-list" in text
    if shutil.which("man"):
        output("man", "--warnings", "--pager=cat", "-l", "eventbus.1", folder=tmp_path)
