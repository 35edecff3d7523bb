"""A proxy that enforces rules: passes on what the allow-list permits, and counts and logs what it denies."""

import logging
import struct
from collections.abc import Callable
from threading import Lock
from time import monotonic
from typing import cast

import zmq

from eventbus._base.log_throttle import LogThrottle
from eventbus._base.printable import printable
from eventbus.proxy.allow_list import AllowListFile
from eventbus.proxy.authorizer import Authorizer, is_token
from eventbus.wire.frames import MARK, PRIVATE, topic_of
from eventbus.wire.notices import Action, DenialNotice

logger = logging.getLogger("eventbus")

type Socket = zmq.Socket[bytes]

# Plain integers: pyzmq's enums cost a conversion in each call.
_NOWAIT = int(zmq.DONTWAIT)
_MORE = int(zmq.DONTWAIT | zmq.SNDMORE)
_BATCH = 256  # messages from publishers between two looks at subscribers

_SUBSCRIBE, _UNSUBSCRIBE = b"\x01", b"\x00"
_SHOWN = 255  # bytes of a topic
_COUNTED = 100_000  # subscriptions; a client can think of any number of them
_UNTOLD = 100  # different denials that a client is told at once; it can think of any number of topics
_OTHERS = "…".encode()  # what stands for the rest of them
_TELL = 1.0  # seconds from telling them to telling them again


class Denials:
    """What was denied, by client. Any thread may use it, but only one at a time `untold`."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: dict[str, int] = {}
        self._throttle = LogThrottle()
        self._untold: dict[str, dict[tuple[Action, bytes], int]] = {}  # by client, that none may use up another's

    @property
    def counts(self) -> dict[str, int]:
        """How often each client, by its name, was denied something."""
        with self._lock:
            return self._counts.copy()

    @property
    def has_untold(self) -> bool:
        """Whether there is something that clients are to be told."""
        return bool(self._untold)

    def untold(self) -> list[DenialNotice]:
        """What clients are to be told; it then counts as told."""
        untold, self._untold = self._untold, {}
        return [DenialNotice(key, *what, count) for key, of_client in untold.items() for what, count in of_client.items()]

    def count(self, name: str) -> None:
        """Count one more."""
        with self._lock:
            self._counts[name] = self._counts.get(name, 0) + 1

    def add(self, key: str, name: str, action: Action, topic: bytes) -> None:
        """Count one more, log it, once a minute for each client and action, and keep it to be told."""
        self.count(name)
        untold = self._untold.setdefault(key, {})
        what = action, topic[:_SHOWN]
        if what not in untold and len(untold) >= _UNTOLD:
            what = action, _OTHERS
        untold[what] = untold.get(what, 0) + 1
        held_back = self._throttle.admit(f"{action} {name}")
        if held_back is not None:
            logger.warning(
                "denied client %s to %s on topic %r: the allow-list does not permit it; %d more since the last such line",
                name,
                action,
                topic[:_SHOWN],
                held_back,
                extra={
                    "eventbus_client": name,
                    "eventbus_action": str(action),
                    "eventbus_topic": printable(topic[:_SHOWN].decode(errors="backslashreplace"), _SHOWN),
                    "eventbus_held_back": held_back,
                },
            )


class Enforcer:
    """Does what `zmq.proxy_steerable` does, but for what the allow-list denies.

    Publishers are told that everything is subscribed. What subscribers subscribe to is not told to them, because libzmq
    reports the end of a subscription that was denied like that of any other: passed on, it would end somebody else's. Only
    the tokens by which clients prove that the path is live go upstream.

    libzmq counts a message that a subscriber sends for a subscription, and then takes the subscriber of the next one for
    that of this one: one that nobody noticed would let its sender have what others may subscribe to. So `run` ends then.

    Args:
        frontend: the XSUB socket, bound, with CURVE.
        backend: the XPUB socket, bound, with CURVE and `zmq.XPUB_MANUAL`.
        commands: what is controlled through: a PAIR that takes STATISTICS and TERMINATE.
        allow_list: whose rules are enforced, new ones from the next message on.
        denials: where is counted what was denied.
        expel: called with the public key of a client that has sent what no subscriber sends, before `run` ends.
        probe: the public key with which the proxy itself finds out whether it is ready.
    """

    def __init__(
        self,
        frontend: Socket,
        backend: Socket,
        commands: Socket,
        allow_list: AllowListFile,
        denials: Denials,
        expel: Callable[[str], None],
        probe: str | None = None,
    ) -> None:
        self._frontend = frontend
        self._backend = backend
        self._commands = commands
        self._allow_list = allow_list
        self._denials = denials
        self._expel = expel
        self._probe = probe
        self._rules = allow_list.current
        self._gate = Authorizer(self._rules, probe=probe)
        # How many have asked for a topic, and those that somebody was granted: libzmq tells the end of what was denied, too.
        self._asked: dict[bytes, int] = {}
        self._granted: set[bytes] = set()
        self.traffic = [0] * 8
        """Frames and bytes by turns: from publishers, to publishers, from subscribers, to subscribers."""
        # The methods in C, without what pyzmq's Python layer adds to each call.
        self._receive = cast(Callable[[int, bool], zmq.Frame], super(zmq.Socket, frontend).recv)
        self._send = cast(Callable[..., object], super(zmq.Socket, backend).send)

    @property
    def subscriptions(self) -> int:
        """How many different topics are subscribed to; see `ProxyHealth`. Any thread may ask."""
        return len(self._granted)

    def run(self) -> None:
        """Pass messages on until TERMINATE, or until a client must be expelled."""
        self._frontend.send(_SUBSCRIBE)
        poller = zmq.Poller()
        for socket in (self._commands, self._backend, self._frontend):
            poller.register(socket, zmq.POLLIN)
        tell_due = monotonic()
        while True:
            ready = dict(poller.poll(round(1000 * _TELL) if self._denials.has_untold else None))
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
            if self._denials.has_untold and monotonic() >= tell_due:
                tell_due = monotonic() + _TELL
                for denial in self._denials.untold():
                    self._frontend.send(denial.frame())

    def _follow_rules(self) -> None:
        rules = self._allow_list.current
        if rules is not self._rules:
            self._rules, self._gate = rules, Authorizer(rules, self._gate.marked, self._probe)

    def _pass_on(self) -> None:
        """Pass on a batch of messages to subscribers."""
        receive, send, pass_frame = self._receive, self._send, self._gate.message
        received = sent = received_bytes = sent_bytes = 0
        try:
            for _ in range(_BATCH):
                frame = receive(_NOWAIT, False)
                key = _user_of(frame) or ""  # of the whole message
                first = frame.bytes
                passed = pass_frame(key, first)
                received += 1
                received_bytes += len(first)
                more = frame.more
                if passed:
                    send(passed, _MORE if more else _NOWAIT)
                    sent += 1
                    sent_bytes += len(passed)
                else:
                    self._denials.add(key, self._gate.name(key), Action.PUBLISH, topic_of(first))
                while more:
                    frame = receive(_NOWAIT, False)
                    more = frame.more
                    received += 1
                    received_bytes += len(frame)
                    if passed:
                        send(frame, _MORE if more else _NOWAIT, False)
                        sent += 1
                        sent_bytes += len(frame)
        except zmq.Again:
            pass
        finally:
            for index, count in ((0, received), (1, received_bytes), (6, sent), (7, sent_bytes)):
                self.traffic[index] += count

    def _follow_subscriptions(self) -> str | None:
        """Do what subscribers ask for; the public key of one that has sent something else, after which nothing is sure."""
        for _ in range(_BATCH):
            try:
                frame = self._backend.recv(_NOWAIT, copy=False)
            except zmq.Again:
                return None
            self._follow_rules()  # before each, for a subscription is asked for only once
            change, key = frame.bytes, _user_of(frame)
            self.traffic[4] += 1
            self.traffic[5] += len(change)
            action, topic = change[:1], change[1:]
            if action not in (_SUBSCRIBE, _UNSUBSCRIBE) or frame.more:
                return key or ""
            self._change(action, topic, key)
            if is_token(topic):
                self._frontend.send(change)
                self.traffic[2] += 1
                self.traffic[3] += len(change)
        return None

    def _change(self, action: bytes, topic: bytes, key: str | None) -> None:
        if action == _UNSUBSCRIBE:
            self._count_end(topic)
        if key is None:
            return  # of a client that has gone: libzmq has ended its subscriptions
        if action == _UNSUBSCRIBE:
            for granted in (topic, topic + MARK):  # the rules may have changed since
                self._set(zmq.UNSUBSCRIBE, granted)
            return
        wanted = self._gate.subscription(key, topic)
        self._count(topic, granted=wanted is not None)
        if wanted is None:
            self._denials.add(key, self._gate.name(key), Action.SUBSCRIBE, topic)
        else:
            self._set(zmq.SUBSCRIBE, wanted)

    def _count(self, topic: bytes, *, granted: bool) -> None:
        if topic.startswith(PRIVATE) or (topic not in self._asked and len(self._asked) >= _COUNTED):
            return
        self._asked[topic] = self._asked.get(topic, 0) + 1
        if granted:
            self._granted.add(topic)

    def _count_end(self, topic: bytes) -> None:
        left = self._asked.get(topic, 0) - 1
        if left > 0:
            self._asked[topic] = left
        else:
            self._asked.pop(topic, None)
            self._granted.discard(topic)

    def _set(self, option: zmq.SocketOption, topic: bytes) -> None:
        """Change a subscription of the client whose request was received last."""
        try:
            self._backend.set(option, topic)
        except zmq.ZMQError as error:
            if error.errno != zmq.EINVAL:  # it has gone meanwhile
                raise


def _user_of(frame: zmq.Frame) -> str | None:
    """The public key of the client that a frame comes from; None if it comes from libzmq itself."""
    try:
        return cast(str, frame.get("User-Id"))
    except zmq.ZMQError:
        return None
