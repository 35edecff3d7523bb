"""What a proxy tells a client that it has denied something, for the client cannot see it: one frame that goes upstream.

It goes to all publishers, as everything does that goes upstream, and names the client by its public key.
"""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

_START = b"\x02"  # subscriptions begin with 1, their ends with 0
_SHOWN = 255  # bytes of a topic


class Action(StrEnum):
    """What can be denied."""

    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"


@dataclass(frozen=True, slots=True)
class DenialNotice:
    """Something that a client was denied.

    Attributes:
        key: the client's public key.
        action: what it tried.
        topic: where, cut off after 255 bytes.
        count: how often, since it was told of this last.
    """

    key: str
    action: Action
    topic: bytes
    count: int

    def frame(self) -> bytes:
        """The frame that tells of it."""
        topic = self.topic[:_SHOWN].decode(errors="backslashreplace")
        return _START + json.dumps([self.key, self.action, topic, self.count]).encode()

    @classmethod
    def of(cls, frame: bytes) -> Self | None:
        """What a frame tells of; None if it is another one. Anything may come."""
        if frame[:1] != _START:
            return None
        try:
            key, action, topic, count = json.loads(frame[1:])
            if not isinstance(key, str) or not isinstance(topic, str) or type(count) is not int or count < 1:
                return None
            return cls(key, Action(action), topic.encode(errors="backslashreplace")[:_SHOWN], count)
        except (ValueError, TypeError, RecursionError):
            return None
