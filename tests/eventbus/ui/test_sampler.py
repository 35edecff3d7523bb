"""Which events are shown: some of each kind, whatever the others do."""

import json
import zlib

import pytest

from eventbus.ui.sampler import ANY_TYPE, Sampler

FAST, RARE = b"plant", b"alarms"


def event(kind: str, **fields: object) -> bytes:
    return json.dumps({"type": kind, **fields}).encode()


def chosen(sampler: Sampler, messages: list[tuple[bytes, bytes]], now: float = 0.1) -> list[int]:
    topics, payloads = zip(*messages, strict=True)
    return [choice.place for choice in sampler.choose(topics, payloads, now)]


def test_few_events_are_all_shown() -> None:
    """As many as the rate allows are shown, also if all are of one kind."""
    assert chosen(Sampler(100, 0.0), [(FAST, event("measured"))] * 50) == list(range(50))


def test_many_events_of_one_kind_are_not() -> None:
    """Beyond the rate nothing is shown until the window ends."""
    sampler = Sampler(100, 0.0)
    assert len(chosen(sampler, [(FAST, event("measured"))] * 10_000)) == 50
    assert chosen(sampler, [(FAST, event("measured"))] * 10, 0.4) == []
    assert len(chosen(sampler, [(FAST, event("measured"))] * 10_000, 0.5)) == 50


@pytest.mark.parametrize("rare", [(RARE, event("measured")), (FAST, event("alarm", level=3))], ids=["topic", "type"])
def test_a_rare_kind_is_always_shown(rare: tuple[bytes, bytes]) -> None:
    """A topic or a type that is rare is shown, even after a fast one has used up the whole rate."""
    messages = [(FAST, event("measured"))] * 4_900 + [rare]
    sampler = Sampler(100, 0.0)
    assert 4_900 in chosen(sampler, messages)
    assert 4_900 in chosen(sampler, messages, 1.0)


@pytest.mark.parametrize("place", [0, 1, 7, 255])
def test_above_ten_thousand_messages_per_second(place: int) -> None:
    """Not each message of a fast topic is looked at then, but a rare topic is shown all the same, wherever it stands."""
    sampler = Sampler(100, 0.0)
    chosen(sampler, [(FAST, event("measured"))] * 60_000)
    batch = [(FAST, event("measured"))] * 256
    batch[place] = RARE, event("alarm")
    shown = chosen(sampler, batch, 0.6)
    assert place in shown
    assert len(shown) < 50


def test_kinds_share_the_rate() -> None:
    """In the next window each of the kinds that there are has an equal share."""
    messages = [(b"topic%d" % number, event("measured")) for number in range(10)] * 100
    sampler = Sampler(100, 0.0)
    chosen(sampler, messages)
    shown = chosen(sampler, messages, 0.6)
    assert sorted(place % 10 for place in shown) == sorted([*range(10)] * 5)


def test_invented_kinds_do_not_exceed_twice_the_rate() -> None:
    """A peer that sends another type each time does not get more shown, and is not remembered for longer than a window."""
    sampler = Sampler(100, 0.0)
    assert len(chosen(sampler, [(FAST, event(f"type{number}")) for number in range(50_000)])) == 100


def test_several_events_in_a_message() -> None:
    """Of a packed message it says how many of each type are to be shown."""
    packed = b"[%s]" % b",".join([event("measured")] * 80 + [event("alarm")])
    (choice,) = Sampler(100, 0.0).choose([FAST], [packed], 0.1)
    assert choice.wanted == {b"measured": 50, b"alarm": 1}


@pytest.mark.parametrize(
    "payload",
    [b"{}", zlib.compress(event("measured")), b"no JSON", b"", b'{"type":"\\u00e9"}', b'{"x":"%s"}' % (b"y" * 2_000)],
)
def test_a_type_that_is_not_seen(payload: bytes) -> None:
    """Without a type that can be seen, any event of the message may be shown."""
    (choice,) = Sampler(100, 0.0).choose([FAST], [payload], 0.1)
    assert choice.wanted == {ANY_TYPE: 1}
