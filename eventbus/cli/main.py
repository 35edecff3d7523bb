"""The command line: ``eventbus COMMAND``. Flags are named as the variables; a flag comes before its variable.

Exit statuses: 0 done; 1 the bus failed, for example no proxy answers; 2 bad arguments or settings; 130 interrupted.
"""

import json
import logging
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, PositiveFloat, PositiveInt, ValidationError
from pydantic_settings import (
    BaseSettings,
    CliApp,
    CliImplicitFlag,
    CliPositionalArg,
    CliSettingsSource,
    CliSubCommand,
    SettingsConfigDict,
    SettingsError,
    get_subcommand,
)

from eventbus._base.printable import printable
from eventbus.cli.check import check
from eventbus.cli.emit import emit
from eventbus.cli.keygen import keygen
from eventbus.cli.selection import Selection
from eventbus.cli.tail import tail
from eventbus.cli.terminal import tolerate_all_signs
from eventbus.cli.top import top
from eventbus.cli.variables import print_variables
from eventbus.errors import EventBusError, InvalidSettings, InvalidTopic
from eventbus.policies import LogFormat
from eventbus.proxy import allow_list
from eventbus.proxy import process as proxy_process
from eventbus.settings import EventBusSettings
from eventbus.telemetry import logs

logger = logging.getLogger(logs.COMMAND)

DONE, FAILED, BAD_ARGUMENTS, INTERRUPTED = 0, 1, 2, 130

_WITH_JSON_FLAG = {"tail", "top", "check"}  # commands
_VERBATIM_LISTS = ("tail.type", "tail.where")


class _Command(EventBusSettings):
    """A command has all settings as flags."""

    def run(self) -> int | None:
        """Do it, and return the exit status; None for `DONE`."""
        raise NotImplementedError


class Proxy(_Command):
    """Run the proxy that joins publishers and subscribers, until SIGTERM or SIGINT."""

    host: str = Field(
        default="127.0.0.1", min_length=1, description="the address to bind; others than loopback let others in"
    )
    check_allow_list: CliImplicitFlag[bool] = Field(
        default=False, description="run no proxy, but print what each client on the allow-list may do"
    )

    def run(self) -> None:
        """Become the process that runs the proxy, or check its allow-list."""
        if self.check_allow_list:
            if self.security.allow_list is None:
                raise InvalidSettings("there is no allow-list to check: set EVENTBUS_SECURITY__ALLOW_LIST")
            print(allow_list.check(self.security.allow_list))
            return
        command = proxy_process.command(
            self.host,
            self.pub_port,
            self.sub_port,
            self.proxy_options(),
            log_format=self.log_format,
            http_port=self.http_port or None,
            http_host=self.http_host,
        )
        os.execv(sys.executable, command)


class Emit(_Command):
    """Emit one event, given as a JSON object."""

    topic: CliPositionalArg[str] = Field(description="the topic's value")
    event: CliPositionalArg[str] = Field(
        description='the event, such as \'{"type": "started"}\'; - reads it from standard input'
    )

    def run(self) -> None:
        """Check the event, connect and send it."""
        emit(self, self.topic, self.event)


class Tail(_Command):
    """Print events as they come, until interrupted: lines for people on a terminal, else one JSON object per line."""

    names: CliPositionalArg[list[str]] = Field(default=[], description="topics; none: all")
    type: list[str] = Field(default=[], description="only events of this type; of any of these, if there are several")
    where: list[str] = Field(
        default=[],
        description="field=value: only events with this value in this field; all must hold, if there are several. "
        "A nested field is named with dots: sensor.id=3. The value is JSON, or else text: id=3 is a number, "
        "id='\"3\"' a text",
    )
    count: PositiveInt | None = Field(default=None, description="end after so many events")
    since_start: CliImplicitFlag[bool] = Field(
        default=False, description="with each event, the seconds since the subscriptions were in force"
    )
    format: Literal["auto", "text", "json"] = Field(
        default="auto", description="text: for people; json, or --json: for programs; auto: text on a terminal, else json"
    )

    def run(self) -> None:
        """Subscribe and print."""
        tail(
            self,
            self.names,
            Selection(self.type, self.where),
            count=self.count,
            since_start=self.since_start,
            as_text=self.format == "text" or (self.format == "auto" and sys.stdout.isatty()),
        )


class Top(_Command):
    """Show what passes at this moment by topic and by publisher, live on a terminal, until interrupted."""

    names: CliPositionalArg[list[str]] = Field(default=[], description="topics; none: all")
    interval: PositiveFloat = Field(default=1.0, ge=0.1, le=3600, description="seconds from one look to the next")
    once: CliImplicitFlag[bool] = Field(default=False, description="end after the first interval")
    format: Literal["text", "json"] = Field(
        default="text",
        description="text: tables, which need eventbus[top]; json, or --json: a JSON object for each interval",
    )

    def run(self) -> None:
        """Subscribe, count and show."""
        top(self, self.names, interval=self.interval, once=self.once, as_json=self.format == "json")


class Check(_Command):
    """Tell what is wrong with the way to the proxy and what to do, the first thing first; or how long it takes."""

    format: Literal["text", "json"] = Field(
        default="text", description="text: a line for each step; json, or --json: one JSON object"
    )

    def run(self) -> int:
        """Look at one thing after the other."""
        return DONE if check(self, as_json=self.format == "json") else FAILED


class Settings(_Command):
    """Print the effective settings as variables, one per line, each with what it means; but no secret."""

    def run(self) -> None:
        """Print them."""
        print_variables(self)


class Keygen(BaseModel):
    """Make a pair of CURVE keys, NAME.pub and NAME.secret, for a proxy or a client, and tell what to do with them."""

    name: CliPositionalArg[str] = Field(description="whose keys they are")
    directory: Path = Field(default=Path(), description="where to write them; made if it is missing")

    def run(self) -> None:
        """Write the files."""
        keygen(self.name, self.directory)


class Bench(_Command):
    """Measure throughput and latency of this machine through a proxy of its own, in three processes."""

    events: PositiveInt = Field(default=200_000, description="how many events to send as fast as they go")
    rate: PositiveInt = Field(default=1_000, description="events per second for the latency")

    def run(self) -> None:
        """Measure and print."""
        from eventbus.cli.bench import measure  # what only this command needs

        measure(self.events, self.rate)


class Demo(_Command):
    """Run two services and a proxy for a few seconds: one reads this machine's load, the other watches it."""

    seconds: PositiveFloat = Field(default=3.0, le=3600, description="how long")

    def run(self) -> None:
        """Run the demonstration, which is a program of its own on top of this package."""
        os.execv(sys.executable, [sys.executable, "-m", "eventbus.container.demo", str(self.seconds)])


class _EventBus(BaseSettings):
    """A typed event bus over ZeroMQ. Every flag is also a variable: --pub-port is EVENTBUS_PUB_PORT.

    Exit status: 0 done; 1 the bus failed, for example no proxy answers; 2 bad arguments or settings; 130 interrupted.
    """

    model_config = SettingsConfigDict(
        cli_prog_name="eventbus", cli_kebab_case=True, cli_enforce_required=True, cli_exit_on_error=False
    )

    proxy: CliSubCommand[Proxy] = Field(description="run the proxy")
    emit: CliSubCommand[Emit] = Field(description="emit one event")
    tail: CliSubCommand[Tail] = Field(description="print events as they come")
    top: CliSubCommand[Top] = Field(description="show what passes at this moment")
    check: CliSubCommand[Check] = Field(description="tell what is wrong, and what to do")
    settings: CliSubCommand[Settings] = Field(description="print the effective settings")
    keygen: CliSubCommand[Keygen] = Field(description="make a pair of keys")
    bench: CliSubCommand[Bench] = Field(description="measure throughput and latency")
    demo: CliSubCommand[Demo] = Field(description="run two services that talk to each other")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    Args:
        arguments: without the program's name; None for this process's.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if sys.stdout is None:  # closed by who has started this
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 # until the process ends
    logs.configure(_likely_log_format(given))
    tolerate_all_signs(sys.stdout)
    try:
        command = command_of(given)
        if isinstance(command, EventBusSettings):
            logs.configure(command.log_format)
        return int(command.run() or DONE)
    except BrokenPipeError:  # the reader of our output has had enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter would complain at exit
        return DONE
    except (SettingsError, ValidationError, InvalidSettings, InvalidTopic) as error:
        return _complain(error, BAD_ARGUMENTS)
    except (EventBusError, OSError) as error:
        return _complain(error, FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED


# Any: whichever command it is.
def command_of(arguments: Sequence[str]) -> Any:
    """Return the command that arguments choose, with its settings.

    Raises:
        SettingsError, ValidationError, InvalidSettings: an argument or a setting is wrong.
    """
    source = CliSettingsSource[Any](_EventBus, parse_args_method=_parse)
    chosen = CliApp.run(_EventBus, cli_args=_expanded(arguments) or ["--help"], cli_settings_source=source)
    return get_subcommand(chosen, cli_exit_on_error=False)


def _parse(parser: ArgumentParser, arguments: Sequence[str], namespace: Namespace | None = None) -> Namespace:
    """Parse as argparse does, and pass some lists on as JSON, which keeps their texts as they were written.

    In a list of texts, pydantic-settings would split each text at commas, and parse brackets and quotes in it.
    """
    parsed: Namespace = ArgumentParser.parse_args(parser, arguments, namespace)
    for name in _VERBATIM_LISTS:
        if isinstance(texts := getattr(parsed, name, None), list):
            setattr(parsed, name, json.dumps(texts))
    return parsed


def _expanded(arguments: Sequence[str]) -> list[str]:
    """Write ``--json`` out as ``--format=json``: a field of that name would hide one of pydantic's own methods."""
    if not arguments or arguments[0] not in _WITH_JSON_FLAG:
        return list(arguments)
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return [*("--format=json" if one == "--json" else one for one in arguments[:end]), *arguments[end:]]


def _complain(error: Exception, status: int) -> int:
    match error:
        case ValidationError():  # of a nested model: the text of the error inside
            text = "; ".join(part["msg"].removeprefix("Value error, ") for part in error.errors())
        case OSError(strerror=str(reason)):  # without its number
            text = reason
        case _:
            text = str(error)
    text = printable(" ".join(text.split()), 2_000)
    logger.error("%s", text, extra={"eventbus_error": type(error).__name__, "eventbus_status": status})
    return status


def _likely_log_format(given: Sequence[str]) -> LogFormat:
    """The format before the settings are read, which may be what there is to complain about."""
    flag = "--log-format=json" in given or ("--log-format", "json") in pairwise(given)
    return LogFormat.JSON if flag or os.environ.get("EVENTBUS_LOG_FORMAT") == LogFormat.JSON else LogFormat.TEXT
