"""Messages over ZeroMQ: a publishing socket to the proxy's XSUB port, a subscribing one to its XPUB port.

Why the publishing side is an XPUB: it sees subscriptions arrive. When the client's own subscription to a token that nobody
else knows has come round through the proxy, both legs are live and every subscription made before it is in force. No message
is published for that, so no other subscriber is bothered, and it works with any XSUB/XPUB proxy.
"""

import os
import uuid
import weakref
from contextlib import ExitStack
from threading import Lock
from time import monotonic, sleep
from typing import NoReturn, Protocol

import zmq

from eventbus import wire
from eventbus.deadline import Deadline
from eventbus.errors import ForkedClient, NotConnected, ProxyUnreachable
from eventbus.transports._publisher import Publisher
from eventbus.transports._sockets import shared_context
from eventbus.transports._subscriber import Subscriber
from eventbus.wire import Batch

_HOUSEKEEPING = 1.0  # seconds
_PROBE = 0.005  # seconds

# Kept from being collected until they are closed: collecting would close their sockets, in any order and from any thread,
# and in a forked child it would close what belongs to the parent.
_open_paths: set["_Path"] = set()
_open_transports: "weakref.WeakSet[ZeroMQTransport]" = weakref.WeakSet()


class _Send(Protocol):
    def __call__(self, topic: bytes, payload: bytes, count: int = 1) -> None: ...


class ZeroMQTransport:
    """Fulfils `eventbus.transport.Transport` over an XSUB/XPUB proxy, ours or any other.

    Args:
        host: where the proxy is.
        pub_port: the proxy's XSUB port, to which publishers connect.
        sub_port: the proxy's XPUB port, to which subscribers connect.
        connect_timeout: seconds that `subscribe` waits until its subscription is in force.
        send_timeout: seconds that `send` waits while the send buffer is full.
        send_hwm: high-water mark of the send buffer, in messages; what is sent while the proxy is away waits there.
        receive_hwm: high-water mark of the receive queue, in messages; when it is full the proxy's queue fills up.
    """

    def __init__(
        self,
        host: str = "localhost",
        pub_port: int = 5559,
        sub_port: int = 5560,
        *,
        connect_timeout: float = 5.0,
        send_timeout: float = 5.0,
        send_hwm: int = 100_000,
        receive_hwm: int = 100_000,
    ) -> None:
        address = f"[{host}]" if ":" in host else host
        self._pub_endpoint = f"tcp://{address}:{pub_port}"
        self._sub_endpoint = f"tcp://{address}:{sub_port}"
        self._connect_timeout = connect_timeout
        self._send_timeout = send_timeout
        self._send_hwm = send_hwm
        self._receive_hwm = receive_hwm
        self._topics: set[bytes] = set()
        self._changing = Lock()  # guards _topics and _path together, and is never held while waiting
        self._opening = Lock()  # one open() at a time
        self._path: _Path | None = None
        self._forked = False
        self._sent_before = 0  # on paths that are closed by now
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
        deadline = Deadline(timeout)
        with self._opening:
            with self._changing:
                path = self._path
                opened_here = path is None
                if path is None:
                    path = self._path = self._new_path(timeout)
            proven = False
            try:
                proven = path.prove(deadline)
                if path.closed:
                    raise NotConnected(self.endpoints)
                if not proven:
                    raise ProxyUnreachable(self.endpoints, timeout, self._missing_leg(path))
                with self._changing:
                    if self._path is path:
                        self.send = path.publisher.send
            finally:
                if opened_here and not proven:
                    self._leave(path, 0.0)

    def ensure_open(self) -> None:
        self._check_process()
        if self._path is None:
            raise NotConnected(self.endpoints)

    def subscribe(self, topic: bytes) -> None:
        self._check_process()
        with self._changing:
            if topic in self._topics:
                return
            self._topics.add(topic)
            path = self._path
        if path is not None:
            path.subscriber.subscribe(topic)
            if path.is_up():
                path.prove(Deadline(self._connect_timeout))

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
        if path is None:
            return None
        batch = path.subscriber.receive(_HOUSEKEEPING)
        path.keep_house()
        return batch

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
            self._leave(path, timeout)

    def _new_path(self, timeout: float) -> "_Path":
        _open_transports.add(self)
        with ExitStack() as undo:
            context = shared_context.acquire()
            undo.callback(shared_context.release)
            try:
                publisher = Publisher(context, self._pub_endpoint, hwm=self._send_hwm, send_timeout=self._send_timeout)
                undo.callback(publisher.close, 0.0)
                subscriber = Subscriber(context, self._sub_endpoint, hwm=self._receive_hwm, topics=self._topics)
            except zmq.ZMQError as error:  # no such address, or no descriptor left
                raise ProxyUnreachable(self.endpoints, timeout, error.strerror or str(error)) from error
            undo.pop_all()
            return _Path(publisher, subscriber)

    def _leave(self, path: "_Path", linger: float) -> None:
        """Close this path, unless somebody else is doing so."""
        with self._changing:
            if self._path is not path:
                return
            counted = path.publisher.sent
            self._sent_before += counted
            self._malformed_before += path.subscriber.malformed
            self._path = None
            self.send = self._refuse
            _open_transports.discard(self)
        path.close(linger)
        with self._changing:
            self._sent_before += path.publisher.sent - counted  # by a thread that was sending just then
        shared_context.release()

    def _missing_leg(self, path: "_Path") -> str:
        """Which of the two connections is down, for the error."""
        match path.publisher.is_up(), path.subscriber.is_up():
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
        raise NotConnected(self.endpoints)

    def _check_process(self) -> None:
        if self._forked:
            raise ForkedClient(self.endpoints)

    def _poison(self) -> None:
        """In a forked child: the sockets are the parent's, and what is sent on them vanishes."""
        self._forked = True
        self.send = self._refuse
        self._changing, self._opening = Lock(), Lock()
        self._path = None


class _Path:
    """Both sockets, open from creation to `close`."""

    def __init__(self, publisher: Publisher, subscriber: Subscriber) -> None:
        self.publisher = publisher
        self.subscriber = subscriber
        self.closed = False
        _open_paths.add(self)
        self._next_housekeeping = 0.0

    def is_up(self) -> bool:
        """Whether both connections are up."""
        return self.publisher.is_up() and self.subscriber.is_up()

    def prove(self, deadline: Deadline) -> bool:
        """Subscribe to a token and wait until that has come round through the proxy; False if it has not in time."""
        token = wire.PRIVATE + uuid.uuid4().bytes
        self.publisher.expect(token)
        self.subscriber.subscribe(token)
        try:
            while not self.closed:
                if self.publisher.wait_for(token, min(_PROBE, deadline.left())):
                    return True
                if deadline.passed():
                    return False
                sleep(_PROBE / 10)  # others want to send
            return False
        finally:
            self.publisher.forget(token)
            self.subscriber.unsubscribe(token)

    def keep_house(self) -> None:
        """Now and then, do what must be done for ever. The consumer calls it after each batch."""
        now = monotonic()
        if now >= self._next_housekeeping:
            self._next_housekeeping = now + _HOUSEKEEPING
            self.publisher.drain()

    def close(self, linger: float) -> None:
        """Close both; what was sent is flushed in the background for up to `linger` seconds."""
        self.closed = True
        self.subscriber.close()
        self.publisher.close(linger)
        _open_paths.discard(self)


def _poison_open_transports() -> None:
    for transport in list(_open_transports):
        transport._poison()


os.register_at_fork(after_in_child=_poison_open_transports)
