"""``eventbus run``: a container of the user's as a program, started again when its code changes."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import sleep

from eventbus._base.program import program_named
from eventbus.cli.app import load

_POLL_INTERVAL_S = 0.3  # between two looks at the files
_STOP_TIMEOUT_S = 30.0  # until a program that does not stop is killed
_NOT_LOOKED_AT = {"__pycache__", "node_modules", "site-packages", "build", "dist"}  # folders; hidden ones neither


def run(name: str) -> None:
    """Run the container of this name until a signal, or until its services have ended; see `eventbus.container.run`.

    Raises:
        InvalidSettings: there is no such container.
        SystemExit: with status 1, if it cannot start or a service has failed; with status 2, if a setting is bad.
    """
    from eventbus.container import run as run_container

    with program_named(name.partition(":")[0]):  # also while it is loaded, which may make clients
        run_container(load(name))


def run_reloading(name: str) -> None:
    """Run the container in a process of its own, and start that again whenever a Python file in this folder changes.

    It returns at SIGTERM, SIGHUP or Ctrl-C.
    """
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    # Not as an exception, because that could lose a process just started.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as in a background process of a shell, or under nohup
            signal.signal(number, stop)
    folder = Path.cwd()
    seen = dict(_times(folder))
    process = _start(name)
    try:
        while not stopping:
            sleep(_POLL_INTERVAL_S)
            found = dict(_times(folder))
            if found == seen:
                continue
            changed = sorted(str(path.relative_to(folder)) for path, _ in found.items() ^ seen.items())
            seen = found
            print(f"eventbus: {changed[0]} has changed: starting {name} again", file=sys.stderr, flush=True)
            _stop(process)
            process = _start(name)
    finally:
        _stop(process)


def _start(name: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", "eventbus", "run", name])


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)  # which does nothing to one that has ended
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _times(folder: Path) -> Iterator[tuple[Path, int]]:
    """Yield each Python file below a folder with the time of its last change."""
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in _NOT_LOOKED_AT and not name.startswith(".")]
        for file in files:
            if file.endswith(".py"):
                path = Path(place, file)
                try:
                    yield path, path.stat().st_mtime_ns
                except OSError:
                    continue  # it is gone
