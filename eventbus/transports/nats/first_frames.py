"""The first frame of a message as a NATS subject with headers, and back. Pure.

Headers of an event become NATS headers of the same names, so that tools for NATS see a ``traceparent``. The numbers of a
numbering publisher stand in a header of their own.
"""

import re

from eventbus.errors import InvalidHeaders
from eventbus.transports.nats.protocol import CRLF, header_block, parse_headers
from eventbus.transports.nats.subjects import subject_of, topic_of
from eventbus.wire.first_frame import split_headers, with_headers
from eventbus.wire.frames import MARK
from eventbus.wire.headers import decode_headers, encode_headers

NUMBER = "Eventbus-Number"
PROBE = "Eventbus-Probe"
"""Marks a message that only shows whether anybody subscribes; see `CoreTransport.has_subscriber`."""
_OWN = (NUMBER.lower(), PROBE.lower())
_RESERVED = "nats-"  # how the server's own headers begin
_NOT_IN_NAMES = re.compile(r"[^!-$&-9;-~]")
_NOT_IN_VALUES = re.compile(r"%|[\x00-\x1f\x7f]|^ | $")
_ESCAPED = re.compile(r"(?:%[0-9A-F]{2})+")
_MAX_KNOWN = 4_096
_IDENTIFIER = b"NATS/1.0\r\nNats-Msg-Id: "
_LINES_OF_IDENTIFIER = 3  # of a block of headers that says nothing else; one of them is empty


class Carried:
    """First frames of one prefix.

    Args:
        prefix: that of all subjects.
        numbered: whether numbers are handed on; False for a member of a group, to whom numbers would show what others got.
    """

    def __init__(self, prefix: str, *, numbered: bool = True) -> None:
        self.prefix = prefix.encode()
        self._numbered = numbered
        self._subjects: dict[bytes, bytes] = {}  # of topics, which repeat
        self._topics: dict[bytes, bytes] = {}

    def subject(self, topic: bytes) -> bytes:
        """The subject of a topic; of an empty one the wildcard for all topics."""
        known = self._subjects.get(topic)
        if known is None:
            if len(self._subjects) >= _MAX_KNOWN:
                self._subjects.clear()
            known = self._subjects[topic] = subject_of(topic, self.prefix)
        return known

    def topic(self, subject: bytes) -> bytes:
        """The topic of a subject."""
        known = self._topics.get(subject)
        if known is None:
            if len(self._topics) >= _MAX_KNOWN:
                self._topics.clear()
            known = self._topics[subject] = topic_of(subject, self.prefix)
        return known

    def outward(self, first: bytes) -> tuple[bytes, list[tuple[str, str]]]:
        """Return the subject and the header lines that carry a first frame.

        Raises:
            InvalidHeaders: a header has a name that is the server's own.
        """
        if MARK not in first:
            return self.subject(first), []
        bare, encoded = split_headers(first)
        topic, _, numbers = bare.partition(MARK)
        headers = decode_headers(encoded)
        for name in headers:
            if name.lower().startswith(_RESERVED) or name.lower() in _OWN:
                raise InvalidHeaders(
                    f"a header must not be called {name!r}: NATS servers and this bus use such names themselves"
                )
        lines = [(_escaped(name, _NOT_IN_NAMES), _escaped(value, _NOT_IN_VALUES)) for name, value in headers.items()]
        if numbers:
            lines.append((NUMBER, numbers.hex()))
        return self.subject(topic), lines

    def inward(self, subject: bytes, block: bytes) -> bytes:
        """Return the first frame of a message; an empty one if it holds no event. The block of headers may hold anything."""
        first = self._topics.get(subject) or self.topic(subject)
        if not block or (block.startswith(_IDENTIFIER) and block.count(CRLF) == _LINES_OF_IDENTIFIER):
            return first  # nothing but how the server recognises the message: so are most messages of a stream
        headers = {}
        for name, value in parse_headers(block).lines:
            if name == NUMBER:
                if self._numbered:
                    first += MARK + _bytes_of(value)
            elif name == PROBE:
                return b""
            elif not name.lower().startswith(_RESERVED):
                headers[_plain(name)] = _plain(value)
        if headers:
            try:
                return with_headers(first, encode_headers(headers))
            except InvalidHeaders:  # a stranger's are too long: the event is worth more than they are
                return first
        return first


def block_of(lines: list[tuple[str, str]]) -> bytes:
    """The block of these header lines; empty if there are none."""
    return header_block(lines) if lines else b""


def _escaped(text: str, unsafe: re.Pattern[str]) -> str:
    return unsafe.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), text)


def _plain(text: str) -> str:
    if "%" not in text:
        return text
    return _ESCAPED.sub(lambda found: bytes.fromhex(found[0].replace("%", "")).decode(errors="replace"), text)


def _bytes_of(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
