"""Commands of ``eventbus`` as processes, and what they write."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import IO

from eventbus import EventBusProxy
from eventbus.telemetry.logs import FIELDS

type Run = Callable[..., subprocess.CompletedProcess[str]]
type Start = Callable[..., AbstractContextManager[subprocess.Popen[str]]]


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "eventbus", *map(str, arguments)]


def ports(proxy: EventBusProxy) -> tuple[str, ...]:
    """The flags that lead a command to this proxy."""
    return "--host=127.0.0.1", f"--pub-port={proxy.pub_port}", f"--sub-port={proxy.sub_port}"


def output(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdout is not None
    return process.stdout


def said(process: subprocess.Popen[str]) -> str:
    """The text that a process that has ended wrote to stderr."""
    assert process.stderr is not None
    return process.stderr.read()


def log_lines(text: str) -> list[tuple[str, str]]:
    """The level and the message of each line of a log for people; there must be nothing else in it."""
    lines = []
    for line in text.splitlines():
        found = re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ([A-Z]+) eventbus: (.*)", line)
        assert found, f"no line of a log: {line}"
        lines.append((found[1], found[2]))
    return lines


def log_records(text: str) -> list[dict[str, object]]:
    """The records of a log in JSON; there must be nothing else in it."""
    records = [json.loads(line) for line in text.splitlines()]
    for record in records:
        assert list(record)[:4] == ["time", "level", "logger", "message"]
        assert datetime.fromisoformat(record["time"]).utcoffset() == timedelta(0)
        assert record.keys() - {"exception"} <= {"time", "level", "logger", "message", *FIELDS}
    return records


def complaint(done: subprocess.CompletedProcess[str], status: int) -> str:
    """The one line that the command wrote about what is wrong."""
    assert done.returncode == status
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("eventbus: ")
    return done.stderr.removeprefix("eventbus: ").rstrip()


def lines_of(process: subprocess.Popen[str], count: int) -> list[dict[str, object]]:
    return [json.loads(output(process).readline()) for _ in range(count)]
