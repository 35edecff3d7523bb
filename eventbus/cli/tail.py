"""``eventbus tail``: print events as they arrive."""

import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from time import monotonic

from pydantic_core import from_json

from eventbus._base.log import Log
from eventbus._base.log_throttle import LogThrottle, more
from eventbus._base.printable import counted, printable
from eventbus.cli.connection import transport_for, wanted_topics
from eventbus.cli.tail_filter import EventFilter
from eventbus.cli.tail_lines import SHOW_ALL, Hidden, Received, TextLines, json_line
from eventbus.cli.terminal import Paint, wants_colours
from eventbus.receive.unpacking import Content, Unpacker
from eventbus.settings import EventBusSettings
from eventbus.telemetry import logs
from eventbus.transports.contract import Transport
from eventbus.wire.frames import MAX_TOPIC_BYTES
from eventbus.wire.headers import decode_headers
from eventbus.wire.history import is_of_history
from eventbus.wire.presence import PresenceTraffic
from eventbus.wire.rejects import Reject

_LOSSES_INTERVAL_S = 5.0  # between two lines about losses
_MAX_QUOTED_BYTES = 200


def tail(
    settings: EventBusSettings,
    names: Sequence[str] = (),
    event_filter: EventFilter | None = None,
    *,
    count: int | None = None,
    since_start: bool = False,
    as_text: bool = False,
    full: bool = False,
) -> None:
    """Subscribe and print events, up to a number of them, or until the client gives up reconnecting.

    Args:
        settings: the settings of the command.
        names: topics beside `settings.topics`; if both are empty, all topics.
        event_filter: selects the events to print; None: all.
        count: return after this many; None: no limit.
        since_start: print with each event the seconds since the subscriptions took effect.
        as_text: print text for people; False: JSON.
        full: print in lines of text also what is the same in each, because only that was asked for.

    Raises:
        InvalidTopic: a name cannot be a topic.
        ProxyUnreachable, HandshakeFailed, ReconnectFailed: there is no connection to the proxy.
    """
    wanted = wanted_topics(settings, names)
    event_filter = event_filter or EventFilter()
    hidden = SHOW_ALL if full else Hidden(len(wanted) == 1, event_filter.only_type, event_filter.exact_fields)
    render = _for_people(TextLines(Paint(wants_colours(sys.stdout)), hidden)) if as_text else json_line
    printed = 0
    with transport_for(settings) as transport:
        for topic in wanted or {b""}:
            transport.subscribe(topic)
        transport.open(settings.connect_timeout)
        for received in _received(transport, wanted, settings.max_event_bytes, since_start):
            if event_filter.matches(received.event):
                print(render(received))
                printed += 1
                if printed == count:
                    sys.stdout.flush()
                    return
        transport.status.raise_failure()


def _received(transport: Transport, wanted: set[bytes], max_event_bytes: int, since_start: bool) -> Iterator[Received]:
    """The events on the wanted topics, or on all if `wanted` is empty.

    It logs which events are missing and which messages are no events, and flushes standard output after each batch.
    """

    def takes(topic: bytes) -> bool:
        return not wanted or topic in wanted

    report = _Report()
    unpacker = Unpacker(takes, report, max_event_bytes)
    presence = PresenceTraffic()
    start = monotonic()
    while (batch := transport.receive()) is not None:
        since = monotonic() - start if since_start else None
        for content in unpacker.contents(*unpacker.read_numbers(*batch)):
            if is_of_history(content.topic, content.headers) or (
                not wanted and presence.has(content.topic, content.headers)
            ):
                continue
            name, headers = content.topic.decode(), decode_headers(content.headers)
            for event in _events(content, report):
                yield Received(name, event, headers, since)
        sys.stdout.flush()


def _events(content: Content, report: "_Report") -> list[object]:
    """The events in a message; if it is no JSON, that is logged."""
    try:
        read = from_json(content.json)
    except ValueError:
        report.no_event(content.topic, repr(content.json[:_MAX_QUOTED_BYTES]))
        return []
    return read if isinstance(read, list) else [read]


class _Report:
    """Logs which events are missing, at intervals, and each message that is no event."""

    def __init__(self) -> None:
        self._log = Log(logs.COMMAND)
        self._throttle = LogThrottle(_LOSSES_INTERVAL_S)

    def lost(self, topic: bytes, count: int) -> None:
        held_back = self._throttle.admit("lost", count) if count > 0 else None
        if held_back is not None:
            name = _printable_name(topic)
            self._log.warning(
                "missing: %s on %s; the bus was away, or the reader of this output is too slow%s",
                counted(count, "event"),
                name,
                more(held_back),
                topic=name,
                count=count,
                held_back=held_back,
            )

    def forged(self, topic: bytes, count: int) -> None:
        if self._throttle.admit("forged", count) is not None:
            self.no_event(topic, "numbers that cannot be the publisher's own: another one sends in its name")

    def repeated(self, count: int) -> None:
        pass

    def rejected(self, topic: bytes, reject: Reject) -> None:
        self.no_event(topic, reject.detail)

    def no_event(self, topic: bytes, reason: str) -> None:
        # Not throttled, because the user wants to see all messages.
        self._log.warning(
            "not an event, on %s: %s", printable(repr(topic)), reason, topic=_printable_name(topic), reason=reason
        )


def _printable_name(topic: bytes) -> str:
    return printable(topic.decode(errors="backslashreplace"), MAX_TOPIC_BYTES)


def _for_people(lines: TextLines) -> Callable[[Received], str]:
    def render(received: Received) -> str:
        now = datetime.now().astimezone()
        return lines.line(received, f"{now:%H:%M:%S}.{now.microsecond // 1000:03}")

    return render
