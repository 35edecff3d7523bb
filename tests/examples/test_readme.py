"""The example's README: what it shows runs, and what it names exists."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scenario.processes import PROGRAMS
from tests.container.support import free_ports
from tests.container.test_demo import members
from tests.docs.pages import ROOT, section


def in_shell(code: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a block in a shell, with this environment's Python in the place of uv; nothing of it is left afterwards."""
    python = shlex.quote(sys.executable)
    code = code.replace("uv run python", python).replace("uv run eventbus", f"{python} -m eventbus")
    process = subprocess.Popen(
        ["bash", "-e", "-c", code],
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            out, err = process.communicate(timeout=50)
        finally:
            left = members(process.pid)
            for member in left:
                os.kill(member, signal.SIGKILL)
    assert left == [], err
    return subprocess.CompletedProcess(code, process.returncode, out, err)


@pytest.mark.process
def test_the_command() -> None:
    """The command ends with status 0 and its report; here after fewer steps."""
    with section("../examples/rl_plant/README.md", "Run it") as part:
        done = in_shell(part.one("sh").replace("--steps 200", "--steps 12"), ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("level (*) and set-point (-)")
    assert "steps       12 of 12" in done.stdout
    assert "not heard   nothing" in done.stdout
    for service in ("coredinator", "coreio", "corerl"):
        assert re.search(rf"^{service}: process \d+$", done.stderr, re.MULTILINE)


@pytest.mark.process
def test_by_hand(tmp_path: Path) -> None:
    """The three programs find each other, are watched and asked to end, and do; with SIGTERM, coredinator does."""
    shutil.copytree(PROGRAMS, tmp_path / "examples/rl_plant", ignore=shutil.ignore_patterns("__pycache__", "plant.json"))
    pub_port, sub_port = free_ports()
    with section("../examples/rl_plant/README.md", "By hand") as part:
        done = in_shell(
            part.one("sh").replace("8000", str(free_ports()[0])) + "wait $coredinator\n",
            tmp_path,
            EVENTBUS_PUB_PORT=str(pub_port),
            EVENTBUS_SUB_PORT=str(sub_port),
            EVENTBUS_CONNECT_TIMEOUT="40",
        )
    assert done.returncode == 128 + signal.SIGTERM, done.stderr  # coredinator's, which is waited for last
    assert done.stdout.count('{"topic": "corerl_steps"') == 8
    assert (tmp_path / "examples/rl_plant/plant.json").exists()


def test_the_files_that_it_names() -> None:
    """Each of them exists, in the example's folder or in the repository."""
    named = re.findall(r"`([\w/]+(?:\.py|/))`", (PROGRAMS / "README.md").read_text())
    assert len(named) > 10
    assert [name for name in named if not (PROGRAMS / name).exists() and not (ROOT / name).exists()] == []
