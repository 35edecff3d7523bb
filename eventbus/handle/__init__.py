"""The last step of an event: what marks a handler, what is called around it, and what it can ask.

The first middleware of a client is the outermost: with ``[DeadLetter(…), Retry(), TimeLimit(5)]`` an event becomes a dead
letter when all attempts have failed, each of which may take five seconds.
"""

from eventbus.handle.current import current_headers, current_topic
from eventbus.handle.marks import answers, every, on
from eventbus.handle.middleware import Delivery, Emission, Middleware

__all__ = [
    "Delivery",
    "Emission",
    "Middleware",
    "answers",
    "current_headers",
    "current_topic",
    "every",
    "on",
]
