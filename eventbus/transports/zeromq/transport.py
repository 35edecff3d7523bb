"""Messages over ZeroMQ: a publishing socket to the proxy's XSUB port, a subscribing one to its XPUB port.

Why the publishing side is an XPUB: it sees subscriptions arrive. When the client's own subscription to a token that nobody
else knows has come round through the proxy, both legs are live and every subscription made before it is in force. No message
is published for that, so no other subscriber is bothered, and it works with any XSUB/XPUB proxy.
"""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from threading import RLock
from typing import NoReturn, Protocol

import zmq

from eventbus._base.addresses import tcp_endpoint
from eventbus._base.deadline import Deadline
from eventbus._base.descriptors import require_descriptors
from eventbus._base.forks import register_fork, unregister_fork
from eventbus._base.log_throttle import LogThrottle
from eventbus._base.printable import printable
from eventbus.errors import EventBusError, ForkedClient, NotConnected, ProxyUnreachable, ReconnectFailed
from eventbus.observe.state import ClientState, Status
from eventbus.observe.stats import DropLog, DropReason
from eventbus.options import ZeroMQArguments, ZeroMQOptions
from eventbus.transports.zeromq.diagnosis import diagnosis
from eventbus.transports.zeromq.path import Path
from eventbus.transports.zeromq.policy import ConnectionStatuses
from eventbus.transports.zeromq.publisher import NumberedPublisher, Publisher
from eventbus.transports.zeromq.sockets import shared_context
from eventbus.transports.zeromq.subscriber import Subscriber
from eventbus.wire.frames import MAX_TOPIC_BYTES, Batch
from eventbus.wire.notices import Action, DenialNotice

logger = logging.getLogger("eventbus")

# What opening takes at most: four sockets, two pairs that wake, two connections; and what a new context has.
_DESCRIPTORS, _OF_A_CONTEXT = 10, 7


__all__ = ["ZeroMQArguments", "ZeroMQOptions", "ZeroMQTransport"]


class _Send(Protocol):
    def __call__(self, topic: bytes, payload: bytes, count: int = 1) -> bool: ...


class ZeroMQTransport:
    """Fulfils `eventbus.transports.contract.Transport` over an XSUB/XPUB proxy, ours or any other.

    Args:
        host: where the proxy is.
        pub_port: the proxy's XSUB port, to which publishers connect.
        sub_port: the proxy's XPUB port, to which subscribers connect.
        options: how it behaves.
    """

    def __init__(
        self,
        host: str = "localhost",
        pub_port: int = 5559,
        sub_port: int = 5560,
        options: ZeroMQOptions | None = None,
    ) -> None:
        self._pub_endpoint = tcp_endpoint(host, pub_port)
        self._sub_endpoint = tcp_endpoint(host, sub_port)
        self._options = options or ZeroMQOptions()
        self._topics: set[bytes] = set()
        # Reentrant, for a signal handler may close what it has interrupted.
        self._changing = RLock()  # guards _topics and _path together, and is never held while waiting
        self._opening = RLock()  # one open() at a time
        self._path: Path | None = None
        self._closings = 0  # how often; for an open() that has not come so far that there is anything to close
        self._forked = False
        self.status = Status(self.endpoints)
        self.drops = DropLog(endpoints=self.endpoints)
        self._denied = LogThrottle()
        # On paths that are closed by now:
        self._sent_before = 0
        self._malformed_before = 0
        # The publisher's own method while the transport is open: a call less on the path of every event.
        self.send: _Send = self._refuse

    @property
    def endpoints(self) -> str:
        return f"{self._pub_endpoint} (publishing) and {self._sub_endpoint} (subscribing)"

    @property
    def sent(self) -> int:
        with self._changing:
            return self._sent_before + (self._path.publisher.sent if self._path else 0)

    @property
    def malformed(self) -> int:
        with self._changing:
            return self._malformed_before + (self._path.subscriber.malformed if self._path else 0)

    def open(self, timeout: float) -> None:
        self._check_process()
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
            if self._path is None:
                self._refuse(b"", b"")

    def subscribe(self, topic: bytes) -> None:
        self._check_process()
        with self._changing:
            if topic in self._topics:
                return
            self._topics.add(topic)
            path = self._path
        if path is not None:
            path.subscriber.subscribe(topic)
            if path.is_ready():
                path.prove(Deadline(self._options.connect_timeout), while_=path.is_ready)

    def unsubscribe(self, topic: bytes) -> None:
        self._check_process()
        with self._changing:
            if topic not in self._topics:
                return
            self._topics.remove(topic)
            path = self._path
        if path is not None:
            path.subscriber.unsubscribe(topic)

    def receive(self) -> Batch | None:
        path = self._path
        return None if path is None else path.subscriber.receive()

    def wake(self) -> None:
        path = self._path
        if path is not None:
            path.subscriber.wake()

    def is_connected(self) -> bool:
        path = self._path
        return path is not None and path.is_up()

    def close(self, timeout: float) -> None:
        self._closings += 1
        path = self._path
        if path is not None:
            self._leave(path, timeout, "closed")

    def _open(self, deadline: Deadline, closings: int) -> None:
        """Open the path unless it is, and prove it, as long as no more `closings` are counted."""
        required = self._options.connect_required
        with self._changing:
            opened_here = self._path is None
            path = self._path = self._path or self._new_path(deadline.timeout)
            if opened_here and not required:
                self.send = path.publisher.send
                path.in_use = True
        kept = False
        try:
            # Without a proxy the first attempt fails at once, and need not be waited for.
            proven = path.prove(
                deadline,
                while_=lambda: (
                    closings == self._closings
                    and self.status.diagnosis is None
                    and (required or not any(leg.failures for leg in path.legs()))
                ),
            )
            if path.closed or closings != self._closings:
                self.status.raise_failure()
                raise NotConnected(self.endpoints)
            if required and not proven:
                if self.status.diagnosis is not None:
                    raise self.status.diagnosis()
                raise ProxyUnreachable(self.endpoints, deadline.timeout, self._missing_leg(path))
            with self._changing:
                if self._path is path:
                    self.send = path.publisher.send
            kept = path.in_use = True
        finally:
            if opened_here and not kept:
                self._leave(path, 0.0, "no proxy answered")

    def _new_path(self, timeout: float) -> Path:
        register_fork(self)
        options = self._options
        with ExitStack() as undo:
            try:
                require_descriptors(_DESCRIPTORS + (0 if shared_context.exists else _OF_A_CONTEXT))
                context = shared_context.acquire()
                undo.callback(shared_context.release, 0.0, failed=True)
                publisher = (NumberedPublisher if options.numbered else Publisher)(
                    context, self._pub_endpoint, options, self.drops, self._refusal, self._note_denial
                )
                undo.callback(publisher.close, 0.0)
                subscriber = Subscriber(context, self._sub_endpoint, options, self._topics)
                undo.callback(subscriber.close)
                path = Path(publisher, subscriber, options, self.status, self._give_up, self._diagnose)
                self.status.change(ClientState.CONNECTING, "opened")
                path.watch()
            except (zmq.ZMQError, OSError) as error:  # no such address, or no descriptor left
                reason = error.strerror or str(error)
                self.status.change(ClientState.CLOSED, reason)
                if isinstance(error, EventBusError):
                    raise
                raise ProxyUnreachable(self.endpoints, timeout, reason) from error
            undo.pop_all()
            return path

    def _note_denial(self, frame: bytes) -> None:
        """Count and say what the proxy has denied this client, if that is what a frame from upstream tells of."""
        keys = self._options.keys
        denial = None if keys is None else DenialNotice.of(frame)
        if keys is None or denial is None or denial.key != keys.public_key:
            return
        if denial.action is Action.PUBLISH:
            self.drops.add(DropReason.DENIED, denial.count)
        held_back = self._denied.admit(denial.action, denial.count)
        if held_back is not None:
            logger.warning(
                "the proxy's allow-list does not permit this client to %s on topic %r: %d denied since the last such line",
                denial.action,
                denial.topic,
                held_back + denial.count,
                extra={
                    "eventbus_action": str(denial.action),
                    "eventbus_topic": printable(denial.topic.decode(errors="backslashreplace"), MAX_TOPIC_BYTES),
                    "eventbus_count": held_back + denial.count,
                    "eventbus_endpoints": self.endpoints,
                },
            )

    def _give_up(self, path: Path) -> None:
        """Close for good, on the supervisor's thread."""
        attempts = self._options.reconnect_attempts
        self._leave(path, 0.0, "given up", lambda: ReconnectFailed(self.endpoints, attempts))

    def _diagnose(self, legs: ConnectionStatuses) -> Callable[[], EventBusError] | None:
        """Why the proxy does not let us in, if that can be told."""
        endpoints = self._pub_endpoint, self._sub_endpoint
        found = (diagnosis(endpoint, leg, self._options.keys) for endpoint, leg in zip(endpoints, legs, strict=True))
        return next((one for one in found if one is not None), None)

    def _leave(self, path: Path, linger: float, reason: str, failure: Callable[[], EventBusError] | None = None) -> None:
        """Close this path, unless somebody else is doing so.

        Args:
            path: what to close.
            linger: how many seconds it may take to flush what was sent.
            reason: why, for people.
            failure: what to raise from now on, if it is closed for good.
        """
        deadline = Deadline(linger)
        with self._changing:
            if self._path is not path:
                return
            counted = path.publisher.sent
            self._sent_before += counted
            self._malformed_before += path.subscriber.malformed
            self._path = None
            self.send = self._refuse
            unregister_fork(self)
            # In here: whoever hears of it and opens again, or is refused, finds all of it done.
            path.retire()
            if failure is None:
                self.status.change(ClientState.CLOSED, reason)
            else:
                self.status.fail(failure)
        path.close(linger)
        with self._changing:
            self._sent_before += path.publisher.sent - counted  # by a thread that was sending just then
        self.drops.flush()
        shared_context.release(deadline.left())

    def _missing_leg(self, path: Path) -> str:
        """Which of the two connections is down, for the error."""
        publishing, subscribing = path.legs()
        match publishing.up, subscribing.up:
            case False, True:
                return f"nothing answers at {self._pub_endpoint}, but {self._sub_endpoint} does"
            case True, False:
                return f"nothing answers at {self._sub_endpoint}, but {self._pub_endpoint} does"
            case True, True:
                return "both ports answer, but no subscription comes through: are they the two ports of one proxy?"
            case _:
                return "nothing listens there"

    def _refuse(self, topic: bytes, payload: bytes, count: int = 1) -> NoReturn:
        raise self._refusal()

    def _refusal(self) -> EventBusError:
        """Why nothing can be sent."""
        if self._forked:
            return ForkedClient(self.endpoints)
        with self._changing:
            failure = self.status.failure
        return failure or NotConnected(self.endpoints)

    def _check_process(self) -> None:
        if self._forked:
            raise ForkedClient(self.endpoints)

    def _after_fork(self) -> None:
        """In a forked child: the sockets are the parent's, and what is sent on them vanishes."""
        self._forked = True
        self.send = self._refuse
        self._changing, self._opening = RLock(), RLock()
        self.status = Status(self.endpoints, lambda: ForkedClient(self.endpoints))
        self.drops = DropLog(endpoints=self.endpoints)  # as all that has a lock, which another thread may have held
        self._path = None
