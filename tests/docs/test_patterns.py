"""docs/patterns: each program prints what is shown below it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from eventbus import EventBusProxy
from tests.docs.pages import Section, commands, modules, section

type Run = Callable[[AbstractContextManager[Section]], None]


@pytest.fixture
def run(proxy: EventBusProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the program of a section in this process, which is faster, and compares what it prints."""
    monkeypatch.setenv("EVENTBUS_PUB_PORT", str(proxy.pub_port))
    monkeypatch.setenv("EVENTBUS_SUB_PORT", str(proxy.sub_port))

    def do(taken: AbstractContextManager[Section]) -> None:
        with taken as part:
            part.write(tmp_path)
            (command,) = commands(part.one("console"))
        name = command.text.removeprefix("python ").removesuffix(".py")
        with modules(tmp_path, name):
            pass
        assert capsys.readouterr().out == command.output

    return do


def test_fan_out(run: Run) -> None:
    run(section("patterns/fan-out.md", "Fan-out: one event, many services"))


def test_request_and_reply(run: Run) -> None:
    run(section("patterns/request-reply.md", "Request and reply: ask one service"))


def test_scatter_gather(run: Run) -> None:
    run(section("patterns/scatter-gather.md", "Scatter-gather: ask all, take what comes in time"))


def test_work_group(run: Run) -> None:
    run(section("patterns/work-group.md", "Work group: each event for one worker"))


def test_last_value(run: Run) -> None:
    run(section("patterns/last-value.md", "Last value: a service that starts late"))


def test_retry_and_dead_letter(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    run(section("patterns/retry-and-dead-letter.md", "Retry and dead letter"))
    assert "ValueError" in caplog.text  # the failure is logged nevertheless


def test_periodic(run: Run) -> None:
    run(section("patterns/periodic.md", "Periodic: a value at a steady rate"))


def test_chain(run: Run) -> None:
    run(section("patterns/chain.md", "Chain: several steps, and a way back"))


def test_bridge(run: Run) -> None:
    run(section("patterns/bridge.md", "Bridge: events from one bus to another"))
