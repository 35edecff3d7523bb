"""``eventbus tail``: events as they come."""

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from time import monotonic

from pydantic_core import from_json

from eventbus._base.log_throttle import LogThrottle
from eventbus._base.printable import printable
from eventbus.cli.connection import transport_for
from eventbus.cli.lines import Received, json_line, text_line
from eventbus.cli.outage import Outage
from eventbus.cli.selection import Selection
from eventbus.cli.terminal import Paint, wants_colours
from eventbus.receive.unpacking import Content, Unpacker
from eventbus.settings import EventBusSettings
from eventbus.telemetry import logs
from eventbus.transports.zeromq.transport import ZeroMQTransport
from eventbus.wire.codec import Reject
from eventbus.wire.frames import MAX_TOPIC_BYTES, topic_frame
from eventbus.wire.headers import decode_headers

logger = logging.getLogger(logs.COMMAND)

_LOSSES_INTERVAL_S = 5.0  # between two lines about losses


def tail(
    settings: EventBusSettings,
    names: Sequence[str] = (),
    selection: Selection | None = None,
    *,
    count: int | None = None,
    since_start: bool = False,
    as_text: bool = False,
) -> None:
    """Subscribe and print until enough has come, or the transport is closed for good.

    Args:
        settings: of the command.
        names: topics, beside those of the settings; if there are none at all: all topics.
        selection: what to print; None: everything.
        count: of how many events; None: of any number.
        since_start: whether to print with each how many seconds it came after the subscriptions were in force.
        as_text: lines for people; False: JSON.
    """
    wanted = {topic_frame(name) for name in (*names, *settings.topics)}
    render = _for_people(Paint(wants_colours(sys.stdout))) if as_text else json_line
    selection = selection or Selection()
    printed = 0
    with transport_for(settings) as transport:
        for topic in wanted or {b""}:
            transport.subscribe(topic)
        transport.status.listen(Outage())
        transport.open(settings.connect_timeout)
        for received in _received(transport, wanted, settings.max_event_bytes, since_start):
            if selection.admits(received.event):
                print(render(received))
                printed += 1
                if printed == count:
                    sys.stdout.flush()
                    return
        transport.status.raise_failure()


def _received(transport: ZeroMQTransport, wanted: set[bytes], max_event_bytes: int, since_start: bool) -> Iterator[Received]:
    """The events of each message on these topics, on all if there are none. What is no event, or missing, is logged.

    What was printed is flushed after each batch.
    """

    def takes(topic: bytes) -> bool:
        return not wanted or topic in wanted

    unpacker = Unpacker(takes, _Report(), max_event_bytes)
    start = monotonic()
    while (batch := transport.receive()) is not None:
        since = monotonic() - start if since_start else None
        for content in unpacker.contents(*unpacker.read_numbers(*batch)):
            name, headers = content.topic.decode(), decode_headers(content.headers)
            for event in _events(content):
                yield Received(name, event, headers, since)
        sys.stdout.flush()


def _events(content: Content) -> list[object]:
    """The events in a message; if it is no JSON, that is logged."""
    try:
        read = from_json(content.json)
    except ValueError:
        _say_not_an_event(content.topic, repr(content.json[:200]))
        return []
    return read if isinstance(read, list) else [read]


class _Report:
    """Logs what is missing, once in a while, and each message that is no event."""

    def __init__(self) -> None:
        self._throttle = LogThrottle(_LOSSES_INTERVAL_S)

    def lost(self, topic: bytes, count: int) -> None:
        held_back = self._throttle.admit("lost", count) if count > 0 else None
        if held_back is not None:
            name = printable(topic.decode(errors="backslashreplace"), MAX_TOPIC_BYTES)
            logger.warning(
                "%d events on %s have not arrived: the proxy was away, or who reads this output is too slow; %d more before",
                count,
                name,
                held_back,
                extra={"eventbus_topic": name, "eventbus_count": count, "eventbus_held_back": held_back},
            )

    def forged(self, topic: bytes, count: int) -> None:
        if self._throttle.admit("forged", count) is not None:
            _say_not_an_event(topic, "numbers that cannot be the publisher's own: another one sends in its name")

    def repeated(self, count: int) -> None:
        pass

    def rejected(self, topic: bytes, reject: Reject) -> None:
        _say_not_an_event(topic, reject.detail)


def _say_not_an_event(topic: bytes, reason: str) -> None:
    # Each one: it is what the command was asked to show.
    name = printable(topic.decode(errors="backslashreplace"), MAX_TOPIC_BYTES)
    logger.warning(
        "not an event, on %s: %s",
        printable(repr(topic)),
        reason,
        extra={"eventbus_topic": name, "eventbus_reason": reason},
    )


def _for_people(paint: Paint) -> Callable[[Received], str]:
    def render(received: Received) -> str:
        now = datetime.now().astimezone()
        return text_line(received, f"{now:%H:%M:%S}.{now.microsecond // 1000:03}", paint)

    return render
