"""Stored messages: the server keeps them in a stream, and acknowledges each when it has it."""

import os
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from time import monotonic, time_ns

from eventbus._base.deadline import Deadline
from eventbus.errors import HandshakeFailed, NotConnected, PermissionDenied
from eventbus.nats_options import NatsOptions
from eventbus.observe.stats import DropReason
from eventbus.options import ZeroMQOptions
from eventbus.policies import Packing, Start
from eventbus.transports.nats import streams
from eventbus.transports.nats.asking import INBOX_SID
from eventbus.transports.nats.consumer import PULL_SID, StreamConsumer
from eventbus.transports.nats.credentials import user_of
from eventbus.transports.nats.first_frames import Carried, block_of
from eventbus.transports.nats.group_consumer import GroupConsumer
from eventbus.transports.nats.inbox import Delivery
from eventbus.transports.nats.link import NatsLink
from eventbus.transports.nats.outgoing import Outgoing, Waiting
from eventbus.transports.nats.own_consumer import OwnConsumer
from eventbus.transports.nats.packing import Packed, packed
from eventbus.transports.nats.protocol import (
    NO_RESPONDERS,
    Arrived,
    Message,
    Parser,
    identified_publication,
    parse_headers,
    publish,
    published_bytes,
    subscribe,
)
from eventbus.transports.nats.stored import StoredMessages
from eventbus.transports.nats.transport import NatsTransport
from eventbus.transports.nats.window import UnderWay, Window
from eventbus.wire.first_frame import with_headers
from eventbus.wire.frames import MARK, MAX_PACKED_BYTES, Batch, topic_of
from eventbus.wire.history import Query, Stored
from eventbus.wire.numbering import Numbering

_ACK = b"a"  # how the last part of an inbox begins to which a publication is acknowledged
_IDENTIFIER = "Nats-Msg-Id"
_MAX_FORMS = 10_000  # that are remembered
_AT_ONCE = 4_096  # messages that are taken from the send buffer
_WORTH_A_MESSAGE = 256  # events that are sent without waiting for more
_MANY = 1_024  # messages of the send buffer under way: somebody sends as fast as possible
# At low rates a message leaves at once, while so few are under way and the last one left so long ago.
_FEW, _ALONE_S = 16, 0.00025
# If it left so long ago, acknowledgements are read later: on a machine of few cores that would delay how the message itself
# is stored and delivered.
_SELDOM_S = 0.0005


class JetStreamTransport(NatsTransport):
    """Fulfils `eventbus.transports.contract.Transport` over NATS JetStream.

    A message stays in the send buffer until the server has stored it. Events that wait anyway share a message, unless the
    option `packing` is NONE. A client of no group remembers its own position, and
    goes on there after an interruption; the workers of a group share the messages, and confirm those that they have handled.

    Args:
        nats: where the servers are, the group, where to begin, and how the stream is made.
        options: how the connection behaves.

    Raises:
        InvalidSettings: the URL or another option cannot be right.
    """

    is_stored = True
    _own_header_bytes = 150  # an identifier and a number

    def __init__(self, nats: NatsOptions | None = None, options: ZeroMQOptions | None = None) -> None:
        super().__init__(nats, options)
        self.confirms = self._nats.group is not None
        self._packing = self._options.packing is not Packing.NONE
        self._numbering: Numbering | None = None
        self._window = Window()
        self._numbers = count(1)  # of publications
        self._encoded: deque[UnderWay] = deque()  # wait for room in the window
        self._publisher = b""
        # Of the publications of each topic: the subject, the format, and the bytes of their headers.
        self._forms: dict[bytes, tuple[bytes, bytes, int]] = {}
        self._events = 0
        # Of publications: their numbers, the answers, and the headers of those. The reader puts them in.
        self._acks: deque[tuple[int, bytes, bytes]] = deque()
        self._refused_subjects: deque[str] = deque()
        self._stored = StoredMessages(self._nats.stream, Carried(self._nats.prefix))
        self._waits_until = 0.0  # 0: nothing waits for more
        self._left_at = 0.0  # when the last message has
        self._seldom = 0  # the number of the last that left long after the one before
        self._encoded_items = 0
        self._current: NatsLink | None = None  # also while it is closed
        self._consumer = self._new_consumer()

    def sibling(self) -> "JetStreamTransport":
        """Of no group: a position of its own."""
        options = replace(self._nats, group=None, start=Start.NEW)
        return JetStreamTransport(options, self._options)

    @property
    def start(self) -> str:
        return self._nats.start

    def begin_live(self) -> bool:
        """See `KeepsHistory`. Workers of a group begin where the group is, a new one at the option `start`."""
        if self._nats.group is not None:
            return False
        self._nats = replace(self._nats, start=Start.NEW)
        self._consumer = self._new_consumer()
        return True

    def begun_after(self, topic: bytes) -> int | None:
        return self._consumer.begun_after(self._carried.subject(topic).decode(errors="replace"))

    def stored(self, query: Query, timeout: float) -> Iterator[list[Stored]]:
        """See `KeepsHistory`."""
        link = self._link
        if link is None:
            raise NotConnected(self.endpoints)
        return self._stored.read(link, query, timeout)

    def receive(self) -> Batch | None:
        link = self._link
        if link is not None and not self._consumer.receiving:
            try:
                self._consumer.begin(link, Deadline(self._options.connect_timeout))
            except HandshakeFailed as error:
                kind, arguments = type(error), error.args
                self._leave(link, 0.0, str(error), lambda: kind(*arguments))
            except OSError:
                pass  # it is done when the server is back
        if link is not None and self._consumer.is_low:
            link.wake()
        return super().receive()

    def confirm(self, batch: Batch) -> None:
        link = self._link
        if link is not None and isinstance(batch, Delivery) and batch.acks:
            self._consumer.confirm(link, batch.acks)

    def give_back(self, batch: Batch) -> None:
        """See `SharesMessages`."""
        link = self._link
        if link is not None and isinstance(batch, Delivery) and batch.acks:
            self._consumer.give_back(link, batch.acks)

    def pause(self) -> None:
        """See `SharesMessages`. A client of no group keeps what waits, because nobody else gets it."""
        link = self._link
        if link is not None and self.confirms:
            self._consumer.pause(link, self._inbox)

    # As `Carrier`

    def restore(self, link: NatsLink) -> None:
        connection = link.connection
        assert connection is not None
        self._current = link
        self._forms.clear()  # they have the publisher and the inbox of the last link
        self._take_info(connection)
        if self._link is not link:
            link.post(subscribe(link.inbox + b".*", INBOX_SID))
            return
        link.post(self._subscriptions(link))
        deadline = Deadline(self._options.connect_timeout)
        try:
            self._consumer.restore(link, self._inbox, self._subjects, deadline)
        except OSError:
            self._explain_silence(link)
            raise

    def take(self) -> bytes:
        now = monotonic()
        try:
            if self._acks or self._refused_subjects:
                self._take_acks(now)
            window, buffer = self._window, self._buffer
            if window.again and (again := self._resend(now)):
                return again
            if (
                buffer is not None
                and not self._encoded
                and (not window.items or (now >= self._left_at + _ALONE_S and window.items <= _FEW and window.has_room))
                and (lone := buffer.take_lone()) is not None
            ):
                return self._publish_lone(buffer, lone, now)  # nearly always, at low rates
            if self._waits_for_more(now):
                return b""
            parts = []
            while window.has_room:
                if not self._encoded and (buffer is None or not self._encode(buffer)):
                    break
                message = self._encoded[0]
                window.add(message, now)
                self._encoded_items -= message.items
                self._events += message.events
                self._encoded.popleft()
                parts.append(message.data)
            data = b"".join(parts)
            self._left_at = now
            self._limit_room()
            return data
        except BaseException:  # a signal handler has raised, perhaps when a message had been noted as sent
            self._window.connection_lost()
            raise

    def accepts(self) -> bool:
        return self._window.has_room and not self._encoded and not self._waits_until

    def gathers(self) -> bool:
        buffer, items = self._buffer, self._window.items  # acknowledgements of these come, and nothing else
        if self._consumer.receiving or buffer is None or buffer.closed:
            return False
        if items <= _FEW:
            return items > 0 and not self._waits_until and self._seldom == self._window.last
        return _MANY <= items <= self._options.send_hwm // 2 and self._window.is_roomy

    def written(self) -> int:
        return self._events

    def proven(self, mark: int) -> None: ...

    def lost_connection(self) -> None:
        self._take_acks(monotonic())
        self._window.connection_lost()
        self._stored.connection_lost()
        self._consumer.lost()

    def is_flushed(self) -> bool:
        return not (self._buffer or self._encoded or self._window or self._consumer.owes)

    def look(self, now: float) -> float:
        self._take_acks(now)
        link = self._current  # also while it is being closed
        due = min(self._window.look(now), self._look_after_subscriptions(now))
        if self._waits_until:
            due = min(due, max(now, self._waits_until))
        return due if link is None else min(due, self._consumer.look(link, now))

    def arrived(self, arrived: Arrived) -> None:
        acknowledged = 0
        for acknowledged, answer in arrived.acks:
            self._acks.append((acknowledged, answer, b""))
        for other in arrived.others:
            assert isinstance(other, Message)  # the link takes everything else
            if other.sid == PULL_SID:
                self._consumer.told(other)
                continue
            token = other.subject.rpartition(b".")[2]
            if not self._stored.take(other) and token[:1] == _ACK and token[1:].isdigit():  # it has headers
                acknowledged = int(token[1:])
                self._acks.append((acknowledged, other.payload, other.headers))
        is_due = bool(arrived.stored) and self._consumer.take(arrived.stored, self._inbox)
        buffer, link = self._buffer, self._link
        if buffer is None:
            return
        # At low rates acknowledgements are noted before the next message comes, which leaves the earlier.
        if acknowledged and not (link is not None and link.while_idle(self._note_acks)):
            is_due = is_due or not self._can_wait(buffer, acknowledged)
        if is_due or self._window.again or (acknowledged and buffer.closed):
            buffer.wake()

    # Own

    def _can_wait(self, buffer: Outgoing, acknowledged: int) -> bool:
        """Whether acknowledgements can wait for the next message: nothing waits, and nothing else is under way."""
        waits = buffer or self._encoded or buffer.closed
        return not waits and acknowledged == self._window.last and len(self._acks) == len(self._window)

    def _note_denied(self, action: str, subject: str) -> None:
        if action == "publish":
            self._refused_subjects.append(subject)
            if self._buffer is not None:
                self._buffer.wake()

    def _parser(self, inbox: bytes) -> Parser:
        return Parser(from_stream=PULL_SID, acks=_ack_subject(inbox))

    def _resubscribed(self) -> None:
        self._consumer.renew_soon()  # its answers may have come to nobody

    def _subscriptions(self, link: NatsLink) -> bytes:
        return subscribe(link.inbox + b".*", INBOX_SID) + self._consumer.subscription(link)

    def _forget(self) -> None:
        self._numbering = Numbering() if self._options.numbered else None
        self._window = Window()
        self._numbers = count(1)
        self._encoded.clear()
        self._acks.clear()
        self._refused_subjects.clear()
        # Begins with the time, so that no later opening has the same identifiers.
        self._publisher = b"%x%b" % (time_ns(), os.urandom(6).hex().encode())
        self._events = 0
        self._encoded_items = 0
        self._seldom, self._left_at = 0, 0.0
        self._current = None
        self._consumer = self._new_consumer()

    def _left(self) -> int:
        return self._window.events + sum(message.events for message in self._encoded)

    def _farewell(self) -> None:
        if self._current is not None:
            self._consumer.farewell(self._current)

    def _changed(self, link: NatsLink, added: bytes | None) -> None:
        try:
            self._consumer.change(link, self._subjects, Deadline(self._options.connect_timeout))
        except HandshakeFailed:  # an OSError, too
            raise
        except OSError:
            pass  # it is done when the server is back

    def _change_anew(self, link: NatsLink) -> None:
        if link.connection is not None:
            self._consumer.change_soon(link, self._subjects)

    def _subjects(self) -> set[str]:
        topics = self._topics.copy()  # at once, and without the lock: the consumer has one of its own when it calls this
        return {self._carried.subject(topic).decode(errors="replace") for topic in ({b""} if b"" in topics else topics)}

    def _count(self, lost: int, repeated: int) -> None:
        self.lost += lost
        self.repeated += repeated

    def _explain_silence(self, link: NatsLink) -> None:
        """Raise if a permission is the reason why JetStream has not answered."""
        connection = link.connection
        for subject, action in list(self._denials.items()):
            if connection is not None and subject.startswith(("$JS", "_INBOX")):
                raise PermissionDenied(str(connection.server), action, subject, user_of(self._nats, connection.server))

    def _resend(self, now: float) -> bytes:
        """Return what is to be sent again, but for what is too large for the server that was just reached."""
        limits = None if self._buffer is None else self._buffer.limits
        if limits is not None:
            most = limits.message
            if events := self._window.refused_where(lambda message: published_bytes(message.data) > most):
                self.drops.add(DropReason.TOO_LARGE, events)
        return self._window.resend(now)

    def _waits_for_more(self, now: float) -> bool:
        """Whether few messages wait while others are under way: more of them may share a message in a moment."""
        if (
            self._packing
            and self._window.items
            and not self._encoded
            and 0 < (0 if self._buffer is None else len(self._buffer)) < _WORTH_A_MESSAGE
        ):
            if not self._waits_until:
                self._waits_until = now + self._options.packing_max_wait
                if self._current is not None:
                    self._current.hurry()
            if now < self._waits_until:
                return True
        self._waits_until = 0.0
        return False

    def _publish_lone(self, buffer: Outgoing, lone: Waiting, now: float) -> bytes:
        """Return the only message that waits, as it is written, while little or nothing is under way."""
        self._waits_until = 0.0
        message = self._publication(*lone, 1)
        if now >= self._left_at + _SELDOM_S:
            self._seldom = message.number
        self._left_at = now
        self._encoded_items += 1
        buffer.kept(1, message.events)
        self._encoded.append(message)  # for a moment, in which a signal handler may raise
        self._window.add(message, now)
        self._events += message.events
        self._encoded_items -= 1
        self._encoded.popleft()
        if self._options.send_hwm < _MANY:  # else one more does not matter
            self._limit_room()
        return message.data

    def _encode(self, buffer: Outgoing) -> bool:
        """Make publications of some of what waits; return whether there are any."""
        waiting = buffer.take(_AT_ONCE)
        limit = MAX_PACKED_BYTES if buffer.limits is None else min(MAX_PACKED_BYTES, buffer.limits.payload)
        packs = self._packing and len(waiting.firsts) > 1
        messages = packed(waiting, limit) if packs else (Packed(*one, 1) for one in zip(*waiting, strict=True))
        made = [self._publication(*message) for message in messages]
        items, events = len(waiting.firsts), sum(waiting.events)
        self._encoded_items += items
        buffer.kept(items, events)
        self._encoded.extend(made)  # at once: a signal handler may raise in any call of a function in Python
        return bool(made)

    def _publication(self, first: bytes, payload: bytes, events: int, items: int) -> UnderWay:
        """Return a message as it is written, which has the next number."""
        number = next(self._numbers)
        if self._numbering is None and MARK not in first:  # nearly always
            subject, form, header_bytes = self._forms.get(first) or self._learn_form(first)
            header_bytes += len(str(number))
            data = form % (number, header_bytes, header_bytes + len(payload), number, payload)
            return UnderWay(number, data, subject, events, items)
        subject, block = self._outward(first, events, b"%b-%d" % (self._publisher, number))
        data = publish(subject, payload, reply=b"%b%d" % (self._reply, number), headers=block)
        return UnderWay(number, data, subject, events, items)

    def _learn_form(self, topic: bytes) -> tuple[bytes, bytes, int]:
        if len(self._forms) >= _MAX_FORMS:
            self._forms.clear()
        subject = self._carried.subject(topic)
        made = self._forms[topic] = (
            subject,
            *identified_publication(subject, self._reply, _IDENTIFIER, self._publisher + b"-"),
        )
        return made

    @property
    def _reply(self) -> bytes:
        """How the subjects begin to which publications are acknowledged."""
        return _ack_subject(b"" if self._current is None else self._current.inbox)

    def _outward(self, first: bytes, events: int, identifier: bytes) -> tuple[bytes, bytes]:
        """Return the subject and the block of headers of a message that has more than its identifier."""
        if self._numbering is not None:
            topic = topic_of(first)
            numbered = self._numbering.next(topic, events)
            self._numbering.taken(topic, events)
            if first != topic:
                numbered = with_headers(numbered, first[len(topic) + 2 :].partition(MARK)[0])
            first = numbered
        subject, lines = self._carried.outward(first)
        lines.append((_IDENTIFIER, identifier.decode()))
        return subject, block_of(lines)

    def _take_acks(self, now: float) -> None:
        if not (self._acks or self._refused_subjects):
            return
        window = self._window
        while self._acks:
            number, answer, headers = self._acks.popleft()
            if streams.is_stored(answer):
                window.acknowledged(number, now)
                continue
            if headers and parse_headers(headers).status == NO_RESPONDERS:
                window.not_stored(number, now)  # no stream, or no leader at the moment
                self._consumer.stream_is_missing()
                continue
            _, error = streams.answer_of(answer)
            if error is None:
                window.acknowledged(number, now)
            elif error.code == streams.TOO_LARGE:
                if (refused := window.refused(number)) is not None:
                    self.drops.add(DropReason.TOO_LARGE, refused.events)
            else:
                window.not_stored(number, now)
                if self._denied.admit(error.text) is not None:
                    self._log.warning("the stream does not take events at the moment: %s", error.text, reason=error.text)
        while self._refused_subjects:
            subject = self._refused_subjects.popleft().encode()
            if events := window.refused_where(lambda message: message.subject == subject):  # noqa: B023 # called within
                self.drops.add(DropReason.DENIED, events)
        self._limit_room()

    def _note_acks(self) -> None:
        self._take_acks(monotonic())

    def _limit_room(self) -> None:
        buffer = self._buffer
        room = max(0, self._options.send_hwm - self._window.items - self._encoded_items)
        if buffer is not None and room != buffer.room:
            buffer.limit_room(room)

    def _new_consumer(self) -> StreamConsumer:
        kind = OwnConsumer if self._nats.group is None else GroupConsumer
        return kind(self._nats, self._carried, self._log, self._count, self._options.receive_hwm)


def _ack_subject(inbox: bytes) -> bytes:
    """How the subjects begin, in front of the number of a publication, to which it is acknowledged."""
    return b"%b.%b" % (inbox, _ACK)
