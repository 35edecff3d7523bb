"""Recordings: events in a file, one JSON object in a line, for people and programs to read, and to be emitted again.

=============  ===========================================================================
field
=============  ===========================================================================
``time``       when it was received, in seconds since 1970
``topic``      its topic
``event``      the event as JSON
``headers``    its headers, if it has any
=============  ===========================================================================
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic_core import from_json, to_json

from eventbus.errors import InvalidRecording, InvalidTopic
from eventbus.wire.frames import topic_frame
from eventbus.wire.headers import NO_HEADERS, Headers
from eventbus.wire.history import REPLAYED
from eventbus.wire.requests import CORRELATION_ID, MORE, REPLY_TO

_LATEST_S = 253_402_300_800  # since 1970: the end of the last year that calendars of computers have
_MAX_DELAY_S = 1e9  # nothing waits longer
_NOT_RECORDED = {REPLY_TO, CORRELATION_ID, MORE, REPLAYED}  # an event that is replayed is no request


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event in a recording.

    Attributes:
        time: when it was received, in seconds since 1970.
        topic: its topic's value.
        event: the event, as JSON holds it.
        headers: its headers.
    """

    time: float
    topic: str
    event: object
    headers: Headers = NO_HEADERS

    @property
    def json(self) -> bytes:
        """The event as JSON."""
        return to_json(self.event, inf_nan_mode="constants")

    def line(self, *, strict: bool = False) -> str:
        """The line for it in a file, without its end.

        Args:
            strict: numbers that JSON does not have, such as NaN, become null; False: they stay.
        """
        content: dict[str, object] = {"time": round(self.time, 6), "topic": self.topic, "event": self.event}
        headers = {name: value for name, value in self.headers.items() if name not in _NOT_RECORDED}
        if headers:
            content["headers"] = headers
        return to_json(content, inf_nan_mode="null" if strict else "constants").decode()


def read_recording(path: str | Path) -> Iterator[Recorded]:
    """Yield the events of a file, in its order.

    Raises:
        InvalidRecording: a line is none of a recording; the error has its number.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                yield _parsed(line, str(path), number)


def delays(recorded: Iterable[Recorded], rate: float | None) -> Iterator[tuple[float, Recorded]]:
    """Yield each event with the seconds from the first one to it.

    Args:
        recorded: events in order; one that is older than the one before it follows it at once.
        rate: how many times as fast as they were recorded; None: as fast as possible.
    """
    began = latest = None
    for one in recorded:
        began = one.time if began is None else began
        latest = one.time if latest is None else max(latest, one.time)
        yield (0.0 if rate is None else min(_MAX_DELAY_S, (latest - began) / rate)), one


def marked(recorded: Recorded) -> Recorded:
    """The event with the header that tells its handlers that it is replayed."""
    return replace(recorded, headers={**recorded.headers, REPLAYED: "true"})


def _parsed(line: bytes, path: str, number: int) -> Recorded:
    try:
        content = from_json(line)
    except ValueError:
        raise InvalidRecording(path, number, "it is no JSON") from None
    if not isinstance(content, dict):
        raise InvalidRecording(path, number, "it is no JSON object")
    time, topic, headers = content.get("time"), content.get("topic"), content.get("headers", {})
    if isinstance(time, bool) or not isinstance(time, int | float) or not 0 <= time < _LATEST_S:  # NaN is not
        raise InvalidRecording(path, number, "its time is no number of seconds since 1970")
    if not isinstance(content.get("event"), dict):
        raise InvalidRecording(path, number, "its event is no JSON object")
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise InvalidRecording(path, number, "its headers are no texts")
    if not isinstance(topic, str):
        raise InvalidRecording(path, number, "its topic is no text")
    try:
        topic_frame(topic)
    except InvalidTopic as error:
        raise InvalidRecording(path, number, str(error)) from None
    return Recorded(float(time), topic, content["event"], headers)
