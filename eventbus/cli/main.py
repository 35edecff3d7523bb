"""The command line: ``eventbus COMMAND``.

Arguments are read, and help and completion are printed, with the standard library alone; a command imports what it needs.

Exit statuses: 0 done; 1 the bus failed, for example no proxy answers; 2 bad arguments or settings; 130 interrupted.
"""

import gc
import os
import sys
from collections.abc import Sequence
from itertools import pairwise

from eventbus.cli import arguments as reading
from eventbus.cli.arguments import Given
from eventbus.cli.terminal import Paint, escape_unencodable, wants_colours
from eventbus.errors import EventBusError, InvalidSettings, InvalidTopic

DONE, FAILED, BAD_ARGUMENTS, INTERRUPTED = 0, 1, 2, 130

_MAX_ERROR = 2_000  # characters

# Objects between two collections. Importing makes some 60,000, which all stay: looking through them would take a twentieth
# of the processor time of a short command.
_COLLECTION_INTERVAL = 100_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    Args:
        arguments: without the program's name; None: the arguments of this process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if sys.stdout is None:  # the parent process has closed it
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 # until the process ends
    escape_unencodable(sys.stdout)
    try:
        if not given or given[0] in ("-h", "--help"):
            from eventbus.cli import help as texts

            print(texts.overview(_paint(), texts.width()))
            return DONE
        if given[0] in ("-V", "--version"):
            from importlib.metadata import version

            print(f"eventbus {version('eventbus')}")
            return DONE
        try:
            what = reading.parse(reading.command_of(given[0]), given[1:])
        except InvalidSettings:
            _configure_log(given)
            raise
        if arguments is None and what.command.name != "run":  # else it is another program's process
            gc.set_threshold(_COLLECTION_INTERVAL)
        return _run(what, given)
    except BrokenPipeError:  # the reader of our output has read enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter would complain at exit
        return DONE
    except (InvalidSettings, InvalidTopic) as error:
        return _report(error, BAD_ARGUMENTS)
    except (EventBusError, OSError) as error:
        return _report(error, FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED


def _run(what: Given, given: Sequence[str]) -> int:
    name = what.command.name
    if what.help:
        from eventbus.cli import help as texts

        print(texts.command_help(what.command, _paint(), texts.width(), all_settings=what.all_settings))
        return DONE
    if name == "completion":
        from eventbus.cli.completion import script

        print(script(what.text("SHELL")), end="")
        return DONE
    if name == "man":
        from eventbus.cli.manual import page

        print(page(), end="")
        return DONE
    if name != "run":  # which is a program of the user's, with a log as that wants it
        _configure_log(given)
    from eventbus.cli.commands import COMMANDS  # here, because Ctrl-C may come while it is imported

    try:
        return FAILED if COMMANDS[name](what) is False else DONE
    except InvalidSettings:
        if name == "run":  # it has not become that program
            _configure_log(given)
        raise


def _paint() -> Paint:
    return Paint(wants_colours(sys.stdout))


def _report(error: Exception, status: int) -> int:
    """Log the error on one line. Return the exit status."""
    from eventbus._base.log import Log  # all late, because most commands go well
    from eventbus._base.printable import printable
    from eventbus.telemetry import logs

    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)  # without the error's number
    log = Log(logs.COMMAND)
    log.error("%s", printable(" ".join(text.split()), _MAX_ERROR), error=type(error).__name__, status=status)
    return status


def _configure_log(given: Sequence[str]) -> None:
    """Configure the log as long as the settings are not read, which may themselves be wrong."""
    from eventbus.cli.log import configure_log  # late, because help needs no log
    from eventbus.policies import LogFormat

    flag = "--log-format=json" in given or ("--log-format", "json") in pairwise(given)
    is_json = flag or os.environ.get("EVENTBUS_LOG_FORMAT") == LogFormat.JSON
    configure_log(LogFormat.JSON if is_json else LogFormat.TEXT)
