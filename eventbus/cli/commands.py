"""The commands with their arguments and flags. All settings are flags too; a flag takes precedence over its variable."""

import difflib
import json
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, PositiveFloat, PositiveInt, ValidationError
from pydantic.fields import FieldInfo
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

from eventbus.cli.check import check
from eventbus.cli.emit import emit
from eventbus.cli.keygen import keygen
from eventbus.cli.request import request
from eventbus.cli.settings import print_settings
from eventbus.cli.tail import tail
from eventbus.cli.tail_filter import EventFilter
from eventbus.cli.top import top
from eventbus.errors import InvalidSettings
from eventbus.keys import masked
from eventbus.proxy import allow_list, process
from eventbus.settings import EventBusSettings
from eventbus.settings.values import Host

_WITH_JSON_FLAG = {"tail", "top", "check"}  # commands
_PARSER_PREFIX = "error parsing CLI: "
_VERBATIM_LISTS = ("tail.type", "tail.where")


class Command(EventBusSettings):
    """A command that has all settings as flags. Its own flags have no variables."""

    def run(self) -> bool | None:
        """Run it. Return False if it has printed that something is wrong; other failures are errors."""
        raise NotImplementedError

    @classmethod
    def fields(cls) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
        """Yield the settings alone: a variable for a flag of one command would be unknown to all others."""
        return EventBusSettings.fields()

    @classmethod
    def variable(cls, *path: str) -> str:
        """Return the name of a field in texts for people: its flag, if it has no variable."""
        if path[0] in EventBusSettings.model_fields:
            return super().variable(*path)
        return f"--{path[0].replace('_', '-')}"


class Proxy(Command):
    """Run the proxy that connects publishers and subscribers, until SIGTERM or Ctrl-C."""

    host: Host = Field(
        default="127.0.0.1",
        description="the address to listen at; unless it is a loopback address, other machines can connect",
    )
    check_allow_list: CliImplicitFlag[bool] = Field(
        default=False, description="do not run a proxy, but print what each client on the allow-list may do"
    )

    def run(self) -> None:
        """Replace this process by the one that runs the proxy, or check the allow-list."""
        if self.check_allow_list:
            if self.security.allow_list is None:
                raise InvalidSettings("there is no allow-list to check: set EVENTBUS_SECURITY__ALLOW_LIST")
            print(allow_list.check(self.security.allow_list))
            return
        command = process.command(
            self.host,
            self.pub_port,
            self.sub_port,
            self.proxy_options(),
            log_format=self.log_format,
            http_port=self.http_port or None,
            http_host=self.http_host,
        )
        os.execv(sys.executable, command)


class Emit(Command):
    """Emit one event, given as a JSON object."""

    topic: CliPositionalArg[str] = Field(description="the topic, by its value")
    event: CliPositionalArg[str] = Field(
        description='the event, such as \'{"type": "started"}\'; - reads it from standard input'
    )

    def run(self) -> None:
        """Check the event, connect and send it."""
        emit(self, self.topic, self.event)


class Request(Command):
    """Emit one event as a request, and print the answer to it as JSON."""

    topic: CliPositionalArg[str] = Field(description="the topic, by its value")
    event: CliPositionalArg[str] = Field(
        description='the event, such as \'{"type": "price_wanted"}\'; - reads it from standard input'
    )
    timeout: PositiveFloat = Field(default=2.0, description="seconds to wait for the answer")
    all: CliImplicitFlag[bool] = Field(
        default=False, description="print every answer that comes in this time, each in a line, rather than only the first"
    )

    def run(self) -> None:
        """Connect, ask and print."""
        request(self, self.topic, self.event, timeout=self.timeout, everybody=self.all)


class Tail(Command):
    """Print events as they arrive, until Ctrl-C: a line of text for each on a terminal, otherwise a line of JSON."""

    names: CliPositionalArg[list[str]] = Field(default=[], description="topics; without any, all")
    type: list[str] = Field(default=[], description="only events of this type; repeat it for several types")
    where: list[str] = Field(
        default=[],
        description="field=value: only events whose field has this value; repeat it for several conditions, all of which "
        "must match. Name a nested field with dots: sensor.id=3. The value is read as JSON, or else as text: id=3 is a "
        "number, id='\"3\"' a text",
    )
    count: PositiveInt | None = Field(default=None, description="exit after this many events")
    since_start: CliImplicitFlag[bool] = Field(
        default=False, description="show with each event the seconds since the subscriptions took effect"
    )
    format: Literal["auto", "text", "json"] = Field(
        default="auto",
        description="text for people; json, or --json, for programs; auto: text on a terminal, otherwise json",
    )

    def run(self) -> None:
        """Subscribe and print."""
        tail(
            self,
            self.names,
            EventFilter(self.type, self.where),
            count=self.count,
            since_start=self.since_start,
            as_text=self.format == "text" or (self.format == "auto" and sys.stdout.isatty()),
        )


class Top(Command):
    """Show events per second by topic and by publisher, live on a terminal, until Ctrl-C."""

    names: CliPositionalArg[list[str]] = Field(default=[], description="topics; without any, all")
    interval: PositiveFloat = Field(default=1.0, ge=0.1, le=3600, description="seconds from one update to the next")
    once: CliImplicitFlag[bool] = Field(default=False, description="exit after the first interval")
    format: Literal["text", "json"] = Field(
        default="text",
        description="text: tables, which need eventbus[top]; json, or --json: a line of JSON for each interval",
    )

    def run(self) -> None:
        """Subscribe, count and show."""
        top(self, self.names, interval=self.interval, once=self.once, as_json=self.format == "json")


class Check(Command):
    """Check the connection to the proxy step by step: print the first problem and its remedy, or the round-trip time."""

    format: Literal["text", "json"] = Field(
        default="text", description="text: a line for each step; json, or --json: one JSON object"
    )

    def run(self) -> bool:
        """Check, and print the results."""
        return check(self, as_json=self.format == "json")


class Settings(Command):
    """Print the effective settings as variables, each with its meaning. Secrets are not shown."""

    def run(self) -> None:
        """Print them."""
        print_settings(self)


class Keygen(BaseModel):
    """Make a pair of CURVE keys, NAME.pub and NAME.secret, for a proxy or a client, and print where to put them."""

    name: CliPositionalArg[str] = Field(description="the name of the proxy or the client")
    directory: Path = Field(default=Path(), description="where to write the files; made if it is missing")

    def run(self) -> None:
        """Write the files."""
        keygen(self.name, self.directory)


class Bench(Command):
    """Measure throughput and latency on this machine, through a proxy of its own, in three processes."""

    events: PositiveInt = Field(default=200_000, description="how many events to send for the throughput")
    rate: PositiveInt = Field(default=1_000, description="events per second while latency is measured")

    def run(self) -> None:
        """Measure and print."""
        from eventbus.cli.bench import bench  # imported late, because only this command needs the client

        bench(self.events, self.rate)


class Demo(Command):
    """Run a proxy and two services for a few seconds: one reads the load of this machine, the other watches it."""

    seconds: PositiveFloat = Field(default=3.0, le=3600, description="how long to run")

    def run(self) -> None:
        """Replace this process by the demonstration, a program that uses this package."""
        os.execv(sys.executable, [sys.executable, "-m", "eventbus.container.demo", str(self.seconds)])


class CommandLine(BaseSettings):
    """A typed event bus over ZeroMQ. All settings are flags, and variables: --pub-port is EVENTBUS_PUB_PORT.

    `eventbus --version` prints the version.

    Exit status: 0 done; 1 the bus failed, for example no proxy answers; 2 bad arguments or settings; 130 interrupted.
    """

    model_config = SettingsConfigDict(
        cli_prog_name="eventbus", cli_kebab_case=True, cli_enforce_required=True, cli_exit_on_error=False
    )

    proxy: CliSubCommand[Proxy] = Field(description="run the proxy")
    emit: CliSubCommand[Emit] = Field(description="emit one event")
    request: CliSubCommand[Request] = Field(description="emit one event as a request, and print the answer")
    tail: CliSubCommand[Tail] = Field(description="print events as they arrive")
    top: CliSubCommand[Top] = Field(description="show events per second, live")
    check: CliSubCommand[Check] = Field(description="check the connection to the proxy")
    settings: CliSubCommand[Settings] = Field(description="print the effective settings")
    keygen: CliSubCommand[Keygen] = Field(description="make a pair of keys")
    bench: CliSubCommand[Bench] = Field(description="measure throughput and latency")
    demo: CliSubCommand[Demo] = Field(description="run two example services and a proxy")


# Any: the class depends on the arguments.
def command_of(arguments: Sequence[str]) -> Any:
    """Return the command that the arguments name, with its settings.

    Raises:
        InvalidSettings: an argument or a setting is wrong.
        SystemExit: after printing the help.
    """
    name = _name_in(arguments)
    source = CliSettingsSource[Any](CommandLine, parse_args_method=_parse)
    try:
        chosen = CliApp.run(CommandLine, cli_args=_expanded(arguments) or ["--help"], cli_settings_source=source)
        return get_subcommand(chosen, cli_exit_on_error=False)
    except ValidationError as error:
        raise InvalidSettings(masked("; ".join(_texts(error)))) from None
    except SettingsError as error:
        text = masked(str(error)).removeprefix(_PARSER_PREFIX)
        raise InvalidSettings(f"{text}; `eventbus {name} --help` lists what it takes") from None


def _name_in(arguments: Sequence[str]) -> str:
    """The name of the command; empty if help is asked for.

    Raises:
        InvalidSettings: there is no such command, or a flag stands before it.
    """
    name = masked(arguments[0]) if arguments else ""
    if name in ("", "-h", "--help"):
        return ""
    if name.startswith("-"):
        raise InvalidSettings(f"{name} stands before the command: write `eventbus COMMAND {name} …`")
    if name not in CommandLine.model_fields:
        close = difflib.get_close_matches(name, CommandLine.model_fields, n=1)
        raise InvalidSettings(
            f"there is no command {name!r}: {f'did you mean {close[0]}?' if close else '`eventbus --help` lists them'}"
        )
    return name


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


def _texts(error: ValidationError) -> Iterator[str]:
    """The texts of the errors, those of nested models too."""
    for part in error.errors():
        yield part["msg"].removeprefix("Value error, ")
