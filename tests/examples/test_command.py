"""The whole scenario as processes, as a reader runs it."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, TextIO

import pytest

from coreio.events import IOEvent, IOEventTopic, IOEventType
from eventbus import EventBusClient, EventBusProxy
from scenario.command import Interrupted, Interrupts, Run, hand_out, main, say
from scenario.course import Course
from scenario.observer import Observer
from scenario.processes import PROGRAMS, Services
from tests.container.support import free_ports
from tests.container.test_demo import members
from tests.nats import running
from tests.support import PATIENCE, eventually
from tests.web import ask

SERVICES = ("coredinator", "coreio", "corerl")


class Command:
    """The command in a session of its own, and what it says meanwhile."""

    def __init__(self, *arguments: object, **how: Any) -> None:
        self.pub_port, self.sub_port = free_ports()
        self.lines: list[str] = []
        ports = (f"--pub-port={self.pub_port}", f"--sub-port={self.sub_port}")
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAMS), *ports, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **how,
        )
        assert self.process.stderr is not None
        self._stderr = self.process.stderr
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def end(self) -> tuple[int, str]:
        """The exit status and what was written to stdout, as soon as it has ended."""
        assert self.process.stdout is not None
        out = self.process.stdout.read()
        status = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return status, out

    def pid_of(self, service: str, start: int = 1) -> int:
        """The process of a service by the command's lines; of its first start, or a later one."""

        def told() -> list[int]:
            found = (re.match(rf"{service}: process (\d+)", line) for line in list(self.lines))
            return [int(match[1]) for match in found if match]

        eventually(lambda: len(told()) >= start, PATIENCE, f"{service} started {start} times: {self.lines}")
        return told()[start - 1]

    def _read(self) -> None:
        self.lines.extend(line.rstrip("\n") for line in iter(self._stderr.readline, ""))


@contextmanager
def command(*arguments: object, **how: Any) -> Iterator[Command]:
    """The command, of which nothing is left at the end of the block. How it is started is `Popen`'s."""
    made = Command(*arguments, **how)
    with made.process as process:
        try:
            yield made
        finally:
            for member in members(process.pid):
                os.kill(member, signal.SIGKILL)


@contextmanager
def steps_seen(running: Command) -> Iterator[list[int]]:
    """The control steps that the plant has done, as heard on the bus; waits for the proxy."""
    seen = [0]

    def note(event: IOEvent) -> None:
        if event.observation is not None:
            seen.append(event.observation.step)

    bus = EventBusClient[IOEvent, IOEventType, IOEventTopic](
        IOEvent, "127.0.0.1", running.pub_port, running.sub_port, connect_required=False
    )
    bus.attach_callback(IOEventType.reading, note)
    bus.subscribe(IOEventTopic.coreio_readings)
    with bus:
        bus.start_consumer()
        yield seen


def reached(seen: list[int], step: int) -> bool:
    return max(seen) >= step


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command, until it ends by itself."""
    return subprocess.run(
        [sys.executable, str(PROGRAMS), *map(str, arguments)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )


@pytest.mark.process
def test_each_service_is_killed_and_the_run_goes_on(tmp_path: Path) -> None:
    """Whichever is killed is started again, on the same ports; all steps are done, the level comes to its set-point, and
    what was not heard is reported as lost. What the environment and a file `.env` say of a real bus does not matter."""
    (tmp_path / ".env").write_text("EVENTBUS_HOST=nowhere.invalid\n")
    elsewhere = os.environ | {"EVENTBUS_HOST": "nowhere.invalid", "EVENTBUS_SECURITY__SERVER_PUBLIC_KEY": "none"}
    with (
        command("--steps=80", "--json", cwd=tmp_path, env=elsewhere) as running,
        steps_seen(running) as seen,
    ):
        for service, step in (("corerl", 10), ("coreio", 25), ("coredinator", 40)):
            eventually(partial(reached, seen, step), 2 * PATIENCE, f"step {step}")
            os.kill(running.pid_of(service), signal.SIGKILL)
            running.pid_of(service, start=2)
        status, out = running.end()
        assert status == 0, running.lines
        assert members(running.process.pid) == []
    report = json.loads(out)
    assert report["steps"] == 80
    assert {name: service["starts"] for name, service in report["services"].items()} == {
        **dict.fromkeys(SERVICES, 2),
        "observer": 1,
    }
    assert report["level"] == pytest.approx(report["set_point"], abs=0.05)
    assert report["red"] >= 1
    lost = report["services"]["observer"]["lost"]
    # What the agent has emitted just before it was killed is lost with it, and no number can tell: a step's action, or two.
    assert len(report["unheard"]) <= lost + 2, (report, running.lines)
    assert [path.name for path in tmp_path.iterdir()] == [".env"]
    assert not any(service["dropped"] or service["handler_errors"] for service in report["services"].values())


@pytest.mark.process
def test_the_healthcheck_of_a_run_and_its_end_by_ctrl_c() -> None:
    """While it runs, coredinator tells how the bus is; Ctrl-C stops all services in order, with 130 and no report."""
    with command("--steps=1000000") as running, steps_seen(running) as seen:
        eventually(lambda: max(seen) >= 5, 2 * PATIENCE)
        answer = ask(running.lines[0].split()[-1])
        assert answer.status == 200
        assert answer.facts["pid"] == running.pid_of("coredinator")
        assert answer.facts["configuration"]["pub_port"] == running.pub_port
        assert answer.facts["proxy"]["messages"] > 5
        assert len(members(running.process.pid)) == 4
        os.killpg(running.process.pid, signal.SIGINT)
        assert running.end() == (130, "")
        assert members(running.process.pid) == []
    assert running.lines[-1] == "ended by SIGINT"


@pytest.mark.process
def test_terminated() -> None:
    """SIGTERM, as a supervisor sends it, leaves no process either, not even while the services are starting."""
    with command("--steps=1000000") as running:
        running.pid_of("coredinator")
        running.process.terminate()
        assert running.end() == (143, "")
        assert members(running.process.pid) == []


@pytest.mark.process
def test_terminated_at_the_end(tmp_path: Path, proxy: EventBusProxy) -> None:
    """A signal that comes when all steps are done, and the services are being stopped, counts as well."""
    for name in SERVICES:
        (tmp_path / f"{name}.py").write_text("")
    course, interrupts = Course(1), Interrupts()
    with (
        Services(tmp_path, dict.fromkeys(SERVICES, os.environ), print) as services,
        Observer(course, proxy.pub_port, proxy.sub_port) as observer,
        interrupts.noted(),
    ):
        eventually(observer.is_ready, PATIENCE)
        observer.finished.set()
        observer.ended.set()
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Interrupted, match="SIGTERM"):
            Run(course, services, observer, free_ports()[0], interrupts).go()


@pytest.mark.process
def test_a_service_that_does_not_come_up() -> None:
    """It ends with status 1, names the service with its output, and stops the others."""
    done = run("--steps=5", EVENTBUS_NUMBERED="perhaps")
    assert (done.returncode, done.stdout) == (1, "")
    assert "coredinator has ended with status 1, before it worked. It said:" in done.stderr
    assert "EVENTBUS_NUMBERED='perhaps'" in done.stderr


@pytest.mark.process
def test_a_run_that_does_not_get_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """When nothing happens for too long it is given up, with status 1; no process is left, and no needless one was started.

    The ports were free ones, not those of a real bus that the environment names."""
    for variable, port in (("PUB", "5559"), ("SUB", "5560"), ("HTTP", "8000")):
        monkeypatch.setenv(f"EVENTBUS_{variable}_PORT", port)
    assert main(["--steps=5"], step_timeout=0.0) == 1
    told = capsys.readouterr()
    assert told.out == ""
    where, started, why = told.err.splitlines()
    assert where.startswith("proxy on ports ")
    assert {"5559", "5560", "8000"}.isdisjoint(re.findall(r"\d+", where))
    assert why == "no control step for 0 s, after 0 of 5"
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.removeprefix("coredinator: process ")), 0)


@pytest.fixture
def unread() -> Iterator[TextIO]:
    """A stream that nobody reads any more."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as stream:
        yield stream
        with open(os.devnull, "w") as nowhere:  # or closing the stream would try again
            os.dup2(nowhere.fileno(), writing)


def test_nobody_reads_the_report(monkeypatch: pytest.MonkeyPatch, unread: TextIO) -> None:
    """Whose reader has had enough, as `head` has, ends without a complaint, also at the end of the process."""
    monkeypatch.setattr(sys, "stdout", unread)
    hand_out("steps       1 of 1")
    unread.flush()


def test_nobody_reads_what_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], unread: TextIO
) -> None:
    """A closed stderr does not send lines to the report on stdout, and a stderr without a reader does no harm."""
    monkeypatch.setattr(sys, "stderr", None)
    say("coreio: process 1")
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(sys, "stderr", unread)
    say("coreio: process 1")


def test_help_and_bad_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    """--help tells the flags; what is none, or no number that is possible, ends with status 2 and names it."""
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    told = capsys.readouterr().out
    for flag in ("--steps", "--json", "--pub-port", "--sub-port", "--http-port"):
        assert flag in told
    for bad, why in (
        ("--steps=0", "'0' is no whole number from 1 on"),
        ("--steps=many", "'many' is no whole number"),
        ("--pub-port=70000", "'70000' is no port: a number from 1 to 65535"),
        ("--http-port=http", "'http' is no port"),
        ("--speed=3", "unrecognized arguments"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main([bad])
        said = capsys.readouterr().err
        assert bad.partition("=")[0] in said
        assert why in said


@pytest.mark.process
def test_the_services_run_over_nats(tmp_path: Path) -> None:
    """With one variable changed, and the address of a server; no proxy passes anything on."""
    with running(tmp_path) as server:
        variables = {"EVENTBUS_TRANSPORT": "jetstream", "EVENTBUS_URL": server.url, "EVENTBUS_STORE": "file,32MiB,1h,1"}
        with command("--steps", 20, "--json", env=os.environ | variables) as made:
            status, out = made.end()
        assert status == 0, made.lines
        report = json.loads(out)
        assert made.lines[0].startswith(server.url)
    assert (report["steps"], report["messages"]) == (20, 0)
