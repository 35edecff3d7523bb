"""Whether a proxy passes messages on: an echo through its own two ports, with plain ZeroMQ."""

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

# The context has five, each of two sockets one, each of two connections one at either end; and the proxy ends connections
# that take one of the last two.
_DESCRIPTORS = 5 + 2 + 4 + 2
_POLL_INTERVAL_S = 0.01  # from one check for a new connection, and for `close`, to the next
_SUBSCRIBE = b"\x01"


class Readiness:
    """Proves that a proxy passes messages on, as clients do: it subscribes to a token, and waits for that at a publisher.

    Every publisher receives each token and its end, so a proof stays valid for a while: a call within that time returns the
    same result, unless the proxy has stopped. The connections stay open from one proof to the next; after a failed proof
    new ones are made. Any thread may call any method.

    Args:
        proxy: the proxy; it need not run.
        valid_for: the seconds that a proof stays valid.
    """

    def __init__(self, proxy: "EventBusProxy", valid_for: float = 0.25) -> None:
        self._proxy = proxy
        self._valid_for = valid_for
        self._lock = Lock()
        self._path: _Path | None = None
        self._generation = object()  # another one after each close()
        self._last: tuple[float, float] | None = None  # when the last proof was made, and how long it took
        self.connections = 0
        """The number of its own connections to each of the proxy's ports."""

    def prove(self, timeout: float = 1.0) -> float | None:
        """Return the seconds that an echo took; None if it has not arrived within `timeout` seconds, or before `close`.

        Raises:
            DescriptorsExhausted: the process may not open as many sockets as are needed.
            OSError: the proxy's host is unknown by now.
        """
        generation = self._generation
        deadline = Deadline(timeout)
        if not self._lock.acquire(timeout=timeout):
            return None
        taken = None
        try:
            if self._generation is not generation:
                return None
            taken = self._valid_proof()
            if taken is not None:
                return taken
            ports = self._proxy.pub_port, self._proxy.sub_port
            if self._path is None and self._proxy.is_running() and all(ports):
                self._path = _Path(local_address(self._proxy.host), *ports, self._proxy.readiness_keys)
            if self._path is not None:
                taken = self._path.prove(deadline, lambda: self._generation is not generation)
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
        """Close the connections and abandon a proof that is under way. Idempotent; the next proof makes new connections."""
        self._generation = object()
        with self._lock:
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _valid_proof(self) -> float | None:
        if self._last is None or not self._proxy.is_running():
            return None
        made, taken = self._last
        return taken if monotonic() - made < self._valid_for else None

    def _close(self) -> None:
        self.connections = 0
        self._last = None
        if self._path is not None:
            self._path.close()
            self._path = None


class _Path:
    """A publisher and a subscriber at a proxy, and a thread that reads the subscriptions that the publisher receives."""

    def __init__(self, address: str, pub_port: int, sub_port: int, keys: ClientKeys | None) -> None:
        require_descriptors(_DESCRIPTORS)
        self._awaited = b""
        self._arrived = Event()
        self._context = zmq.Context()
        try:
            self._subscriber = self._connected(zmq.SUB, address, sub_port, keys)
            self._publisher = self._connected(zmq.XPUB, address, pub_port, keys)
            # Subscriptions that publishers receive must be read all the time: otherwise they queue up, here or in the proxy.
            self._thread = Thread(target=self._read, name="eventbus-readiness", daemon=True)
            self._thread.start()
        except BaseException:
            self._context.destroy(linger=0)
            raise

    def prove(self, deadline: Deadline, abandoned: Callable[[], bool]) -> float | None:
        """Return the seconds that an echo took; None if it has not arrived in time, or the proof is abandoned."""
        token = PRIVATE + uuid.uuid4().bytes
        self._arrived.clear()
        self._awaited = _SUBSCRIBE + token
        began = monotonic()
        self._subscriber.subscribe(token)
        try:
            while not self._arrived.wait(min(_POLL_INTERVAL_S, deadline.left())):
                if deadline.passed() or abandoned():
                    return None
                self._subscriber.get(zmq.EVENTS)  # makes libzmq send the subscription on a new connection
            return monotonic() - began
        finally:
            self._subscriber.unsubscribe(token)

    def close(self) -> None:
        """Close both sockets; returns when nothing is left of them."""
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
            self._publisher.close()  # after any error too, because the context waits for it

    def _connected(self, kind: int, address: str, port: int, keys: ClientKeys | None) -> Socket:
        made = new_socket(self._context, kind, linger=0, client_keys=keys)
        made.set(zmq.IPV6, is_ipv6(address))
        made.connect(tcp_endpoint(address, port))
        return made
