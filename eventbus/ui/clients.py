"""The clients of a bus, as far as somebody has told: by name, with what they send and receive. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from eventbus.ui.probe_facts import ProbeFacts


@dataclass(frozen=True, slots=True)
class KnownClient:
    """A client that is known by name.

    Attributes:
        name: for people, printable.
        publishers: the ids of its publishers in hexadecimal digits, if it numbers its messages.
        topics: what it is subscribed to; an empty text stands for all topics.
        emits: events per second by topic, beside those that its numbers tell.
        state: its own state, such as ``ready``; empty: unknown.
        facts: further things to show, by name.
    """

    name: str
    publishers: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    emits: Mapping[str, float] = field(default_factory=dict)
    state: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)


class ClientSource(Protocol):
    """Something that knows the clients of a bus. It is asked in a thread of its own, again and again."""

    def clients(self) -> Iterable[KnownClient]:
        """Return those that are there now. It may take seconds; an error means that there is no answer this time."""


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
        emits, topics = dict[str, float](), []
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
