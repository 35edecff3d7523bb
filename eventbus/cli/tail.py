"""``eventbus tail``: events as they come."""

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import repeat
from time import monotonic

from pydantic_core import from_json

from eventbus._base.log_throttle import LogThrottle
from eventbus._base.printable import printable
from eventbus.cli.connection import Outage, transport_for
from eventbus.cli.tail_filter import EventFilter
from eventbus.cli.tail_lines import Received, json_line, text_line
from eventbus.cli.terminal import Paint, wants_colours
from eventbus.errors import CompressionMissing, PayloadDamaged, PayloadTooLarge
from eventbus.settings import EventBusSettings
from eventbus.telemetry import logs
from eventbus.transports.zeromq.transport import ZeroMQTransport
from eventbus.wire import frames as wire
from eventbus.wire.compression import inflate, is_compressed
from eventbus.wire.headers import decode_headers
from eventbus.wire.numbering import Gaps

logger = logging.getLogger(logs.COMMAND)

_AGAIN = 5.0  # seconds until more losses are said


def tail(
    settings: EventBusSettings,
    names: Sequence[str] = (),
    event_filter: EventFilter | None = None,
    *,
    count: int | None = None,
    since_start: bool = False,
    as_text: bool = False,
) -> None:
    """Subscribe and print until enough has come, or the transport is closed for good.

    Args:
        settings: of the command.
        names: topics, beside those of the settings; if there are none at all: all topics.
        event_filter: what to print; None: everything.
        count: of how many events; None: of any number.
        since_start: whether to print with each how many seconds it came after the subscriptions were in force.
        as_text: lines for people; False: JSON.
    """
    wanted = {wire.topic_frame(name) for name in (*names, *settings.topics)}
    render = _for_people(Paint(wants_colours(sys.stdout))) if as_text else json_line
    event_filter = event_filter or EventFilter()
    printed = 0
    with transport_for(settings) as transport:
        for topic in wanted or {b""}:
            transport.subscribe(topic)
        transport.status.listen(Outage())
        transport.open(settings.connect_timeout)
        for received in _received(transport, wanted, max(settings.max_event_bytes, wire.MAX_PACKED_BYTES), since_start):
            if event_filter.matches(received.event):
                print(render(received))
                printed += 1
                if printed == count:
                    sys.stdout.flush()
                    return
        transport.status.raise_failure()


def _received(transport: ZeroMQTransport, wanted: set[bytes], limit: int, since_start: bool) -> Iterator[Received]:
    """The events of each message on these topics, on all if there are none; what numbers show to be missing is said.

    What was printed is flushed after each batch.
    """

    def takes(topic: bytes) -> bool:
        return not wanted or topic in wanted

    gaps, throttle = Gaps(), LogThrottle(_AGAIN)
    start = monotonic()
    while (batch := transport.receive()) is not None:
        since = monotonic() - start if since_start else None
        frames, payloads = batch
        topics, lost, repeated, headers = gaps.read(frames, takes)
        for topic, count in lost.items():
            _say_lost(throttle, topic, count)
        skipped = set(repeated)
        for index, (topic, payload, encoded) in enumerate(zip(topics, payloads, headers or repeat(b""), strict=False)):
            if takes(topic) and index not in skipped:
                for name, event in _events(topic, payload, limit):
                    yield Received(name, event, decode_headers(encoded), since)
        sys.stdout.flush()


def _events(topic: bytes, payload: bytes, limit: int) -> Iterator[tuple[str, object]]:
    """A message's events, each with its topic; if there are none in it, that is said."""
    try:
        name, content = topic.decode(), from_json(inflate(payload, limit) if is_compressed(payload) else payload)
    except (PayloadTooLarge, PayloadDamaged, CompressionMissing) as error:
        _say_not_an_event(topic, str(error))
        return
    except ValueError:
        _say_not_an_event(topic, repr(payload[:200]))
        return
    for event in content if isinstance(content, list) else [content]:
        yield name, event


def _say_lost(throttle: LogThrottle, topic: bytes, count: int) -> None:
    held_back = throttle.admit("lost", count)
    if held_back is not None:
        name = printable(topic.decode(errors="backslashreplace"), wire.MAX_TOPIC_BYTES)
        logger.warning(
            "%d events on %s have not arrived: the proxy was away, or who reads this output is too slow; %d more before",
            count,
            name,
            held_back,
            extra={"eventbus_topic": name, "eventbus_count": count, "eventbus_held_back": held_back},
        )


def _say_not_an_event(topic: bytes, reason: str) -> None:
    # Each one: it is what the command was asked to show.
    name = printable(topic.decode(errors="backslashreplace"), wire.MAX_TOPIC_BYTES)
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
