"""``eventbus tail``: events as they come."""

import json
import sys
from collections.abc import Sequence

from pydantic_core import from_json

from eventbus import wire
from eventbus.commands.connection import transport_for
from eventbus.compression import inflate, is_compressed
from eventbus.errors import CompressionMissing, PayloadDamaged, PayloadTooLarge
from eventbus.printable import printable
from eventbus.settings import EventBusSettings


def tail(settings: EventBusSettings, names: Sequence[str]) -> None:
    """Subscribe and print until the transport is closed for good.

    Args:
        settings: of the command.
        names: topics, beside those of the settings; if there are none at all: all topics.
    """
    limit = max(settings.max_event_bytes, wire.MAX_PACKED_BYTES)
    wanted = {wire.topic_frame(name) for name in (*names, *settings.topics)}
    with transport_for(settings) as transport:
        for topic in wanted or {b""}:
            transport.subscribe(topic)
        transport.open(settings.connect_timeout)
        while (batch := transport.receive()) is not None:
            for frame, payload in zip(*batch, strict=True):
                topic = wire.topic_of(frame)
                if not wanted or topic in wanted:
                    _print_events(topic, payload, limit)
            sys.stdout.flush()
        transport.status.raise_failure()


def _print_events(topic: bytes, payload: bytes, limit: int) -> None:
    """Print a message's events, escaped: what was received must not reach a terminal as it is."""
    try:
        name, content = topic.decode(), from_json(inflate(payload, limit) if is_compressed(payload) else payload)
    except (PayloadTooLarge, PayloadDamaged, CompressionMissing) as error:
        print(f"eventbus: not an event, on {printable(repr(topic))}: {error}", file=sys.stderr)
        return
    except ValueError:
        print(f"eventbus: not an event, on {printable(repr(topic))}: {payload[:200]!r}", file=sys.stderr)
        return
    for event in content if isinstance(content, list) else [content]:
        print(json.dumps({"topic": name, "event": event}))
