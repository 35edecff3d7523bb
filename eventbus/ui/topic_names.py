"""Topics as the page names them: printable, and all reply topics together, because each client that asks has one. Pure."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import zip_longest

from eventbus._base.printable import printable
from eventbus.receive.meter import Line
from eventbus.wire.frames import MAX_TOPIC_BYTES
from eventbus.wire.private_topics import REPLY_PREFIX
from eventbus.wire.requests import is_reply_topic

ANSWERS = f"{REPLY_PREFIX.decode()}*"


def topic_name(topic: bytes) -> str:
    """Return the name of a topic, whatever its bytes are."""
    if is_reply_topic(topic):
        return ANSWERS
    return printable(topic.decode(errors="backslashreplace"), MAX_TOPIC_BYTES)


def named(lines: Iterable[Line]) -> list[Line]:
    """Lines of topics under the names that the page gives them; those with the same name become one."""
    found: dict[str, Line] = {}
    for line in lines:
        name = topic_name(line.name.encode())
        found[name] = replace(line, name=name) if name not in found else _sum(found[name], line)
    return list(found.values())


def _sum(one: Line, other: Line) -> Line:
    seen = [seconds for seconds in (one.last_seen, other.last_seen) if seconds is not None]
    history = zip_longest(reversed(one.history), reversed(other.history), fillvalue=0.0)  # both end now
    return Line(
        one.name,
        one.events_per_second + other.events_per_second,
        one.bytes_per_second + other.bytes_per_second,
        one.events + other.events,
        one.bytes + other.bytes,
        min(seen, default=None),
        tuple(sum(pair) for pair in history)[::-1],
    )
