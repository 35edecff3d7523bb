"""What a client says of itself, and what is made of answers that may hold anything."""

import json
from dataclasses import replace

import pytest

from eventbus.wire.presence import MAX_TOPICS, Presence, PresenceTraffic, Seen, compare
from eventbus.wire.private_topics import PRESENCE_TOPIC
from eventbus.wire.requests import new_reply_topic, owner_of, request_headers

SHOP = Presence("1", "shop", "till-1", 7, 10.0, "ready", ("", "plant"), 100, 5, 5, 1, 0, ("mail",), "01ab")


def changed(**facts: object) -> bytes:
    return json.dumps({**json.loads(SHOP.encode()), **facts}).encode()


def test_there_and_back() -> None:
    """An answer means what was said; one of an older client, which says less, is understood."""
    assert Presence.decode(SHOP.encode()) == SHOP
    facts = json.loads(SHOP.encode())
    del facts["emits"], facts["publisher"]
    assert Presence.decode(json.dumps(facts).encode()) == replace(SHOP, emits=(), publisher="")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"[" * 100_000,
        changed(pid="x"),
        changed(pid=None),
        changed(emitted=-1),
        changed(emitted=10**400),
        changed(uptime=float("nan")),
        changed(uptime=float("inf")),
        changed(topics=3),
        changed(topics=None),
    ],
)
def test_what_is_no_answer(payload: bytes) -> None:
    """Nothing that comes instead breaks who asks."""
    assert Presence.decode(payload) is None


def test_texts_and_lists_are_bounded() -> None:
    """Names and topics are cut and printable."""
    found = Presence.decode(changed(name="\x1b[2J" * 1_000, topics=["\u202e"] * 5_000, publisher="x" * 5_000))
    assert found is not None
    assert (len(found.name), len(found.topics), len(found.publisher)) == (255, MAX_TOPICS, 255)
    assert found.name.isprintable()
    assert found.topics[0] == "\\u202e"


def test_rates() -> None:
    """Rates are of the time between two answers of the same client; by name, each client once."""
    later = replace(SHOP, uptime=12.0, emitted=120, received=5)
    other = replace(SHOP, id="2", name="agent")
    assert compare([SHOP], [later, later, other]) == [Seen(other, None, None), Seen(later, 10.0, 0.0)]
    assert compare([later], [later]) == [Seen(later, None, None)]


def test_questions_and_their_answers_are_told_from_others() -> None:
    """By the topic of the question, and by the reply topics of the newest hundred that asked."""
    traffic = PresenceTraffic()
    askers = [new_reply_topic(owner_of(None)) for _ in range(101)]
    assert not traffic.has(askers[0], b"")
    for asker in [*askers[:-1], askers[1], askers[-1]]:
        assert traffic.has(PRESENCE_TOPIC, request_headers(asker, "1"))
    assert [traffic.has(asker, b"") for asker in askers] == [False, *[True] * 100]
    assert traffic.has(PRESENCE_TOPIC, b"no request")
    assert not traffic.has(b"plant", request_headers(askers[0], "1"))
