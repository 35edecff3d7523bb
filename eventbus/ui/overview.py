"""All that the page shows of a bus, kept up to date from batches of messages. Pure: its caller gives messages and times.

What it costs does not grow with what peers invent: tables, lists and texts have limits.
"""

from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from eventbus.observe.state import ClientState, StateChange
from eventbus.receive.meter import HISTORY, Line, Meter
from eventbus.ui.clients import Change, KnownClient
from eventbus.ui.notices import Level, Notice, NoticeList
from eventbus.ui.probe_facts import ProbeFacts
from eventbus.ui.sampler import Sampler
from eventbus.ui.shown import ShownEvent, shown_events
from eventbus.ui.topic_names import named, topic_name
from eventbus.wire.frames import MAX_TOPIC_BYTES, Batch, is_text
from eventbus.wire.history import is_of_history
from eventbus.wire.numbering import Gaps
from eventbus.wire.private_topics import PRESENCE_PREFIX

SHOWN_PER_SECOND = 100
_MAX_LAST_EVENTS = 300
_MAX_TOPICS, _MAX_PUBLISHERS, _MAX_PAIRS, _MAX_CLIENTS = 200, 100, 200, 100  # that a browser is sent
_MAX_LOST_TOPICS = 1_000
_SILENT_S = 120.0  # after which a publisher counts as gone

type Json = dict[str, object]


class _Kept(NamedTuple):
    number: int
    time: float
    event: ShownEvent


class Overview:
    """What the page shows. One thread at a time.

    Args:
        endpoints: where the bus is, for people.
        now: the start, in seconds on a monotonic clock.
        wanted: the topics to watch; empty: all.
        shown_per_second: how many events may be shown.

    Attributes:
        notices: what went wrong, and what is well again.
    """

    def __init__(
        self, endpoints: str, now: float, wanted: Collection[bytes] = (), shown_per_second: int = SHOWN_PER_SECOND
    ) -> None:
        self.notices = NoticeList()
        self._endpoints = endpoints
        self._wanted = frozenset(wanted)
        self._hidden: tuple[bytes, ...] = (PRESENCE_PREFIX,)
        self._meter = Meter(now, wanted, pairs=True)
        self._gaps = Gaps()
        self._sampler = Sampler(shown_per_second, now)
        self._rejected = 0  # in this interval, and already among the notices
        self._shown = 0
        self._last: deque[_Kept] = deque(maxlen=_MAX_LAST_EVENTS)
        self._lost: Counter[str] = Counter()
        self._state = ClientState.CLOSED
        self._round_trip: float | None = None
        self._clients: Sequence[KnownClient] = ()
        self._probes: Mapping[str, ProbeFacts] = {}
        self._snapshot = self._meter.tick(now)

    @property
    def version(self) -> tuple[int, int]:
        """What `news` takes to tell what is new from here on."""
        return self._shown, self.notices.version

    def take(self, batch: Batch, now: float, time: float) -> None:
        """Count a batch that has just come, and keep some of its events.

        Args:
            batch: the messages.
            now: seconds on a monotonic clock.
            time: seconds since 1970.
        """
        frames, payloads = batch
        if not frames:
            return
        if any(frame.startswith(self._hidden) for frame in frames):
            shown = [message for message in zip(frames, payloads, strict=True) if not message[0].startswith(self._hidden)]
            frames, payloads = [frame for frame, _ in shown], [payload for _, payload in shown]
        self._meter.count((frames, payloads), now)
        topics, lost, repeated, headers, forged, *_ = self._gaps.read(frames, self._takes)
        for topic, count in lost.items():
            self._add_lost(topic, count, time)
        for topic, count in forged.items():
            text = f"numbers on {topic_name(topic)} that cannot be the publisher's own: another one sends in its name"
            self.notices.add(Level.ERROR, "forged", text, time, count)
        for index, wanted in self._sampler.choose(topics, payloads, now):
            topic = topics[index]
            if index in repeated or not self._takes(topic) or len(topic) > MAX_TOPIC_BYTES or not is_text(topic):
                continue
            if is_of_history(topic, headers[index] if headers else b""):
                continue
            try:
                for event in shown_events(topic, payloads[index], headers[index] if headers else b"", wanted):
                    self._shown += 1
                    self._last.append(_Kept(self._shown, time, event))
            except ValueError as error:
                self.notices.add(Level.WARNING, "rejected", f"not an event, on {topic_name(topic)}: {error}", time)

    def reject(self, count: int, time: float) -> None:
        """Note messages that were not two frames."""
        if count:
            self._meter.reject(count)
            self._rejected += count
            self.notices.add(Level.WARNING, "rejected", "messages that are not two frames", time, count)

    def note_state(self, change: StateChange, time: float) -> None:
        """Follow the state of the page's own connection."""
        self._state = change.state
        level = Level.WARNING if change.state is ClientState.DEGRADED else Level.INFO
        self.notices.add(level, "state", f"the connection of this page is {change.state}: {change.reason}", time)

    def note_round_trip(self, seconds: float | None) -> None:
        """Note how long the last echo took."""
        self._round_trip = seconds

    def hide(self, topics: Iterable[bytes]) -> None:
        """Neither count nor show what begins with these: the page has caused it."""
        self._hidden = (PRESENCE_PREFIX, *topics)

    def note_clients(self, clients: Sequence[KnownClient]) -> None:
        """Note which clients are known by name."""
        self._clients = clients[:_MAX_CLIENTS]

    def note_probes(self, probes: Mapping[str, ProbeFacts]) -> None:
        """Note what probes have told, by their URL."""
        self._probes = probes

    def note_probe(self, name: str, facts: ProbeFacts, time: float) -> None:
        """Note that a probe has another answer than before."""
        said = f": {facts.detail}" if facts.detail else ""
        if facts.ready:
            self.notices.add(Level.INFO, "state", f"{name} is ready{said}", time)
        else:
            self.notices.add(Level.ERROR, "state", f"{name} is not ready{said}", time)

    def note_changes(self, changes: Iterable[Change], time: float) -> None:
        """Note what clients have told since they were asked before."""
        for change in changes:
            self.notices.add(change.level, change.kind, change.text, time, change.times)

    def tick(self, now: float, time: float) -> None:
        """End an interval: from now on, rates are those of it.

        Args:
            now: seconds on a monotonic clock.
            time: seconds since 1970.
        """
        before, self._snapshot = self._snapshot, self._meter.tick(now)
        if count := self._snapshot.malformed - before.malformed - self._rejected:
            self.notices.add(Level.WARNING, "rejected", "messages that are no events", time, count)
        self._rejected = 0

    def figures(self) -> Json:
        """Everything but events and notices, as JSON."""
        snapshot, names, topics = self._snapshot, self._names(), self._topics()
        return {
            "state": self._state,
            "endpoints": self._endpoints,
            "round_trip": self._round_trip,
            "watched": sorted(topic_name(topic) for topic in self._wanted),
            "total": _line(snapshot.total),
            "malformed": snapshot.malformed,
            "lost": sum(self._lost.values()),
            "topics": [_line(line) | {"lost": self._lost[line.name]} for line in topics[:_MAX_TOPICS]],
            "more_topics": len(topics[_MAX_TOPICS:]) + (snapshot.other_topics is not None),
            "publishers": [
                _line(line) | {"by": names.get(line.name, "")}
                for line in filter(_is_there, snapshot.publishers[:_MAX_PUBLISHERS])
            ],
            "not_numbered": snapshot.not_numbered and _line(snapshot.not_numbered),
            "pairs": [_pair(line, names) for line in filter(_is_there, snapshot.pairs[:_MAX_PAIRS])],
            "clients": [_client(client) for client in self._clients],
            "probes": [_probe(url, facts) for url, facts in self._probes.items()],
        }

    def histories(self) -> Json:
        """The trend of each topic: events per second in the last intervals, the oldest first."""
        return {
            "intervals": HISTORY,
            "total": [_round(rate) for rate in self._snapshot.total.history],
            "topics": {line.name: [_round(rate) for rate in line.history] for line in self._topics()[:_MAX_TOPICS]},
        }

    def events_since(self, number: int) -> list[Json]:
        """The events that were kept after this one, as JSON, the oldest first."""
        found = []
        for kept in reversed(self._last):
            if kept.number <= number:
                break
            found.append({"number": kept.number, "time": round(kept.time, 3), **kept.event._asdict()})
        return found[::-1]

    def notices_since(self, version: int) -> list[Json]:
        """The notices that have changed after this version, as JSON."""
        return [_notice(notice) for notice in self.notices.since(version)]

    def _topics(self) -> list[Line]:
        """The topics under their names, the fastest first."""
        return sorted(named(self._snapshot.topics), key=lambda line: (-line.events_per_second, line.name))

    def _takes(self, topic: bytes) -> bool:
        return not self._wanted or topic in self._wanted

    def _add_lost(self, topic: bytes, count: int, time: float) -> None:
        name = topic_name(topic)
        if name in self._lost or len(self._lost) < _MAX_LOST_TOPICS:
            self._lost[name] += count
        if count > 0:  # a negative one takes back what was counted before
            text = f"events on {name} did not arrive here: the proxy was away, or this page is too slow"
            self.notices.add(Level.WARNING, "lost", text, time, count)

    def _names(self) -> dict[str, str]:
        """The names of publishers by their ids."""
        return {client.publisher: client.name for client in self._clients if client.publisher}


def _round(value: float) -> float:
    return round(value, 1)


def _line(line: Line) -> Json:
    return {
        "name": line.name,
        "rate": _round(line.events_per_second),
        "bytes": round(line.bytes_per_second),
        "events": line.events,
        "seen": None if line.last_seen is None else _round(line.last_seen),
    }


def _is_there(line: Line) -> bool:
    """Whether a publisher has sent something lately; a restarted one has another id."""
    return line.last_seen is not None and line.last_seen <= _SILENT_S


def _pair(line: Line, names: Mapping[str, str]) -> Json:
    publisher, _, topic = line.name.partition(" ")
    return {
        "publisher": publisher,
        "by": names.get(publisher, ""),
        "topic": topic_name(topic.encode()),
        "rate": _round(line.events_per_second),
    }


def _client(client: KnownClient) -> Json:
    return {
        "name": client.name,
        "publisher": client.publisher,
        "topics": client.topics,
        "emits": {topic: None if rate is None else _round(rate) for topic, rate in client.emits.items()},
        "state": client.state,
        "facts": client.facts,
    }


def _notice(notice: Notice) -> Json:
    return {
        "number": notice.number,
        "level": notice.level,
        "kind": notice.kind,
        "text": notice.text,
        "first": round(notice.first, 3),
        "last": round(notice.last, 3),
        "count": notice.count,
    }


_OF_PROXY: tuple[tuple[str, str, Mapping[str, str]], ...] = (
    ("messages in", "eventbus_proxy_messages_total", {"direction": "in"}),
    ("publishers connected", "eventbus_proxy_connections", {"role": "publisher"}),
    ("subscribers connected", "eventbus_proxy_connections", {"role": "subscriber"}),
    ("subscriptions", "eventbus_proxy_subscriptions", {}),
    ("connections ended", "eventbus_proxy_disconnected_total", {}),
    ("handshakes failed", "eventbus_proxy_handshake_failures_total", {}),
    ("refused", "eventbus_proxy_refused_total", {}),
    ("denied", "eventbus_proxy_denied_total", {}),
    ("up for seconds", "eventbus_proxy_uptime_seconds", {}),
)
_OF_SERVICE: tuple[tuple[str, str, Mapping[str, str]], ...] = (
    ("emitted", "eventbus_emitted_events_total", {}),
    ("received", "eventbus_received_events_total", {}),
    ("handler errors", "eventbus_handler_errors_total", {}),
    ("dropped", "eventbus_dropped_events_total", {}),
    ("lost", "eventbus_lost_events_total", {}),
    ("rejected", "eventbus_rejected_messages_total", {}),
)


_OF_NATS: tuple[tuple[str, str, Mapping[str, str]], ...] = (
    ("messages in", "nats_in_msgs", {}),
    ("messages out", "nats_out_msgs", {}),
    ("connections", "nats_connections", {}),
    ("subscriptions", "nats_subscriptions", {}),
    ("slow consumers", "nats_slow_consumers", {}),
)
_OF_KINDS = {"proxy": _OF_PROXY, "service": _OF_SERVICE, "nats": _OF_NATS}


def _probe(url: str, facts: ProbeFacts) -> Json:
    wanted = _OF_KINDS.get(facts.kind, ())
    found = {text: facts.total(name, **labels) for text, name, labels in wanted}
    counts = {text: round(value) for text, value in found.items() if value is not None}
    return {"url": url, "kind": facts.kind, "ready": facts.ready, "detail": facts.detail, "counts": counts}
