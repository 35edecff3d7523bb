"""``eventbus request``: an event that asks, and the answer to it."""

import json

from pydantic_core import from_json

from eventbus._base.printable import printable_json
from eventbus.ask.link import RequestLink
from eventbus.ask.replies import Limits, json_of
from eventbus.ask.waiting import Answer
from eventbus.cli.connection import transport_for
from eventbus.cli.emit import message_of
from eventbus.errors import InvalidAnswer, NoAnswer, RequestFailed
from eventbus.settings import EventBusSettings
from eventbus.wire.compression import Compressor


def request(settings: EventBusSettings, topic: str, text: str, *, timeout: float, everybody: bool) -> None:
    """Connect, send the event, and print the answer as JSON; or each answer in a line, if everybody is asked.

    Args:
        settings: the settings of the command.
        topic: the topic's value.
        text: the event as a JSON object; ``-`` reads it from standard input.
        timeout: how many seconds to wait.
        everybody: whether to wait for all answers, rather than for the first.

    Raises:
        InvalidTopic, InvalidSettings, EventTooLarge, TooManyValues, ProxyUnreachable, HandshakeFailed: as `eventbus emit`.
        NobodyAnswers, NoAnswer, RequestFailed, InvalidAnswer: as `EventBusClient.request`.
    """
    frame, payload = message_of(settings, "request", topic, text)
    event_type: str = from_json(payload)["type"]
    payload = Compressor(settings.compression, settings.compression_threshold).shrink(payload)
    options = settings.client_options()
    limits = Limits(settings.max_event_bytes, settings.max_event_values)

    def show(answer: Answer) -> None:
        found = json_of(answer, topic, event_type, limits)
        try:
            content = from_json(found)
        except ValueError as error:
            raise InvalidAnswer(topic, event_type, "JSON", str(error)) from None
        print(printable_json(json.dumps(content, ensure_ascii=False)))

    with transport_for(settings) as transport:
        transport.open(settings.connect_timeout)
        link = RequestLink(transport, None if options.keys is None else options.keys.public_key)
        try:
            if not everybody:
                show(link.ask(frame, event_type, payload, timeout))
                return
            failures: list[RequestFailed | InvalidAnswer] = []
            for answer in link.ask_all(frame, event_type, payload, timeout):
                try:
                    show(answer)
                except (RequestFailed, InvalidAnswer) as error:
                    failures.append(error)
            if failures:
                raise failures[0]
        except NoAnswer as error:
            raise NoAnswer(error.topic, error.event_type, error.timeout, "--timeout") from None
        finally:
            link.close()
