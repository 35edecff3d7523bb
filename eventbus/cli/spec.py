"""The commands with their arguments and flags, as data: parsing, help, shell completion and the man page read the same.

Everything here is cheap to import. What a command does is in `eventbus.cli.commands`, which is imported when it runs.
"""

from typing import NamedTuple

TEXT, WHOLE, NUMBER, SWITCH = "text", "whole", "number", "switch"
"""Kinds of values: any text, a whole number, a number, and a flag that takes no value."""


class Flag(NamedTuple):
    """A flag.

    Attributes:
        name: with its dashes, such as ``--count``.
        meaning: for people.
        takes: the value in the help, such as ``N``; empty for a switch, and where there are choices. ``FILE`` and
            ``DIRECTORY`` are completed as such.
        kind: what the value must be.
        choices: the values that are allowed; empty: any of its kind.
        default: shown in the help; empty: there is none.
        repeated: whether it may be given several times, each of which counts.
        least: of a number.
        most: of a number.
        above: a number must be larger than this.
        setting: whether it is a setting, which is a variable, too; the settings check its value.
        usual: whether `--help` names it, if it is a setting.
    """

    name: str
    meaning: str
    takes: str = ""
    kind: str = TEXT
    choices: tuple[str, ...] = ()
    default: str = ""
    repeated: bool = False
    least: float | None = None
    most: float | None = None
    above: float | None = None
    setting: bool = False
    usual: bool = False

    @property
    def value(self) -> str:
        """The value in the help."""
        return "|".join(self.choices) or self.takes

    @property
    def path(self) -> tuple[str, ...]:
        """The names that lead to the setting, or to the flag's value: ``--pub-port`` is ``("pub_port",)``."""
        return tuple(self.name[2:].replace("-", "_").split("."))


class Argument(NamedTuple):
    """An argument without a flag: its place tells which.

    Attributes:
        name: in capitals.
        meaning: for people.
        many: whether it stands for any number of them, also none.
        choices: the values that are allowed; empty: any.
    """

    name: str
    meaning: str
    many: bool = False
    choices: tuple[str, ...] = ()


class Command(NamedTuple):
    """A command.

    Attributes:
        name: what is typed.
        group: under which heading the list of commands has it.
        summary: for that list.
        about: for its own help.
        arguments: in order; only the last one may be `many`.
        flags: its own.
        has_settings: whether all settings are flags of it.
        usual: settings that its `--help` names beside those that are usual everywhere.
        example: a line or more for its help.
    """

    name: str
    group: str
    summary: str
    about: str
    arguments: tuple[Argument, ...] = ()
    flags: tuple[Flag, ...] = ()
    has_settings: bool = False
    usual: tuple[str, ...] = ()
    example: str = ""

    def flag(self, name: str) -> Flag | None:
        """Return its own flag of this name."""
        return next((flag for flag in self.flags if flag.name == name), None)


HELP = Flag("--help", "show this help; also -h", kind=SWITCH)
HELP_ALL = Flag("--help-all", "show it with all settings", kind=SWITCH)
VERSION = Flag("--version", "print the version; also -V", kind=SWITCH)

_TOPICS = Argument("TOPIC", "topics; without any, all", many=True)
_APP = Argument("APP", "the container, as module:name, such as app:App; the current folder is on the path")
_JSON = Flag("--json", "the same as --format json", kind=SWITCH)

COMMANDS: tuple[Command, ...] = (
    Command(
        "proxy",
        "Run",
        "run the proxy",
        "Run the proxy that connects publishers and subscribers, until SIGTERM or Ctrl-C.",
        flags=(
            Flag(
                "--host",
                "the address to listen at; unless it is a loopback address, other machines can connect",
                "ADDRESS",
                default="127.0.0.1",
                setting=True,
            ),
            Flag(
                "--check-allow-list", "do not run a proxy, but print what each client on the allow-list may do", kind=SWITCH
            ),
        ),
        has_settings=True,
        usual=("--history", "--history-file", "--security.allow-list", "--http-port", "--log-format"),
    ),
    Command(
        "historian",
        "Run",
        "keep events for those who come late",
        "Keep the newest events of each topic and give them to clients that ask, beside any proxy, until SIGTERM or Ctrl-C. "
        "`eventbus proxy --history 1000` does the same within the proxy's process. Without --history it keeps 1000 of each.",
        has_settings=True,
        usual=(
            "--history",
            "--history-bytes",
            "--history-age",
            "--history-file",
            "--security.allow-list",
            "--http-port",
            "--log-format",
        ),
        example="eventbus historian --history 1000 --history-file bus.db",
    ),
    Command(
        "run",
        "Run",
        "run a container as a program",
        "Start a container of yours as a program: its services, handlers and signals, until they end, SIGTERM or Ctrl-C.",
        (_APP,),
        (Flag("--reload", "start it again when a Python file in the current folder changes", kind=SWITCH),),
        example="eventbus run app:App",
    ),
    Command(
        "bridge",
        "Run",
        "copy events between two transports",
        "Copy the events of two transports to each other until SIGTERM or Ctrl-C, so that services can move from one to the "
        "other one by one. Settings of both are allowed.",
        (_TOPICS,),
        (
            Flag("--from", "one transport", "", TEXT, ("zeromq", "nats", "jetstream"), "zeromq"),
            Flag("--to", "the other one", "", TEXT, ("zeromq", "nats", "jetstream"), "nats"),
        ),
        has_settings=True,
        usual=("--url", "--subject-prefix"),
        example="eventbus bridge --from zeromq --to nats --url nats://plant-1:4222",
    ),
    Command(
        "check",
        "Watch",
        "check the connection to the proxy",
        "Check the connection to the proxy step by step: print the first problem and its remedy, or the round-trip time.",
        flags=(
            Flag("--format", "text: a line for each step; json: one JSON object", "", TEXT, ("text", "json"), "text"),
            _JSON,
        ),
        has_settings=True,
    ),
    Command(
        "tail",
        "Watch",
        "print events as they arrive",
        "Print events as they arrive, until Ctrl-C: a line of text for each on a terminal, otherwise a line of JSON.",
        (_TOPICS,),
        (
            Flag("--type", "only events of this type; repeat it for several types", "TYPE", repeated=True),
            Flag(
                "--where",
                "only events whose field has this value; repeat it for several conditions, all of which must match. Name a "
                "nested field with dots: sensor.id=3. The value is read as JSON, or else as text: id=3 is a number, "
                "id='\"3\"' a text",
                "FIELD=VALUE",
                repeated=True,
            ),
            Flag("--count", "exit after this many events", "N", WHOLE, least=1),
            Flag("--since-start", "show with each event the seconds since the subscriptions took effect", kind=SWITCH),
            Flag("--full", "as text, show also what is the same in every line because of the arguments", kind=SWITCH),
            Flag(
                "--format",
                "text for people; json for programs; auto: text on a terminal, otherwise json",
                "",
                TEXT,
                ("auto", "text", "json"),
                "auto",
            ),
            _JSON,
        ),
        has_settings=True,
        example="eventbus tail plant --type alarm --where sensor.id=3",
    ),
    Command(
        "history",
        "Watch",
        "print stored events",
        "Print the events that a historian on the bus has stored, oldest first.",
        (_TOPICS,),
        (
            Flag("--since", "only since then: a time such as 2026-01-31T12:00, or how long ago, such as 10m", "TIME"),
            Flag("--count", "the newest events, this many at most", "N", WHOLE, least=1),
            Flag(
                "--format",
                "text for people; json for programs; auto: text on a terminal, otherwise json",
                "",
                TEXT,
                ("auto", "text", "json"),
                "auto",
            ),
            _JSON,
        ),
        has_settings=True,
        example="eventbus history plant --since 10m",
    ),
    Command(
        "record",
        "Watch",
        "write events to a file",
        "Write events to a file as they arrive, one JSON object in a line, until Ctrl-C.",
        (_TOPICS,),
        (
            Flag("--to", "the file; what was in it is lost", "FILE", default="recording.jsonl"),
            Flag("--since", "begin with what a historian has stored since then: a time, or how long ago", "TIME"),
            Flag("--count", "exit after this many events", "N", WHOLE, least=1),
        ),
        has_settings=True,
        example="eventbus record plant --to plant.jsonl",
    ),
    Command(
        "replay",
        "Watch",
        "emit the events of a file again",
        "Emit the events of a file that `eventbus record` has written. Handlers can tell that they are replayed.",
        (Argument("FILE", "the file"),),
        (
            Flag(
                "--rate",
                "how fast: 1x as they were recorded, 2x twice as fast; max or asap as fast as possible",
                "RATE",
                default="1x",
            ),
        ),
        has_settings=True,
        example="eventbus replay plant.jsonl --rate 10x",
    ),
    Command(
        "top",
        "Watch",
        "show events per second, live",
        "Show events per second by topic and by publisher, live on a terminal, until Ctrl-C.",
        (_TOPICS,),
        (
            Flag("--interval", "seconds from one update to the next", "SECONDS", NUMBER, default="1", least=0.1, most=3600),
            Flag("--once", "exit after the first interval", kind=SWITCH),
            Flag(
                "--format",
                "text: tables, which need eventbus[top]; json: a line of JSON for each interval",
                "",
                TEXT,
                ("text", "json"),
                "text",
            ),
            _JSON,
        ),
        has_settings=True,
    ),
    Command(
        "ps",
        "Watch",
        "list the clients that are there",
        "List the clients that are there, with what they are subscribed to and how much they do. Clients that only emit are "
        "not listed.",
        (),
        (
            Flag("--wait", "how long to wait for answers", "SECONDS", NUMBER, default="0.5", above=0, most=60),
            Flag("--interval", "seconds over which rates are taken", "SECONDS", NUMBER, default="1", least=0.1, most=3600),
            Flag("--format", "text: a table; json: a line of JSON for each client", "", TEXT, ("text", "json"), "text"),
            _JSON,
        ),
        has_settings=True,
    ),
    Command(
        "ui",
        "Watch",
        "watch the bus in a browser",
        "Serve a page that watches the bus, read-only: topics with rates, who sends what to whom, events as they pass, and "
        "what goes wrong. It needs eventbus[ui]. Other machines need a token.",
        (_TOPICS,),
        (
            Flag("--port", "where to serve the page; 0 picks a free port", "N", WHOLE, default="5561", least=0, most=65535),
            Flag(
                "--listen",
                "the address to serve the page at; unless it is a loopback address, a token is needed: the setting "
                "--ui-token, or one that is made and printed",
                "ADDRESS",
                default="127.0.0.1",
            ),
            Flag(
                "--probe",
                "where a proxy or a service serves /readyz and /metrics, or a NATS server its monitoring; repeat it for "
                "several",
                "URL",
                repeated=True,
            ),
        ),
        has_settings=True,
        usual=("--ui-token",),
        example="eventbus ui --probe http://localhost:9464",
    ),
    Command(
        "emit",
        "Watch",
        "emit one event",
        "Emit one event, given as a JSON object. On a terminal it says if nobody was subscribed to the topic.",
        (
            Argument("TOPIC", "the topic, by its value"),
            Argument("EVENT", 'the event, such as \'{"type": "started"}\'; - reads it from standard input'),
        ),
        has_settings=True,
        example='eventbus emit plant \'{"type": "started"}\'',
    ),
    Command(
        "request",
        "Watch",
        "emit one event as a request, and print the answer",
        "Emit one event, given as a JSON object, as a request, and print the answer to it as JSON.",
        (
            Argument("TOPIC", "the topic, by its value"),
            Argument("EVENT", 'the event, such as \'{"type": "price_wanted"}\'; - reads it from standard input'),
        ),
        (
            Flag("--timeout", "how long to wait for the answer", "SECONDS", NUMBER, default="2", above=0, most=86_400),
            Flag("--all", "print every answer that comes in this time, each in a line, not only the first", kind=SWITCH),
        ),
        has_settings=True,
        example='eventbus request prices \'{"type": "price_wanted", "sku": "x"}\'',
    ),
    Command(
        "settings",
        "Set up",
        "print the effective settings",
        "Print the effective settings as variables, each with its meaning. Secrets are not shown.",
        has_settings=True,
    ),
    Command(
        "keygen",
        "Set up",
        "make a pair of keys",
        "Make a pair of CURVE keys, NAME.pub and NAME.secret, for a proxy or a client, and print where to put them.",
        (Argument("NAME", "the name of the proxy or the client"),),
        (Flag("--directory", "where to write the files; made if it is missing", "DIRECTORY", default="."),),
    ),
    Command(
        "graph",
        "Describe",
        "draw who emits and handles what",
        "Print a picture of a container: which class emits and which handles what, on which topic.",
        (_APP,),
        (
            Flag(
                "--format",
                "mermaid: text that many tools draw; svg: a picture",
                "",
                TEXT,
                ("mermaid", "svg"),
                "mermaid",
            ),
        ),
        example="eventbus graph app:App --format svg > app.svg",
    ),
    Command(
        "asyncapi",
        "Describe",
        "write an AsyncAPI document",
        "Print an AsyncAPI 3 document of a container: its topics as channels, its events as messages.",
        (_APP,),
        (
            Flag("--format", "what is printed", "", TEXT, ("json", "yaml"), "json"),
            Flag("--title", "of the document; without it, the name of the container", "TEXT"),
            Flag("--api-version", "of the document", "TEXT", default="1.0.0"),
        ),
    ),
    Command(
        "schema",
        "Describe",
        "keep the schemas of events in files",
        "Write the JSON schemas of a container's events to files (freeze), or compare them with those files (check): it "
        "names each change that breaks readers or writers of before. Commit the files.",
        (Argument("ACTION", "freeze or check", choices=("freeze", "check")), _APP),
        (Flag("--directory", "where the files are", "DIRECTORY", default="schemas"),),
        example="eventbus schema check app:App",
    ),
    Command(
        "demo",
        "Try",
        "run two example services and a proxy",
        "Run a proxy and two services for a few seconds: one reads the load of this machine, the other watches it.",
        flags=(Flag("--seconds", "how long to run", "SECONDS", NUMBER, default="3", above=0, most=3600),),
    ),
    Command(
        "bench",
        "Try",
        "measure throughput and latency",
        "Measure throughput and latency on this machine, through a proxy of its own, in three processes.",
        flags=(
            Flag("--events", "how many events to send for the throughput", "N", WHOLE, default="200000", least=2),
            Flag("--seconds", "instead, for how long to measure each figure", "SECONDS", NUMBER, above=0, most=3600),
            Flag("--rate", "events per second while latency is measured", "N", WHOLE, default="1000", least=1),
        ),
    ),
    Command(
        "completion",
        "This program",
        "print the completion for a shell",
        "Print what makes a shell complete commands, flags and their values. The first lines of the output say where to put "
        "it.",
        (Argument("SHELL", "bash, zsh or fish", choices=("bash", "zsh", "fish")),),
        example='eval "$(eventbus completion bash)"',
    ),
    Command(
        "man",
        "This program",
        "print the manual page",
        "Print the manual page, for man.",
        example="eventbus man > eventbus.1 && man ./eventbus.1",
    ),
)

BY_NAME = {command.name: command for command in COMMANDS}

EXIT_STATUSES = (
    (0, "done, or stopped by a signal, if it runs until then: proxy, historian, run, bridge, ui, record"),
    (1, "the bus failed, for example no proxy answers"),
    (2, "bad arguments or settings"),
    (130, "interrupted: any other command, or before it ran"),
)
