"""``eventbus emit``: one event, written by hand."""

import json
import sys

from pydantic_core import from_json

from eventbus.cli.connection import transport_for
from eventbus.errors import EventTooLarge, InvalidSettings, TooManyValues
from eventbus.settings import EventBusSettings
from eventbus.wire.complexity import has_more_values
from eventbus.wire.compression import Compressor
from eventbus.wire.frames import topic_frame

_EXAMPLE = '{"type": "started"}'


def emit(settings: EventBusSettings, topic: str, text: str) -> None:
    """Check the event, connect and send it.

    Args:
        settings: the settings of the command.
        topic: the topic's value.
        text: the event as a JSON object; ``-`` reads it from standard input.

    Raises:
        InvalidTopic: the text cannot be a topic.
        InvalidSettings: the text is not an event.
        EventTooLarge, TooManyValues: the event is larger than `max_event_bytes`, or has more than `max_event_values`.
        ProxyUnreachable, HandshakeFailed: the event was not sent.
    """
    if not topic:
        raise InvalidSettings("the topic is empty")
    if topic.startswith("{"):
        raise InvalidSettings("the topic comes before the event: eventbus emit TOPIC EVENT")
    frame = topic_frame(topic)
    payload = _json_of(sys.stdin.read() if text == "-" else text)
    if len(payload) > settings.max_event_bytes:
        raise EventTooLarge(topic, len(payload), settings.max_event_bytes)
    if has_more_values(payload, settings.max_event_values):
        raise TooManyValues(topic, settings.max_event_values)
    compressor = Compressor(settings.compression, settings.compression_threshold)
    with transport_for(settings) as transport:
        transport.open(settings.connect_timeout)
        transport.send(frame, compressor.shrink(payload))


def _json_of(text: str) -> bytes:
    try:
        # Bytes that are not UTF-8 are lone surrogates in an argument; encoded back they are no JSON.
        event = from_json(text.encode(errors="surrogateescape"))
        payload = json.dumps(event, allow_nan=False).encode()
    except ValueError as error:
        raise InvalidSettings(f"the event is not JSON: {error}. Write it as '{_EXAMPLE}', in single quotes") from None
    if not isinstance(event, dict) or "type" not in event:
        raise InvalidSettings(f"the event must be a JSON object with a type, such as '{_EXAMPLE}'")
    return payload
