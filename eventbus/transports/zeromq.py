"""Messages over ZeroMQ: a publishing socket to the proxy's XSUB port, a subscribing one to its XPUB port.

Why the publishing side is an XPUB: it sees subscriptions arrive. When the client's own subscription to a token that nobody
else knows has come round through the proxy, both legs are live and every subscription made before it is in force. No message
is published for that, so no other subscriber is bothered, and it works with any XSUB/XPUB proxy.
"""

import os
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from threading import RLock
from typing import NoReturn, Protocol, TypedDict

import zmq

from eventbus.deadline import Deadline
from eventbus.errors import EventBusError, ForkedClient, NotConnected, ProxyUnreachable, ReconnectFailed
from eventbus.policies import SendPolicy
from eventbus.state import ClientState, Status
from eventbus.transports._path import Path
from eventbus.transports._publisher import Publisher
from eventbus.transports._sockets import shared_context
from eventbus.transports._subscriber import Subscriber
from eventbus.transports._watch import Patience
from eventbus.wire import Batch

_open_transports: "weakref.WeakSet[ZeroMQTransport]" = weakref.WeakSet()


class _Send(Protocol):
    def __call__(self, topic: bytes, payload: bytes, count: int = 1) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroMQOptions:
    """How a `ZeroMQTransport` behaves. Times are seconds.

    Attributes:
        connect_timeout: how long `subscribe` waits until its subscription is in force.
        connect_required: False: `open` does not need a proxy; the path becomes ready when one appears.
        send_timeout: how long `send` waits while the send buffer is full.
        send_policy: what `send` does when the send buffer is full.
        send_hwm: high-water mark of the send buffer, in messages; what is sent while the proxy is away waits there.
        receive_hwm: high-water mark of the receive queue, in messages; when it is full the proxy's queue fills up.
        echo_interval: from one echo through the proxy to the next; 0 for none.
        echo_timeout: how long an echo may stay away before the state is DEGRADED.
        reconnect_interval: how long to wait before the second attempt to connect; it doubles with each that fails.
        reconnect_max_interval: the longest such wait. If it exceeds the time that a proxy leaves subscribers to come back,
            0.25 s, a restarted proxy passes on what publishers have kept before all subscribers are there.
        reconnect_attempts: how many of them may fail before the transport gives up and closes; -1: for ever.
    """

    connect_timeout: float = 5.0
    connect_required: bool = True
    send_timeout: float = 5.0
    send_policy: SendPolicy = SendPolicy.BLOCK
    send_hwm: int = 100_000
    receive_hwm: int = 100_000
    echo_interval: float = 5.0
    echo_timeout: float = 1.0
    reconnect_interval: float = 0.05
    reconnect_max_interval: float = 0.2
    reconnect_attempts: int = -1

    @property
    def patience(self) -> Patience:
        """What of this the watch over the connections needs."""
        return Patience(
            echo_interval=self.echo_interval,
            echo_timeout=self.echo_timeout,
            reconnect_interval=self.reconnect_interval,
            reconnect_max_interval=self.reconnect_max_interval,
            reconnect_attempts=self.reconnect_attempts,
        )


class ZeroMQArguments(TypedDict, total=False):
    """The attributes of `ZeroMQOptions` as keyword arguments."""

    connect_timeout: float
    connect_required: bool
    send_timeout: float
    send_policy: SendPolicy
    send_hwm: int
    receive_hwm: int
    echo_interval: float
    echo_timeout: float
    reconnect_interval: float
    reconnect_max_interval: float
    reconnect_attempts: int


class ZeroMQTransport:
    """Fulfils `eventbus.transport.Transport` over an XSUB/XPUB proxy, ours or any other.

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
        address = f"[{host}]" if ":" in host else host
        self._pub_endpoint = f"tcp://{address}:{pub_port}"
        self._sub_endpoint = f"tcp://{address}:{sub_port}"
        self._options = options or ZeroMQOptions()
        self._topics: set[bytes] = set()
        # Reentrant, for a signal handler may close what it has interrupted.
        self._changing = RLock()  # guards _topics and _path together, and is never held while waiting
        self._opening = RLock()  # one open() at a time
        self._path: Path | None = None
        self._forked = False
        self.status = Status()
        # On paths that are closed by now:
        self._sent_before = 0
        self._malformed_before = 0
        self._dropped_before = 0
        self._unsent = 0
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
        deadline = Deadline(timeout)
        required = self._options.connect_required
        with self._opening:
            with self._changing:
                path = self._path
                opened_here = path is None
                if path is None:
                    path = self._path = self._new_path(timeout)
                    if not required:
                        self.send = path.publisher.send
            kept = False
            try:
                # Without a proxy the first attempt fails at once, and need not be waited for.
                proven = path.prove(deadline, while_=lambda: required or not any(leg.failures for leg in path.legs()))
                if path.closed:
                    self.status.raise_failure()
                    raise NotConnected(self.endpoints)
                if required and not proven:
                    raise ProxyUnreachable(self.endpoints, timeout, self._missing_leg(path))
                with self._changing:
                    if self._path is path:
                        self.send = path.publisher.send
                kept = True
            finally:
                if opened_here and not kept:
                    self._leave(path, 0.0, "no proxy answered")

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
        path = self._path
        if path is not None:
            self._leave(path, timeout, "closed")

    def _new_path(self, timeout: float) -> Path:
        _open_transports.add(self)
        options = self._options
        patience = options.patience
        with ExitStack() as undo:
            context = shared_context.acquire()
            undo.callback(shared_context.release)
            try:
                publisher = Publisher(
                    context,
                    self._pub_endpoint,
                    hwm=options.send_hwm,
                    send_timeout=options.send_timeout,
                    send_policy=options.send_policy,
                    patience=patience,
                )
                undo.callback(publisher.close, 0.0)
                subscriber = Subscriber(
                    context, self._sub_endpoint, hwm=options.receive_hwm, topics=self._topics, patience=patience
                )
            except zmq.ZMQError as error:  # no such address, or no descriptor left
                raise ProxyUnreachable(self.endpoints, timeout, error.strerror or str(error)) from error
            undo.pop_all()
            self.status.change(ClientState.CONNECTING, f"connecting to {self.endpoints}")
            return Path(publisher, subscriber, patience, self.status, self._give_up)

    def _give_up(self) -> None:
        """Close for good, on the keeper's thread."""
        path = self._path
        if path is not None:
            attempts = self._options.reconnect_attempts
            self._leave(path, 0.0, lambda: ReconnectFailed(self.endpoints, attempts))

    def _leave(self, path: Path, linger: float, reason: str | Callable[[], EventBusError]) -> None:
        """Close this path, unless somebody else is doing so; as a failure, if the reason makes one."""
        with self._changing:
            if self._path is not path:
                return
            counted, dropped = path.publisher.sent, path.publisher.dropped
            self._sent_before += counted
            self._dropped_before += dropped
            self._malformed_before += path.subscriber.malformed
            self._path = None
            self.send = self._refuse
            _open_transports.discard(self)
            # Told in here: whoever hears of it and opens again, or is refused, finds all of it done.
            path.retire()
            if isinstance(reason, str):
                self.status.change(ClientState.CLOSED, reason)
            else:
                self.status.fail(reason)
        unsent = path.close(linger)
        with self._changing:
            # By a thread that was sending just then:
            self._sent_before += path.publisher.sent - counted
            self._dropped_before += path.publisher.dropped - dropped
            self._unsent += unsent
        shared_context.release()

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
        self._check_process()
        with self._changing:
            self.status.raise_failure()
        raise NotConnected(self.endpoints)

    def _check_process(self) -> None:
        if self._forked:
            raise ForkedClient(self.endpoints)

    def _poison(self) -> None:
        """In a forked child: the sockets are the parent's, and what is sent on them vanishes."""
        self._forked = True
        self.send = self._refuse
        self._changing, self._opening, self.status = RLock(), RLock(), Status()
        self._path = None


def _poison_open_transports() -> None:
    for transport in list(_open_transports):
        transport._poison()


os.register_at_fork(after_in_child=_poison_open_transports)
