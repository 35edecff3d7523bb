"""Notices: frames with which a proxy tells publishers what they cannot see by themselves.

A notice goes upstream, as subscriptions do, and to all publishers, as every upstream frame does. Publishers that do not know
it ignore it. Without an allow-list with rules any client can forge notices, as it can forge events.

A notice that must also reach publishers that connect later travels as a subscription that matches no topic: an XSUB socket
repeats its subscriptions to each publisher that connects, until they end.
"""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from eventbus.wire.frames import MAX_TOPIC_BYTES, PRIVATE, TOKEN_BYTES

MIN_PAYLOAD_LIMIT = 1_024
"""No proxy of ours has a smaller limit, in bytes: that would refuse topics, and even the handshake."""

OTHER_TOPICS = "…".encode()
"""Stands in a notice for all topics that have no notice of their own."""

_START = b"\x02"  # a subscription begins with 1, its end with 0
_SUBSCRIBE = b"\x01"
_LASTING_START = _SUBSCRIBE + PRIVATE + _START
_LIMIT_START = _SUBSCRIBE + PRIVATE + b"\0"
_SERIAL_BYTES = 16


class Action(StrEnum):
    """An action that a proxy can deny."""

    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"

    def on(self, topic: bytes) -> str:
        """Return the action and its topic in words; no topic is every topic, for a subscriber."""
        return f"{self} to all topics" if self is Action.SUBSCRIBE and not topic else f"{self} on topic {topic!r}"


@dataclass(frozen=True, slots=True)
class DenialNotice:
    """A denial: the action that a proxy did not permit to a client.

    Attributes:
        key: the client's public key.
        action: what the client tried.
        topic: the topic, cut off after 255 bytes.
        count: how often, since the last notice about the same.
    """

    key: str
    action: Action
    topic: bytes
    count: int

    def frame(self) -> bytes:
        """Return the frame that carries this notice to the publishers that are connected."""
        return _START + self._content()

    def lasting_frame(self, serial: bytes) -> bytes:
        """Return the subscription that carries this notice, also to publishers that connect before it ends.

        It is longer than a token, so an enforcer does not pass on what a client forges.

        Args:
            serial: 16 bytes, other ones for each notice: libzmq does not repeat to an application what it has told it.
        """
        return _LASTING_START + serial + self._content()

    def _content(self) -> bytes:
        topic = self.topic[:MAX_TOPIC_BYTES].decode(errors="backslashreplace")
        return json.dumps([self.key, self.action, topic, self.count]).encode()

    @classmethod
    def of(cls, frame: bytes) -> Self | None:
        """Return the notice that a frame carries, lasting or not; None if it carries none. The frame may hold any bytes."""
        if frame.startswith(_LASTING_START):
            content = frame[len(_LASTING_START) + _SERIAL_BYTES :]
        elif frame.startswith(_START):
            content = frame[len(_START) :]
        else:
            return None
        try:
            key, action, topic, count = json.loads(content)
            if not isinstance(key, str) or not isinstance(topic, str) or type(count) is not int or count < 1:
                return None
            return cls(key, Action(action), topic.encode(errors="backslashreplace")[:MAX_TOPIC_BYTES], count)
        except (ValueError, TypeError, RecursionError):
            return None


@dataclass(frozen=True, slots=True)
class LimitNotice:
    """The largest payload that a proxy takes: it disconnects a publisher that sends a larger one.

    This notice travels as a subscription that matches no topic, because an XSUB socket repeats its subscriptions to each
    publisher that connects. It repeats them in ascending order, so this one comes before the token with which a client
    proves its connection: a connected client knows the limit.

    It is longer than a token, and what is not longer is not read. So an enforcer passes on nothing that a client forges.

    Attributes:
        max_payload_bytes: the largest payload that the proxy passes on, in bytes; at least `MIN_PAYLOAD_LIMIT`.
        run: a random text of 16 characters or more, another one each time that a proxy starts: libzmq does not repeat to an
            application what it was told by an earlier proxy.
    """

    max_payload_bytes: int
    run: str

    def frame(self) -> bytes:
        """Return the frame that carries this notice."""
        return _LIMIT_START + json.dumps([self.max_payload_bytes, self.run]).encode()

    @classmethod
    def of(cls, frame: bytes) -> Self | None:
        """Return the notice that a frame carries; None if it carries none. The frame may hold any bytes."""
        if not frame.startswith(_LIMIT_START) or len(frame) <= len(_SUBSCRIBE) + TOKEN_BYTES:
            return None
        try:
            limit, run = json.loads(frame[len(_LIMIT_START) :])
            if type(limit) is not int or limit < MIN_PAYLOAD_LIMIT or not isinstance(run, str):
                return None
            return cls(limit, run)
        except (ValueError, TypeError, RecursionError):
            return None
