"""What probes tell."""

import pytest

from eventbus.ui.clients import KnownClient, ProbedRates
from eventbus.ui.notices import Level
from eventbus.ui.probe_facts import facts_of, facts_of_nats, troubles

PROXY = b"""# HELP eventbus_proxy_connections Open connections
eventbus_proxy_connections{role="publisher"} 3.0
eventbus_proxy_connections{role="subscriber"} 4.0
eventbus_proxy_disconnected_total{reason="slow"} 1.0
process_cpu_seconds_total 3.1
eventbus_proxy_uptime_seconds 7.5e+01
"""


def service(emitted: int, errors: int = 0) -> bytes:
    return (
        b'eventbus_emitted_events_total{topic="plant"} %d\n'
        b'eventbus_received_events_total{topic="con\\"trol\\n"} 5.0\n'
        b'eventbus_handler_errors_total{handler="A.on",error_type="ValueError"} %d\n' % (emitted, errors)
    )


def test_a_proxy() -> None:
    """Its metrics are read, others are not."""
    facts = facts_of(200, b'{"round_trip": 0.001}', PROXY)
    assert (facts.kind, facts.ready, facts.detail) == ("proxy", True, "")
    assert facts.total("eventbus_proxy_connections") == 7
    assert facts.total("eventbus_proxy_connections", role="publisher") == 3
    assert facts.total("eventbus_proxy_uptime_seconds") == 75
    assert facts.total("process_cpu_seconds_total") is None


def test_a_nats_server() -> None:
    """Its monitoring port tells how many clients and messages there are, and which clients were too slow."""
    body = b'{"server_id":"N1","version":"2.15.1","connections":3,"in_msgs":7,"out_msgs":9,"slow_consumers":%d,"mem":"x"}'
    before, now = facts_of_nats(200, body % 0), facts_of_nats(200, body % 2)
    assert before is not None
    assert now is not None
    assert (now.kind, now.ready, now.detail, now.total("nats_connections")) == ("nats", True, "NATS 2.15.1", 3)
    ((trouble, _, count),) = troubles(before, now)
    assert (trouble.kind, count) == ("dropped", 2)
    assert [facts_of_nats(200, other) for other in (b"", b"[]", b"{}", b"\xff")] == [None] * 4
    assert facts_of_nats(404, body % 0) is None


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"reason": 3}', b"\xff"])
def test_what_is_no_probe(body: bytes) -> None:
    """Whatever answers there, nothing breaks."""
    facts = facts_of(503, body, b"\xff{}} 1\neventbus_x{ 1\neventbus_y 1e+-e\n" + body)
    assert (facts.kind, facts.ready) == ("?", False)


def test_no_answer() -> None:
    """Without an answer it is neither ready nor not, and the reason is kept."""
    facts = facts_of(None, b"", b"", "no answer: connection\nrefused")
    assert (facts.ready, facts.detail) == (None, "no answer: connection\\nrefused")


def test_what_went_wrong_since_the_last_look() -> None:
    """Counters that grew are told, with their labels; not at the first look, and not when a process was started again."""
    first, second, third = (facts_of(200, b"{}", service(0, errors)) for errors in (2, 5, 1))
    assert list(troubles(None, first)) == []
    ((trouble, text, count),) = troubles(first, second)
    assert (trouble.level, text, count) == (Level.ERROR, "A.on failed: ValueError", 3)
    assert list(troubles(second, third)) == []
    ((trouble, text, count),) = troubles(
        facts_of(200, b"{}", PROXY), facts_of(200, b"{}", PROXY.replace(b'"slow"} 1', b'"slow"} 3'))
    )
    assert (text, count) == ("the proxy has ended a connection: slow", 2)


def test_texts_with_braces_are_texts() -> None:
    """A label may hold what a format string would take for a field."""
    before, after = (facts_of(200, b"{}", b'eventbus_lost_events_total{topic="{handler.x}"} %d\n' % n) for n in (1, 2))
    ((_, text, _),) = troubles(before, after)
    assert text == "events on {handler.x} never arrived"


def test_the_rates_of_a_service() -> None:
    """What a service emits becomes a rate; what it receives names its subscriptions."""
    rates = ProbedRates()
    assert rates.client("a:1", facts_of(200, b'{"state":"ready"}', service(10)), 5.0).emits == {"plant": 0.0}
    assert rates.client("a:1", facts_of(200, b'{"state":"ready"}', service(30)), 7.0) == KnownClient(
        "a:1", topics=('con"trol\n',), emits={"plant": 10.0}, state="ready"
    )
    assert rates.client("a:1", facts_of(200, b"{}", service(3)), 8.0).emits == {"plant": 0.0}
