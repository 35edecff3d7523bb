"""The command line: ``eventbus COMMAND``.

Exit statuses: 0 done; 1 the bus failed, for example no proxy answers; 2 bad arguments or settings; 130 interrupted.
"""

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from itertools import pairwise

from eventbus._base.log import Log
from eventbus._base.printable import printable
from eventbus.cli.terminal import escape_unencodable
from eventbus.errors import EventBusError, InvalidSettings, InvalidTopic
from eventbus.policies import LogFormat
from eventbus.telemetry import logs

DONE, FAILED, BAD_ARGUMENTS, INTERRUPTED = 0, 1, 2, 130

_MAX_ERROR_CHARACTERS = 2_000

_log = Log(logs.COMMAND)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    Args:
        arguments: without the program's name; None: the arguments of this process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if sys.stdout is None:  # the parent process has closed it
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 # until the process ends
    logs.configure(_likely_log_format(given))
    escape_unencodable(sys.stdout)
    try:
        if given == ["--version"]:
            print(f"eventbus {version('eventbus')}")
            return DONE
        from eventbus.cli.commands import Command, command_of  # here, because Ctrl-C may come while it is imported

        command = command_of(given)
        if isinstance(command, Command):
            logs.configure(command.log_format)
        return FAILED if command.run() is False else DONE
    except BrokenPipeError:  # the reader of our output has read enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter would complain at exit
        return DONE
    except (InvalidSettings, InvalidTopic) as error:
        return _report(error, BAD_ARGUMENTS)
    except (EventBusError, OSError) as error:
        return _report(error, FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED


def _report(error: Exception, status: int) -> int:
    """Log the error on one line. Return the exit status."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)  # without the error's number
    _log.error("%s", printable(" ".join(text.split()), _MAX_ERROR_CHARACTERS), error=type(error).__name__, status=status)
    return status


def _likely_log_format(given: Sequence[str]) -> LogFormat:
    """The log format before the settings are read, which may themselves be wrong."""
    flag = "--log-format=json" in given or ("--log-format", "json") in pairwise(given)
    return LogFormat.JSON if flag or os.environ.get("EVENTBUS_LOG_FORMAT") == LogFormat.JSON else LogFormat.TEXT
