"""The command: runs coredinator, coreio and corerl until a number of control steps are done, and reports.

Exit statuses: 0 done; 1 a service did not come up, or the run made no progress; 2 bad arguments; 130 interrupted; 143
terminated.
"""

import argparse
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from types import FrameType
from urllib.request import urlopen

from coredinator.health import Healthcheck
from scenario.course import Course
from scenario.observer import Observer
from scenario.processes import ServiceEnded, Services, environments, nats_settings
from scenario.report import Report, lines_of, report_on

GLANCE = 0.05  # seconds between two looks at the processes
STEP_TIMEOUT = 60.0  # seconds
FAREWELL = 5.0  # seconds in which services end and emit their last events


class Stuck(Exception):
    """The run makes no progress."""


class Interrupted(Exception):
    """A signal has come."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.number = number


class Interrupts:
    """Notes signals instead of being interrupted by them: code that waits calls `check`."""

    def __init__(self) -> None:
        self._number: int | None = None

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note signals within the block; further ones do not disturb the clean-up after the first.

        A signal that is ignored, as SIGHUP is under nohup, stays ignored.
        """
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {
            number: signal.signal(number, self._note) for number in numbers if signal.getsignal(number) is not signal.SIG_IGN
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def check(self) -> None:
        """Raise `Interrupted` if one has come."""
        if self._number is not None:
            raise Interrupted(self._number)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._number = self._number or number


class Run:
    """One run; `go` does it.

    Args:
        course: the steps to do, and those done.
        services: the processes, none started yet.
        observer: connecting.
        http_port: the port at which coredinator will answer.
        interrupts: checked all the time.
        step_timeout: the seconds without a new step after which the run has failed.
    """

    def __init__(
        self,
        course: Course,
        services: Services,
        observer: Observer,
        http_port: int,
        interrupts: Interrupts,
        *,
        step_timeout: float = STEP_TIMEOUT,
    ) -> None:
        self._course = course
        self._services = services
        self._observer = observer
        self._http_port = http_port
        self._interrupts = interrupts
        self._step_timeout = step_timeout
        self._ready = False  # coredinator has once come up

    def go(self) -> tuple[float, int | None]:
        """Start all services, wait until all steps are done, and stop all but the proxy, which the observer still needs.

        Returns the seconds until all were done, and the number of messages that the proxy has passed on; None: unknown.

        Raises:
            Interrupted: by a signal.
            ServiceEnded: a service has not come up, or dies again and again.
            Stuck: nothing more happened.
        """
        began = monotonic()
        self._services.start("coredinator")
        self._wait(self._observer.is_ready)
        # Only now, so that nothing is emitted before a subscriber is there.
        self._services.start("coreio")
        self._services.start("corerl")
        self._wait(self._observer.finished.is_set)
        seconds = monotonic() - began
        self._observer.say_exit()  # at once, or the agent would go on
        messages = self._messages()
        for name in ("corerl", "coreio"):
            self._services.stop(name, grace=FAREWELL)
        self._observer.ended.wait(FAREWELL)
        self._interrupts.check()
        return seconds, messages

    def _wait(self, condition: Callable[[], bool]) -> None:
        """Return when the condition is true; meanwhile start again what dies."""
        done, since = -1, monotonic()
        while not condition():
            self._interrupts.check()
            self._services.mend(self._observer.heard() | ({"coredinator"} if self._ready else set()))
            self._observer.finished.wait(GLANCE)
            if self._course.done != done:
                done, since = self._course.done, monotonic()
                self._services.forgive()
            elif monotonic() - since > self._step_timeout:
                steps = f"{max(0, done)} of {self._course.steps}"
                raise Stuck(f"no control step for {self._step_timeout:.0f} s, after {steps}")
        self._ready = True

    def _messages(self) -> int | None:
        """The number of messages the proxy has passed on, as coredinator reports it; None: it does not answer."""
        try:
            with urlopen(f"http://127.0.0.1:{self._http_port}/api/healthcheck", timeout=FAREWELL) as answer:
                return Healthcheck.model_validate_json(answer.read()).proxy.messages
        except (OSError, ValueError):
            return None


def main(arguments: Sequence[str] | None = None, *, step_timeout: float = STEP_TIMEOUT) -> int:
    """Run the command and return its exit status.

    Args:
        arguments: without the program's name; None for this process's.
        step_timeout: see `Run`.
    """
    options = _parser().parse_args(arguments)
    interrupts = Interrupts()
    try:
        with interrupts.noted():
            report, course = _run(options, interrupts, step_timeout)
    except Interrupted as interrupted:
        say(str(interrupted))
        return 128 + interrupted.number
    except (ServiceEnded, Stuck) as error:
        say(str(error))
        return 1
    hand_out(report.model_dump_json() if options.json else "\n".join(lines_of(report, course)))
    return 0


def _run(options: argparse.Namespace, interrupts: Interrupts, step_timeout: float) -> tuple[Report, Course]:
    pub_port, sub_port, http_port = _ports(options)
    bus = nats_settings().get("url") or f"proxy on ports {pub_port} and {sub_port}"
    say(f"{bus}, http://127.0.0.1:{http_port}/api/healthcheck")
    course = Course(options.steps)
    with (
        TemporaryDirectory(prefix="rl_plant-") as folder,
        Services(Path(folder), environments(pub_port, sub_port, http_port), say) as services,
    ):
        with Observer(course, pub_port, sub_port) as observer:
            run = Run(course, services, observer, http_port, interrupts, step_timeout=step_timeout)
            seconds, messages = run.go()
        # From here on nobody adds to the course.
        return report_on(course, services.starts, observer.counts(), messages, seconds), course


def say(line: str) -> None:
    """Tell the person at the terminal, if there still is one; the report alone goes to stdout."""
    if sys.stderr is not None:  # or it would go to stdout
        with suppress(OSError):
            print(line, file=sys.stderr, flush=True)


def hand_out(report: str) -> None:
    """Write the report to stdout. That its reader has had enough, as `head` has, is no failure."""
    try:
        print(report, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter would complain at exit


def _ports(options: argparse.Namespace) -> tuple[int, int, int]:
    """The three ports: those that were asked for, and free ones for the others."""
    asked = (options.pub_port, options.sub_port, options.http_port)
    with ExitStack() as stack:  # held until all are found, or one could be found twice
        free = [stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in asked]
    pub_port, sub_port, http_port = (port or other for port, other in zip(asked, free, strict=True))
    return pub_port, sub_port, http_port


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rl_plant",
        description="Run an agent, the plant's input and output, and a supervisor with the bus between them, as processes.",
        epilog="Kill any of the processes while it runs: it is started again, and the steps go on.",
        allow_abbrev=False,
    )
    parser.add_argument("--steps", type=_positive, default=200, help="control steps to do (%(default)s)")
    parser.add_argument("--json", action="store_true", help="report as one JSON object")
    # Not from the environment, where those of a real bus may be: services of that would come here.
    for flag, of in (
        ("pub", "the proxy's port for publishers"),
        ("sub", "the one for subscribers"),
        ("http", "coredinator's"),
    ):
        parser.add_argument(f"--{flag}-port", type=_port, default=0, help=f"{of} (a free one)")
    return parser


def _positive(text: str) -> int:
    with suppress(ValueError):
        if (number := int(text)) >= 1:
            return number
    raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")


def _port(text: str) -> int:
    with suppress(ValueError):
        if 0 <= (number := int(text)) <= 65535:
            return number
    raise argparse.ArgumentTypeError(f"{text!r} is no port: a number from 1 to 65535, or 0 for a free one")
