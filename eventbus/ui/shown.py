"""Events as the page shows them: a few fields, as short texts, of whatever has come. Pure."""

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import NamedTuple

from pydantic_core import from_json

from eventbus._base.fields import as_text, flat
from eventbus._base.printable import printable
from eventbus.errors import CompressionMissing, PayloadDamaged, PayloadTooLarge
from eventbus.ui.sampler import ANY_TYPE
from eventbus.ui.topic_names import topic_name
from eventbus.wire.compression import inflate, is_compressed
from eventbus.wire.frames import MAX_PACKED_BYTES
from eventbus.wire.headers import decode_headers
from eventbus.wire.requests import REPLY_TO

_MAX_DECODED_BYTES = MAX_PACKED_BYTES  # of a payload; a larger one is shown without its fields
_LAST_FIELDS = {"id", "time"}
_MAX_FIELDS = 60
_MAX_NAME_CHARACTERS = 100
_MAX_VALUE_CHARACTERS = 400
_MAX_CHARACTERS = 4_000  # of all fields of an event


class ShownEvent(NamedTuple):
    """An event, cut down to what a person reads. All texts are printable.

    Attributes:
        topic: its topic.
        type: its type; empty if it has none.
        fields: pairs of a path and a value; those of headers begin with ``@``.
        size: the bytes of the payload that it came in.
        note: what is not shown, and why; empty: nothing is left out.
    """

    topic: str
    type: str
    fields: tuple[tuple[str, str], ...]
    size: int
    note: str = ""


def shown_events(topic: bytes, payload: bytes, headers: bytes, wanted: Mapping[bytes, int]) -> Iterator[ShownEvent]:
    """Yield the events of a message that are wanted.

    Args:
        topic: the topic, UTF-8.
        payload: the payload as it came.
        headers: the encoded headers; empty if there are none.
        wanted: how many events of each type, as the sampler says.

    Raises:
        ValueError: the payload is no event.
    """
    name = topic_name(topic)
    size = len(payload)
    # Who knows a reply topic could answer in the place of others.
    known = ((key, value) for key, value in decode_headers(headers).items() if key != REPLY_TO)
    of_headers = [(f"@{key}", as_text(value)) for key, value in known]
    try:
        json = inflate(payload, _MAX_DECODED_BYTES) if is_compressed(payload) else payload
    except PayloadDamaged as error:
        raise ValueError(str(error)) from None
    except PayloadTooLarge:
        json = b" " * (_MAX_DECODED_BYTES + 1)
    except CompressionMissing as error:
        yield ShownEvent(name, "", _cut(of_headers)[0], size, str(error))
        return
    if len(json) > _MAX_DECODED_BYTES:
        yield ShownEvent(name, "", _cut(of_headers)[0], size, "large: its fields are not shown")
        return
    content = from_json(json)
    left = dict(wanted)
    for event in content if isinstance(content, list) else [content]:
        kind = event.get("type") if isinstance(event, dict) else None
        kind = kind if isinstance(kind, str) else ""
        of_type = kind.encode(errors="replace")
        of_type = of_type if of_type in left else ANY_TYPE
        if not isinstance(content, list) or left.get(of_type, 0) > 0:
            left[of_type] = left.get(of_type, 0) - 1
            rest = _in_order(event) if isinstance(event, dict) else event
            fields, note = _cut(chain(flat("", rest), of_headers))
            yield ShownEvent(name, printable(kind, _MAX_NAME_CHARACTERS), fields, size, note)


def _in_order(event: dict[str, object]) -> dict[str, object]:
    """The fields of an event without its type; `id` and `time`, which every event has that has them, come last."""
    rest = {name: value for name, value in event.items() if name != "type" or not isinstance(value, str)}
    return dict(sorted(rest.items(), key=lambda item: item[0] in _LAST_FIELDS))


def _cut(fields: Iterator[tuple[str, str]] | list[tuple[str, str]]) -> tuple[tuple[tuple[str, str], ...], str]:
    """The first fields, printable, and what is left out."""
    kept: list[tuple[str, str]] = []
    left = _MAX_CHARACTERS
    for path, value in fields:
        if len(kept) >= _MAX_FIELDS or left <= 0:
            return tuple(kept), "it has more fields"
        kept.append((printable(path, _MAX_NAME_CHARACTERS), printable(value, min(_MAX_VALUE_CHARACTERS, max(2, left)))))
        left -= len(kept[-1][0]) + len(kept[-1][1])
    return tuple(kept), ""
