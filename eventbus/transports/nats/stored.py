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
# If only the newest messages are wanted, so many are read as fast as it is found out where fewer begin.
_FEW, _FEW_TIMES = 100, 4
_GROWTH = 16  # from one step away from the end of the stream to the next


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
        name = _new_name()
        messages = self._waiting[sid] = SimpleQueue()
        link.post(subscribe(inbox + b".*", sid))
        try:
            left = self._begin(link, name, query, _policy_of(query), timeout)
            name, left = self._begin_later(link, name, query, left, timeout)
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
            link.post(unsubscribe(sid) + self._deletion(link, name))

    def _is_exhausted(self, link: NatsLink, name: str, came: int, deadline: Deadline) -> bool:
        """Whether all that the stream still has came: limits or an operator may have removed messages meanwhile."""
        try:
            message = link.request(streams.API + f"CONSUMER.INFO.{self._stream}.{name}".encode(), b"", deadline)
        except OSError:
            return False
        info, error = streams.answer_of(message.payload)
        delivered_to_us = info.get("delivered", {}).get("consumer_seq")
        return error is None and info.get("num_pending") == 0 and delivered_to_us == came

    def _begin_later(self, link: NatsLink, name: str, query: Query, left: int, timeout: float) -> tuple[str, int]:
        """Replace the consumer by one that begins nearer to the end, if only the newest messages of one topic are wanted.

        Returns the name of the one to read, and how many messages it will deliver: those that are wanted, and not many more.
        """
        wanted = query.last or 0
        enough = max(_FEW, _FEW_TIMES * wanted)
        if left <= enough or not wanted or query.until is not None or query.topics is None or len(query.topics) != 1:
            return name, left
        state = self._ask(link, f"STREAM.INFO.{self._stream}", b"", timeout).get("state", {})
        end = int(state.get("last_seq") or 0)
        # So many of the stream's last messages have too few on the topic, and so many have enough.
        too_few, many = 0, end - query.after
        while left > enough:
            span = min(max(wanted, _GROWTH * too_few), (too_few + many) // 2)
            if span <= too_few:
                break
            later = _new_name()
            count = self._begin(link, later, query, streams.policy_after(end - span), timeout)
            if count < wanted:
                link.post(self._deletion(link, later))
                too_few = span
            else:
                link.post(self._deletion(link, name))
                name, left, many = later, count, span
        return name, left

    def _deletion(self, link: NatsLink, name: str) -> bytes:
        subject = streams.API + f"CONSUMER.DELETE.{self._stream}.{name}".encode()
        return publish(subject, b"", reply=link.inbox + b".d")

    def _begin(self, link: NatsLink, name: str, query: Query, policy: streams.Json, timeout: float) -> int:
        """Make the consumer; return how many messages it will deliver."""
        topics = (b"",) if query.topics is None else query.topics
        subjects = {self._carried.subject(topic).decode() for topic in topics}
        config = streams.ephemeral_config(name, subjects, policy)
        request = streams.create_consumer(self._stream, config)
        answer = self._ask(link, f"CONSUMER.CREATE.{self._stream}.{name}", request, timeout)
        return int(answer.get("num_pending") or 0)

    def _ask(self, link: NatsLink, subject: str, payload: bytes, timeout: float) -> streams.Json:
        try:
            message = link.request(streams.API + subject.encode(), payload, Deadline(timeout))
        except OSError:
            raise NoAnswer(self._stream, "history", timeout) from None
        answer, error = streams.answer_of(message.payload)
        if error is not None:
            connection = link.connection
            raise NatsRefused("" if connection is None else str(connection.server), error.text)
        return answer


def _new_name() -> str:
    return f"eb-{os.urandom(8).hex()}"


def _policy_of(query: Query) -> streams.Json:
    """Where the consumer for a query begins."""
    if query.after and query.last != 1:
        return streams.policy_after(query.after)
    if query.since is not None:
        since = datetime.fromtimestamp(query.since, UTC).isoformat().replace("+00:00", "Z")
        return {"deliver_policy": "by_start_time", "opt_start_time": since}
    return {"deliver_policy": "last_per_subject" if query.last == 1 else "all"}
