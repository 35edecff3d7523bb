"""Authentication: who may connect to a proxy that uses CURVE is asked by libzmq and answered here (ZAP, ZeroMQ RFC 27).

pyzmq's own authenticator runs on asyncio, which would double the memory of a proxy's process (see `eventbus.proxy.process`).
"""

import logging
from collections.abc import Callable
from threading import Thread

import zmq
from zmq.utils import z85

from eventbus._base.log_throttle import LogThrottle
from eventbus._base.waker import Waker
from eventbus._base.zmq_sockets import ZAP_DOMAIN
from eventbus.proxy.allow_list import AllowListFile

logger = logging.getLogger("eventbus")

_ADDRESS = "inproc://zeromq.zap.01"  # one for each context
_VERSION, _ALLOWED, _REFUSED = b"1.0", b"200", b"400"
_FIELDS = 7  # of a question about CURVE
_LOOK = 1_000  # milliseconds between two looks at the allow-list


class Authenticator:
    """Lets in those whose keys are on the allow-list, from its creation to `stop`. It has the list read again on change.

    Args:
        context: whose sockets it is for; they must be bound after it is made, and closed before it is stopped.
        allow_list: who may connect.
        on_change: called in its thread when something new is in force.
        probe: the public key with which the proxy itself finds out whether it is ready; it is let in, too.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        allow_list: AllowListFile,
        on_change: Callable[[], None],
        probe: str | None = None,
    ) -> None:
        self.refused = 0
        """How many connections were refused because their key is not on the list."""
        self._allow_list = allow_list
        self._on_change = on_change
        self._probe = probe
        self._throttle = LogThrottle()
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

    def is_alive(self) -> bool:
        """Whether it answers."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Answer no more questions; returns when its thread has ended."""
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
                asked = self._socket in dict(poller.poll(_LOOK))
                # Before each answer: who is taken off the list does not come in again.
                self._refresh()
                if asked:
                    self._socket.send_multipart(self._answer(self._socket.recv_multipart()))
        except Exception as error:
            logger.exception("the proxy lets nobody in any more", extra={"eventbus_error": type(error).__name__})
        finally:
            self._socket.close()

    def _refresh(self) -> None:
        try:
            if self._allow_list.refresh():
                self._on_change()
        except Exception as error:
            # A defect of ours, after which somebody must answer all the same.
            logger.exception("the allow-list could not be read again", extra={"eventbus_error": type(error).__name__})

    def _answer(self, question: list[bytes]) -> list[bytes]:
        if len(question) != _FIELDS or question[0] != _VERSION or question[5] != b"CURVE" or question[2] != ZAP_DOMAIN:
            return [_VERSION, question[1] if len(question) > 1 else b"", _REFUSED, b"not CURVE", b"", b""]
        _, request, _, address, _, _, raw_key = question
        key = z85.encode(raw_key)
        if key.decode() == self._probe or key.decode() in self._allow_list.current.clients:
            # The key, not the name: it is who the client is, whatever the list calls it later.
            return [_VERSION, request, _ALLOWED, b"OK", key, b""]
        self.refused += 1
        held_back = self._throttle.admit("refused")
        if held_back is not None:
            logger.warning(
                "refused a client at %s: public key %s is not on the allow-list; %d more refused since the last such line",
                address.decode(errors="replace"),
                key.decode(),
                held_back,
                extra={
                    "eventbus_key": key.decode(),
                    "eventbus_address": address.decode(errors="replace"),
                    "eventbus_held_back": held_back,
                },
            )
        return [_VERSION, request, _REFUSED, b"not on the allow-list", b"", b""]
