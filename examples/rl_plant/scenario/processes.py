"""The services as processes: started, started again when they die, and stopped."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from eventbus._base.printable import printable
from eventbus.policies import TransportKind
from eventbus.settings import EventBusSettings

PROGRAMS = Path(__file__).parents[1]  # where the packages of the services are
LAST_WORDS = 15  # lines


class ServiceEnded(Exception):
    """A service has not come up, or dies again and again; the text has what it said."""

    def __init__(self, name: str, status: int, said: str, why: str) -> None:
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        words = "".join(f"\n  {printable(line)}" for line in said.splitlines()[-LAST_WORDS:])
        super().__init__(f"{name} has ended {how}, {why}. It said:{words or ' nothing'}")


class Services:
    """Processes ``python -m NAME``, of which none is left at the end of the block. For one thread.

    Each is in a process group of its own: only this program gets a Ctrl-C, and it stops them in order.

    Args:
        folder: their working directory, with a file for the output of each.
        environments: the whole environment of each service, by its name.
        say: is called with a line for each process that has begun.
        max_starts: the most starts of one service while the run makes no progress; one that dies more often is broken.
        stop_timeout: the seconds from SIGTERM to SIGKILL.

    Attributes:
        starts: the number of starts of each service.
    """

    def __init__(
        self,
        folder: Path,
        environments: Mapping[str, Mapping[str, str]],
        say: Callable[[str], object],
        *,
        max_starts: int = 10,
        stop_timeout: float = 10.0,
    ) -> None:
        self._folder = folder
        self._environments = environments
        self._say = say
        self._max_starts = max_starts
        self._stop_timeout = stop_timeout
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._in_vain: dict[str, int] = {}
        self.starts: dict[str, int] = {}

    def start(self, name: str) -> None:
        """Start a service; what it says is appended to its file."""
        with self._file(name).open("ab") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", name],
                cwd=self._folder,
                env=self._environments[name],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        self._running[name] = process
        self.starts[name] = self.starts.get(name, 0) + 1
        self._in_vain[name] = self._in_vain.get(name, 0) + 1
        self._say(f"{name}: process {process.pid}" + (" (started again)" if self.starts[name] > 1 else ""))

    def mend(self, worked: Collection[str]) -> None:
        """Start every service again that has died.

        Args:
            worked: the names of the services that have once been heard on the bus. If another one fails, it has not come up;
                one that a signal has ended has not failed.

        Raises:
            ServiceEnded: one has not come up, or has died too often since the last `forgive`.
        """
        for name, process in list(self._running.items()):
            status = process.poll()
            if status is None:
                continue
            if name not in worked and status > 0:
                raise ServiceEnded(name, status, self._said(name), "before it worked")
            if self._in_vain.get(name, 0) >= self._max_starts:
                raise ServiceEnded(name, status, self._said(name), f"for the {self._max_starts}th time")
            self.start(name)

    def forgive(self) -> None:
        """Note progress: the counts of failed starts begin anew."""
        self._in_vain.clear()

    def stop(self, name: str, *, grace: float = 0.0) -> None:
        """End a service, if it runs, and wait until it has ended.

        Args:
            name: the name of the service.
            grace: the seconds in which it may end without a signal; then it gets SIGTERM, and later SIGKILL.
        """
        process = self._running.pop(name, None)
        if process is None:
            return
        for number, seconds in ((None, grace), (signal.SIGTERM, self._stop_timeout), (signal.SIGKILL, None)):
            if number is not None:
                process.send_signal(number)
            try:
                process.wait(seconds)
                return
            except subprocess.TimeoutExpired:
                continue

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for name in reversed(list(self._running)):
            self.stop(name)

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def _said(self, name: str) -> str:
        return self._file(name).read_text(errors="replace")


def nats_settings() -> dict[str, str]:
    """The settings of NATS in this process's environment, by name; none if it does not choose that transport."""
    given = {
        name: os.environ.get(EventBusSettings.variable(name)) for name in ("transport", "url", "subject_prefix", "store")
    }
    if given["transport"] in (None, TransportKind.ZEROMQ):
        return {}
    return {"subject_prefix": "rl_plant"} | {name: value for name, value in given.items() if value}


def environments(pub_port: int, sub_port: int, http_port: int) -> dict[str, dict[str, str]]:
    """The environment of each service: this process's, with only the necessary variables of the bus.

    So the run does not depend on how the real bus of this machine is set up. EVENTBUS_NUMBERED is taken over, and with
    EVENTBUS_TRANSPORT what belongs to NATS.
    """
    foreign = {name: value for name, value in os.environ.items() if not name.upper().startswith("EVENTBUS_")}
    bus = foreign | {
        "PYTHONPATH": str(PROGRAMS),
        "EVENTBUS_CONNECT_TIMEOUT": "60",  # a machine may be busy, and coredinator be started again just then
        "EVENTBUS_NUMBERED": os.environ.get("EVENTBUS_NUMBERED", "true"),
    }
    coredinator = {"EVENTBUS_HTTP_PORT": str(http_port)}
    if settings := nats_settings():
        bus |= {EventBusSettings.variable(name): value for name, value in settings.items()}
    else:
        bus |= {
            "EVENTBUS_HOST": "127.0.0.1",
            "EVENTBUS_PUB_PORT": str(pub_port),
            "EVENTBUS_SUB_PORT": str(sub_port),
        }
        coredinator["EVENTBUS_HISTORY"] = "10"  # so that a new agent knows the last observation
    return {"coredinator": bus | coredinator, "coreio": bus, "corerl": bus}
