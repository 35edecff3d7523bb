"""The protocol of NATS: what a client writes, and what a server sends. Pure functions on bytes; no sockets.

A line ends with CR LF and begins with the name of an operation. MSG and HMSG are followed by as many bytes as the line says,
and CR LF. See https://docs.nats.io/reference/reference-protocols/nats-protocol.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json

from eventbus.transports.nats.delivered import FromStream, from_stream, line_finder

CRLF = b"\r\n"
PING, PONG = b"PING\r\n", b"PONG\r\n"

NO_RESPONDERS = 503
"""The status of the answer to a request that nobody has subscribed to."""

_STATUS_LINE = b"NATS/1.0"
_MAX_LINE_BYTES = 1_048_576  # of INFO, which lists the servers of a cluster
_MAX_MESSAGE_BYTES = 134_217_728  # servers allow 64 MiB at most
_MAX_SIZE_DIGITS = 12
_MAX_KNOWN_LINES = 4_096
# How many messages with the same line are read at once: few at first, twice as many after each success. So what was read in
# vain is never more than what was read well.
_FIRST_RUN, _LONGEST_RUN = 8, 512


class ProtocolError(ValueError):
    """What the other side has sent is not the protocol of NATS."""


class Info(NamedTuple):
    """What a server says of itself when a client connects, and when that changes.

    Attributes:
        fields: as the server has sent them.
    """

    fields: Mapping[str, Any]  # JSON

    @property
    def version(self) -> str:
        """The version of the server."""
        return str(self.fields.get("version", ""))

    @property
    def max_payload(self) -> int:
        """The largest message with its headers, in bytes."""
        size = self.fields.get("max_payload")
        return size if isinstance(size, int) and size > 0 else 1_048_576

    @property
    def cluster(self) -> str:
        """The name of the cluster that the server belongs to; empty if it stands alone."""
        return str(self.fields.get("cluster") or "")

    @property
    def servers(self) -> list[str]:
        """The other servers of the cluster, as ``host:port``."""
        urls = self.fields.get("connect_urls")
        return [url for url in urls if isinstance(url, str)] if isinstance(urls, list) else []

    @property
    def nonce(self) -> str:
        """What a client signs that has a key; empty if the server asks for none."""
        return str(self.fields.get("nonce") or "")

    @property
    def tls_required(self) -> bool:
        """Whether the client must encrypt."""
        return bool(self.fields.get("tls_required"))

    @property
    def tls_available(self) -> bool:
        """Whether the client may encrypt."""
        return self.tls_required or bool(self.fields.get("tls_available"))

    @property
    def is_leaving(self) -> bool:
        """Whether the server is about to be shut down, and ends its connections one by one ("lame duck mode")."""
        return bool(self.fields.get("ldm"))

    @property
    def jetstream(self) -> bool:
        """Whether the server stores streams."""
        return bool(self.fields.get("jetstream"))


class Message(NamedTuple):
    """A message that is not taken directly.

    Attributes:
        subject: where it was published.
        sid: the subscription that it came for.
        reply: where an answer is expected; empty: none is.
        headers: the block of headers as it came; empty if there are none.
        payload: the rest.
    """

    subject: bytes
    sid: bytes
    reply: bytes
    headers: bytes
    payload: bytes


class Ping(NamedTuple):
    """The server asks whether the client is there."""


class Pong(NamedTuple):
    """The server has done all that was asked before a PING."""


class ServerError(NamedTuple):
    """The server complains; it may close the connection.

    Attributes:
        text: its complaint.
    """

    text: str


type Other = Message | Ping | Pong | Info | ServerError


class Arrived(NamedTuple):
    """What was in some bytes.

    Attributes:
        firsts: the first frames of messages of direct subscriptions.
        payloads: as many.
        stored: messages from a stream.
        others: everything else, in order, but for `acks`.
        acks: the numbers and the payloads of what has acknowledged publications.
    """

    firsts: list[bytes]
    payloads: list[bytes]
    stored: list[FromStream]
    others: list[Other]
    acks: list[tuple[int, bytes]]


class _Announced(NamedTuple):
    """A line that says which message follows."""

    subject: bytes
    sid: bytes
    reply: bytes
    header_bytes: int
    bytes: int


class Parser:
    """Reads what one server sends, in pieces as they come. One thread at a time.

    Args:
        direct: the identifiers of subscriptions whose messages are collected as two lists, which costs least; a set that the
            caller may change.
        first_frame: makes the first frame of such a message of its subject and its headers; an empty one: it is skipped.
        from_stream: the identifier of the subscription to which streams deliver; None: there is none.
        acks: how the subjects begin, in front of a number, to which publications are acknowledged; empty: they are not.
    """

    def __init__(
        self,
        direct: set[bytes] | None = None,
        first_frame: Callable[[bytes, bytes], bytes] = lambda subject, headers: subject,
        from_stream: bytes | None = None,
        acks: bytes = b"",
    ) -> None:
        self._direct = set() if direct is None else direct
        self._first_frame = first_frame
        self._from_stream = from_stream
        self._find_stored = None if from_stream is None else line_finder(from_stream)
        self._find_ack = re.compile(rb"MSG %b(\d{1,19}) \d+ (\d{1,11})\r\n" % re.escape(acks)).match if acks else None
        self._lines: dict[bytes, tuple[bytes, bytes, int]] = {}  # of direct messages, which repeat: sid, first frame, size
        self._pieces: list[bytes] = []  # of a line or message that has not come whole
        self._have = 0  # bytes in them
        self._wanted = 0  # bytes of the message; 0 if they are of a line

    def feed(self, data: bytes) -> Arrived:
        """Read some more bytes.

        Raises:
            ProtocolError: they are not the protocol of NATS.
        """
        arrived = Arrived([], [], [], [], [])
        firsts, payloads, stored, _, acks = arrived
        if self._pieces:
            self._pieces.append(data)
            self._have += len(data)
            if self._have < self._wanted:
                return arrived
            data = b"".join(self._pieces)
        at, wanted, length, known = 0, 0, len(data), self._lines.get
        find_stored, find_ack = self._find_stored, self._find_ack
        last, run = b"", 0  # the line of the last message
        while at < length:
            if find_stored is not None and (line_found := find_stored(data, at)) is not None:
                subject, reply, consumer, number, header_bytes, size = line_found.groups()
                start = line_found.end()
                body, stop = start + int(header_bytes), start + int(size)
                if stop + 2 <= length and body <= stop and data[stop : stop + 2] == CRLF:
                    stored.append((subject, consumer, int(number), reply, data[start:body], data[body:stop]))
                    at = stop + 2
                    continue
            if find_ack is not None and (line_found := find_ack(data, at)) is not None:
                number, size = line_found.groups()
                start = line_found.end()
                stop = start + int(size)
                if stop + 2 <= length and data[stop : stop + 2] == CRLF:
                    acks.append((int(number), data[start:stop]))
                    at = stop + 2
                    continue
            if (end := data.find(CRLF, at)) < 0:
                break
            line = data[at:end]
            start = end + 2
            found = known(line)
            if found is not None:
                sid, first, size = found
                stop = start + size
                if stop + 2 > length:
                    wanted = stop + 2 - at
                    break
                if sid not in self._direct:
                    at = stop + 2
                    continue
                if line != last:
                    firsts.append(first)
                    payloads.append(data[start:stop])
                    at, last, run = stop + 2, line, _FIRST_RUN
                    continue
                at, before = _read_run(data, at, line, size, run, payloads), at
                many = (at - before) // (len(line) + size + 4)
                firsts += [first] * many
                run = min(2 * run, _LONGEST_RUN) if many == run else _FIRST_RUN
                continue
            read = _read_line(line)
            if isinstance(read, _Announced):
                stop = start + read.bytes
                if stop + 2 > length:
                    wanted = stop + 2 - at
                    break
                if data[stop : stop + 2] != CRLF:
                    raise ProtocolError("a message is longer than its line says")
                self._take(line, read, data[start:stop], arrived)
                at = stop + 2
            else:
                arrived.others.append(read)
                at = start
        self._have = length - at
        if self._have > _MAX_LINE_BYTES and not wanted:
            raise ProtocolError(f"a line has more than {_MAX_LINE_BYTES} bytes")
        self._pieces = [data[at:]] if self._have else []
        self._wanted = wanted
        return arrived

    def _take(self, line: bytes, read: _Announced, body: bytes, arrived: Arrived) -> None:
        headers, payload = body[: read.header_bytes], body[read.header_bytes :]
        if read.sid not in self._direct:
            stored = from_stream(read.subject, read.reply, headers, payload) if read.sid == self._from_stream else None
            if stored is None:
                arrived.others.append(Message(read.subject, read.sid, read.reply, headers, payload))
            else:
                arrived.stored.append(stored)
            return
        first = self._first_frame(read.subject, headers)
        if not first:
            return
        if not headers and not read.reply:
            if len(self._lines) >= _MAX_KNOWN_LINES:
                self._lines.clear()
            self._lines[line] = read.sid, first, read.bytes
        arrived.firsts.append(first)
        arrived.payloads.append(payload)


def _read_run(data: bytes, at: int, line: bytes, size: int, run: int, payloads: list[bytes]) -> int:
    """Read one or more messages that begin with this line; the first of them is there as a whole. Returns where they end.

    Nearly all events of a topic are as long as others of it, so their lines are the same. The loops are in C.
    """
    start = at + len(line) + 2
    length = start + size + 2 - at
    run = min(run, (len(data) - at) // length)
    if run > 1:
        end = at + run * length
        found = data[start : end - 2].split(b"\r\n%b\r\n" % line)
        # A payload may contain that, too: then it is split, and one of its parts is shorter.
        if len(found) == run and set(map(len, found)) == {size}:
            payloads += found
            return end
    payloads.append(data[start : start + size])
    return at + length


def _read_line(line: bytes) -> _Announced | Ping | Pong | Info | ServerError:
    words = line.split()
    if len(words) == 6 and words[0] == b"HMSG":
        # Nearly always, if messages are stored; anything wrong about it is found below.
        _, subject, sid, reply, header_bytes, size = words
        if header_bytes.isdigit() and size.isdigit() and max(len(header_bytes), len(size)) < _MAX_SIZE_DIGITS:
            found = _Announced(subject, sid, reply, int(header_bytes), int(size))
            if found.header_bytes <= found.bytes <= _MAX_MESSAGE_BYTES:
                return found
    name, _, rest = line.partition(b" ")
    match name.upper():
        case b"HMSG":
            return _announced(rest.split(), with_headers=True)
        case b"MSG":
            return _announced(rest.split(), with_headers=False)
        case b"PING":
            return Ping()
        case b"PONG":
            return Pong()
        case b"-ERR":
            return ServerError(rest.strip().strip(b"'").decode(errors="backslashreplace"))
        case b"INFO":
            return parse_info(rest)
    raise ProtocolError(f"no operation of NATS: {line[:40]!r}")


def parse_info(text: bytes) -> Info:
    """Read the JSON of an INFO line.

    Raises:
        ProtocolError: it is no JSON object.
    """
    try:
        fields = from_json(text)
    except ValueError:
        raise ProtocolError("INFO is no JSON") from None
    if not isinstance(fields, dict):
        raise ProtocolError("INFO is no JSON object")
    return Info(fields)


def _announced(words: list[bytes], *, with_headers: bool) -> _Announced:
    sizes = 2 if with_headers else 1
    if len(words) - sizes not in (2, 3):
        raise ProtocolError(f"a message is announced with {len(words)} words")
    numbers = [int(word) for word in words[-sizes:] if word.isdigit() and len(word) < _MAX_SIZE_DIGITS]
    if len(numbers) != sizes or not (header_bytes := numbers[0] if with_headers else 0) <= numbers[-1] <= _MAX_MESSAGE_BYTES:
        raise ProtocolError(f"the size of a message is {b' '.join(words[-sizes:])[:40]!r}")
    subject, sid, *reply = words[:-sizes]
    return _Announced(subject, sid, reply[0] if reply else b"", header_bytes, numbers[-1])


# What a client writes


def connect(fields: Mapping[str, object]) -> bytes:
    """CONNECT, with what the client says of itself."""
    return b"CONNECT " + to_json(dict(fields)) + CRLF


def subscribe(subject: bytes, sid: bytes, group: bytes = b"") -> bytes:
    """SUB; of a group each message goes to one member."""
    return b"SUB %b %b%b\r\n" % (subject, group + b" " if group else b"", sid)


def unsubscribe(sid: bytes) -> bytes:
    """UNSUB."""
    return b"UNSUB %b\r\n" % sid


def publish_start(subject: bytes, size: int, *, reply: bytes = b"", headers: bytes = b"") -> bytes:
    """The beginning of PUB, or of HPUB if there is a block of headers; a payload of this size and CR LF have to follow."""
    words = subject + b" " + reply if reply else subject
    if not headers:
        return b"PUB %b %d\r\n" % (words, size)
    return b"HPUB %b %d %d\r\n%b" % (words, len(headers), len(headers) + size, headers)


def publish(subject: bytes, payload: bytes, *, reply: bytes = b"", headers: bytes = b"") -> bytes:
    """PUB, or HPUB if there is a block of headers."""
    return publish_start(subject, len(payload), reply=reply, headers=headers) + payload + CRLF


def publications(data: bytes) -> Iterator[bytes]:
    """Yield each PUB and HPUB of what was written."""
    at = 0
    while at < len(data):
        end = data.index(CRLF, at)
        stop = end + 2 * len(CRLF) + published_bytes(data[at:end])
        yield data[at:stop]
        at = stop


def published_bytes(publication: bytes) -> int:
    """The headers and the payload of a PUB or HPUB, in bytes: a server limits these two together."""
    return int(publication.partition(CRLF)[0].rpartition(b" ")[2])


def identified_publication(subject: bytes, reply: bytes, header: str, identifier: bytes) -> tuple[bytes, int]:
    """Return a format for HPUB with one header, for publications that differ by a number; and the bytes of its headers.

    The format takes the number, which it appends to the reply subject; the bytes of the headers, the digits of the number
    included; those and the bytes of the payload; the number again, which it appends to the identifier; and the payload.
    """
    block = header_block([(header, "%b%d")]).replace(b"%b", identifier)
    line = (b"HPUB %b %b" % (subject, reply)).replace(b"%", b"%%")
    return line + b"%d %d %d\r\n" + block + b"%b\r\n", len(block) - len(b"%d")


# Headers


def header_block(lines: list[tuple[str, str]]) -> bytes:
    """A block of headers; names and values are written as they are."""
    return b"".join((_STATUS_LINE, CRLF, *(f"{name}: {value}\r\n".encode(errors="replace") for name, value in lines), CRLF))


class Headers(NamedTuple):
    """What a block of headers says.

    Attributes:
        status: of an answer of the server itself, such as 503; 0 in other messages.
        description: what the status means.
        lines: names and values.
    """

    status: int = 0
    description: str = ""
    lines: tuple[tuple[str, str], ...] = ()

    def get(self, name: str) -> str:
        """The first value with this name, in any case; empty if there is none."""
        return next((value for found, value in self.lines if found.lower() == name.lower()), "")


def parse_headers(block: bytes) -> Headers:
    """Read a block of headers, which may be anything: what cannot be read is left out."""
    first, *rest = block.decode(errors="replace").split("\r\n")
    if not first.startswith(_STATUS_LINE.decode()):
        return Headers()
    status, _, description = first[len(_STATUS_LINE) :].strip().partition(" ")
    lines = tuple(
        (name.strip(" \t"), value.strip(" \t"))
        for name, colon, value in (line.partition(":") for line in rest)
        if colon and name
    )
    return Headers(int(status) if status.isascii() and status.isdigit() and len(status) < 6 else 0, description, lines)
