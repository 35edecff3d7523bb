"""Running what a page shows as a reader would: in a shell, in a folder of its own, with a bus that nobody else uses."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from eventbus import EventBusProxy
from tests.container.support import free_ports
from tests.support import PATIENCE, eventually

_numbers = count()


def surroundings(proxy: EventBusProxy | None = None, **variables: object) -> dict[str, str]:
    """A reader's environment: the commands of this one, warnings as errors, and no variables of a bus but these.

    Args:
        proxy: whose ports are in it, if that is not None.
        variables: what else is.
    """
    found = {name: value for name, value in os.environ.items() if not name.startswith(("EVENTBUS_", "PYTEST_", "COV_"))}
    found["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    found["PYTHONUNBUFFERED"] = "1"  # what a program says is seen while it runs
    found["PYTHONWARNINGS"] = "error"
    if proxy is not None:
        variables = {"EVENTBUS_PUB_PORT": proxy.pub_port, "EVENTBUS_SUB_PORT": proxy.sub_port, **variables}
    return found | {name: str(value) for name, value in variables.items()}


def free_port(*taken: int) -> int:
    """A port that is free, and none of these."""
    return next(port for port in iter(lambda: free_ports()[0], 0) if port not in taken)


def shell(code: str) -> list[str]:
    """A shell that does what the code says, and becomes its last command, so that a signal reaches that."""
    *before, last = code.rstrip().splitlines()
    return ["sh", "-e", "-c", "\n".join([*before, f"exec {last}"])]


def done(
    command: Sequence[str], folder: Path, environment: dict[str, str], status: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run a command until it ends, with this status; the report of a test that fails shows what it wrote."""
    ended = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=2 * PATIENCE, check=False
    )
    print(ended.stdout, ended.stderr, sep="\n")
    assert ended.returncode == status
    return ended


class Program:
    """A program that runs in a block, and what it has written so far, to either stream."""

    def __init__(self, process: "subprocess.Popen[bytes]", output: Path) -> None:
        self.process = process
        self._output = output

    @property
    def text(self) -> str:
        return self._output.read_text()

    def wait_for(self, text: str, times: int = 1) -> None:
        """Return when it has written this text `times` times; fail if it ends before, or takes too long."""

        def written() -> bool:
            ended = self.process.poll() is not None
            return self.text.count(text) >= times or ended

        try:
            eventually(written, PATIENCE, text)
        finally:
            print(self.text)
        assert self.text.count(text) >= times, f"it has ended without a word of {text!r}"

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send it a signal, and return the status that it ends with."""
        self.process.send_signal(how)
        return self.wait()

    def wait(self) -> int:
        """The status that it ends with."""
        try:
            return self.process.wait(PATIENCE)
        finally:
            print(self.text)


@contextmanager
def running(command: Sequence[str], folder: Path, environment: dict[str, str]) -> Iterator[Program]:
    """Run a program; at the end of the block it and all that it has started are killed, if they still run."""
    output = folder / f"output-{next(_numbers)}.txt"
    with (
        output.open("wb") as stream,
        subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            process_group=0,
        ) as process,
    ):
        try:
            yield Program(process, output)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
