"""Requests to a NATS server that wait for their answers."""

import os
from dataclasses import dataclass, field
from itertools import count
from threading import Event

from eventbus.transports.nats.protocol import Message

INBOX_SID = b"1"


@dataclass
class Request:
    """A request that waits for its answer.

    Attributes:
        token: the last part of the subject where the answer is expected.
        done: set when the answer has come, or will not come.
        answer: the answer, if it has come.
    """

    token: bytes
    done: Event = field(default_factory=Event)
    answer: Message | None = None


class Requests:
    """Those of one link. Any thread may call any method.

    Attributes:
        inbox: how the subjects of all answers begin, and of all else that is for this link alone.
    """

    def __init__(self) -> None:
        self.inbox = b"_INBOX." + os.urandom(11).hex().encode()
        self._waiting: dict[bytes, Request] = {}
        self._tokens = count(1)

    def begin(self) -> Request:
        """A request is about to be sent; `end` has to follow."""
        token = b"r%d" % next(self._tokens)
        request = self._waiting[token] = Request(token)
        return request

    def end(self, request: Request) -> None:
        """Nobody waits for the answer any more."""
        self._waiting.pop(request.token, None)

    def take(self, message: Message) -> bool:
        """Take a message if it is an answer."""
        if message.sid != INBOX_SID or (request := self._waiting.get(message.subject.rpartition(b".")[2])) is None:
            return False
        request.answer = message
        request.done.set()
        return True

    def give_up(self) -> None:
        """No answers will come to those that wait now."""
        for request in list(self._waiting.values()):
            request.done.set()
