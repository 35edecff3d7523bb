"""The topics that carry no events: of answers, of histories, and of who is there."""

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
