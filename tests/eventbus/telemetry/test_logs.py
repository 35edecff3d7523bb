"""The log: its fields, and what it looks like, as lines for people and as JSON."""

import ast
import logging
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import from_json

from eventbus._base.log import FIELD_PREFIX, LOGGING_ARGUMENTS
from eventbus.observe.state import ClientState
from eventbus.policies import LogFormat
from eventbus.telemetry.logs import COMMAND, FIELDS, JsonFormatter, TextFormatter, configure
from tests.commands import log_lines, log_records
from tests.support import run_script

ROOT = Path(__file__).parents[3]
SOURCES = [path for folder in ("eventbus", "container", "settings") for path in sorted((ROOT / folder).rglob("*.py"))]

ANY_TEXT = st.text(st.characters(exclude_categories=[]))  # lone surrogates too
ANY_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.integers() | ANY_TEXT, inner),
    max_leaves=10,
)


class Shy:
    """Something that cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("on purpose")


class Number(IntEnum):
    ONE = 1


def record(message: object = "said", *arguments: object, name: str = "eventbus", **fields: object) -> logging.LogRecord:
    made = logging.LogRecord(name, logging.WARNING, __file__, 1, message, arguments, None)
    vars(made).update(fields)
    return made


def with_error(error: BaseException) -> logging.LogRecord:
    """A record of an error that was caught."""
    try:
        raise error
    except BaseException:
        return logging.LogRecord("eventbus", logging.ERROR, __file__, 1, "failed", (), sys.exc_info())


def as_json(made: logging.LogRecord) -> dict[str, object]:
    """The object that a strict parser reads from the line."""
    line = JsonFormatter().format(made)
    assert line.isascii()
    assert line.isprintable()
    read: dict[str, object] = from_json(line, allow_inf_nan=False)
    return read


# Fields


METHODS = {"debug", "info", "warning", "error", "exception", "critical", "log"}


def is_plain_logger(name: str) -> bool:
    return name.endswith("logger") or "getLogger" in name or name == "logging"


def is_log(name: str) -> bool:
    """Whether an expression is a `Log`, by its last name: `log`, `self._log`, `self._zap_log`."""
    last = name.rpartition(".")[2]
    return last == "log" or last.endswith("_log")


def calls_of_logs(tree: ast.AST) -> Iterator[tuple[ast.Call, list[str | None]]]:
    """Every call that writes to a log, with the fields that it gives; None stands for what is known only when it runs."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
            receiver = ast.unparse(node.func.value)
            if is_plain_logger(receiver):
                yield node, fields_of_extra(node)
            elif is_log(receiver):
                yield node, fields_of_facts(node)


def fields_of_extra(call: ast.Call) -> list[str | None]:
    """The fields of a call of a plain logger: the keys of `extra`."""
    extras = [keyword.value for keyword in call.keywords if keyword.arg == "extra"]
    if not extras or not isinstance(extras[0], ast.Dict):
        return [None]
    return [str(key.value) if isinstance(key, ast.Constant) else None for key in extras[0].keys]


def fields_of_facts(call: ast.Call) -> list[str | None]:
    """The fields of a call of a `Log`, or of its constructor: the keyword arguments that are not logging's own."""
    names = [keyword.arg for keyword in call.keywords if keyword.arg not in LOGGING_ARGUMENTS]
    return [None if name is None else FIELD_PREFIX + name for name in names]


def own_fields(tree: ast.AST) -> list[str | None]:
    """The fields that every line of a module's `Log` objects has: the facts that they are made with."""
    return [
        field
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Log"
        for field in fields_of_facts(node)
        if field != f"{FIELD_PREFIX}name"
    ]


def lines_in_sources() -> Iterator[tuple[str, list[str | None]]]:
    """The place of each line of the package's log, and its fields."""
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        own = own_fields(tree)
        for call, fields in calls_of_logs(tree):
            yield f"{path.relative_to(ROOT)}:{call.lineno}", fields + own


def test_every_line_has_known_fields() -> None:
    """Each call of a log in the package gives its facts as fields, at least one, and all of them in `FIELDS`."""
    lines = list(lines_in_sources())
    assert len(lines) > 20
    assert [where for where, fields in lines if not fields or not FIELDS.keys() >= set(fields)] == []


def test_every_known_field_is_used() -> None:
    """The list names no field that no line has."""
    assert FIELDS.keys() <= {field for _, fields in lines_in_sources() for field in fields}


@pytest.mark.parametrize(
    ("call", "fields"),
    [
        ("logger.info('x')", [None]),
        ("logger.info('x', extra=given)", [None]),
        ("logger.info('x', extra={})", []),
        ("logger.info('x', extra={'eventbus_topic': 1, **more})", ["eventbus_topic", None]),
        ("self._logger.exception('x', extra={'topic': 1})", ["topic"]),
        ("logging.getLogger('x').error('x', extra={'eventbus_state': 1})", ["eventbus_state"]),
        ("log.info('x')", []),
        ("self._log.exception('x', topic=1, exc_info=error)", ["eventbus_topic"]),
        ("log.log(level, 'x', topic=1, **more)", ["eventbus_topic", None]),
        ("self._proxy_log.debug('x', extra={'eventbus_topic': 1})", ["eventbus_extra"]),
    ],
)
def test_how_lines_are_found(call: str, fields: list[str | None]) -> None:
    """The search sees calls without fields, with others, and with some that nobody knows before they run."""
    assert [found for _, found in calls_of_logs(ast.parse(call))] == [fields]


@pytest.mark.parametrize(
    ("made", "fields"),
    [
        ("log = Log()", []),
        ("log = Log('eventbus.command')", []),
        ("self._log = Log(endpoints=1)", ["eventbus_endpoints"]),
        ("self._log = Log(name='x', endpoints=1, **more)", ["eventbus_endpoints", None]),
    ],
)
def test_how_facts_of_logs_are_found(made: str, fields: list[str | None]) -> None:
    """The search sees which fields every line of a `Log` has."""
    assert own_fields(ast.parse(made)) == fields


def test_other_calls_are_not_found() -> None:
    """Logarithms and methods named `log` write no line."""
    assert list(calls_of_logs(ast.parse("math.log(2), self.log(x), catalog.info(x)"))) == []


# JSON


def test_a_record_as_json() -> None:
    """A record has its time in UTC, level, logger, message and our fields, but for those that are None."""
    made = record("dropped %d", 3, eventbus_topic="plant", eventbus_type=None, others="not ours")
    read = as_json(made)
    assert list(read) == ["time", "level", "logger", "message", "eventbus_topic"]
    assert read | {"time": ""} == {
        "time": "",
        "level": "WARNING",
        "logger": "eventbus",
        "message": "dropped 3",
        "eventbus_topic": "plant",
    }
    time = datetime.fromisoformat(str(read["time"]))
    assert str(read["time"]).endswith("Z")
    assert abs(time - datetime.fromtimestamp(made.created, UTC)) < timedelta(milliseconds=2)


def test_an_exception_as_json() -> None:
    """A record with an exception has its traceback as text, on the same line."""
    text = as_json(with_error(ValueError("on\npurpose \ud800")))["exception"]
    assert str(text).startswith("Traceback")
    assert str(text).endswith("ValueError: on\npurpose \\ud800")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (True, True),
        (2.5, 2.5),
        (2**63 - 1, 2**63 - 1),
        (Number.ONE, 1),
        (ClientState.READY, "ready"),
        ("a\ud800b", "a\\ud800b"),
        (2**63, "9223372036854775808"),
        (10**5_000, "a int whose repr failed"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (b"\xff", r"b'\xff'"),
        ([1], "[1]"),
        (Shy(), "a Shy whose repr failed"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_odd_values_as_json(value: object, written: object) -> None:
    """A value that JSON has is written as it is; one that it lacks, or that many parsers would refuse, as a text."""
    read = as_json(record(eventbus_count=value))["eventbus_count"]
    assert (read, type(read)) == (written, type(written))


@pytest.mark.patience
@given(ANY_TEXT, ANY_VALUE, ANY_TEXT)
def test_any_record_as_json(message: str, value: object, name: str) -> None:
    """Whatever a record holds, its line is one line of ASCII that a strict parser reads."""
    read = as_json(record("%s", message, name=name, eventbus_topic=value, **{"eventbus_" + name: value}))
    assert str(read["message"]).encode() == message.encode(errors="backslashreplace")
    assert ("eventbus_topic" in read) == (value is not None)


# Lines for people


def as_text(made: logging.LogRecord) -> list[str]:
    return TextFormatter().format(made).split("\n")


def test_a_record_as_text() -> None:
    """A line has the time, the level, the logger and the message; the fields are for programs."""
    [line] = as_text(record("dropped %d", 3, eventbus_topic="plant"))
    assert log_lines(line) == [("WARNING", "dropped 3")]


def test_a_command_speaks_for_itself() -> None:
    """A line of a command about itself begins with its name alone."""
    assert as_text(record("no proxy", name=COMMAND)) == ["eventbus: no proxy"]


def test_an_exception_as_text() -> None:
    """A traceback stands indented below its line: nothing in it passes for a line of the log."""
    forged = "2026-01-31 12:00:00 ERROR eventbus: forged"
    first, *rest = as_text(with_error(ValueError(f"\x1b[2J\r\n{forged}\n\x85{forged}")))
    assert log_lines(first) == [("ERROR", "failed")]
    assert all(line.startswith("    ") and line.isprintable() for line in rest)
    assert any(forged in line for line in rest)


@given(ANY_TEXT, ANY_TEXT)
def test_any_record_as_text(message: str, name: str) -> None:
    """Whatever a record holds, it is one line that prints and can be encoded."""
    [line] = as_text(record("%s", message, name=name))
    assert line.isprintable()
    assert line.encode()


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()], ids=["json", "text"])
@pytest.mark.parametrize(
    "made",
    [record("%d events", "many"), record("nothing", 1), record("%s", Shy()), record(Shy())],
    ids=["wrong", "too many", "shy", "a shy message"],
)
def test_a_record_that_cannot_be_formatted(formatter: logging.Formatter, made: logging.LogRecord) -> None:
    """A record whose arguments do not fit its text, or cannot be shown, is written with what can be shown of it."""
    line = formatter.format(made)
    assert line.isprintable()
    assert str(made.levelname) in line


# Where it goes


def test_configuring_twice(capsys: pytest.CaptureFixture[str]) -> None:
    """The last call counts: each record is written once, in its format and from its level on."""
    logger = logging.getLogger("eventbus")
    configure(LogFormat.TEXT, logging.INFO)
    configure(LogFormat.TEXT)
    logger.info("not written")
    logger.warning("one")
    assert log_lines(capsys.readouterr().err) == [("WARNING", "one")]
    configure(LogFormat.JSON, logging.INFO)
    logger.info("two")
    logging.getLogger("another.library").warning("three")
    logging.getLogger("another.library").info("not written")
    written = log_records(capsys.readouterr().err)
    assert [(line["logger"], line["message"]) for line in written] == [("eventbus", "two"), ("another.library", "three")]


def test_it_leaves_handlers_of_others_alone() -> None:
    """Handlers that somebody else has added stay."""
    others = logging.NullHandler()
    logging.getLogger().addHandler(others)
    try:
        configure(LogFormat.JSON)
        assert others in logging.getLogger().handlers
    finally:
        logging.getLogger().removeHandler(others)


@pytest.mark.process
def test_it_is_light() -> None:
    """It brings into the proxy's process nothing of ours but an enum and a function, and no other library."""
    done = run_script(
        "import logging, sys\n"
        "before = set(sys.modules)\n"
        "import eventbus.telemetry.logs\n"
        "print(*(name for name in set(sys.modules) - before if name.split('.')[0] not in sys.stdlib_module_names))\n"
    )
    modules = set(done.stdout.split()) - {"eventbus", "eventbus._base", "eventbus.telemetry", "eventbus.exports"}
    assert modules == {"eventbus.telemetry.logs", "eventbus.policies", "eventbus._base.log", "eventbus._base.printable"}
