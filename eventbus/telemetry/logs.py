"""The log of the commands, as lines for people or as JSON, and the fields that the records of this package have.

The lean process of a proxy (`eventbus.proxy.process`) uses it, so it imports little besides the standard library.

Levels: ERROR says that a person must act, or that there is a defect; WARNING, that events were lost or refused, or that
the bus works worse than it should; INFO follows the life of clients and proxies. Events that go well are not logged.
"""

import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType

from eventbus._base.log import FIELD_PREFIX
from eventbus._base.printable import printable
from eventbus.policies import LogFormat

FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "eventbus_action": "what was denied: publish or subscribe",
        "eventbus_address": "where a client that was refused connects from",
        "eventbus_before": "the state until now",
        "eventbus_client": "a client, by its name in the allow-list",
        "eventbus_client_name": "the client, by the name that EVENTBUS_NAME gives it, or its program's",
        "eventbus_count": "how many the line tells of: events, messages, handlers, or clients that may connect",
        "eventbus_endpoints": "where the client's proxy is; tells the clients of one process apart",
        "eventbus_error": "the class of the error",
        "eventbus_event_class": "the class that the client's events have",
        "eventbus_file": "the path of the allow-list, or of a key",
        "eventbus_handler": "a handler or callback, by its qualified name",
        "eventbus_held_back": "how many more of the same kind there were since the last such line",
        "eventbus_hook": "a hook, by its class and method",
        "eventbus_host": "the address that the proxy listens at",
        "eventbus_key": "the public key of a client that was refused",
        "eventbus_provider": "a provider of a container, by its dotted name",
        "eventbus_pub_port": "the proxy's port for publishers",
        "eventbus_reason": "why; of a drop or a reject as `stats()` counts it",
        "eventbus_request": "the first line of an HTTP request, printable",
        "eventbus_seconds": "how long it took",
        "eventbus_server": "a NATS server",
        "eventbus_service": "a service, by its class",
        "eventbus_size": "how large a payload is, in bytes",
        "eventbus_state": "the state from now on",
        "eventbus_status": "the exit status of a command, or that of an HTTP answer",
        "eventbus_stream": "a stream of JetStream, by its name",
        "eventbus_sub_port": "the proxy's port for subscribers",
        "eventbus_topic": "a topic, printable",
        "eventbus_type": "an event's type, printable",
    }
)
"""Every field of the records of this package. A field that is None, or missing, has no meaning in that record."""

COMMAND = "eventbus.command"
"""The logger of a command's own messages, such as why it fails. Its text lines begin with ``eventbus:`` alone."""

type Paint = Callable[[str, int], str]

_MAX_LINE_CHARACTERS = 10_000  # of a line for people


def configure(form: LogFormat, level: int = logging.WARNING, paint: Paint | None = None) -> None:
    """Write the log of this process to stderr from now on; for commands. A second call replaces the first.

    Args:
        form: what lines look like.
        level: the lowest level that is written.
        paint: puts a word into the colour of a level, in lines for people; None: no colours.
    """
    root, ours = logging.getLogger(), logging.getLogger("eventbus")
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if form is LogFormat.JSON else TextFormatter(paint))
    handler.setLevel(level)
    for before in root.handlers[:]:
        if isinstance(before.formatter, JsonFormatter | TextFormatter):
            root.removeHandler(before)
    root.addHandler(handler)
    if not ours.isEnabledFor(level):
        ours.setLevel(level)


class JsonFormatter(logging.Formatter):
    """Formats each record as a JSON object on one line of ASCII, whatever the record contains.

    It has `time` (RFC 3339, UTC), `level`, `logger`, `message`, the record's `eventbus_…` fields, and `exception`, the text
    of the traceback, if there is one. Fields are strings, numbers, true or false; other values are written as their `repr`,
    and None is left out.
    """

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without a line end."""
        content: dict[str, object] = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record),
        }
        facts = vars(record).items()
        content |= {name: value for name, value in facts if name.startswith(FIELD_PREFIX) and value is not None}
        if record.exc_info and record.exc_info[1] is not None:
            content["exception"] = self.formatException(record.exc_info)
        return json.dumps({_encodable(name): _plain(value) for name, value in content.items()})


class TextFormatter(logging.Formatter):
    """Formats each record as a line for people: time, level, logger and message.

    Control characters are escaped and tracebacks are indented, so that no text from other processes can pass for a line.

    Args:
        paint: puts a word into the colour of a level; None: no colours.
    """

    default_msec_format = None

    def __init__(self, paint: Paint | None = None) -> None:
        super().__init__()
        self._paint = paint or (lambda word, level: word)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and the lines of the traceback if there is one, without the last line end."""
        text = printable(_message(record), _MAX_LINE_CHARACTERS)
        if record.name == COMMAND:
            return f"{self._paint('eventbus:', record.levelno)} {text}"
        level = self._paint(record.levelname, record.levelno)
        lines = [f"{self.formatTime(record)} {level} {printable(record.name)}: {text}"]
        if record.exc_info and record.exc_info[1] is not None:
            trace = self.formatException(record.exc_info).splitlines()
            lines += [f"    {printable(line, _MAX_LINE_CHARACTERS)}" for line in trace]
        return "\n".join(lines)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # the arguments do not fit or cannot be shown; most likely another library's
        return f"{_shown(record.msg)} {_shown(record.args)}"


def _plain(value: object) -> str | int | float:
    """Return the value as strict JSON parsers accept it."""
    match value:
        case str():
            return _encodable(value)
        case bool():
            return value
        case int() if -(2**63) <= value < 2**63:
            return int(value)
        case float() if math.isfinite(value):
            return float(value)
        case _:
            return _encodable(_shown(value))


def _encodable(text: str) -> str:
    """Return the text with lone surrogates, which few parsers accept, as escapes."""
    return str.encode(text, errors="backslashreplace").decode()


def _shown(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # any class may have written it
        return f"a {type(value).__name__} whose repr failed"
