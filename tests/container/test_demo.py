"""`eventbus demo`: two services and a proxy in processes of their own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from tests.support import PATIENCE, eventually, run_script
from tests.terminal import terminal

pytestmark = pytest.mark.process


@contextmanager
def demo(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """A demonstration in a session of its own, of which nothing is left at the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "eventbus", "demo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            if members(process.pid):
                os.killpg(process.pid, signal.SIGKILL)


def members(session: int) -> list[int]:
    """The living processes of a session, by their ids."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has ended meanwhile
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def working(session: int) -> int:
    """The number of processes of a session in which libzmq's threads run by now."""
    return sum(len(list(Path(f"/proc/{member}/task").glob("*"))) >= 3 for member in members(session))


def output(process: "subprocess.Popen[str]") -> IO[str]:
    assert process.stdout is not None
    return process.stdout


def said(process: "subprocess.Popen[str]") -> str:
    assert process.stderr is not None
    return process.stderr.read()


def test_all_readings_arrive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It ends with status 0: all readings were received, alarms were heard, nothing is left; however the real bus of this
    machine is set up, because it brings its own proxy."""
    monkeypatch.setenv("EVENTBUS_PUB_PORT", "1")
    monkeypatch.setenv("EVENTBUS_HOST", "nowhere.invalid")
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("EVENTBUS_TRANSPORT=nats\n")
    with demo("--seconds", "1") as process:
        out, err = process.communicate(timeout=2 * PATIENCE)
        assert (process.returncode, err) == (0, "")
        lines = out.splitlines()
        emitted = next(line for line in lines if line.startswith("sensor   emitted"))
        assert "watcher  received 12 of 12 readings" in lines
        assert emitted.split()[2] == "12"
        assert "memory" in emitted  # its threshold is low, so that there is an alarm on every machine
        assert sum(line.startswith("watcher  reading") for line in lines) == 12
        alarm = next(number for number, line in enumerate(lines) if line.startswith("watcher  ALARM    memory"))
        assert alarm < lines.index("sensor   alarm heard: memory") < lines.index(emitted)
        for measure in ("load", "memory", "disk"):
            assert any(line.startswith(f"watcher  {measure} ") for line in lines)
        assert "  eventbus tail " in out
        assert members(process.pid) == []


def test_events_are_shown_as_they_pass() -> None:
    """A line is printed at once, and events are printed while the services run."""
    with demo("--seconds", "60") as process:
        assert output(process).readline() == "demo: starting a proxy and two services, for 60 s\n"
        lines = iter(output(process).readline, "")
        assert any(line.startswith("watcher  ALARM    memory") for line in lines)
        assert process.poll() is None


def test_into_a_closed_pipe() -> None:
    """When the reader of its output has had enough, it ends without a traceback, and so do its services."""
    with demo("--seconds", "60") as process:
        assert output(process).readline().startswith("demo:")
        output(process).close()
        assert process.wait(PATIENCE) == 0
        eventually(lambda: members(process.pid) == [])
        assert said(process) == ""


@pytest.mark.terminal
def test_in_colour(tmp_path: Path) -> None:
    """On a terminal the services have colours of their own, and an alarm is red."""
    with terminal("demo", "--seconds", "0.5", cwd=tmp_path, lines=50) as screen:
        assert screen.wait() == 0
        assert screen.colour_of("watcher") == "green"
        assert screen.colour_of("ALARM") == "red"


def test_interrupted_by_a_terminal() -> None:
    """Ctrl-C in the middle, which every process of the group gets, ends it with 130 and leaves no process or traceback."""
    with demo("--seconds", "60") as process:
        assert output(process).readline().startswith("demo:")
        eventually(lambda: working(process.pid) == 3, PATIENCE)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(PATIENCE) == 130
        eventually(lambda: members(process.pid) == [])
        assert said(process) == ""


def test_interrupted_alone() -> None:
    """SIGINT to the main process only takes the two services with it."""
    with demo("--seconds", "60") as process:
        assert output(process).readline().startswith("demo:")
        eventually(lambda: working(process.pid) == 3, PATIENCE)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
        eventually(lambda: members(process.pid) == [])
        assert said(process) == ""


def test_interrupted_as_the_services_get_ready() -> None:
    """Ctrl-C in the instant between waiting for the services and following them is not lost."""
    done = run_script(
        "import signal, sys\n"
        "from eventbus.cli import demo\n"
        "from eventbus.cli.program import program\n"
        "class Interrupted(demo.DefaultSelector):\n"
        "    def close(self):\n"
        "        super().close()\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "demo.DefaultSelector = Interrupted\n"
        "sys.argv[1:] = ['demo', '--seconds', '5']\n"
        "sys.exit(program())\n"
    )
    assert (done.returncode, done.stderr) == (130, "")
    assert "both services are connected" not in done.stdout


def test_terminated() -> None:
    """SIGTERM, as a supervisor sends it, leaves no process either."""
    with demo("--seconds", "60") as process:
        assert output(process).readline().startswith("demo:")
        eventually(lambda: working(process.pid) == 3, PATIENCE)
        process.terminate()
        process.wait(PATIENCE)
        eventually(lambda: members(process.pid) == [])
