"""The topics that carry no events: of answers, of histories, and of who is there."""

from eventbus.errors import InvalidTopic
from eventbus.wire.frames import topic_frame

REPLY_PREFIX = b"_reply/"
HISTORY_PREFIX = b"_history/"
PRESENCE_PREFIX = b"_clients/"

PRIVATE_PREFIXES = REPLY_PREFIX, HISTORY_PREFIX, PRESENCE_PREFIX
"""How all of them begin."""

PRESENCE_TOPIC = PRESENCE_PREFIX + b"who"
"""The topic of the question who is there."""

EVERYTHING_TOPIC = PRESENCE_PREFIX + b"everything"
"""Who subscribes to all topics and may answer requests on them subscribes to this one, too, on which nothing is sent. So
clients that ask can tell it from who only watches: a historian, `eventbus tail`."""


def event_topic_frame(topic: str) -> bytes:
    """Return the frame of a topic that events are to be sent on.

    Raises:
        InvalidTopic: it carries no events, or as `topic_frame`.
    """
    frame = topic_frame(topic)
    if frame.startswith(PRIVATE_PREFIXES):
        prefix = topic.partition("/")[0] + "/"
        raise InvalidTopic(f"topic {topic!r} carries no events: the bus itself uses those that begin with {prefix!r}")
    return frame
