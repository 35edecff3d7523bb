"""A terminal, and its screen as a person sees it: pexpect runs the command in a pty, pyte draws the screen."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

import pexpect
import pyte

from tests.commands import command
from tests.support import PATIENCE


class Terminal:
    """A terminal in which a command runs.

    Attributes:
        written: every byte that the command has written to it until now.
    """

    def __init__(self, child: pexpect.spawn, columns: int, lines: int) -> None:
        self._child = child
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self.written = b""

    @property
    def lines(self) -> list[str]:
        """The lines that are on the screen, without spaces at their ends, and without empty ones below."""
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip().splitlines()

    @property
    def text(self) -> str:
        """All that is on the screen."""
        return "\n".join(self.lines)

    @property
    def cursor_is_hidden(self) -> bool:
        return bool(self._screen.cursor.hidden)

    def colour_of(self, text: str) -> str:
        """The colour of the first place where this stands on the screen; ``default`` where it has none."""
        for number, line in enumerate(self._screen.display):
            column = line.find(text)
            if column >= 0:
                return str(self._screen.buffer[number][column].fg)
        raise AssertionError(f"{text!r} is not on the screen:\n{self.text}")

    def wait_for(self, condition: Callable[[], object], what: str = "") -> None:
        """Read what the command writes until the condition is true."""
        end = monotonic() + PATIENCE
        while not condition():
            self._read(0.05)
            if monotonic() > end:
                raise AssertionError(f"not within {PATIENCE:g} s: {what or condition}\n{self.text}")

    def wait_for_text(self, *texts: str) -> None:
        """Read what the command writes until all this is on the screen."""
        self.wait_for(lambda: all(text in self.text for text in texts), f"{texts} on the screen")

    def resize(self, columns: int, lines: int) -> None:
        """Give the terminal another size, as by pulling at its corner."""
        self._screen.resize(lines, columns)
        self._screen.reset()  # what a terminal makes of old content is its own business
        self._child.setwinsize(lines, columns)

    def press_ctrl_c(self) -> None:
        self._child.sendintr()

    def press_ctrl_z(self) -> None:
        self._child.sendcontrol("z")

    def press_enter(self) -> None:
        self._child.sendline()

    def terminate(self) -> None:
        self._child.kill(signal.SIGTERM)

    def wait(self) -> int:
        """Read until the command ends; its exit status."""
        end = monotonic() + PATIENCE
        while self._read(0.05):
            assert monotonic() < end, f"it does not end:\n{self.text}"
        self._child.close()
        assert self._child.exitstatus is not None, f"ended by signal {self._child.signalstatus}"
        return int(self._child.exitstatus)

    def _read(self, timeout: float) -> bool:
        """Show the output of at most `timeout` seconds; False at the end."""
        try:
            part = self._child.read_nonblocking(65_536, timeout)
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            return False
        self.written += part
        self._stream.feed(part)
        return True


@contextmanager
def terminal(
    *arguments: object,
    columns: int = 110,
    lines: int = 30,
    cwd: os.PathLike[str],
    script: str = 'exec "$@"',
    **variables: str,
) -> Iterator[Terminal]:
    """A terminal in which a shell runs this command, and all is killed at the end of the block.

    Args:
        arguments: of the command.
        columns: of the terminal.
        lines: of the terminal.
        cwd: the working directory.
        script: for the shell; ``"$@"`` in it is the command.
        variables: for the environment.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EVENTBUS_")}
    for name in ("NO_COLOR", "COLUMNS", "LINES"):
        environment.pop(name, None)
    child = pexpect.spawn(
        "sh",
        ["-c", script, "sh", *command(*arguments)],
        env=environment | {"TERM": "xterm-256color"} | variables,
        cwd=os.fspath(cwd),
        dimensions=(lines, columns),
    )
    try:
        yield Terminal(child, columns, lines)
    finally:
        child.close(force=True)
