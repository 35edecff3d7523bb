"""Live messages over NATS: the server passes on what it gets, and keeps nothing."""

from collections import deque
from dataclasses import replace
from itertools import count, repeat
from threading import Lock
from time import monotonic

from eventbus._base.deadline import Deadline
from eventbus.errors import NotConnected
from eventbus.nats_options import NatsOptions
from eventbus.observe.stats import DropReason
from eventbus.options import ZeroMQOptions
from eventbus.policies import Packing
from eventbus.transports.nats import streams
from eventbus.transports.nats.asking import INBOX_SID
from eventbus.transports.nats.first_frames import PROBE, block_of
from eventbus.transports.nats.link import NatsLink
from eventbus.transports.nats.outgoing import Taken
from eventbus.transports.nats.packing import packed
from eventbus.transports.nats.protocol import (
    CRLF,
    NO_RESPONDERS,
    Arrived,
    Info,
    Message,
    Parser,
    header_block,
    parse_headers,
    publications,
    publish,
    publish_start,
    published_bytes,
    subscribe,
    unsubscribe,
)
from eventbus.transports.nats.transport import NatsTransport
from eventbus.wire.first_frame import with_headers
from eventbus.wire.frames import MARK, MAX_PACKED_BYTES, Batch, topic_of
from eventbus.wire.numbering import Numbering

_MAX_LINES = 10_000  # that are remembered
_FIRST_SID = 10
_NUMBER_BYTES = 80  # of the header with a message's number
_PROBE = b"n"
_BELIEVED_S = 0.1  # how long a topic is believed to have subscribers


class CoreTransport(NatsTransport):
    """Fulfils `eventbus.transports.contract.Transport` over NATS without JetStream.

    What is under way when the server goes is lost, unless the client numbers its messages: then it sends again what no PONG
    has proven to have arrived. Members of a group share the messages.

    Args:
        nats: where the servers are.
        options: how the connection behaves.

    Raises:
        InvalidSettings: the URL or another option cannot be right.
    """

    def __init__(self, nats: NatsOptions | None = None, options: ZeroMQOptions | None = None) -> None:
        super().__init__(nats, options)
        self._sids: dict[bytes, bytes] = {}  # of the topics that the server has been told
        self._left_sids: set[bytes] = set()  # of topics that were given up, until the server is told
        self._next_sid = count(_FIRST_SID)
        self._direct: set[bytes] = set()
        self._lines: dict[tuple[bytes, int], bytes] = {}  # of a topic and a size, which repeat; no others
        self._numbering: Numbering | None = None
        # Messages that are not proven to have arrived: the mark after them, their bytes, their events.
        self._unproven: deque[tuple[int, bytes, int]] = deque()
        self._unproven_bytes = 0
        self._keeping = Lock()  # the reader forgets what the link's thread keeps
        self._again: deque[tuple[bytes, int]] = deque()
        self._events = 0  # that were taken
        self._proven_events = 0
        self._packs = self._options.packing is Packing.ALL
        self._own_header_bytes = _NUMBER_BYTES if self._options.numbered else 0
        self._warned_cluster = False
        self._paused = False  # whether it has left its group for a while
        self._next_probe = count(1)
        self._in_vain: set[bytes] = set()  # tokens of messages that the server has passed on to nobody
        self._had_subscriber: dict[bytes, float] = {}  # topics, and until when that is believed

    def sibling(self) -> "CoreTransport":
        """Of no group, because each answer is for one asker."""
        return CoreTransport(replace(self._nats, group=None), self._options)

    def has_subscriber(self, topic: bytes, timeout: float = 0.0) -> bool | None:
        """See `KnowsSubscribers`: the server says so when it passes a message on to nobody. Receivers skip that message."""
        link = self._link
        if link is None or not link.is_ready:
            return None
        if topic in self._topics or b"" in self._topics or monotonic() < self._had_subscriber.get(topic, 0.0):
            return True
        if timeout <= 0:
            return False
        token = b"%b%d" % (_PROBE, next(self._next_probe))
        reply = link.inbox + b"." + token
        headers = header_block([(PROBE, "1")])
        answered = link.ask(
            publish(self._carried.subject(topic), b"", reply=reply, headers=headers),
            Deadline(timeout),
            while_=lambda: link.is_ready,
        )
        if not answered:
            return None
        if token in self._in_vain:
            self._in_vain.discard(token)
            return False
        if len(self._had_subscriber) >= _MAX_LINES:
            self._had_subscriber.clear()
        self._had_subscriber[topic] = monotonic() + _BELIEVED_S
        return True

    def server_info(self) -> Info:
        """What the server says of itself; the transport must be open.

        Raises:
            NotConnected: it is not connected at the moment.
        """
        link = self._link
        connection = None if link is None else link.connection
        if connection is None:
            raise NotConnected(self.endpoints)
        return connection.info

    def ask_jetstream(self, subject: str, timeout: float) -> tuple[streams.Json, streams.ApiError | None]:
        """Ask JetStream something, for a diagnosis; return its answer, and the error in it."""
        link = self._link
        if link is None:
            raise NotConnected(self.endpoints)
        try:
            message = link.request(streams.API + subject.encode(), b"", Deadline(timeout))
        except OSError as error:
            denied = ", ".join(sorted(self._denials))
            return {}, streams.ApiError(0, f"permission denied for {denied}" if denied else str(error))
        if message.headers and parse_headers(message.headers).status == NO_RESPONDERS:
            return {}, streams.ApiError(NO_RESPONDERS, "nobody answers")
        return streams.answer_of(message.payload)

    def give_back(self, batch: Batch) -> None:
        """See `SharesMessages`: nothing that has come can be given back, because the server keeps nothing."""

    def pause(self) -> None:
        """See `SharesMessages`. A member of a group leaves it until `receive`, so that the others get all that comes."""
        if self._nats.group is not None:
            self._paused = True
            if (link := self._link) is not None:
                self._changed(link, None)

    def receive(self) -> Batch | None:
        if self._paused:
            self._paused = False
            if (link := self._link) is not None:
                self._changed(link, None)
        return super().receive()

    # As `Carrier`

    def restore(self, link: NatsLink) -> None:
        connection = link.connection
        assert connection is not None
        self._take_info(connection)
        if self._link is not link:
            return
        if connection.info.cluster and not self._warned_cluster:
            self._warned_cluster = True
            self._log.warning(
                "%s belongs to the cluster %s: without JetStream, the first event after a subscription may be missed by "
                "clients of other servers (EVENTBUS_TRANSPORT=jetstream)",
                connection.server,
                connection.info.cluster,
                server=str(connection.server),
            )
        with self._changing:
            self._sids.clear()
            self._left_sids.clear()
            self._direct.clear()
            data = subscribe(link.inbox + b".*", INBOX_SID) + self._update()
            link.restored = True  # what changes from now on is told behind this
        self._had_subscriber.clear()
        self._in_vain.clear()
        link.ask(data, Deadline(self._options.connect_timeout), while_=lambda: connection.lost is None)
        for topic in () if link.opened else self._sids:
            self._check_denied(connection, self._carried.subject(topic).decode(errors="replace"))

    def take(self) -> bytes:
        while self._again:
            data, events = self._fitting(*self._again.popleft())
            if data:
                self._keep(data, events)
                return data
        buffer = self._buffer
        if buffer is None:
            return b""
        waiting = buffer.take()
        taken = len(waiting.firsts)
        if not taken:
            return b""
        if self._packs:
            joined = (message[:3] for message in packed(waiting, self._largest_array()))
            waiting = Taken(*zip(*joined, strict=True))
        data, events = self._joined(*waiting), sum(waiting.events)
        self._keep(data, events)
        buffer.kept(taken, events)
        return data

    def _joined(self, firsts: tuple[bytes, ...], payloads: tuple[bytes, ...], counts: tuple[int, ...]) -> bytes:
        """Return what is written for these messages. All loops are in C, unless they have numbers or headers."""
        known = self._lines.get  # each topic and size has its line
        sizes = list(map(len, payloads))
        if firsts.count(firsts[0]) == len(firsts) and sizes.count(sizes[0]) == len(sizes):
            # Often: a topic's events are about as long as each other.
            line = known((firsts[0], sizes[0]))
            if line is not None:
                return b"%b%b\r\n" % (line[len(CRLF) :], line.join(payloads))
        lines: list[bytes] = list(map(known, zip(firsts, sizes, strict=True), repeat(b"")))
        if b"" in lines:
            for at, line in enumerate(lines):
                if not line:
                    lines[at] = known((firsts[at], sizes[at])) or self._line_of(firsts[at], sizes[at], counts[at])
        parts = [CRLF] * (2 * len(lines) + 1)
        parts[:-1:2] = lines
        parts[1::2] = payloads
        parts[0] = parts[0][len(CRLF) :]
        return b"".join(parts)

    def written(self) -> int:
        return self._events

    def proven(self, mark: int) -> None:
        with self._keeping:
            self._proven_events = max(self._proven_events, mark)
            while self._unproven and self._unproven[0][0] <= mark:
                self._unproven_bytes -= len(self._unproven.popleft()[1])

    def lost_connection(self) -> None:
        if self._numbering is not None:
            # Those that were to be sent again and have not been come after them.
            self._again.extendleft((data, events) for _, data, events in reversed(self._unproven))
            self._unproven.clear()
            self._unproven_bytes = 0
            self._events = self._proven_events
        elif (lost := self._events - self._proven_events) > 0:
            self._proven_events = self._events
            self.drops.add(DropReason.UNPROVEN, lost)

    def is_flushed(self) -> bool:
        return not self._again and not self._buffer

    def look(self, now: float) -> float:
        return self._look_after_subscriptions(now)

    def arrived(self, arrived: Arrived) -> None:
        for other in arrived.others:
            if isinstance(other, Message) and other.headers and parse_headers(other.headers).status == NO_RESPONDERS:
                self._in_vain.add(other.subject.rpartition(b".")[2])
        if arrived.firsts and (dropped := self._inbox.put(arrived.firsts, arrived.payloads)):
            self.drops.add(DropReason.RECEIVE_QUEUE, dropped)

    # Own

    def _parser(self, inbox: bytes) -> Parser:
        return Parser(self._direct, self._carried.inward)

    def _forget(self) -> None:
        self._numbering = Numbering() if self._options.numbered else None
        self._unproven.clear()
        self._again.clear()
        self._unproven_bytes = 0
        self._events = self._proven_events = 0

    def _left(self) -> int:
        return sum(events for _, events in self._again)

    def _changed(self, link: NatsLink, added: bytes | None) -> None:
        with self._changing:
            connection = link.connection
            if connection is None or not link.restored:
                return  # `restore` will do it
            data = self._update()
        if not data:
            return
        if added is None or not link.is_ready:
            link.post(data)
            self._left_sids.clear()
            return
        subject = self._carried.subject(added).decode(errors="replace")
        self._denials.pop(subject, None)
        link.ask(data, Deadline(self._options.connect_timeout), while_=lambda: link.is_ready)
        self._left_sids.clear()
        self._check_denied(connection, subject)

    def _change_anew(self, link: NatsLink) -> None:
        with self._changing:
            if link.restored:
                data = self._update()
                sids = self._sids.values()
                self._direct.intersection_update(sids)
                self._direct.update(sids)
                link.post(data + self._subscriptions(link))  # those that the server has stay as they are
                self._left_sids.clear()

    def _subscriptions(self, link: NatsLink) -> bytes:
        group = (self._nats.group or "").encode()
        with self._changing:
            topics = [subscribe(self._carried.subject(topic), sid, group) for topic, sid in self._sids.items()]
        return subscribe(link.inbox + b".*", INBOX_SID) + b"".join(topics)

    def _update(self) -> bytes:
        """What tells the server of the topics that have changed. The caller holds the lock.

        Subscriptions that overlap would deliver twice: that to all topics stands alone.
        """
        wanted = set[bytes]() if self._paused else {b""} if b"" in self._topics else self._topics
        group = (self._nats.group or "").encode()
        data = []
        for topic in wanted - self._sids.keys():
            sid = self._sids[topic] = b"%d" % next(self._next_sid)
            self._direct.add(sid)
            data.append(subscribe(self._carried.subject(topic), sid, group))
        for topic in self._sids.keys() - wanted:
            self._left_sids.add(self._sids[topic])
            self._direct.discard(self._sids[topic])
            del self._sids[topic]
        return b"".join(data + list(map(unsubscribe, self._left_sids)))

    def _largest_array(self) -> int:
        limits = None if self._buffer is None else self._buffer.limits
        return MAX_PACKED_BYTES if limits is None else min(MAX_PACKED_BYTES, limits.payload)

    def _line_of(self, first: bytes, size: int, events: int) -> bytes:
        """The end of the message before, and all of this one that comes before its payload."""
        if self._numbering is not None:
            topic = topic_of(first)
            numbered = self._numbering.next(topic, events)
            self._numbering.taken(topic, events)
            if first != topic:
                headers = first[len(topic) + 2 :].partition(MARK)[0]
                numbered = with_headers(numbered, headers)
            first = numbered
        subject, lines = self._carried.outward(first)
        line = CRLF + publish_start(subject, size, headers=block_of(lines))
        if not lines:
            if len(self._lines) >= _MAX_LINES:
                self._lines.clear()
            self._lines[first, size] = line
        return line

    def _fitting(self, data: bytes, events: int) -> tuple[bytes, int]:
        """Leave out what is too large for the server that was just reached. Returns the rest, and how many events it has."""
        limits = None if self._buffer is None else self._buffer.limits
        if limits is None or len(data) <= limits.message:  # nearly always
            return data, events
        messages = list(publications(data))
        fitting = [message for message in messages if published_bytes(message) <= limits.message]
        dropped = len(messages) - len(fitting)  # as if each had one event: nearly all have
        if dropped:
            self.drops.add(DropReason.TOO_LARGE, dropped)
        return b"".join(fitting), max(0, events - dropped)

    def _keep(self, data: bytes, events: int) -> None:
        self._events += events
        if self._numbering is not None:
            with self._keeping:
                self._unproven.append((self._events, data, events))
                self._unproven_bytes += len(data)
                while self._unproven_bytes > self._options.resend_bytes and len(self._unproven) > 1:
                    self._unproven_bytes -= len(self._unproven.popleft()[1])
