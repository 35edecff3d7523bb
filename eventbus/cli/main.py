"""The command line: ``eventbus COMMAND``.

Arguments are read, and help and completion are printed, with the standard library alone; a command imports what it needs.

Exit statuses: 0 done; 1 the bus failed, for example no proxy answers; 2 bad arguments or settings; 130 interrupted. A
command that runs until it is stopped ends with 0 when a signal stops it (`eventbus.cli.stopping`).
"""

import gc
import os
import sys
from collections.abc import Sequence
from itertools import pairwise

from eventbus.cli import arguments as reading
from eventbus.cli.arguments import Given
from eventbus.cli.terminal import Paint, escape_unencodable, wants_colours
from eventbus.errors import EventBusError, InvalidSettings, InvalidTopic, ReconnectFailed

DONE, FAILED, BAD_ARGUMENTS, INTERRUPTED = 0, 1, 2, 130

_MAX_ERROR = 2_000  # characters
_STDERR = 2  # its descriptor, the last of the standard ones

# Objects between two collections. Importing makes some 60,000, which all stay: looking through them would take a twentieth
# of the processor time of a short command.
_COLLECTION_INTERVAL = 100_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    Args:
        arguments: without the program's name; None: the arguments of this process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    _open_closed_streams()
    escape_unencodable(sys.stdout)
    try:
        status = _main(given, is_program=arguments is None)
        sys.stdout.flush()  # here, because what fails at exit is no error of ours, and has a traceback
        return status
    except BrokenPipeError:  # the reader of our output has read enough, as `head` does
        _flush_or_discard()
        return DONE
    except (InvalidSettings, InvalidTopic) as error:
        return _report(error, BAD_ARGUMENTS, given)
    except ReconnectFailed:  # the transport has logged it when it gave up
        _flush_or_discard()
        return FAILED
    except (EventBusError, OSError) as error:
        status = _report(error, FAILED, given)
        _flush_or_discard()
        return status
    except KeyboardInterrupt:
        _flush_or_discard()
        return INTERRUPTED


def _main(given: Sequence[str], *, is_program: bool) -> int:
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
    if is_program and what.command.name != "run":  # else it is another program's process
        gc.set_threshold(_COLLECTION_INTERVAL)
    return _run(what, given)


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


def _open_closed_streams() -> None:
    """Open the standard streams that the parent process has closed, to nowhere: a socket must not get their descriptors."""
    if sys.stdin is not None and sys.stdout is not None and sys.stderr is not None:
        return
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(descriptor, True)  # because the processes of a command need them, too
    os.close(descriptor)
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115 # all until the process ends
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115


def _flush_or_discard() -> None:
    """Write what is buffered; if that is impossible, forget it, or the interpreter would complain at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report(error: Exception, status: int, given: Sequence[str]) -> int:
    """Log the error on one line. Return the exit status."""
    import logging  # all late, because most commands go well

    from eventbus._base.log import Log
    from eventbus._base.printable import printable
    from eventbus.telemetry import logs

    if not logging.getLogger().handlers:  # help and the like need no log, unless they cannot be written
        _configure_log(given)
    text = str(error)
    if isinstance(error, OSError) and error.strerror:  # without the error's number
        text = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
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
