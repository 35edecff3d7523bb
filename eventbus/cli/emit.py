"""``eventbus emit``: one event, written by hand."""

import json
import sys
from time import sleep

from pydantic_core import from_json

from eventbus._base.deadline import Deadline
from eventbus._base.printable import printable
from eventbus.cli.connection import transport_for
from eventbus.cli.terminal import Paint, Style, wants_colours
from eventbus.errors import EventTooLarge, InvalidSettings, TooManyValues
from eventbus.observe.stats import DropReason
from eventbus.policies import TransportKind
from eventbus.settings import EventBusSettings
from eventbus.transports.contract import KnowsSubscribers, Transport
from eventbus.wire.complexity import has_more_values
from eventbus.wire.compression import Compressor
from eventbus.wire.private_topics import event_topic_frame

_ANSWER_TIMEOUT_S = 0.3  # as long as a person does not notice
_POLL_INTERVAL_S = 0.01

_EXAMPLE = '{"type": "started"}'


def emit(settings: EventBusSettings, topic: str, text: str) -> bool:
    """Check the event, connect and send it. Return False if it was dropped: the proxy went away, or does not permit it.

    A person at a terminal is told what a program would not wait for: that nobody was subscribed, and that it was denied.

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
    frame, payload = message_of(settings, "emit", topic, text)
    compressor = Compressor(settings.compression, settings.compression_threshold)
    with transport_for(settings) as transport:
        transport.open(settings.connect_timeout)
        is_told = sys.stderr.isatty()
        asked = transport if is_told and isinstance(transport, KnowsSubscribers) else None
        is_heard = asked is None or asked.has_subscriber(frame, _ANSWER_TIMEOUT_S) is not False
        transport.send(frame, compressor.shrink(payload))
        over_nats = settings.transport is not TransportKind.ZEROMQ
        # A NATS server answers in order, so that one round trip tells.
        if over_nats and _is_denied(transport, 0.0):
            return False
        if (
            not over_nats
            and is_told
            and settings.security.client_keys() is not None
            and _is_denied(transport, _ANSWER_TIMEOUT_S)
        ):
            return False  # the transport has logged it
    if transport.drops.counts:  # the transport has logged why
        return False
    if not is_heard:
        paint = Paint(wants_colours(sys.stderr))
        print(paint(f"nobody is subscribed to {printable(topic)}: the event went to no one", Style.YELLOW), file=sys.stderr)
    return True


def message_of(settings: EventBusSettings, command: str, topic: str, text: str) -> tuple[bytes, bytes]:
    """Check the arguments of a command that emits; return the frame of the topic, and the event as JSON.

    Raises:
        InvalidTopic, InvalidSettings, EventTooLarge, TooManyValues: as `emit`.
    """
    if not topic:
        raise InvalidSettings("the topic is empty")
    if topic.startswith("{"):
        raise InvalidSettings(f"the topic comes before the event: eventbus {command} TOPIC EVENT")
    frame = event_topic_frame(topic)
    payload = _json_of(text)
    if len(payload) > settings.max_event_bytes:
        raise EventTooLarge(topic, len(payload), settings.max_event_bytes)
    if has_more_values(payload, settings.max_event_values):
        raise TooManyValues(topic, settings.max_event_values)
    return frame, payload


def _is_denied(transport: Transport, timeout: float) -> bool:
    """Whether it is said, within this time, that this client must not publish what it has just published."""
    deadline = Deadline(timeout)
    while True:
        transport.open(_ANSWER_TIMEOUT_S)  # which reads what has been told
        if DropReason.DENIED in transport.drops.counts or deadline.passed():
            return DropReason.DENIED in transport.drops.counts
        sleep(_POLL_INTERVAL_S)


def _json_of(text: str) -> bytes:
    try:
        text = sys.stdin.read() if text == "-" else text  # which may be no text, too
        # Bytes that are not UTF-8 are lone surrogates in an argument; encoded back they are no JSON.
        event = from_json(text.encode(errors="surrogateescape"))
        payload = json.dumps(event, allow_nan=False).encode()
    except ValueError as error:
        raise InvalidSettings(f"the event is not JSON: {error}. Write it as '{_EXAMPLE}', in single quotes") from None
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):  # no receiver would take it
        raise InvalidSettings(f"the event must be a JSON object with a type, such as '{_EXAMPLE}'")
    return payload
