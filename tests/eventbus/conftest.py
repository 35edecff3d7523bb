"""The fixtures of the command line's tests."""

import io
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from eventbus import EventBusProxy
from eventbus.cli.main import main
from eventbus.telemetry.logs import JsonFormatter, TextFormatter
from tests.commands import Run, Start, command, ports
from tests.support import PATIENCE, RawPeers

BECOME_ANOTHER = {"proxy", "demo"}  # commands that become another program, or catch signals


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    """The changes of a command in this process to the log end with its test."""
    root, ours = logging.getLogger(), logging.getLogger("eventbus")
    level = ours.level
    yield
    for handler in root.handlers[:]:
        if isinstance(handler.formatter, JsonFormatter | TextFormatter):
            root.removeHandler(handler)
    ours.setLevel(level)


@pytest.fixture
def environment() -> dict[str, str]:
    """The variables of this process, without any of ours."""
    return {name: value for name, value in os.environ.items() if not name.upper().startswith("EVENTBUS_")}


@pytest.fixture
def run_process(environment: dict[str, str], tmp_path: Path) -> Run:
    """Runs a command to its end in a process of its own, in an empty folder, with these variables."""

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
def run(
    run_process: Run,
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Does the same in this process, where the command can be run there: starting one takes most of the time."""

    def do(*arguments: object, given: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        if arguments and arguments[0] in BECOME_ANOTHER:
            return run_process(*arguments, given=given, **variables)
        capsys.readouterr()
        with monkeypatch.context() as patch:
            for name in os.environ.keys() - environment.keys():
                patch.delenv(name)
            for name, value in variables.items():
                patch.setenv(name, value)
            patch.chdir(tmp_path)
            patch.setattr(sys, "stdin", io.StringIO(given))
            try:
                status = main([*map(str, arguments)])
            except SystemExit as end:  # after --help
                status = int(end.code or 0)
        written = capsys.readouterr()
        print(written.out, written.err, sep="\n")
        return subprocess.CompletedProcess(command(*arguments), status, written.out, written.err)

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


@pytest.fixture
def tailing(proxy: EventBusProxy, raw: RawPeers, start: Start) -> Start:
    """Starts `eventbus tail` and returns when its subscriptions are in force at the proxy."""

    @contextmanager
    def do(*topics: str, flags: Sequence[object] = (), **variables: str) -> Iterator[subprocess.Popen[str]]:
        with start("tail", *topics, *flags, *ports(proxy), **variables) as process:
            for topic in topics or ("",):
                raw.publisher(topic.encode()).close(linger=0)
            yield process

    return do
