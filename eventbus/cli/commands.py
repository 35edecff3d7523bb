"""The work of each command with its arguments. Each imports only what it needs."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from eventbus.cli.arguments import Given
from eventbus.cli.log import configure_log
from eventbus.errors import InvalidSettings

if TYPE_CHECKING:
    from eventbus.settings import EventBusSettings

type Run = Callable[[Given], bool | None]
"""Runs a command. It returns False if it has printed that something is wrong; other failures are errors."""


def settings_of(given: Given) -> "EventBusSettings":
    """The settings of a command: flags, then variables, then the ``.env`` file. The log is written as they say.

    Raises:
        InvalidSettings: a value is bad, or a variable is unknown.
    """
    from eventbus.settings import EventBusSettings
    from eventbus.settings.values import parse_topics

    values: dict[str, object] = dict(given.settings)
    if isinstance(topics := values.get("topics"), list):
        values["topics"] = tuple(topic for text in topics for topic in _checked(parse_topics, text))
    settings = EventBusSettings(**values)
    configure_log(settings.log_format)
    return settings


def _checked(parse: Callable[[object], object], text: str) -> Sequence[str]:
    try:
        found = parse(text)
    except InvalidSettings as error:
        raise InvalidSettings(f"--topics={text!r}: {error}") from None
    return found if isinstance(found, tuple) else ()


def _proxy(given: Given) -> None:
    """Replace this process by the one that runs the proxy, or check the allow-list."""
    from eventbus.policies import TransportKind
    from eventbus.proxy import allow_list, process

    settings = settings_of(given)
    if given.is_set("--check-allow-list"):
        if settings.security.allow_list is None:
            raise InvalidSettings("there is no allow-list to check: set EVENTBUS_SECURITY__ALLOW_LIST")
        print(allow_list.check(settings.security.allow_list))
        return
    if settings.transport is not TransportKind.ZEROMQ:
        raise InvalidSettings(
            f"EVENTBUS_TRANSPORT={settings.transport} needs no proxy: services connect to the NATS server that EVENTBUS_URL "
            "names. Start that (`nats-server`), or leave EVENTBUS_TRANSPORT out"
        )
    command = process.command(
        settings.host if "host" in settings.model_fields_set else "127.0.0.1",
        settings.pub_port,
        settings.sub_port,
        settings.proxy_options(),
        log_format=settings.log_format,
        http_port=settings.http_port or None,
        http_host=settings.http_host,
    )
    os.execv(sys.executable, command)


def _historian(given: Given) -> None:
    from eventbus.cli.historian import historian

    historian(settings_of(given))


def _emit(given: Given) -> bool:
    from eventbus.cli.emit import emit

    return emit(settings_of(given), given.text("TOPIC"), given.text("EVENT"))


def _request(given: Given) -> None:
    from eventbus.cli.request import request

    settings, timeout = settings_of(given), given.number("--timeout") or 2.0
    request(settings, given.text("TOPIC"), given.text("EVENT"), timeout=timeout, everybody=given.is_set("--all"))


def _ps(given: Given) -> None:
    from eventbus.cli.ps import ps

    settings, as_json = settings_of(given), given.text("--format") == "json"
    ps(settings, wait=given.number("--wait") or 0.5, interval=given.number("--interval") or 1.0, as_json=as_json)


def _bridge(given: Given) -> None:
    from eventbus.cli.bridge import bridge
    from eventbus.policies import TransportKind

    one, other = TransportKind(given.text("--from")), TransportKind(given.text("--to"))
    bridge(settings_of(given), one, other, _topics(given))


def _tail(given: Given) -> None:
    from eventbus.cli.tail import tail
    from eventbus.cli.tail_filter import EventFilter

    form = given.text("--format")
    tail(
        settings_of(given),
        _topics(given),
        EventFilter(given.texts("--type"), given.texts("--where")),
        count=given.whole("--count"),
        since_start=given.is_set("--since-start"),
        as_text=form == "text" or (form == "auto" and sys.stdout.isatty()),
        full=given.is_set("--full"),
    )


def _history(given: Given) -> None:
    from eventbus.cli.history import history

    form = given.text("--format")
    as_text = form == "text" or (form == "auto" and sys.stdout.isatty())
    since, count = given.text("--since") or None, given.whole("--count")
    history(settings_of(given), _topics(given), since=since, count=count, as_text=as_text)


def _record(given: Given) -> None:
    from eventbus.cli.history import record

    since, count = given.text("--since") or None, given.whole("--count")
    record(settings_of(given), _topics(given), Path(given.text("--to")), since=since, count=count)


def _replay(given: Given) -> bool:
    from eventbus.cli.history import replay

    return replay(settings_of(given), Path(given.text("FILE")), given.text("--rate"))


def _top(given: Given) -> None:
    from eventbus.cli.top import top

    settings = settings_of(given)
    interval = given.number("--interval") or 1.0
    as_json = given.text("--format") == "json"
    top(settings, _topics(given), interval=interval, once=given.is_set("--once"), as_json=as_json)


def _ui(given: Given) -> None:
    from eventbus.cli.ui import ui

    port, probes = given.whole("--port"), given.texts("--probe")
    ui(settings_of(given), _topics(given), port=port or 0, listen=given.text("--listen"), probes=probes)


def _topics(given: Given) -> list[str]:
    """The topics, given one by one or with commas between; without any, all."""
    return [topic for text in given.texts("TOPIC") for topic in text.split(",")]


def _check(given: Given) -> bool:
    from eventbus.cli.check import check

    return check(settings_of(given), as_json=given.text("--format") == "json")


def _settings(given: Given) -> None:
    from eventbus.cli.settings import print_settings

    print_settings(settings_of(given))


def _keygen(given: Given) -> None:
    from eventbus.cli.keygen import keygen

    keygen(given.text("NAME"), Path(given.text("--directory")))


def _bench(given: Given) -> None:
    from eventbus.cli.bench import bench

    bench(given.whole("--events") or 1, given.whole("--rate") or 1, given.number("--seconds"))


def _demo(given: Given) -> bool:
    from eventbus.cli.demo import demo

    return demo(given.number("--seconds") or 1.0)


def _run(given: Given) -> None:
    from eventbus.cli.run import run, run_reloading

    (run_reloading if given.is_set("--reload") else run)(given.text("APP"))


def _graph(given: Given) -> None:
    from eventbus.cli.app import load
    from eventbus.cli.graph import mermaid, svg
    from eventbus.container.description import describe

    print((svg if given.text("--format") == "svg" else mermaid)(describe(load(given.text("APP")))))


def _asyncapi(given: Given) -> None:
    from eventbus.cli.app import load
    from eventbus.cli.asyncapi import as_json, as_yaml, document
    from eventbus.container.description import describe

    found = document(describe(load(given.text("APP"))), title=given.text("--title"), version=given.text("--api-version"))
    print((as_yaml if given.text("--format") == "yaml" else as_json)(found))


def _schema(given: Given) -> bool:
    from eventbus.cli import schemas
    from eventbus.cli.app import load
    from eventbus.cli.terminal import Paint, Style, wants_colours
    from eventbus.container.description import describe

    description, directory = describe(load(given.text("APP"))), Path(given.text("--directory"))
    if given.text("ACTION") == "freeze":
        for path in schemas.freeze(description, directory):
            print(f"wrote {path}")
        return True
    good, lines = schemas.check(schemas.frozen(directory), schemas.schemas_of(description))
    paint = Paint(wants_colours(sys.stdout))
    for line in lines:
        print(paint(line, Style.RED) if line.startswith("BREAKS") else line)
    return good


COMMANDS: Mapping[str, Run] = {
    "proxy": _proxy,
    "historian": _historian,
    "bridge": _bridge,
    "emit": _emit,
    "request": _request,
    "tail": _tail,
    "history": _history,
    "record": _record,
    "replay": _replay,
    "top": _top,
    "ps": _ps,
    "ui": _ui,
    "check": _check,
    "settings": _settings,
    "keygen": _keygen,
    "bench": _bench,
    "demo": _demo,
    "run": _run,
    "graph": _graph,
    "asyncapi": _asyncapi,
    "schema": _schema,
}
