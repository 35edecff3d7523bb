"""Faults that must not end the tests' own process are tried in a process of their own: a test module, run as a program."""

import faulthandler
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from tests.support import PATIENCE, eventually, open_descriptors


def run_program(module: str, *arguments: object, seconds: float = 0.0, errors: str = "", warnings: str = "error") -> str:
    """Run a test module as a program; it must end well, and have nothing on its standard error but what is expected.

    Args:
        module: its name.
        arguments: what it finds in `sys.argv`.
        seconds: for how long it does what it does.
        errors: what its standard error has in it; if this is empty, nothing.
        warnings: the action for warnings, as of Python's ``-W``.

    Returns:
        Its standard output.
    """
    command = [sys.executable, "-W", warnings, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 2 * PATIENCE, check=False)
    print(done.stdout, done.stderr, sep="\n")  # for the report of a test that fails
    assert done.returncode == 0
    assert errors in done.stderr if errors else not done.stderr
    return done.stdout


def stop_process(process: int) -> None:
    """Stop a process, and return when all its threads stand still."""
    os.kill(process, signal.SIGSTOP)

    def stands_still() -> bool:
        states = [file.read_text().rpartition(")")[2].split()[0] for file in Path(f"/proc/{process}/task").glob("*/stat")]
        return set(states) == {"T"}

    eventually(stands_still)


def end_within(seconds: float) -> None:
    """Print the stacks of all threads and exit with an error if this program still runs some time after these seconds."""
    faulthandler.dump_traceback_later(seconds + PATIENCE, exit=True)


def ignore_log() -> None:
    """In a program: keep off its standard error what the client warns of rightly."""
    logging.getLogger("eventbus").addHandler(logging.NullHandler())


def resources() -> tuple[int, int, list[str]]:
    """The number of Python threads and of native threads of this process, and its descriptors."""
    return threading.active_count(), len(os.listdir("/proc/self/task")), open_descriptors()


def expect_resources(before: tuple[int, int, list[str]]) -> None:
    """Wait until this process has no more threads and descriptors than before.

    It may be less: those of an earlier test were going then.
    """

    def nothing_new() -> bool:
        now = resources()
        return now[0] <= before[0] and now[1] <= before[1] and set(now[2]) <= set(before[2])

    try:
        eventually(nothing_new)
    except AssertionError:
        names = [thread.name for thread in threading.enumerate()]
        files = [os.readlink(file) for file in Path("/proc/self/fd").iterdir() if file.exists()]
        raise AssertionError(f"{resources()} is not {before}: {names}, {files}") from None
