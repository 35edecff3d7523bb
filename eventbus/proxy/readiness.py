"""Whether a proxy passes messages: an echo through its own two ports, with nothing but ZeroMQ."""

import uuid
from collections.abc import Callable
from threading import Event, Lock, Thread
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Self

import zmq

from eventbus._base.addresses import is_ipv6, local_address, tcp_endpoint
from eventbus._base.deadline import Deadline
from eventbus._base.descriptors import require_descriptors
from eventbus._base.zmq_sockets import Socket, new_socket
from eventbus.keys import ClientKeys
from eventbus.wire.frames import PRIVATE

if TYPE_CHECKING:
    from eventbus.proxy.proxy import EventBusProxy

_DESCRIPTORS = 5 + 2 + 4  # a context has five, each socket one, and each connection one at either end
_LOOK = 0.01  # seconds between two looks at whether a connection has come back, and whether the proof is given up
_STANDS = 0.25  # seconds that a proof is good for
_SUBSCRIBE = b"\x01"


class Readiness:
    """Proves that a proxy passes messages, as clients do: subscribes to a token, and waits until that has come round.

    Each proof is told to every publisher, twice. So one that has succeeded stands for a quarter of a second: who asks within
    that time gets its answer, unless the proxy has ended. The connections stay open from one proof to the next; after a
    failure new ones are made. Any thread may call any method.

    Args:
        proxy: which. It need not run.
    """

    def __init__(self, proxy: "EventBusProxy") -> None:
        self._proxy = proxy
        self._lock = Lock()
        self._path: _Path | None = None
        self._era = object()  # another one after each close()
        self._last: tuple[float, float] | None = None  # when the last proof was made, and what it has taken
        self.connections = 0
        """How many of the connections to each of the proxy's ports are its own."""

    def prove(self, timeout: float = 1.0) -> float | None:
        """The seconds that an echo has taken; None: it has not come within `timeout` seconds, or before `close`.

        Raises:
            DescriptorsExhausted: the process may not open as many sockets as are needed.
            OSError: the proxy's host cannot be found any more.
        """
        era = self._era
        deadline = Deadline(timeout)
        if not self._lock.acquire(timeout=timeout):
            return None
        taken = None
        try:
            if self._era is not era:
                return None
            taken = self._standing()
            if taken is not None:
                return taken
            ports = self._proxy.pub_port, self._proxy.sub_port
            if self._path is None and self._proxy.is_running() and all(ports):
                self._path = _Path(local_address(self._proxy.host), *ports, self._proxy.probe_keys)
            if self._path is not None:
                taken = self._path.prove(deadline, lambda: self._era is not era)
            if taken is not None:
                self._last = monotonic(), taken
            return taken
        finally:
            if taken is None:
                self._close()
            else:
                self.connections = 1
            self._lock.release()

    def close(self) -> None:
        """Close the connections, and give up the proof that is being made. Idempotent; the next makes new ones."""
        self._era = object()
        with self._lock:
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _standing(self) -> float | None:
        if self._last is None or not self._proxy.is_running():
            return None
        made, taken = self._last
        return taken if monotonic() - made < _STANDS else None

    def _close(self) -> None:
        self.connections = 0
        self._last = None
        if self._path is not None:
            self._path.close()
            self._path = None


class _Path:
    """A publisher and a subscriber at a proxy, and a thread that reads what the publisher is told."""

    def __init__(self, address: str, pub_port: int, sub_port: int, keys: ClientKeys | None) -> None:
        require_descriptors(_DESCRIPTORS)
        self._awaited = b""
        self._arrived = Event()
        self._context = zmq.Context()
        try:
            self._subscriber = self._connected(zmq.SUB, address, sub_port, keys)
            self._publisher = self._connected(zmq.XPUB, address, pub_port, keys)
            # Nobody may leave unread what the proxy tells all publishers: it would queue up, here or there.
            self._thread = Thread(target=self._read, name="eventbus-readiness", daemon=True)
            self._thread.start()
        except BaseException:
            self._context.destroy(linger=0)
            raise

    def prove(self, deadline: Deadline, given_up: Callable[[], bool]) -> float | None:
        """The seconds that an echo has taken; None: it has not come in time, or nobody wants to know any more."""
        token = PRIVATE + uuid.uuid4().bytes
        self._arrived.clear()
        self._awaited = _SUBSCRIBE + token
        began = monotonic()
        self._subscriber.subscribe(token)
        try:
            while not self._arrived.wait(min(_LOOK, deadline.left())):
                if deadline.passed() or given_up():
                    return None
                self._subscriber.get(zmq.EVENTS)  # subscribes again on a new connection
            return monotonic() - began
        finally:
            self._subscriber.unsubscribe(token)

    def close(self) -> None:
        """Close both; returns when nothing is left of them."""
        self._subscriber.close()
        self._context.term()  # the thread closes its socket then
        self._thread.join()

    def _read(self) -> None:
        try:
            while True:
                if self._publisher.recv() == self._awaited:
                    self._arrived.set()
        except zmq.ContextTerminated:
            pass
        finally:
            self._publisher.close()  # whatever has ended it: the context waits for that

    def _connected(self, kind: int, address: str, port: int, keys: ClientKeys | None) -> Socket:
        made = new_socket(self._context, kind, linger=0, client_keys=keys)
        made.set(zmq.IPV6, is_ipv6(address))
        made.connect(tcp_endpoint(address, port))
        return made
