"""The clients of a bus, as far as they tell: by name, with what they send and receive, and what has changed. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from eventbus.ui.notices import Level
from eventbus.ui.probe_facts import ProbeFacts
from eventbus.ui.topic_names import topic_name
from eventbus.wire.presence import Presence, Seen

_MAX_TOLD = 20  # changes of one kind that are told one by one


@dataclass(frozen=True, slots=True)
class KnownClient:
    """A client that is known by name.

    Attributes:
        name: for people, printable; another client may have the same.
        publisher: its id in the numbers of its messages, in hexadecimal digits; empty: it does not number them.
        topics: what it is subscribed to; an empty text stands for all topics.
        emits: the topics on which it has emitted, each with events per second; None: it does not tell how many.
        state: its own state, such as ``ready``; empty: unknown.
        facts: further things to show, by name; the same names for all clients of a source.
    """

    name: str
    publisher: str = ""
    topics: tuple[str, ...] = ()
    emits: Mapping[str, float | None] = field(default_factory=dict)
    state: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)


class Change(NamedTuple):
    """Something that a client tells, for the list of notices."""

    level: Level
    kind: str
    text: str
    times: int = 1


class ClientSource(Protocol):
    """Knows the clients of a bus. It is asked in a thread of its own, again and again."""

    def own_topics(self) -> tuple[bytes, ...]:
        """Return the topics on which answers will come, if they come over the bus. Call it before `look`.

        Raises:
            EventBusError: as `look`.
        """

    def look(self) -> tuple[Sequence[KnownClient], Sequence[Change]]:
        """Return the clients that are there now, and what has changed since the last look. It may take seconds.

        Raises:
            EventBusError: the bus could not be asked this time.
        """


class ProbedRates:
    """Turns the counts of a service's probe into rates: what it emits and receives by topic. One thread at a time."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[float, ProbeFacts]] = {}

    def client(self, name: str, facts: ProbeFacts, now: float) -> KnownClient:
        """Return what a probe tells of its service.

        Args:
            name: of the service.
            facts: what its probe has told just now.
            now: the time, in seconds on a monotonic clock.
        """
        then, before = self._before.get(name, (now, facts))
        self._before[name] = now, facts
        seconds = max(now - then, 1e-9)
        emits, topics = dict[str, float | None](), []
        for series, value in facts.counts.items():
            topic = dict(series.labels).get("topic")
            if topic is None:
                continue
            grown = max(0.0, value - before.counts.get(series, value))
            if series.name == "eventbus_emitted_events_total":
                emits[topic] = grown / seconds
            elif series.name == "eventbus_received_events_total":
                topics.append(topic)
        return KnownClient(name, topics=tuple(topics), emits=emits, state=facts.detail)


def known_clients(seen: Iterable[Seen]) -> list[KnownClient]:
    """The clients that have answered. Those with the same name are told apart by machine and process."""
    seen = list(seen)
    names = Counter(each.client.name for each in seen)
    return [_known(each, names[each.client.name] > 1) for each in seen]


def _known(seen: Seen, is_one_of_several: bool) -> KnownClient:
    client = seen.client
    name = f"{client.name} {client.host}:{client.pid}" if is_one_of_several else client.name
    facts = {
        "out/s": _rate(seen.emitted_per_second),
        "in/s": _rate(seen.received_per_second),
        "errors": f"{client.handler_errors:,}",
        "dropped": f"{client.dropped:,}",
        "process": f"{client.pid} on {client.host}",
    }
    emits: dict[str, float | None] = dict.fromkeys(topic_name(topic.encode()) for topic in client.emits)
    if len(emits) == 1 and seen.emitted_per_second is not None:
        emits = dict.fromkeys(emits, seen.emitted_per_second)
    return KnownClient(name, client.publisher, client.topics, emits, client.state, facts)


def changes(before: Mapping[str, Presence], now: Mapping[str, Presence]) -> Iterator[Change]:
    """Yield who has come, and what went wrong in clients since the last look.

    Args:
        before: the clients of the last look, by their ids.
        now: those of this one.
    """
    come = [client for key, client in now.items() if key not in before]
    yield from _told(come, "is there")
    for key, client in now.items():
        last = before.get(key)
        if last is None:
            continue
        if (errors := client.handler_errors - last.handler_errors) > 0:
            yield Change(Level.ERROR, "error", f"{client.name}: calls of handlers failed", errors)
        if (dropped := client.dropped - last.dropped) > 0:
            yield Change(Level.ERROR, "dropped", f"{client.name}: events were dropped", dropped)
        if client.state != last.state:
            level = Level.INFO if client.state == "ready" else Level.WARNING
            yield Change(level, "state", f"{client.name} is {client.state}, was {last.state}")


def departures(gone: Sequence[Presence]) -> Iterator[Change]:
    """Yield who has left."""
    return _told(gone, "does not answer any more")


def _told(clients: Sequence[Presence], what: str) -> Iterator[Change]:
    for client in clients[:_MAX_TOLD]:
        yield Change(Level.INFO, "state", f"{client.name} {what}: process {client.pid} on {client.host}")
    if len(clients) > _MAX_TOLD:
        yield Change(Level.INFO, "state", f"more clients: {what}", len(clients) - _MAX_TOLD)


def _rate(rate: float | None) -> str:
    return "?" if rate is None else f"{rate:,.1f}"
