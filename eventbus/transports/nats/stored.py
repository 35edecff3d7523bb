"""Reading what a stream has stored, beside what is being received: a consumer of its own for each question."""

import os
from collections import defaultdict, deque
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from queue import Empty, SimpleQueue

from eventbus._base.deadline import Deadline
from eventbus.errors import NatsRefused, NoAnswer
from eventbus.transports.nats import streams
from eventbus.transports.nats.delivered import delivered
from eventbus.transports.nats.first_frames import Carried
from eventbus.transports.nats.link import NatsLink
from eventbus.transports.nats.protocol import Message, parse_headers, publish, subscribe, unsubscribe
from eventbus.wire.frames import topic_of
from eventbus.wire.history import Query, Stored

_SID = b"h"  # how the identifiers of these subscriptions begin
_PORTION = 500  # messages
_EXPIRES_S = 30.0
_LOOK_S = 0.25  # without a message, after which who reads may see whether it is still to do so
_NO_MORE = {404, 408}  # statuses


class StoredMessages:
    """Asks for stored messages. Any thread may use it.

    Args:
        stream: the name of the stream.
        carried: makes first frames of subjects.
    """

    def __init__(self, stream: str, carried: Carried) -> None:
        self._stream = stream
        self._carried = carried
        self._questions = count(1)
        self._waiting: dict[bytes, SimpleQueue[Message | None]] = {}

    def take(self, message: Message) -> bool:
        """Take a message if it answers a question."""
        waiting = self._waiting.get(message.sid)
        if waiting is None:
            return message.sid.startswith(_SID)
        waiting.put(message)
        return True

    def connection_lost(self) -> None:
        """Let all who wait for messages raise NoAnswer at once. On the link's thread."""
        for waiting in list(self._waiting.values()):
            waiting.put(None)

    def read(self, link: NatsLink, query: Query, timeout: float) -> Iterator[list[Stored]]:
        """Yield what a query asks for; see `KeepsHistory.stored`."""
        if query.last == 0 or query.topics == ():
            return
        portions = self._portions(link, query, timeout)
        if query.last is None or query.last == 1:
            yield from portions
            return
        newest: defaultdict[bytes, deque[Stored]] = defaultdict(lambda: deque(maxlen=query.last))
        for portion in portions:
            for message in portion:
                newest[topic_of(message.first)].append(message)
        found = sorted((one for of_topic in newest.values() for one in of_topic), key=lambda one: one.position)
        for start in range(0, len(found), _PORTION):
            yield found[start : start + _PORTION]

    def _portions(self, link: NatsLink, query: Query, timeout: float) -> Iterator[list[Stored]]:
        number = next(self._questions)
        sid, inbox = b"%b%d" % (_SID, number), b"%bh%d" % (link.inbox, number)
        name = f"eb-{os.urandom(8).hex()}"
        messages = self._waiting[sid] = SimpleQueue()
        link.post(subscribe(inbox + b".*", sid))
        try:
            left = self._begin(link, name, query, timeout)
            pulled = came = 0
            while left > 0:
                portion: list[Stored] = []
                batch = min(left, _PORTION)
                pulled += 1
                subject = streams.API + f"CONSUMER.MSG.NEXT.{self._stream}.{name}".encode()
                link.post(publish(subject, streams.pull(batch, _EXPIRES_S, 0.0), reply=b"%b.%d" % (inbox, pulled)))
                deadline = Deadline(timeout)
                while len(portion) < batch:
                    try:
                        message = messages.get(timeout=min(_LOOK_S, deadline.left()))
                    except Empty:
                        if deadline.passed():
                            raise NoAnswer(self._stream, "history", timeout) from None
                        yield []
                        if self._is_exhausted(link, name, came, Deadline(min(_LOOK_S, deadline.left()))):
                            left = 0
                            break
                        continue
                    if message is None:
                        raise NoAnswer(self._stream, "history", timeout)
                    known = delivered(message.reply)
                    if known is None:
                        status = parse_headers(message.headers).status if message.headers else 0
                        if status in _NO_MORE:
                            left = 0
                            break
                        if status:  # the consumer is gone: nobody has read for too long, or the server was restarted
                            raise NoAnswer(self._stream, "history", timeout)
                        continue
                    came += 1
                    if known.stream_seq <= query.after:
                        left -= 1
                        batch -= 1
                        continue
                    if query.until is not None and known.stream_seq > query.until:
                        left = 0
                        break
                    first = self._carried.inward(message.subject, message.headers)
                    portion.append(Stored(known.stream_seq, known.time, first, message.payload))
                left -= batch
                if portion:
                    yield portion
        finally:
            del self._waiting[sid]
            subject = streams.API + f"CONSUMER.DELETE.{self._stream}.{name}".encode()
            link.post(unsubscribe(sid) + publish(subject, b"", reply=link.inbox + b".d"))

    def _is_exhausted(self, link: NatsLink, name: str, came: int, deadline: Deadline) -> bool:
        """Whether all that the stream still has came: limits or an operator may have removed messages meanwhile."""
        try:
            message = link.request(streams.API + f"CONSUMER.INFO.{self._stream}.{name}".encode(), b"", deadline)
        except OSError:
            return False
        info, error = streams.answer_of(message.payload)
        delivered_to_us = info.get("delivered", {}).get("consumer_seq")
        return error is None and info.get("num_pending") == 0 and delivered_to_us == came

    def _begin(self, link: NatsLink, name: str, query: Query, timeout: float) -> int:
        """Make the consumer; return how many messages it will deliver."""
        if query.after and query.last != 1:
            policy = streams.policy_after(query.after)
        elif query.since is not None:
            since = datetime.fromtimestamp(query.since, UTC).isoformat().replace("+00:00", "Z")
            policy = {"deliver_policy": "by_start_time", "opt_start_time": since}
        else:
            policy = {"deliver_policy": "last_per_subject" if query.last == 1 else "all"}
        topics = (b"",) if query.topics is None else query.topics
        subjects = {self._carried.subject(topic).decode() for topic in topics}
        config = streams.ephemeral_config(name, subjects, policy)
        request = streams.create_consumer(self._stream, config)
        try:
            message = link.request(
                streams.API + f"CONSUMER.CREATE.{self._stream}.{name}".encode(), request, Deadline(timeout)
            )
        except OSError:
            raise NoAnswer(self._stream, "history", timeout) from None
        answer, error = streams.answer_of(message.payload)
        if error is not None:
            connection = link.connection
            raise NatsRefused("" if connection is None else str(connection.server), error.text)
        return int(answer.get("num_pending") or 0)
