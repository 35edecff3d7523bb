"""The notice with which a proxy tells a client that it has denied something, which the client cannot see by itself.

A notice is one frame that goes upstream, to all publishers, as every upstream frame does. It names the client by its public
key, and clients ignore the notices of others.
"""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from eventbus.wire.frames import MAX_TOPIC_BYTES

_START = b"\x02"  # a subscription begins with 1, its end with 0


class Action(StrEnum):
    """What a proxy can deny."""

    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"


@dataclass(frozen=True, slots=True)
class DenialNotice:
    """What a client was denied.

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
        """Return the frame that carries this notice."""
        topic = self.topic[:MAX_TOPIC_BYTES].decode(errors="backslashreplace")
        return _START + json.dumps([self.key, self.action, topic, self.count]).encode()

    @classmethod
    def of(cls, frame: bytes) -> Self | None:
        """Return the notice that a frame carries; None if it carries none. The frame may hold any bytes."""
        if frame[:1] != _START:
            return None
        try:
            key, action, topic, count = json.loads(frame[1:])
            if not isinstance(key, str) or not isinstance(topic, str) or type(count) is not int or count < 1:
                return None
            return cls(key, Action(action), topic.encode(errors="backslashreplace")[:MAX_TOPIC_BYTES], count)
        except (ValueError, TypeError, RecursionError):
            return None
