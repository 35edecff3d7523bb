"""What the probes of proxies and services tell: their state, and counts that grow when something goes wrong. Pure."""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from pydantic_core import from_json

from eventbus._base.printable import printable
from eventbus.ui.notices import Level

_MAX_SERIES = 2_000
_LINE = re.compile(r"^(eventbus_\w+)(?:\{(.*)\})? ([0-9.eE+-]+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPES = {"\\n": "\n", '\\"': '"', "\\\\": "\\"}

type Labels = tuple[tuple[str, str], ...]


class Series(NamedTuple):
    """One value of a metric, by its name and labels."""

    name: str
    labels: Labels


class Trouble(NamedTuple):
    """A counter that says that something went wrong.

    Attributes:
        level: how much it matters.
        kind: one word for the list of notices.
        text: with a place for each label, and for the count.
    """

    level: Level
    kind: str
    text: str


TROUBLES: Mapping[str, Trouble] = {
    "eventbus_proxy_disconnected_total": Trouble(Level.ERROR, "proxy", "the proxy has ended a connection: {reason}"),
    "eventbus_proxy_denied_total": Trouble(Level.WARNING, "denied", "{client} was denied to publish or to subscribe"),
    "eventbus_proxy_refused_total": Trouble(Level.WARNING, "denied", "a client that is not on the allow-list was refused"),
    "eventbus_proxy_handshake_failures_total": Trouble(
        Level.WARNING, "proxy", "a handshake with the proxy failed: {reason}"
    ),
    "eventbus_dropped_events_total": Trouble(Level.ERROR, "dropped", "events dropped: {reason}"),
    "eventbus_rejected_messages_total": Trouble(Level.WARNING, "rejected", "messages that are no events: {reason}"),
    "eventbus_lost_events_total": Trouble(Level.ERROR, "lost", "events on {topic} never arrived"),
    "eventbus_handler_errors_total": Trouble(Level.ERROR, "error", "{handler} failed: {error_type}"),
    "nats_slow_consumers": Trouble(Level.ERROR, "dropped", "the server has cut off a client that reads too slowly"),
}
"""The counters of a proxy, a service and a NATS server that are told, each time they grow."""

_OF_NATS = ("connections", "subscriptions", "in_msgs", "out_msgs", "slow_consumers")


class ProbeFacts(NamedTuple):
    """What one look at the probes of a proxy or a service has found.

    Attributes:
        kind: ``proxy``, ``service``, ``nats`` for a server of NATS, or ``?`` if nothing tells.
        ready: whether it is ready; None: it did not answer.
        detail: why it is not, or what it says of itself; printable.
        counts: its metrics of this bus; empty if it serves none.
    """

    kind: str
    ready: bool | None
    detail: str
    counts: Mapping[Series, float]

    def total(self, name: str, **labels: str) -> float | None:
        """The sum of the series of a metric with these labels; None if there are none."""
        found = [
            value
            for series, value in self.counts.items()
            if series.name == name and labels.items() <= dict(series.labels).items()
        ]
        return sum(found) if found else None


def facts_of(ready_status: int | None, ready_body: bytes, metrics: bytes, error: str = "") -> ProbeFacts:
    """Read the answers of a probe.

    Args:
        ready_status: the HTTP status of /readyz; None: there was no answer.
        ready_body: its body.
        metrics: the body of /metrics; empty if there is none.
        error: why there was no answer.
    """
    counts = dict(_series(metrics))
    names = {series.name for series in counts}
    kind = "proxy" if any(name.startswith("eventbus_proxy_") for name in names) else "service" if names else "?"
    if ready_status is None:
        return ProbeFacts(kind, None, printable(error), counts)
    try:
        body = from_json(ready_body)
    except ValueError:
        body = None
    facts = body if isinstance(body, dict) else {}
    said = facts.get("reason") or facts.get("state") or ""
    return ProbeFacts(kind, ready_status == 200, printable(str(said)), counts)


def facts_of_nats(status: int, body: bytes) -> ProbeFacts | None:
    """Read what the monitoring port of a NATS server answers for /varz; None if that is none.

    Args:
        status: the HTTP status.
        body: the body.
    """
    try:
        found = from_json(body)
    except ValueError:
        return None
    if status != 200 or not isinstance(found, dict) or not isinstance(found.get("server_id"), str):
        return None
    counts = {Series(f"nats_{name}", ()): float(found[name]) for name in _OF_NATS if isinstance(found.get(name), int)}
    return ProbeFacts("nats", True, printable(f"NATS {found.get('version', '')}"), counts)


def troubles(before: ProbeFacts | None, now: ProbeFacts) -> Iterator[tuple[Trouble, str, int]]:
    """Yield what went wrong between two looks: the trouble, its text and how often. Nothing at the first look."""
    if before is None or not before.counts:
        return
    for series, value in now.counts.items():
        trouble = TROUBLES.get(series.name)
        if trouble is None:
            continue
        grown = value - before.counts.get(series, 0.0)
        if grown >= 1:  # a counter of a process that was started again is smaller than before
            labels = {"reason": "?", "client": "?", "topic": "?", "handler": "?", "error_type": "?"} | dict(series.labels)
            yield trouble, trouble.text.format_map(labels), round(grown)


def _series(metrics: bytes) -> Iterator[tuple[Series, float]]:
    """The series of this bus in a text for Prometheus."""
    found = 0
    for line in metrics.decode(errors="replace").splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        try:
            value = float(match[3])
        except ValueError:
            continue
        labels = tuple((name, _unescaped(text)) for name, text in _LABEL.findall(match[2] or ""))
        yield Series(match[1], labels), value
        found += 1
        if found >= _MAX_SERIES:
            return


def _unescaped(text: str) -> str:
    return re.sub(r"\\.", lambda match: _ESCAPES.get(match[0], match[0]), text)
