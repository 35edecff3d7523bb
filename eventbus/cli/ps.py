"""``eventbus ps``: which clients are there, what they are subscribed to, and how much they do."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from time import sleep

from eventbus._base.deadline import Deadline
from eventbus.ask.link import RequestLink
from eventbus.cli.connection import transport_for
from eventbus.errors import NobodyAnswers
from eventbus.settings import EventBusSettings
from eventbus.wire.presence import QUESTION, QUESTION_TYPE, Presence, Seen, compare
from eventbus.wire.private_topics import PRESENCE_TOPIC

_MAX_SHOWN_TOPICS = 5
_EVERY_TOPIC = "*"
_HEADINGS = ("NAME", "PID", "HOST", "UP", "STATE", "EMITTED/S", "RECEIVED/S", "ERRORS", "DROPPED", "TOPICS")


def ps(settings: EventBusSettings, *, wait: float, interval: float, as_json: bool) -> None:
    """Ask all clients twice, and print a line for each that has answered, or a JSON object.

    Args:
        settings: the settings of the command.
        wait: how many seconds to wait for answers, each time.
        interval: seconds between both times, over which rates are taken; at least `wait`.
        as_json: whether to print JSON objects.

    Raises:
        ProxyUnreachable, HandshakeFailed: there is no connection to the proxy.
    """
    options = settings.client_options()
    with transport_for(settings) as transport:
        transport.open(settings.connect_timeout)
        link = RequestLink(transport, None if options.keys is None else options.keys.public_key)
        try:
            until = Deadline(max(wait, interval))
            before = _ask(link, wait)
            sleep(until.left() if before else 0.0)
            seen = compare(before, _ask(link, wait))
        finally:
            link.close()
    for line in map(json_line, seen) if as_json else table(seen):
        print(line)


def json_line(seen: Seen) -> str:
    """A client as a JSON object; its topics without the empty one that stands for all, which ``all_topics`` says."""
    facts = asdict(seen.client)
    topics = [topic for topic in facts.pop("topics") if topic]
    rates = {"emitted_per_second": seen.emitted_per_second, "received_per_second": seen.received_per_second}
    everything = {"topics": topics, "all_topics": "" in seen.client.topics}
    rounded = {name: None if rate is None else round(rate, 3) for name, rate in rates.items()}
    return json.dumps({**facts, "uptime": round(seen.client.uptime, 3), **everything, **rounded})


def table(seen: Sequence[Seen]) -> list[str]:
    """Lines with a heading."""
    rows = [_HEADINGS, *map(_row, seen)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _row(seen: Seen) -> tuple[str, ...]:
    client = seen.client
    topics = [topic or _EVERY_TOPIC for topic in client.topics]
    more = f" and {len(topics) - _MAX_SHOWN_TOPICS} more" if len(topics) > _MAX_SHOWN_TOPICS else ""
    return (
        client.name,
        str(client.pid),
        client.host,
        _duration(client.uptime),
        client.state,
        _rate(seen.emitted_per_second),
        _rate(seen.received_per_second),
        str(client.handler_errors),
        str(client.dropped),
        ", ".join(topics[:_MAX_SHOWN_TOPICS]) + more,
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours:02}h"
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:,.1f}" if rate < 100 else f"{rate:,.0f}"


def _ask(link: RequestLink, wait: float) -> list[Presence]:
    try:
        answers = link.ask_all(PRESENCE_TOPIC, QUESTION_TYPE, QUESTION, wait)
    except NobodyAnswers:
        return []
    return [found for answer in answers if (found := Presence.decode(answer.payload)) is not None]
