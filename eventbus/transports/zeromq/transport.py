"""Messages over ZeroMQ: a publishing socket at the proxy's XSUB port, and a subscribing socket at its XPUB port.

The publishing socket is an XPUB, because an XPUB receives subscriptions. The client subscribes to a token that no other
client knows. When that subscription arrives at the client's own XPUB, both connections are live, and every subscription made
before is in force. No message is published for that, so no other subscriber is bothered; it works with any XSUB/XPUB proxy.
"""

from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from threading import RLock
from typing import TYPE_CHECKING, NoReturn, Protocol

import zmq

from eventbus._base.addresses import check_port, checked_host, is_address, tcp_endpoint
from eventbus._base.deadline import Deadline
from eventbus._base.descriptors import require_descriptors
from eventbus._base.forks import register_fork, unregister_fork
from eventbus._base.log import Log
from eventbus._base.log_throttle import LogThrottle, more
from eventbus._base.native_threads import require_usable_threads
from eventbus._base.printable import printable
from eventbus._base.zmq_sockets import Context
from eventbus.errors import (
    EventBusError,
    ForkedClient,
    NotConnected,
    ProxyUnreachable,
    ReconnectFailed,
    SwappedPorts,
    WrongServerKey,
)
from eventbus.observe.state import ClientState, Status
from eventbus.observe.stats import DropLog, DropReason
from eventbus.options import HOST, PUB_PORT, SUB_PORT, ZeroMQArguments, ZeroMQOptions
from eventbus.policies import Packing
from eventbus.transports.contract import Remedies
from eventbus.transports.zeromq.context import shared_context
from eventbus.transports.zeromq.explanation import Explanation
from eventbus.transports.zeromq.link import ProxyLink
from eventbus.transports.zeromq.policy import ConnectionStatuses
from eventbus.transports.zeromq.publisher import Publisher
from eventbus.transports.zeromq.subscriber import Subscriber
from eventbus.wire.frames import MAX_TOPIC_BYTES, PRIVATE, Batch
from eventbus.wire.notices import OTHER_TOPICS, Action, DenialNotice

if TYPE_CHECKING:  # imported when a connection fails, because most clients never need it
    from eventbus.transports.zeromq.reachability import CheckFailed, Reachability
    from eventbus.wire.joining import Joiner

__all__ = ["ZeroMQArguments", "ZeroMQOptions", "ZeroMQTransport"]

_ESCAPED_PRIVATE = PRIVATE.decode(errors="backslashreplace").encode()
_CHECK_TIMEOUT_S = 1.0  # of each check of `Reachability`

# Descriptors that opening takes at most: four sockets, two wakers of two, two connections; and those of a new context.
_LINK_DESCRIPTORS, _CONTEXT_DESCRIPTORS = 10, 7


class _Send(Protocol):
    def __call__(self, topic: bytes, payload: bytes, count: int = 1) -> bool: ...


class ZeroMQTransport:
    """Fulfils `eventbus.transports.contract.Transport` over an XSUB/XPUB proxy, ours or any other.

    Args:
        host: where the proxy is.
        pub_port: the proxy's XSUB port, to which publishers connect.
        sub_port: the proxy's XPUB port, to which subscribers connect.
        options: how the connections behave.
        joiner: makes one message of several events, if `options.packing` is ALL; None: one without compression.

    Raises:
        InvalidSettings: `host` is not the name or the address of a host, or a port is no port.
    """

    remedies = Remedies()
    confirms = False
    lost = 0
    repeated = 0

    def __init__(
        self,
        host: str = HOST,
        pub_port: int = PUB_PORT,
        sub_port: int = SUB_PORT,
        options: ZeroMQOptions | None = None,
        *,
        joiner: "Joiner | None" = None,
    ) -> None:
        host = checked_host(host)
        check_port(pub_port)
        check_port(sub_port)
        self._host = host
        self._ports = pub_port, sub_port
        self._pub_endpoint = tcp_endpoint(host, pub_port)
        self._sub_endpoint = tcp_endpoint(host, sub_port)
        self._options = options or ZeroMQOptions()
        self._joiner = joiner
        self._topics: set[bytes] = set()
        # Both are reentrant, because a signal handler may close the transport whose method it has interrupted.
        self._changing = RLock()  # guards _topics and _link together, and is never held while waiting
        self._opening = RLock()  # one open() at a time
        self._link: ProxyLink | None = None
        self._closings = 0  # how many calls of close(): one may come while open() has no link yet
        self._forked = False
        self._given_up: Callable[[], EventBusError] | None = None  # makes the error that says why; None: it has not
        self.status = Status(self.endpoints)
        self.drops = DropLog(endpoints=self.endpoints)
        self._denied = LogThrottle()
        self._log = Log(endpoints=self.endpoints)
        # Over links that are closed:
        self._sent_before = 0
        self._malformed_before = 0
        # While the transport is open this is the publisher's own method, which saves a call for every event.
        self.send: _Send = self._refuse

    @property
    def endpoints(self) -> str:
        return f"{self._pub_endpoint} (publishing) and {self._sub_endpoint} (subscribing)"

    @property
    def sent(self) -> int:
        with self._changing:
            return self._sent_before + (self._link.publisher.sent if self._link else 0)

    @property
    def malformed(self) -> int:
        with self._changing:
            return self._malformed_before + (self._link.subscriber.malformed if self._link else 0)

    @property
    def max_payload_bytes(self) -> int | None:
        link = self._link
        return None if link is None else link.publisher.max_payload_bytes

    @property
    def publisher_id(self) -> bytes | None:
        link = self._link
        return None if link is None else link.publisher.publisher_id

    def open(self, timeout: float) -> None:
        self._check_process()
        require_usable_threads()
        deadline, closings = Deadline(timeout), self._closings
        if not self._opening.acquire(timeout=deadline.left()):
            raise ProxyUnreachable(self.endpoints, timeout, "another thread is still connecting")
        try:
            self._open(deadline, closings)
        finally:
            self._opening.release()

    def ensure_open(self) -> None:
        self._check_process()
        with self._changing:
            if self._link is None:
                self._refuse(b"", b"")

    def subscribe(self, topic: bytes) -> None:
        self._check_process()
        if topic in self._topics:
            return
        try:
            with self._changing:
                self._topics.add(topic)
                link = self._link
            if link is not None:
                link.publisher.pass_on()  # what was sent before is not for this subscription
                link.subscriber.subscribe(topic)
                if link.is_ready():
                    link.prove(Deadline(self._options.connect_timeout), while_=link.is_ready)
        except BaseException:  # of a signal handler: the next call is to do all of it
            self._drop_topic(topic)
            raise

    def unsubscribe(self, topic: bytes) -> None:
        self._check_process()
        if topic not in self._topics:
            return
        try:
            self._drop_topic(topic)
        except BaseException:  # as in `subscribe`
            self._drop_topic(topic)
            raise

    def receive(self) -> Batch | None:
        link = self._link
        return None if link is None else link.subscriber.receive()

    def confirm(self, batch: Batch) -> None: ...

    def wake(self) -> None:
        link = self._link
        if link is not None:
            link.subscriber.wake()

    def is_connected(self) -> bool:
        link = self._link
        return link is not None and link.is_up()

    def sibling(self) -> "ZeroMQTransport":
        made = ZeroMQTransport(self._host, *self._ports, self._options, joiner=self._joiner)
        made.status = Status(f"{made.endpoints}, for answers")  # in the log the two can be told apart
        return made

    def has_subscriber(self, topic: bytes, timeout: float = 0.0) -> bool | None:
        link = self._link
        return None if link is None else link.has_subscriber(topic, timeout)

    def has_answerer(self, topic: bytes, timeout: float = 0.0) -> bool | None:
        link = self._link
        return None if link is None else link.has_subscriber(topic, timeout, watchers=False)

    def close(self, timeout: float) -> None:
        self._closings += 1
        link = self._link
        if link is not None:
            self._leave(link, timeout, "closed")

    def _drop_topic(self, topic: bytes) -> None:
        """Unsubscribe, whatever of the subscription there is."""
        with self._changing:
            self._topics.discard(topic)
            link = self._link
        if link is not None:
            link.subscriber.unsubscribe(topic)

    def _open(self, deadline: Deadline, closings: int) -> None:
        """Open the link unless it is open, and prove it; give up when `close` was called since `closings` was read."""
        required = self._options.connect_required
        with self._changing:
            opened_here = self._link is None
            link = self._link = self._link or self._new_link(deadline.timeout)
            if opened_here and not required:
                self.send = link.publisher.send
                link.opened = True
        kept = False
        explanation = Explanation(self._find_failure)
        try:
            # If no proxy is required, the first failed attempt ends the wait.
            proven = link.prove(
                deadline,
                while_=lambda: (
                    closings == self._closings
                    and self.status.diagnosis is None
                    and (not required or explanation.begin_before(deadline))
                    and (required or not link.statuses().failures)
                ),
            )
            if link.closed or closings != self._closings:
                self.status.raise_failure()
                raise NotConnected(self.endpoints)
            if required and not proven:
                if self.status.diagnosis is not None:
                    raise self.status.diagnosis()
                raise self._unreachable(deadline.timeout, explanation.found(), self._what_is_missing(link))
            with self._changing:
                if self._link is link:
                    self.send = link.publisher.send
            kept = link.opened = True
        finally:
            if opened_here and not kept:
                self._leave(link, 0.0, "no proxy answered")

    def _new_link(self, timeout: float) -> ProxyLink:
        register_fork(self)
        options = self._options
        with ExitStack() as undo:
            try:
                require_descriptors(_LINK_DESCRIPTORS + (0 if shared_context.exists else _CONTEXT_DESCRIPTORS))
                use = shared_context.acquire()
                undo.callback(shared_context.release, use, 0.0, failed=True)
                publisher = self._new_publisher(use.context)
                undo.callback(publisher.close, 0.0)
                subscriber = Subscriber(use.context, self._sub_endpoint, options, self._topics)
                undo.callback(subscriber.close)
                at_ipv6 = None if is_address(self._host) else self._answers_at_ipv6
                link = ProxyLink(
                    use,
                    publisher,
                    subscriber,
                    options,
                    self.status,
                    self._give_up,
                    self._diagnose,
                    self._report_overdue,
                    at_ipv6,
                )
                self._given_up = None
                self.status.change(ClientState.CONNECTING, "opened")
                link.watch()
            except (zmq.ZMQError, OSError) as error:  # no such address, or no descriptor left
                reason = error.strerror or str(error)
                self.status.change(ClientState.CLOSED, reason)
                if isinstance(error, EventBusError):
                    raise
                raise ProxyUnreachable(self.endpoints, timeout, reason) from error
            undo.pop_all()
            return link

    def _new_publisher(self, context: Context) -> Publisher:
        options = self._options
        arguments = context, self._pub_endpoint, options, self.drops, self._refusal, self._note_denial
        if options.packing is Packing.ALL:
            from eventbus.transports.zeromq.packing_publisher import PackingNumberedPublisher, PackingPublisher, can_pack

            if can_pack(options):
                return (PackingNumberedPublisher if options.numbered else PackingPublisher)(*arguments, self._joiner)
        if options.numbered:
            from eventbus.transports.zeromq.numbered_publisher import NumberedPublisher

            return NumberedPublisher(*arguments)
        return Publisher(*arguments)

    def _note_denial(self, frame: bytes) -> None:
        """Count and log a denial, if a frame from upstream is a notice of one that concerns this client."""
        keys = self._options.keys
        denial = None if keys is None else DenialNotice.of(frame)
        if keys is None or denial is None or denial.key != keys.public_key:
            return
        if denial.action is Action.PUBLISH:
            self.drops.add(DropReason.DENIED, denial.count)
        elif not self._may_have_subscribed(denial.topic):
            return
        held_back = self._denied.admit(denial.action, denial.count)
        if held_back is not None:
            self._log.warning(
                "the proxy's allow-list does not permit this client to %s: %d denied%s",
                denial.action.on(denial.topic),
                denial.count,
                more(held_back),
                action=str(denial.action),
                topic=printable(denial.topic.decode(errors="backslashreplace"), MAX_TOPIC_BYTES),
                count=held_back + denial.count,
            )

    def _may_have_subscribed(self, topic: bytes) -> bool:
        """Whether the topic in a notice can be one of this client, not of another one with the same keys."""
        # Tokens are denied to clients that the allow-list no longer has; a notice has them escaped.
        return topic in self._topics or topic == OTHER_TOPICS or topic.startswith(_ESCAPED_PRIVATE)

    def _give_up(self, link: ProxyLink) -> None:
        """Close for good, on the supervisor's thread."""
        attempts = self._options.reconnect_attempts
        self._leave(link, 0.0, "given up", lambda: ReconnectFailed(self.endpoints, attempts))

    def _diagnose(self, statuses: ConnectionStatuses) -> Callable[[], EventBusError] | None:
        """Return a function that makes the error with the reason why the proxy refuses this client, if it can be found."""
        from eventbus.transports.zeromq.diagnosis import diagnose
        from eventbus.transports.zeromq.reachability import CheckFailed

        for endpoint, status in zip((self._pub_endpoint, self._sub_endpoint), statuses, strict=True):
            diagnosis = diagnose(endpoint, status, self._options.keys)
            if diagnosis is not None:
                break
        # A client that is encrypted cannot tell swapped ports from a wrong key by its own handshakes.
        if any(status.broken_off for status in statuses) and (diagnosis is None or isinstance(diagnosis(), WrongServerKey)):
            outside = self._reachability(_CHECK_TIMEOUT_S)
            with suppress(CheckFailed):
                outside.check_host()
                if outside.are_swapped():
                    return partial(SwappedPorts, self._pub_endpoint, *self._ports)
        return diagnosis

    def _reachability(self, timeout: float) -> "Reachability":
        from eventbus.transports.zeromq.reachability import Reachability

        return Reachability(self._host, *self._ports, self._options.keys, timeout=timeout)

    def _find_failure(self, timeout: float) -> "CheckFailed | None":
        return self._reachability(timeout).failure()

    def _answers_at_ipv6(self) -> bool:
        from eventbus.transports.zeromq.reachability import answers_at_ipv6

        return answers_at_ipv6(self._host, self._ports[1], _CHECK_TIMEOUT_S)

    def _unreachable(self, timeout: float, found: "CheckFailed | None", seen: str = "") -> ProxyUnreachable:
        if found is None:
            return ProxyUnreachable(self.endpoints, timeout, seen)
        return ProxyUnreachable(self.endpoints, timeout, found.detail, found.remedy)

    def _report_overdue(self) -> None:
        """Log once why no proxy has answered yet; for a client that requires none."""
        error = self._unreachable(self._options.connect_timeout, self._find_failure(_CHECK_TIMEOUT_S))
        if self.status.note_trouble():
            self._log.warning("%s; the client keeps trying", error, error=type(error).__name__)

    def _leave(
        self, link: ProxyLink, linger: float, reason: str, failure: Callable[[], EventBusError] | None = None
    ) -> None:
        """Close this link, unless another thread does.

        Args:
            link: the link to close.
            linger: the seconds that flushing may take.
            reason: why the link is closed, for people.
            failure: makes the error that calls raise from now on, if the transport has given up.
        """
        deadline, left = Deadline(linger), False
        try:
            with self._changing:
                if self._link is not link:
                    return
                counted = link.publisher.sent
                self._sent_before += counted
                self._malformed_before += link.subscriber.malformed
                self._link = None
                left = True
                unregister_fork(self)
                # In the lock: a listener that opens the transport again finds all this done.
                link.stop_reporting()
                self._given_up = failure
                self.send = self._refuse  # before anybody hears that it is closed
                if failure is None:
                    self.status.change(ClientState.CLOSED, reason)
                else:
                    self.status.fail(failure)
            link.close(linger)
        except BaseException:  # of a signal handler: nobody closes the link if this does not
            if left:
                link.close(0.0)
            raise
        finally:
            if left:
                with self._changing:
                    self._sent_before += link.publisher.sent - counted  # what a thread was sending just then
                self.drops.flush()
                shared_context.release(link.use, deadline.left())

    def _what_is_missing(self, link: ProxyLink) -> str:
        """Name the connections that are down, for the error."""
        publishing, subscribing = link.statuses()
        match publishing.up, subscribing.up:
            case False, True:
                return f"nothing answers at {self._pub_endpoint}, but {self._sub_endpoint} does"
            case True, False:
                return f"nothing answers at {self._sub_endpoint}, but {self._pub_endpoint} does"
            case True, True:
                return "both ports answer, but no subscription comes through: are they the two ports of one proxy?"
            case _:
                return "there is no connection to either port"

    def _refuse(self, topic: bytes, payload: bytes, count: int = 1) -> NoReturn:
        raise self._refusal()

    def _refusal(self) -> EventBusError:
        """Return the error that says why nothing can be sent. Takes no lock, because a signal handler may emit."""
        if self._forked:
            return ForkedClient(self.endpoints)
        given_up = self._given_up
        return NotConnected(self.endpoints) if given_up is None else given_up()

    def _check_process(self) -> None:
        if self._forked:
            raise ForkedClient(self.endpoints)

    def _after_fork(self) -> None:
        """Refuse all calls: the sockets are the parent's, and what the child sends on them vanishes."""
        self._forked = True
        self.send = self._refuse
        # New ones of all that has a lock, which another thread may have held.
        self._changing, self._opening = RLock(), RLock()
        self.status = Status(self.endpoints, lambda: ForkedClient(self.endpoints))
        self.drops = DropLog(endpoints=self.endpoints)
        self._link = None
