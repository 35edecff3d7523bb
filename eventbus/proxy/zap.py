"""Authentication: libzmq asks whether a client may connect to a proxy that uses CURVE (ZAP, ZeroMQ RFC 27).

pyzmq's own authenticator runs on asyncio, which would double the memory of a proxy's process (see `eventbus.proxy.process`).
"""

from collections.abc import Callable
from threading import Thread

import zmq
from zmq.utils import z85

from eventbus._base.log import Log
from eventbus._base.log_throttle import LogThrottle, more
from eventbus._base.waker import Waker
from eventbus._base.zmq_sockets import ZAP_DOMAIN
from eventbus.proxy.allow_list import AllowListFile

log = Log()

_ADDRESS = "inproc://zeromq.zap.01"  # each context has its own
_VERSION, _ALLOWED, _REFUSED = b"1.0", b"200", b"400"
_REQUEST_FRAMES = 7  # of a request about CURVE
_REFRESH_INTERVAL_MS = 1_000
_MAX_ADDRESSES = 10_000  # whose clients are remembered


class Authenticator:
    """Admits the clients whose keys are on the allow-list, from its creation to `stop`, and reads the list again on change.

    Args:
        context: the context of the proxy's sockets. Bind them after this is created, and close them before `stop`.
        allow_list: the clients that may connect.
        on_change: called in the authenticator's thread when a new list is in force.
        readiness_key: the public key with which the proxy itself checks whether it is ready; it is admitted, too.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        allow_list: AllowListFile,
        on_change: Callable[[], None],
        readiness_key: str | None = None,
    ) -> None:
        self.refused = 0
        """The number of connections refused because their keys are not on the list."""
        self._allow_list = allow_list
        self._on_change = on_change
        self._readiness_key = readiness_key
        self._throttle = LogThrottle()
        # The only key that was admitted from each address; None: there were several.
        self._keys: dict[str, str | None] = {}
        self._stopped = False
        self._waker = Waker()
        self._socket = context.socket(zmq.REP)
        try:
            self._socket.set(zmq.LINGER, 0)
            self._socket.bind(_ADDRESS)
            self._thread = Thread(target=self._run, name="eventbus-authenticator", daemon=True)
            self._thread.start()
        except BaseException:
            self._socket.close()
            self._waker.close()
            raise

    def key_at(self, address: str) -> str | None:
        """Return the public key of a client at this address; None if no client was admitted from there, or several were."""
        return self._keys.get(address)

    def is_alive(self) -> bool:
        """Whether it answers libzmq."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Stop answering; returns when the thread has ended."""
        self._stopped = True
        self._waker.wake()
        self._thread.join()
        self._waker.close()

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._waker.fileno(), zmq.POLLIN)
        try:
            while not self._stopped:
                asked = self._socket in dict(poller.poll(_REFRESH_INTERVAL_MS))
                # Before each answer, so that a client that was taken off the list does not get in again.
                self._refresh()
                if asked:
                    self._socket.send_multipart(self._answer(self._socket.recv_multipart()))
        except Exception as error:
            log.exception("the authenticator has failed: no client can connect any more", error=type(error).__name__)
        finally:
            self._socket.close()

    def _refresh(self) -> None:
        try:
            if self._allow_list.refresh():
                self._on_change()
        except Exception as error:
            # A defect of ours; the authenticator must go on answering.
            log.exception("the allow-list could not be read again", error=type(error).__name__)

    def _answer(self, request: list[bytes]) -> list[bytes]:
        if len(request) != _REQUEST_FRAMES or request[0] != _VERSION or request[2] != ZAP_DOMAIN or request[5] != b"CURVE":
            return [_VERSION, request[1] if len(request) > 1 else b"", _REFUSED, b"not CURVE", b"", b""]
        _, request_id, _, address, _, _, raw_key = request
        key = z85.encode(raw_key)
        if key.decode() == self._readiness_key or key.decode() in self._allow_list.current.clients:
            self._remember(key.decode(), address.decode(errors="replace"))
            # The user id is the key, not the name, because the list may call the client something else later.
            return [_VERSION, request_id, _ALLOWED, b"OK", key, b""]
        self.refused += 1
        held_back = self._throttle.admit("refused")
        if held_back is not None:
            log.warning(
                "refused a client at %s: public key %s is not on the allow-list%s",
                address.decode(errors="replace"),
                key.decode(),
                more(held_back, "more refused"),
                key=key.decode(),
                address=address.decode(errors="replace"),
                held_back=held_back,
            )
        return [_VERSION, request_id, _REFUSED, b"not on the allow-list", b"", b""]

    def _remember(self, key: str, address: str) -> None:
        if key == self._readiness_key:
            return
        if address in self._keys or len(self._keys) < _MAX_ADDRESSES:
            self._keys[address] = key if self._keys.get(address, key) == key else None
