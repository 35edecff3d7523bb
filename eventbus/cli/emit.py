"""``eventbus emit``: one event, written by hand."""

import json
import sys

from pydantic_core import from_json

from eventbus.cli.connection import transport_for
from eventbus.errors import EventTooLarge, InvalidSettings
from eventbus.settings import EventBusSettings
from eventbus.wire import frames as wire
from eventbus.wire.compression import Compressor


def emit(settings: EventBusSettings, topic: str, text: str) -> None:
    """Check the event, connect and send it.

    Args:
        settings: of the command.
        topic: the topic's value.
        text: the event as a JSON object; ``-``: it is read from standard input.

    Raises:
        InvalidTopic: there can be no such topic.
        InvalidSettings: the text is no event.
        EventTooLarge: it is larger than it may be.
    """
    frame = wire.topic_frame(topic)
    compressor = Compressor(settings.compression, settings.compression_threshold)
    try:
        # What is no UTF-8 stands in it as lone surrogates, and is no JSON; nor are numbers that are none.
        event = from_json((sys.stdin.read() if text == "-" else text).encode(errors="surrogateescape"))
        content = json.dumps(event, allow_nan=False).encode()
    except ValueError as error:
        raise InvalidSettings(f"the event is not JSON: {error}") from None
    if not isinstance(event, dict) or "type" not in event:
        raise InvalidSettings('the event must be a JSON object with a "type"')
    if len(content) > settings.max_event_bytes:
        raise EventTooLarge(topic, len(content), settings.max_event_bytes)
    with transport_for(settings) as transport:
        transport.open(settings.connect_timeout)
        transport.send(frame, compressor.shrink(content))
