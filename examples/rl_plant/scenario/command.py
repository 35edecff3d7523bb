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
from scenario.processes import ServiceEnded, Services, environments
from scenario.report import Report, lines_of, report_on

GLANCE = 0.05  # seconds between two looks at the processes
STUCK = 60.0  # seconds without a new step after which the run counts as failed
FAREWELL = 5.0  # seconds for services that were told to end, and for what they say then


class Stuck(Exception):
    """The run makes no progress."""


class Interrupted(Exception):
    """A signal has come."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.number = number


class Interrupts:
    """Notes signals, so that they interrupt nothing: waiting code checks here."""

    def __init__(self) -> None:
        self._number: int | None = None

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Within the block they are noted, and no more; later ones do not hinder the clearing up after the first one.

        One that is ignored, as SIGHUP is under nohup, remains so.
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
        course: what is to be done.
        services: the processes, none started yet.
        observer: connecting.
        http_port: where coredinator will answer.
        interrupts: looked at all the time.
    """

    def __init__(
        self, course: Course, services: Services, observer: Observer, http_port: int, interrupts: Interrupts
    ) -> None:
        self._course = course
        self._services = services
        self._observer = observer
        self._http_port = http_port
        self._interrupts = interrupts
        self._ready = False  # coredinator has once come up

    def go(self) -> tuple[float, int | None]:
        """Start all, wait until all steps are done, and stop all but the proxy, which the observer still needs.

        Returns how many seconds it took until all were done, and how many messages the proxy has passed on; None: it does
        not tell.

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
            self._services.stop(name, of_itself=FAREWELL)
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
            elif monotonic() - since > STUCK:
                raise Stuck(f"no control step for {STUCK:.0f} s, after {max(0, done)} of {self._course.steps}")
        self._ready = True

    def _messages(self) -> int | None:
        """How many messages the proxy has passed on, as coredinator tells; None: it does not answer."""
        try:
            with urlopen(f"http://127.0.0.1:{self._http_port}/api/healthcheck", timeout=FAREWELL) as answer:
                return Healthcheck.model_validate_json(answer.read()).proxy.messages
        except (OSError, ValueError):
            return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    Args:
        arguments: without the program's name; None for this process's.
    """
    options = _parser().parse_args(arguments)
    interrupts = Interrupts()
    try:
        with interrupts.noted():
            report, course = _run(options, interrupts)
    except Interrupted as interrupted:
        say(str(interrupted))
        return 128 + interrupted.number
    except (ServiceEnded, Stuck) as error:
        say(str(error))
        return 1
    hand_out(report.model_dump_json() if options.json else "\n".join(lines_of(report, course)))
    return 0


def _run(options: argparse.Namespace, interrupts: Interrupts) -> tuple[Report, Course]:
    pub_port, sub_port, http_port = _ports(options)
    say(f"proxy on ports {pub_port} and {sub_port}, http://127.0.0.1:{http_port}/api/healthcheck")
    course = Course(options.steps)
    with (
        TemporaryDirectory(prefix="rl_plant-") as folder,
        Services(Path(folder), environments(pub_port, sub_port, http_port), say) as services,
    ):
        with Observer(course, pub_port, sub_port) as observer:
            seconds, messages = Run(course, services, observer, http_port, interrupts).go()
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
