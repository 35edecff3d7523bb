"""docs/history.md: a bus that remembers."""

import re
import sys
from pathlib import Path

from tests.docs.pages import commands, section
from tests.docs.running import done, running, shell, surroundings


def test_history(tmp_path: Path, ports: tuple[int, int]) -> None:
    """The proxy keeps what the program emits; the program and the commands print what the page shows."""
    environment = surroundings(EVENTBUS_PUB_PORT=ports[0], EVENTBUS_SUB_PORT=ports[1])
    with section("history.md", "Run a historian") as part:
        proxy = part.one("sh")
    with section("history.md", "Ask for what was") as part:
        part.write(tmp_path)
        (program,) = commands(part.one("console"))
    with section("history.md", "Record and replay") as part:
        shown = commands(part.one("console"))
    with running(shell(proxy), tmp_path, environment) as historian:
        historian.wait_for("proxy on 127.0.0.1")
        assert done([sys.executable, "asking.py"], tmp_path, environment).stdout == program.output
        for command in shown:
            ended = done(["sh", "-c", command.text], tmp_path, environment)
            expected = re.escape(command.output).replace("…", ".*")
            assert re.fullmatch(expected, ended.stdout + ended.stderr)
