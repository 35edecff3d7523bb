"""Commands of ``eventbus`` as processes, and what they write."""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import IO

from eventbus import EventBusProxy

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
    """What a process that has ended wrote to stderr."""
    assert process.stderr is not None
    return process.stderr.read()


def complaint(done: subprocess.CompletedProcess[str], status: int) -> str:
    """The one line that the command wrote about what is wrong."""
    assert done.returncode == status
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("eventbus: ")
    return done.stderr.removeprefix("eventbus: ").rstrip()


def lines_of(process: subprocess.Popen[str], count: int) -> list[dict[str, object]]:
    return [json.loads(output(process).readline()) for _ in range(count)]
