"""The command line: ``eventbus COMMAND``. Flags are named as the variables; a flag comes before its variable.

Exit statuses: 0 done; 1 the bus failed, for example no proxy answers; 2 bad arguments or settings; 130 interrupted.
"""

import functools
import json
import logging
import os
import re
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, PositiveFloat, PositiveInt, ValidationError
from pydantic_core import from_json
from pydantic_settings import (
    BaseSettings,
    CliApp,
    CliPositionalArg,
    CliSubCommand,
    SettingsConfigDict,
    SettingsError,
    get_subcommand,
)

from eventbus import lean_proxy, logs, wire
from eventbus.compression import Compressor, inflate, is_compressed
from eventbus.curve import write_pair
from eventbus.errors import (
    CompressionMissing,
    EventBusError,
    EventTooLarge,
    InvalidSettings,
    InvalidTopic,
    PayloadDamaged,
    PayloadTooLarge,
)
from eventbus.policies import LogFormat
from eventbus.printable import printable
from eventbus.settings import EventBusSettings
from eventbus.transports.zeromq import ZeroMQOptions, ZeroMQTransport

logger = logging.getLogger(logs.COMMAND)

DONE, FAILED, BAD_ARGUMENTS, INTERRUPTED = 0, 1, 2, 130

_CHECKS = 11

# The quotes are for shells and .env files; the settings do not mind them.
_KEYGEN = """\
The public key of {name}:

    {public_key}

If these are a client's keys, put them into its environment
    EVENTBUS_SECURITY__SECRET_KEY_FILE='{file}'
and into the proxy's allow-list
    [clients.{table}]
    public_key = "{public_key}"

If they are the proxy's, put them into its environment
    EVENTBUS_SECURITY__SECRET_KEY_FILE='{file}'
    EVENTBUS_SECURITY__ALLOW_LIST='the allow-list'
and into that of every client
    EVENTBUS_SECURITY__SERVER_PUBLIC_KEY='{public_key}'

Keep {file} to yourself: whoever has it can be {name}."""

_BARE = re.compile(r"[A-Za-z0-9_-]+")  # what TOML takes for a name without quotes


class _Command(EventBusSettings):
    """A command has all settings as flags."""

    def run(self) -> None:
        """Do it."""
        raise NotImplementedError

    @contextmanager
    def _transport(self) -> Iterator[ZeroMQTransport]:
        given = self.model_dump(include={field.name for field in fields(ZeroMQOptions)})
        # Whoever waits for the outcome wants to be told.
        options = ZeroMQOptions(**given | {"connect_required": True, "keys": self.security.client_keys()})
        transport = ZeroMQTransport(self.host, self.pub_port, self.sub_port, options)
        try:
            yield transport
        finally:
            transport.close(self.linger)


class Proxy(_Command):
    """Run the proxy that joins publishers and subscribers, until SIGTERM or SIGINT."""

    host: str = Field(
        default="127.0.0.1", min_length=1, description="the address to bind; others than loopback let others in"
    )

    def run(self) -> None:
        """Become the process that runs the proxy."""
        command = lean_proxy.command(
            self.host,
            self.pub_port,
            self.sub_port,
            max_event_bytes=self.max_event_bytes,
            settle=1.25 * self.reconnect_max_interval,  # longer than subscribers wait before they come back
            secret_key=self.security.proxy_secret_key(),
            allow_list=None if self.security.allow_list is None else str(self.security.allow_list),
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
        frame = wire.topic_frame(self.topic)
        compressor = Compressor(self.compression, self.compression_threshold)
        payload = (sys.stdin.read() if self.event == "-" else self.event).encode()
        try:
            event = from_json(payload)
        except ValueError as error:
            raise InvalidSettings(f"the event is not JSON: {error}") from None
        if not isinstance(event, dict) or "type" not in event:
            raise InvalidSettings('the event must be a JSON object with a "type"')
        content = json.dumps(event).encode()
        if len(content) > self.max_event_bytes:
            raise EventTooLarge(self.topic, len(content), self.max_event_bytes)
        with self._transport() as transport:
            transport.open(self.connect_timeout)
            transport.send(frame, compressor.shrink(content))


class Tail(_Command):
    """Print events as they come, one JSON object with topic and event per line, until interrupted."""

    names: CliPositionalArg[list[str]] = Field(default=[], description="topics; none: all")

    def run(self) -> None:
        """Subscribe and print."""
        limit = max(self.max_event_bytes, wire.MAX_PACKED_BYTES)
        wanted = {wire.topic_frame(name) for name in (*self.names, *self.topics)}
        with self._transport() as transport:
            for topic in wanted or {b""}:
                transport.subscribe(topic)
            transport.open(self.connect_timeout)
            while (batch := transport.receive()) is not None:
                for frame, payload in zip(*batch, strict=True):
                    topic = wire.topic_of(frame)
                    if not wanted or topic in wanted:
                        _print_events(topic, payload, limit)
                sys.stdout.flush()
            transport.status.raise_failure()


class Check(_Command):
    """Tell whether a proxy answers, and how long a subscription takes round through it."""

    def run(self) -> None:
        """Connect, then measure."""
        with self._transport() as transport:
            times = []
            for _ in range(_CHECKS):
                transport.open(self.connect_timeout)  # the first time it connects
                times.append(transport.status.round_trip or 0.0)
            print(f"ok: {transport.endpoints}, round trip {statistics.median(times) * 1000:.1f} ms")


class Settings(_Command):
    """Print the effective settings as variables, one per line, each with what it means; but no secret."""

    def run(self) -> None:
        """Print them."""
        for path, field in EventBusSettings.fields():
            print(f"# {field.description}")
            print(f"{self.variable(*path)}={_as_variable(functools.reduce(getattr, path, self))}")


class Keygen(BaseModel):
    """Make a pair of CURVE keys, NAME.pub and NAME.secret, for a proxy or a client, and tell what to do with them."""

    name: CliPositionalArg[str] = Field(description="whose keys they are")
    directory: Path = Field(default=Path(), description="where to write them; made if it is missing")

    def run(self) -> None:
        """Write the files."""
        made = write_pair(self.name, self.directory)
        table = self.name if _BARE.fullmatch(self.name) else f'"{self.name}"'
        print(_KEYGEN.format(name=self.name, table=table, public_key=made.public_key, file=made.secret_file.absolute()))


class Bench(_Command):
    """Measure throughput and latency of this machine through a proxy of its own, in three processes."""

    events: PositiveInt = Field(default=200_000, description="how many events to send as fast as they go")
    rate: PositiveInt = Field(default=1_000, description="events per second for the latency")

    def run(self) -> None:
        """Measure and print."""
        from eventbus import bench  # what only this command needs

        for contender in (bench.EVENT_BY_EVENT, bench.PACKED):
            print(f"{contender.name:24}{bench.throughput(contender, self.events):12,.0f} events/s", flush=True)
        late = bench.latencies(bench.EVENT_BY_EVENT, max(100, 2 * self.rate), self.rate)
        p50, p99 = late[len(late) // 2] * 1e6, late[len(late) * 99 // 100] * 1e6
        print(f"{f'latency at {self.rate:,}/s':24}{p50:12,.0f} µs p50, {p99:,.0f} µs p99")


class Demo(_Command):
    """Run two services and a proxy for a few seconds: one reads this machine's load, the other watches it."""

    seconds: PositiveFloat = Field(default=3.0, le=3600, description="how long")

    def run(self) -> None:
        """Run the demonstration, which is a program of its own on top of this package."""
        os.execv(sys.executable, [sys.executable, "-m", "eventbus.container.demo", str(self.seconds)])


class _EventBus(BaseSettings):
    """A typed event bus over ZeroMQ. Every flag is also a variable: --pub-port is EVENTBUS_PUB_PORT."""

    model_config = SettingsConfigDict(
        cli_prog_name="eventbus", cli_kebab_case=True, cli_enforce_required=True, cli_exit_on_error=False
    )

    proxy: CliSubCommand[Proxy] = Field(description="run the proxy")
    emit: CliSubCommand[Emit] = Field(description="emit one event")
    tail: CliSubCommand[Tail] = Field(description="print events as they come")
    check: CliSubCommand[Check] = Field(description="tell whether a proxy answers")
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
    logs.configure(_likely_log_format(given))
    try:
        command: Any = get_subcommand(CliApp.run(_EventBus, cli_args=given or ["--help"]), cli_exit_on_error=False)
        if isinstance(command, EventBusSettings):
            logs.configure(command.log_format)
        command.run()
    except BrokenPipeError:  # the reader of our output has had enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter would complain at exit
        return DONE
    except (SettingsError, ValidationError, InvalidSettings, InvalidTopic) as error:
        return _complain(error, BAD_ARGUMENTS)
    except (EventBusError, OSError) as error:
        return _complain(error, FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED
    return DONE


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


def _print_events(topic: bytes, payload: bytes, limit: int) -> None:
    """Print a message's events, escaped: what was received must not reach a terminal as it is."""
    try:
        name, content = topic.decode(), from_json(inflate(payload, limit) if is_compressed(payload) else payload)
    except (PayloadTooLarge, PayloadDamaged, CompressionMissing) as error:
        _say_not_an_event(topic, str(error))
        return
    except ValueError:
        _say_not_an_event(topic, repr(payload[:200]))
        return
    for event in content if isinstance(content, list) else [content]:
        print(json.dumps({"topic": name, "event": event}))


def _say_not_an_event(topic: bytes, reason: str) -> None:
    # Each one: it is what the command was asked to show.
    name = printable(topic.decode(errors="backslashreplace"), wire.MAX_TOPIC_BYTES)
    logger.warning(
        "not an event, on %s: %s",
        printable(repr(topic)),
        reason,
        extra={"eventbus_topic": name, "eventbus_reason": reason},
    )


def _as_variable(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case tuple():
            return ",".join(value)
        case _:
            return str(value)
