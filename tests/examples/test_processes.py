"""Services as processes: started again when they die, and never left behind."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from scenario.processes import ServiceEnded, Services
from tests.support import PATIENCE, eventually

pytestmark = pytest.mark.process

IDLE = "import signal; print('here', flush=True); signal.pause()"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {IDLE}"


class Told:
    """The lines about processes, and the processes' ids."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, line: str) -> None:
        self.lines.append(line)

    @property
    def pids(self) -> list[int]:
        return [int(line.split()[2]) for line in self.lines]


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def services(tmp_path: Path, told: Told) -> Iterator[Services]:
    """Processes whose programs are files of this folder."""
    with Services(tmp_path, {"one": dict(os.environ), "two": dict(os.environ)}, told, max_starts=4) as made:
        yield made


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def start(services: Services, folder: Path, name: str, code: str) -> None:
    """Start a service with this program, and wait until it runs."""
    (folder / f"{name}.py").write_text(code)
    services.start(name)
    eventually(lambda: "here" in (folder / f"{name}.log").read_text(), PATIENCE)


def test_a_service_that_dies_is_started_again(services: Services, tmp_path: Path, told: Told) -> None:
    """It gets another process, and a line says so; others are left alone."""
    start(services, tmp_path, "one", IDLE)
    start(services, tmp_path, "two", IDLE)
    os.kill(told.pids[0], signal.SIGKILL)

    def mended() -> bool:
        services.mend({"one", "two"})
        return len(told.lines) == 3

    eventually(mended, PATIENCE)
    assert told.lines[2] == f"one: process {told.pids[2]} (started again)"
    assert services.starts == {"one": 2, "two": 1}


def test_a_service_that_never_worked(services: Services, tmp_path: Path) -> None:
    """It is not started again; the error names it, its status, and its last words, none of which reach a terminal raw."""
    start(services, tmp_path, "one", "print('here'); print('\\x1b[2Jno plant'); raise SystemExit(3)")

    def mend() -> None:
        services.mend(set())

    with pytest.raises(ServiceEnded, match=r"one has ended with status 3, before it worked\. It said:") as caught:
        eventually(mend, PATIENCE)
    assert str(caught.value).endswith("\n  here\n  \\x1b[2Jno plant")


def test_a_service_that_is_killed_before_it_worked(services: Services, tmp_path: Path, told: Told) -> None:
    """It has not failed, so it is started again."""
    start(services, tmp_path, "one", IDLE)
    os.kill(told.pids[0], signal.SIGKILL)

    def mended() -> bool:
        services.mend(set())
        return len(told.lines) == 2

    eventually(mended, PATIENCE)


def test_a_service_that_dies_while_the_run_gets_on(services: Services, tmp_path: Path) -> None:
    """It may die any number of times, as long as something is done between."""
    start(services, tmp_path, "one", "print('here')")

    def mended_often() -> bool:
        services.mend({"one"})
        services.forgive()
        return services.starts["one"] == 6

    eventually(mended_often, PATIENCE)


def test_a_service_that_dies_again_and_again(services: Services, tmp_path: Path) -> None:
    """After the most starts that are allowed it is given up."""
    start(services, tmp_path, "one", "print('here')")

    def mend() -> None:
        services.mend({"one"})

    with pytest.raises(ServiceEnded, match="with status 0, for the 4th time"):
        eventually(mend, PATIENCE)
    assert services.starts == {"one": 4}


def test_none_is_left(tmp_path: Path, told: Told) -> None:
    """At the end of the block all have ended, by SIGTERM, or by SIGKILL if they ignore it; also after an error."""
    both = {"one": dict(os.environ), "two": dict(os.environ)}
    with suppress(RuntimeError), Services(tmp_path, both, told, stop_timeout=0.1) as services:
        start(services, tmp_path, "one", IDLE)
        start(services, tmp_path, "two", STUBBORN)
        assert all(is_alive(pid) for pid in told.pids)
        raise RuntimeError
    assert len(told.pids) == 2
    assert not any(is_alive(pid) for pid in told.pids)
