"""Messages as a stream delivers them: their reply subject says which consumer they are for, and where they are stored. Pure.

See https://docs.nats.io/using-nats/developer/develop_jetstream/consumers, and ADR-15 of NATS for the reply subject.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

_ACK = b"$JS.ACK."
_NANOSECONDS = 1_000_000_000

type FromStream = tuple[bytes, bytes, int, bytes, bytes, bytes]
"""A message: subject, consumer, number in the stream, reply subject, block of headers, payload.

A plain tuple, because one is made for each.
"""


class Delivered(NamedTuple):
    """What the reply subject of a message from a stream says.

    Attributes:
        consumer: the consumer that it came for.
        times: how often it was delivered, this time included.
        stream_seq: its number in the stream.
        nanoseconds: when it was stored, since 1970.
    """

    consumer: bytes
    times: int
    stream_seq: int
    nanoseconds: int = 0

    @property
    def time(self) -> float:
        """When it was stored, in seconds since 1970."""
        return self.nanoseconds / _NANOSECONDS


def delivered(reply: bytes) -> Delivered | None:
    """Read a reply subject; None if it is of no message from a stream."""
    if not reply.startswith(_ACK):
        return None
    parts = reply.split(b".")
    at = 5 if len(parts) >= 11 else 3  # behind the domain and the account, if there are any
    if len(parts) < at + 6:
        return None
    consumer, times, number, _, time, *_ = parts[at:]
    if not (times.isdigit() and number.isdigit()):
        return None
    return Delivered(consumer, int(times), int(number), int(time) if time.isdigit() else 0)


def from_stream(subject: bytes, reply: bytes, headers: bytes, payload: bytes) -> FromStream | None:
    """Return the message; None if it is of no stream."""
    known = delivered(reply)
    return None if known is None else (subject, known.consumer, known.stream_seq, reply, headers, payload)


def line_finder(sid: bytes) -> Callable[[bytes, int], re.Match[bytes] | None]:
    """Return what finds, at a position, a line that announces a message with headers from a stream for this subscription.

    Its groups: the subject, the reply subject, the consumer, the number, the bytes of the headers, and of all. It finds the
    lines of a server without domains, which are nearly all; `from_stream` reads the others.
    """
    subject = rb"[^ \r\n]+"
    reply = rb"\$JS\.ACK\.[^. \r\n]+\.([^. \r\n]+)\.\d+\.(\d{1,19})\.\d+\.\d+\.\d+"
    line = rb"HMSG (%b) %b (%b) (\d{1,11}) (\d{1,11})\r\n" % (subject, re.escape(sid), reply)
    return re.compile(line).match
