"""docs/services.md: the services run, fail, run again and stop as it says."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eventbus import EventBusProxy
from eventbus.container import ServiceState
from tests.docs.pages import path_of, section
from tests.docs.running import Program, done, running, shell, surroundings
from tests.support import PATIENCE, eventually


def write(folder: Path) -> list[str]:
    """Write the agent, and return its commands: to watch it, to run it, to stop it."""
    with section("services.md", "A program") as part:
        part.write(folder)
        return part.take("sh")


@contextmanager
def watched(proxy: EventBusProxy, folder: Path, watch: str) -> Iterator[Program]:
    """The events on the agent's topic that a reader sees, from the first on."""
    with running(shell(watch), folder, surroundings(proxy)) as tail:
        eventually(lambda: proxy.health().connections.subscribers == 1, PATIENCE, "the reader's subscription")
        done(shell("eventbus check"), folder, surroundings(proxy))
        yield tail


def test_a_program(proxy: EventBusProxy, tmp_path: Path) -> None:
    """The agent steps, fails at its third step, goes on, and stops at the exit event with status 0."""
    watch, start, stop = write(tmp_path)
    environment = surroundings(proxy)
    with watched(proxy, tmp_path, watch) as tail, running(shell(start), tmp_path, environment) as agent:
        tail.wait_for('"number": 5,')
        done(shell(stop), tmp_path, environment)
        assert agent.wait() == 0
        tail.wait_for("service_stopped")
    assert "RuntimeError: slipped" in agent.text
    told = re.findall(r'"(service_\w+|step)"[^\n]*"number": (\d+)', tail.text)
    assert told[:8] == [
        ("service_started", "0"),
        ("step", "1"),
        ("step", "2"),
        ("step", "3"),
        ("service_error", "3"),
        ("service_started", "3"),
        ("step", "4"),
        ("step", "5"),
    ]
    assert told[-1][0] == "service_stopped"


def test_on_an_event_loop(proxy: EventBusProxy, tmp_path: Path) -> None:
    """Services of both kinds run in one program, which ends when they have."""
    _, _, stop = write(tmp_path)
    with section("services.md", "On an event loop") as part:
        part.write(tmp_path)
    environment = surroundings(proxy)
    with watched(proxy, tmp_path, "eventbus tail agent") as tail:
        with running([sys.executable, "beat.py"], tmp_path, environment) as both:
            tail.wait_for('"number": 4,')
            done(shell(stop), tmp_path, environment)
            assert both.wait() == 0
        tail.wait_for("service_stopped", 2)


def test_without_run(proxy: EventBusProxy, tmp_path: Path) -> None:
    """In a program of its own main the agent is a context."""
    write(tmp_path)
    with section("services.md", "Without `run`") as part:
        part.write(tmp_path)
    assert done([sys.executable, "once.py"], tmp_path, surroundings(proxy)).stdout == "stopped\n"


def test_the_table_of_states() -> None:
    """It has every state, and no other."""
    rows = re.findall(r"^\| `([A-Z]+)` \|", path_of("services.md").read_text(), flags=re.MULTILINE)
    assert sorted(rows) == sorted(state.name for state in ServiceState)


def test_a_heartbeat(tmp_path: Path) -> None:
    """The service's heart beats twice in a minute."""
    with section("services.md", "A heartbeat") as part:
        part.write(tmp_path)
    assert "1 passed" in done([sys.executable, "-m", "pytest", "test_heartbeat.py"], tmp_path, surroundings()).stdout
