"""Passes messages on under the rules of the allow-list, and counts and logs what it denies."""

import struct
import uuid
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, cast

import zmq

from eventbus.proxy.allow_list import AllowList, AllowListFile
from eventbus.proxy.authorizer import Authorizer, is_token
from eventbus.proxy.denials import Denials, LastingNotices, PendingNotices
from eventbus.proxy.publisher_ids import PublisherIds
from eventbus.proxy.subscribers import Subscribers
from eventbus.proxy.tcp import Connection
from eventbus.wire.frames import MARK, PRIVATE, topic_of
from eventbus.wire.notices import Action
from eventbus.wire.private_topics import EVERYTHING_TOPIC

if TYPE_CHECKING:
    from eventbus.proxy.recording import Recording

type Socket = zmq.Socket[bytes]

# Plain integers: pyzmq's enums cost a conversion in each call.
_NOWAIT = int(zmq.DONTWAIT)
_MORE = int(zmq.DONTWAIT | zmq.SNDMORE)
_BATCH_MESSAGES = 256  # messages of publishers between two turns of subscribers

_SUBSCRIBE, _UNSUBSCRIBE = b"\x01", b"\x00"
_NOTICE_INTERVAL_S = 1.0


class SubscriptionCounter:
    """Counts the topics that are subscribed to under rules. One thread at a time.

    libzmq reports the end of a denied subscription, too. So it counts all requests for a topic, and remembers for which
    topics one was granted. Tokens do not count.

    Args:
        limit: the number of different topics that are counted; clients can invent any number.
    """

    def __init__(self, limit: int = 100_000) -> None:
        self._limit = limit
        self._requests: dict[bytes, int] = {}
        self._granted: set[bytes] = set()

    def __len__(self) -> int:
        """The number of topics subscribed to. Any thread may ask."""
        return len(self._granted)

    def begin(self, topic: bytes, *, granted: bool, again: bool = False) -> None:
        """Count a subscription, granted or denied.

        Args:
            topic: the topic.
            granted: whether the client is subscribed now.
            again: whether the same connection has asked for it before.
        """
        if topic.startswith(PRIVATE) or (topic not in self._requests and len(self._requests) >= self._limit):
            return
        if not again or topic not in self._requests:
            self._requests[topic] = self._requests.get(topic, 0) + 1
        if granted:
            self._granted.add(topic)

    def end(self, topic: bytes) -> None:
        """Count the end of a subscription, granted or denied."""
        left = self._requests.get(topic, 0) - 1
        if left > 0:
            self._requests[topic] = left
        else:
            self._requests.pop(topic, None)
            self._granted.discard(topic)


class Enforcer:
    """Does what `zmq.proxy_steerable` does, except for what the allow-list denies.

    It subscribes to everything at publishers, also as one who may answer: they cannot know who subscribes. Subscriptions
    of subscribers do not go upstream, because libzmq reports the end of a denied subscription like the end of any other:
    passed on, it would end the subscription of another client. Only the tokens with which clients prove that the path is
    live go upstream.

    If a subscriber sends a message instead of a subscription, libzmq assigns the next subscription to the wrong subscriber.
    Unnoticed, that would give the sender topics that only others may have. So `run` ends after such a message.

    Args:
        frontend: the XSUB socket, bound, with CURVE.
        backend: the XPUB socket, bound, with CURVE and `zmq.XPUB_MANUAL`.
        commands: a PAIR socket that receives the commands STATISTICS and TERMINATE.
        allow_list: the rules to enforce; new rules hold from the next message on.
        denials: counts and logs what was denied.
        expel: called, before `run` ends, with the public key of a client that has sent what no subscriber sends.
        secret_key: the proxy's own, which makes the ids of publishers unpredictable.
        readiness_key: the public key with which the proxy itself checks whether it is ready.
        subscribers: knows the subscriptions of each client.
        on_excess: called with the public key and the connection of a client that has too many subscriptions.
        recording: keeps what is passed on, and answers; None: nothing is kept.
    """

    def __init__(
        self,
        frontend: Socket,
        backend: Socket,
        commands: Socket,
        allow_list: AllowListFile,
        denials: Denials,
        expel: Callable[[str], None],
        secret_key: str,
        readiness_key: str | None = None,
        *,
        subscribers: Subscribers,
        on_excess: Callable[[str, Connection], None],
        recording: "Recording | None" = None,
    ) -> None:
        self._recording = recording
        self._answers = None if recording is None else recording.answers
        self._subscribers = subscribers
        self._on_excess = on_excess
        self._frontend = frontend
        self._backend = backend
        self._commands = commands
        self._allow_list = allow_list
        self._denials = denials
        self._expel = expel
        self._publisher_ids = PublisherIds(secret_key)
        self._readiness_key = readiness_key
        self._rules = allow_list.current
        self._authorizer = self._authorizer_of(self._rules)
        self._notices = PendingNotices()
        self._lasting = LastingNotices()
        self._subscriptions = SubscriptionCounter()
        self._skipping = False  # whether the next frame belongs to a message that was dropped
        self.traffic = [0] * 8
        """Frames and bytes in turn: from publishers, to publishers, from subscribers, to subscribers."""
        # The methods in C, without what pyzmq's Python layer adds to each call.
        self._receive = cast(Callable[[int, bool], zmq.Frame], super(zmq.Socket, frontend).recv)
        self._send = cast(Callable[..., object], super(zmq.Socket, backend).send)

    @property
    def subscriptions(self) -> int:
        """The number of different topics subscribed to; see `ProxyHealth`. Any thread may ask."""
        return len(self._subscriptions)

    def run(self) -> None:
        """Pass messages on until TERMINATE, or until a client must be expelled."""
        self._frontend.send(_SUBSCRIBE + EVERYTHING_TOPIC)  # first, or publishers would take it for one that only watches
        self._frontend.send(_SUBSCRIBE)
        poller = zmq.Poller()
        for socket in (self._commands, self._backend, self._frontend):
            poller.register(socket, zmq.POLLIN)
        if self._answers is not None:
            poller.register(self._answers, zmq.POLLIN)
        notices_due = monotonic()
        while True:
            ready = dict(poller.poll(round(1000 * _NOTICE_INTERVAL_S) if self._notices or self._lasting else None))
            self._follow_rules()
            if self._commands in ready:
                if self._commands.recv() == b"TERMINATE":
                    return
                self._commands.send_multipart([struct.pack("=Q", count) for count in self.traffic])
            if self._backend in ready:
                offender = self._follow_subscriptions()
                if offender is not None:
                    self._expel(offender)
                    return
            if self._frontend in ready:
                self._pass_on()
            if self._answers is not None and self._answers in ready:
                self._pass_answers_on(self._answers)
            if (self._notices or self._lasting) and (now := monotonic()) >= notices_due:
                notices_due = now + _NOTICE_INTERVAL_S
                self._send_notices(now)

    def _send_notices(self, now: float) -> None:
        ended = self._lasting.take_ended(now)
        for notice in self._notices.take():
            if notice.action is Action.PUBLISH:  # on a publishing connection, so its client gets the notice
                self._frontend.send(notice.frame())
                continue
            frame = notice.lasting_frame(uuid.uuid4().bytes)
            self._frontend.send(frame)
            oldest = self._lasting.add(notice, frame, now)
            if oldest is not None:
                ended.append(oldest)
        self._end_notices(ended)

    def _end_notices(self, frames: list[bytes]) -> None:
        for frame in frames:
            self._frontend.send(_UNSUBSCRIBE + frame[len(_SUBSCRIBE) :])

    def _follow_rules(self) -> None:
        rules = self._allow_list.current
        if rules is not self._rules:
            self._rules, self._authorizer = rules, self._authorizer_of(rules, self._authorizer.marked)
            self._end_notices(self._lasting.take_permitted(self._may_subscribe))

    def _may_subscribe(self, key: str, topic: bytes) -> bool:
        return self._authorizer.subscription(key, topic) is not None

    def _authorizer_of(self, rules: AllowList, marked: frozenset[bytes] = frozenset()) -> Authorizer:
        return Authorizer(rules, marked=marked, publisher_ids=self._publisher_ids, readiness_key=self._readiness_key)

    def _deny(self, key: str, action: Action, topic: bytes) -> None:
        self._denials.add(self._rules.name(key), action, topic)
        self._notices.add(key, action, topic)

    def _pass_on(self) -> None:
        """Pass a batch of messages on to subscribers.

        Only messages of exactly two frames pass. Receivers tell by content where a message ends, and could take more frames
        for another message, on a topic that its sender may not publish.
        """
        receive, send, pass_frame = self._receive, self._send, self._authorizer.message
        record = None if self._recording is None else self._recording.record
        received = sent = received_bytes = sent_bytes = 0
        try:
            for _ in range(_BATCH_MESSAGES):
                frame = receive(_NOWAIT, False)
                received += 1
                if self._skipping:  # over what is left of a message, which may have any number of frames
                    received_bytes += len(frame)
                    self._skipping = frame.more
                    continue
                key = _user_of(frame) or ""  # of the whole message
                first = frame.bytes
                received_bytes += len(first)
                if not frame.more:
                    self._drop_malformed(key, first)
                    continue
                payload = receive(_NOWAIT, False)
                received += 1
                received_bytes += len(payload)
                if payload.more:
                    self._skipping = True
                    self._drop_malformed(key, first)
                    continue
                passed = pass_frame(key, first)
                if passed:
                    send(passed, _MORE)
                    send(payload, _NOWAIT, False)
                    if record is not None:
                        record(passed, payload.bytes)
                    sent += 2
                    sent_bytes += len(passed) + len(payload)
                else:
                    self._deny(key, Action.PUBLISH, topic_of(first))
        except zmq.Again:
            pass
        finally:
            for index, count in ((0, received), (1, received_bytes), (6, sent), (7, sent_bytes)):
                self.traffic[index] += count

    def _pass_answers_on(self, answers: Socket) -> None:
        """Pass on what the history answers. It has looked up what each asker may have."""
        try:
            for _ in range(_BATCH_MESSAGES):
                first = answers.recv(_NOWAIT)
                payload = answers.recv(_NOWAIT)
                self._send(first, _MORE)
                self._send(payload, _NOWAIT)
                for index, count in ((6, 2), (7, len(first) + len(payload))):
                    self.traffic[index] += count
        except zmq.Again:
            pass

    def _drop_malformed(self, key: str, first: bytes) -> None:
        # Without a notice, because no client of this library sends such messages.
        self._denials.add_malformed(self._rules.name(key), topic_of(first))

    def _follow_subscriptions(self) -> str | None:
        """Do what subscribers ask for; return the public key of a client that has sent anything but a subscription."""
        for _ in range(_BATCH_MESSAGES):
            try:
                frame = self._backend.recv(_NOWAIT, copy=False)
            except zmq.Again:
                return None
            self._follow_rules()  # before each, because a client asks for a subscription only once
            change, key = frame.bytes, _user_of(frame)
            self.traffic[4] += 1
            self.traffic[5] += len(change)
            action, topic = change[:1], change[1:]
            if action not in (_SUBSCRIBE, _UNSUBSCRIBE) or frame.more:
                return key or ""
            if key is None:  # the client has gone, and libzmq has ended this subscription of it
                self._subscriptions.end(topic)
                passes = True
            elif action == _SUBSCRIBE:
                passes = self._begin(frame, key, topic)
            else:
                passes = self._end(frame, key, topic)
            # XSUB counts: whatever is passed on twice and ended once would stay for ever.
            if passes and is_token(topic):
                self._frontend.send(change)
                self.traffic[2] += 1
                self.traffic[3] += len(change)
        return None

    def _begin(self, frame: zmq.Frame, key: str, topic: bytes) -> bool:
        """Do what a client asks for; return whether its connection is there and did not have this subscription yet."""
        change = self._subscribers.change(frame, key, topic, begins=True)
        if change.exceeds and change.connection is not None:
            self._on_excess(key, change.connection)
            self._follow_rules()
        granted = self._authorizer.subscription(key, topic)
        self._subscriptions.begin(topic, granted=granted is not None, again=not change.is_effective)
        if granted is None:
            self._deny(key, Action.SUBSCRIBE, topic)
        else:
            self._set(zmq.SUBSCRIBE, granted)
        return change.is_effective and change.connection is not None

    def _end(self, frame: zmq.Frame, key: str, topic: bytes) -> bool:
        """End a subscription of a client; return whether it had that, as far as is known."""
        change = self._subscribers.change(frame, key, topic, begins=False)
        if change.is_effective:
            self._subscriptions.end(topic)
        for granted in (topic, topic + MARK):  # the rules may have changed since
            self._set(zmq.UNSUBSCRIBE, granted)
        return change.is_effective

    def _set(self, option: zmq.SocketOption, topic: bytes) -> None:
        """Change a subscription of the client whose request was received last."""
        try:
            self._backend.set(option, topic)
        except zmq.ZMQError as error:
            if error.errno != zmq.EINVAL:  # the client has gone in the meantime
                raise


def _user_of(frame: zmq.Frame) -> str | None:
    """Return the public key of the client that has sent a frame; None if the frame comes from libzmq itself."""
    try:
        return cast(str, frame.get("User-Id"))
    except zmq.ZMQError:
        return None
