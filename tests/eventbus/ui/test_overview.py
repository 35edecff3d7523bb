"""All that the page shows, from batches of messages."""

import json
from typing import Any

import pytest

from eventbus.observe.state import ClientState, StateChange
from eventbus.ui.clients import KnownClient
from eventbus.ui.overview import Overview
from eventbus.ui.probe_facts import facts_of
from eventbus.wire.first_frame import with_headers
from eventbus.wire.headers import encode_headers
from eventbus.wire.numbering import Numbering
from eventbus.wire.requests import new_reply_topic, owner_of

EVENT = b'{"type":"measured","value":1}'
PUBLISHER = b"\x01publish"


@pytest.fixture
def overview() -> Overview:
    """One that has begun at 0 s, which was 1000 s after 1970."""
    return Overview("tcp://here", 0.0)


def take(overview: Overview, *messages: tuple[bytes, bytes], now: float = 0.5) -> None:
    frames, payloads = zip(*messages, strict=True)
    overview.take((list(frames), list(payloads)), now, 1_000.0 + now)


def tick(overview: Overview, now: float = 1.0) -> Any:
    overview.tick(now, 1_000.0 + now)
    return json.loads(json.dumps(overview.figures()))


def told(overview: Overview) -> list[tuple[str, object, object]]:
    return [(str(notice["kind"]), notice["text"], notice["count"]) for notice in overview.notices_since(0)]


def test_topics_publishers_and_who_sends_on_which(overview: Overview) -> None:
    """Figures have the rates by topic, by publisher, and by both; names come from those who know the clients."""
    numbering = Numbering(PUBLISHER)
    for topic in (b"plant", b"plant", b"control"):
        take(overview, (numbering.next(topic), EVENT))
        numbering.taken(topic)
    take(overview, (b"plant", EVENT))
    overview.note_clients([KnownClient("opc", publisher=PUBLISHER.hex(), topics=("control",))])
    figures = tick(overview, 2.0)
    assert [(topic["name"], topic["rate"], topic["events"]) for topic in figures["topics"]] == [
        ("plant", 1.5, 3),
        ("control", 0.5, 1),
    ]
    assert [(line["name"], line["by"], line["events"]) for line in figures["publishers"]] == [(PUBLISHER.hex(), "opc", 3)]
    assert sorted((pair["by"], pair["topic"], pair["rate"]) for pair in figures["pairs"]) == [
        ("", "plant", 0.5),
        ("opc", "control", 0.5),
        ("opc", "plant", 1.0),
    ]
    assert figures["clients"][0]["topics"] == ["control"]
    assert overview.histories()["topics"] == {"plant": [1.5], "control": [0.5]}


def test_reply_topics_are_one(overview: Overview) -> None:
    """Each client that asks has a reply topic, which nobody else is to know: the page shows them together, by no name."""
    one, other = new_reply_topic(owner_of(None)), new_reply_topic(owner_of("x" * 40))
    asked = with_headers(b"prices", encode_headers({"reply-to": one.decode(), "correlation-id": "7"}))
    take(overview, (asked, EVENT), (b"plant", EVENT))
    overview.tick(1.0, 1_001.0)
    take(overview, (one, EVENT), (other, EVENT), (other, EVENT), now=1.5)
    figures = tick(overview, 2.0)
    assert [(topic["name"], topic["rate"]) for topic in figures["topics"]] == [
        ("_reply/*", 3.0),
        ("plant", 0.0),
        ("prices", 0.0),
    ]
    histories: Any = overview.histories()
    assert histories["topics"]["_reply/*"] == [3.0]
    told = json.dumps([figures, overview.events_since(0), overview.notices_since(0)])
    assert not any(topic.decode()[-32:] in told for topic in (one, other))


def test_publishers_that_are_gone(overview: Overview) -> None:
    """Who has sent nothing for two minutes is left out; the topic stays."""
    take(overview, (Numbering(PUBLISHER).next(b"plant"), EVENT))
    figures = tick(overview, 120.0)
    assert len(figures["publishers"]) == len(figures["pairs"]) == 1
    figures = tick(overview, 121.0)
    assert (figures["publishers"], figures["pairs"]) == ([], [])
    assert [topic["name"] for topic in figures["topics"]] == ["plant"]


def test_the_last_events(overview: Overview) -> None:
    """Events are kept with time and fields, each asked for once."""
    take(overview, (b"plant", EVENT), now=0.25)
    shown, noticed = overview.version
    (first,) = overview.events_since(0)
    assert (first["topic"], first["type"], first["fields"], first["time"]) == (
        "plant",
        "measured",
        (("value", "1"),),
        1000.25,
    )
    take(overview, (b"plant", EVENT), (b"control", EVENT))
    assert [event["topic"] for event in overview.events_since(shown)] == ["plant", "control"]
    assert noticed == overview.version[1]


def test_losses(overview: Overview) -> None:
    """A gap in a publisher's numbers is told, and counted for its topic; what is sent again is not shown twice."""
    numbering = Numbering(PUBLISHER)
    frames = []
    for _ in range(5):
        frames.append(numbering.next(b"plant"))
        numbering.taken(b"plant")
    take(overview, (frames[0], EVENT), (frames[4], EVENT))
    take(overview, (frames[4], EVENT))
    figures = tick(overview)
    assert (figures["lost"], figures["topics"][0]["lost"]) == (3, 3)
    ((kind, text, count),) = told(overview)
    assert (kind, count) == ("lost", 3)
    assert "plant" in str(text)
    assert len(overview.events_since(0)) == 2


def test_what_is_no_event(overview: Overview) -> None:
    """Messages that are none are told and counted, once each."""
    take(overview, (b"plant", b"{no JSON"), (b"plant", b"text"), (b"\xff\xfe", EVENT), (b"", EVENT), (b"x" * 300, EVENT))
    overview.reject(2, 1_000.5)
    assert tick(overview)["malformed"] == 6  # the first looks like an event as long as nobody decodes it
    found = {(kind, count) for kind, _, count in told(overview)}
    assert found == {("rejected", 1), ("rejected", 2), ("rejected", 4)}
    assert tick(overview, 2.0)["malformed"] == 6
    assert len(told(overview)) == 4


def test_only_wanted_topics() -> None:
    """With topics to watch, those of longer names are neither counted nor shown, nor are their losses."""
    overview, numbering = Overview("tcp://here", 0.0, [b"plant"]), Numbering(PUBLISHER)
    take(overview, (b"plant", EVENT), (b"plantation", EVENT), (numbering.next(b"plantation"), EVENT))
    figures = tick(overview)
    assert [topic["name"] for topic in figures["topics"]] == ["plant"]
    assert figures["watched"] == ["plant"]
    assert [event["topic"] for event in overview.events_since(0)] == ["plant"]


def test_states_and_probes(overview: Overview) -> None:
    """The state of the connection and the answers of probes stand in the figures, their changes among the notices."""
    overview.note_state(StateChange(ClientState.READY, ClientState.DEGRADED, "the proxy is away"), 1_000.0)
    overview.note_probes({"http://here:1": facts_of(200, b"{}", b'eventbus_proxy_connections{role="publisher"} 3\n')})
    overview.note_probe("here:1", facts_of(503, b'{"reason":"no echo"}', b""), 1_001.0)
    figures = tick(overview)
    assert figures["state"] == "degraded"
    assert figures["probes"] == [
        {"url": "http://here:1", "kind": "proxy", "ready": True, "detail": "", "counts": {"publishers connected": 3}}
    ]
    assert [text for _, text, _ in told(overview)] == [
        "the connection of this page is degraded: the proxy is away",
        "here:1 is not ready: no echo",
    ]


def test_it_is_bounded(overview: Overview) -> None:
    """Whatever names and contents peers invent, what a browser is sent stays small."""
    for number in range(0, 20_000, 500):
        messages = []
        for index in range(number, number + 500):
            numbering = Numbering(b"\x01%7d" % index)
            topic = b"t%d\xe2\x80\xae" % index + b"x" * 200
            messages += [(numbering.next(topic), b'{"type":"%d","text":"%s"}' % (index, b"y" * 5_000)), (topic, b"text")]
        take(overview, *messages, now=number / 500)
    figures = json.dumps(tick(overview, 40.0))
    everything = json.dumps([overview.histories(), overview.events_since(0), overview.notices_since(0)])
    assert len(figures) < 300_000
    assert len(everything) < 1_500_000
    assert "\u202e" not in json.loads(figures)["topics"][0]["name"] + json.dumps(json.loads(everything), ensure_ascii=False)
