"""The fixtures of the command line's tests."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.commands import Run, Start, command
from tests.support import PATIENCE


@pytest.fixture
def environment() -> dict[str, str]:
    """This process's variables, without any of ours."""
    return {name: value for name, value in os.environ.items() if not name.upper().startswith("EVENTBUS_")}


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path) -> Run:
    """Runs a command to its end, in an empty folder, with these variables."""

    def do(*arguments: object, given: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command(*arguments),
            input=given,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            check=False,
            cwd=tmp_path,
            env=environment | variables,
        )
        print(done.stdout, done.stderr, sep="\n")
        return done

    return do


@pytest.fixture
def start(environment: dict[str, str], tmp_path: Path) -> Start:
    """Starts a command in the background, in a process group of its own; kills it at the end of the block."""

    @contextmanager
    def do(*arguments: object, **variables: str) -> Iterator[subprocess.Popen[str]]:
        process = subprocess.Popen(
            command(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=environment | variables,
            start_new_session=True,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()

    return do
