"""Requests and answers: the headers and topics that make them of messages. Pure, and light enough for the proxy's process.

A request is an ordinary event, and an answer an ordinary message, with headers (see `first_frame`):

==================  ==========  ===================================================================================
header              of          value
==================  ==========  ===================================================================================
``reply-to``        a request   the topic to which answers go
``correlation-id``  both        which of the asker's requests this is
``error-type``      an answer   the class of what the handler has raised; the payload is ``null`` then
``error-text``      an answer   its text, cut; never a traceback
``more``            an answer   ``true``: more answers of the same answerer to this request follow
==================  ==========  ===================================================================================

A reply topic is ``_reply/OWNER/RANDOM``: 16 hexadecimal digits that depend on the public key of the asking client (zeros, if
it has none), and 32 random ones. A proxy with rules lets clients subscribe to reply topics of their own key only (see
proxy/authorizer.py). Every client that knows a reply topic can send answers to it; only those who get the request know it,
and those who may subscribe to everything.
"""

import os
from collections.abc import Mapping
from typing import NamedTuple, Self

from eventbus.wire.frames import MARK
from eventbus.wire.private_topics import REPLY_PREFIX

REPLY_TO, CORRELATION_ID = "reply-to", "correlation-id"
ERROR_TYPE, ERROR_TEXT = "error-type", "error-text"
MORE = "more"

_OWNER_DIGITS, _RANDOM_BYTES = 16, 16
_REPLY_TOPIC_BYTES = len(REPLY_PREFIX) + _OWNER_DIGITS + len(b"/") + 2 * _RANDOM_BYTES
_HEX_DIGITS = b"0123456789abcdef"
_MAX_ID_CHARACTERS = 64
_AS_IT_STANDS = b'"%s":' % CORRELATION_ID.encode()

# The headers of requests and of answers, encoded, if there are no others, as nearly always. Written and read so they take a
# tenth of the time that JSON in general does.
_REQUEST = b'{"reply-to":"%b","correlation-id":"%b"}'
ID_ALONE = b'{"correlation-id":"'  # how those of an answer begin; the id and two characters follow


class Request(NamedTuple):
    """The destination of the answers to a request.

    Attributes:
        reply_to: the reply topic, as its frame.
        correlation_id: the id of the request among those of the asker.
    """

    reply_to: bytes
    correlation_id: str

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Self | None:
        """Return the request that a message with these headers is; None if it is an ordinary event. Anything may come.

        What is no reply topic is not taken for one: else a peer could have answerers publish on any topic.
        """
        reply_to, correlation_id = headers.get(REPLY_TO), headers.get(CORRELATION_ID)
        if reply_to is None or not correlation_id or len(correlation_id) > _MAX_ID_CHARACTERS:
            return None
        topic = reply_to.encode(errors="replace")
        return cls(topic, correlation_id) if is_reply_topic(topic) else None

    @classmethod
    def alone_in(cls, encoded: bytes) -> Self | None:
        """Do the same with encoded headers that are just as `request_headers` makes them; None for any others."""
        match encoded.split(b'"'):
            case [b"{", b"reply-to", b":", topic, b",", b"correlation-id", b":", correlation_id, b"}"] if (
                correlation_id.isalnum() and len(correlation_id) <= _MAX_ID_CHARACTERS and is_reply_topic(topic)
            ):
                return cls(topic, correlation_id.decode())
            case _:
                return None


def request_headers(reply_to: bytes, correlation_id: str) -> bytes:
    """Return the encoded headers of a request: a reply topic, and an id of ASCII letters and digits."""
    return _REQUEST % (reply_to, correlation_id.encode())


def answer_headers(correlation_id: str) -> bytes | None:
    """Return the encoded headers of an answer that has no others; None if the id is not one of ASCII letters and digits."""
    if not (correlation_id.isascii() and correlation_id.isalnum()):
        return None
    return b'%b%b"}' % (ID_ALONE, correlation_id.encode())


def owner_of(public_key: str | None) -> bytes:
    """The part of a reply topic that depends on the asking client's public key; zeros if it has none."""
    if public_key is None:
        return b"0" * _OWNER_DIGITS
    # Loads OpenSSL, 3.5 MB, which only clients with keys and proxies with rules need.
    from hashlib import blake2b

    return blake2b(public_key.encode(), digest_size=_OWNER_DIGITS // 2).hexdigest().encode()


def new_reply_topic(owner: bytes) -> bytes:
    """Return a reply topic that nobody can guess."""
    return b"%b%b/%b" % (REPLY_PREFIX, owner, os.urandom(_RANDOM_BYTES).hex().encode())


def owner_of_reply_topic(topic: bytes) -> bytes:
    """The owner part of a reply topic."""
    return topic[len(REPLY_PREFIX) : len(REPLY_PREFIX) + _OWNER_DIGITS]


def is_reply_topic(topic: bytes) -> bool:
    """Whether this is a reply topic, of whatever client."""
    return (
        len(topic) == _REPLY_TOPIC_BYTES
        and topic.startswith(REPLY_PREFIX)
        and not topic[len(REPLY_PREFIX) :].replace(b"/", b"", 1).strip(_HEX_DIGITS)
        and topic[len(REPLY_PREFIX) + _OWNER_DIGITS] == ord("/")
    )


def is_reply_topic_of(topic: bytes, owner: bytes) -> bool:
    """Whether this is a reply topic of the client with this owner part."""
    return is_reply_topic(topic) and topic.startswith(REPLY_PREFIX + owner + b"/")


def is_answer(first: bytes) -> bool:
    """Whether a first frame is that of an answer: a reply topic, with headers that have a correlation id."""
    topic, _, rest = first.partition(MARK)
    return rest[:1] == MARK and _AS_IT_STANDS in rest and is_reply_topic(topic)
