"""Events cut down to what a person reads."""

import json
import zlib

import pytest

from eventbus.ui.sampler import ANY_TYPE
from eventbus.ui.shown import ShownEvent, shown_events
from eventbus.wire.headers import encode_headers

ANY = {ANY_TYPE: 1}


def shown(payload: bytes, headers: bytes = b"", wanted: dict[bytes, int] = ANY) -> list[ShownEvent]:
    return list(shown_events(b"plant", payload, headers, wanted))


def test_an_event() -> None:
    """Fields are flat, in their order but for `id` and `time`; headers follow."""
    payload = b'{"id":"7","type":"alarm","sensor":{"id":3,"name":"a b"},"level":0.5,"ok":true}'
    assert shown(payload, encode_headers({"trace": "x"})) == [
        ShownEvent(
            "plant",
            "alarm",
            (("sensor.id", "3"), ("sensor.name", '"a b"'), ("level", "0.5"), ("ok", "true"), ("id", '"7"'), ("@trace", "x")),
            len(payload),
        )
    ]


def test_only_what_is_wanted_of_several() -> None:
    """Of a packed message as many of each type are shown as wanted; `ANY_TYPE` stands for the others."""
    events = [{"type": kind, "n": n} for n, kind in enumerate(["a", "b", "a", "c", "b", "a"])]
    payload = json.dumps(events).encode()
    for content in (payload, zlib.compress(payload)):
        found = [(event.type, event.fields[0][1]) for event in shown(content, wanted={b"a": 2, b"b": 1})]
        assert found == [("a", "0"), ("b", "1"), ("a", "2")]
        assert [event.type for event in shown(content, wanted={ANY_TYPE: 4})] == ["a", "b", "a", "c"]


@pytest.mark.parametrize("payload", [b"3", b'"text"', b"null", b"{}", b'{"type":3}', b'{"type":{"a":[]}}'])
def test_what_is_hardly_an_event(payload: bytes) -> None:
    """Other JSON is shown, too, without a type."""
    assert [event.type for event in shown(payload)] == [""]


@pytest.mark.parametrize("payload", [b"no JSON", b"", b"[" * 5_000, zlib.compress(b'{"type":"a"}')[:-1], b"\xff{}"])
def test_what_is_none(payload: bytes) -> None:
    """What cannot be read raises ValueError and nothing else."""
    with pytest.raises(ValueError):  # noqa: PT011 # whatever the parser says
        shown(payload)


def test_a_large_event_is_not_decoded() -> None:
    """A large payload is shown without its fields, and what inflates to a large one as well."""
    large = json.dumps({"type": "a", "text": "x" * 100_000}).encode()
    for payload in (large, zlib.compress(large)):
        (event,) = shown(payload)
        assert (event.type, event.fields, event.size) == ("", (), len(payload))
        assert "large" in event.note


def test_texts_are_bounded_and_printable() -> None:
    """Nobody can fill a browser, turn the direction of its text or write line ends into it."""
    many = {f"field{number}": "x" * 1_000 for number in range(500)}
    (event,) = shown(json.dumps({"type": "t" * 500, "a\x00\u202e\n": "\u202e\x1b[2J\ud800", **many}).encode())
    texts = [event.type, *(text for pair in event.fields for text in pair)]
    assert sum(map(len, texts)) < 6_000
    assert all(text.isprintable() for text in texts)
    assert event.note
