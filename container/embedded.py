"""The embedded proxy: of several services on one machine one runs it, and another takes over when that ends."""

from threading import Condition, Thread
from types import TracebackType
from typing import Self

from eventbus._base.backoff import backoff, jittered
from eventbus._base.log import Log
from eventbus.container.resources import AnyClient
from eventbus.errors import AddressInUse, DescriptorsExhausted, EventBusError, InvalidSettings
from eventbus.observe.state import ClientState, StateChange
from eventbus.proxy import EventBusProxy
from eventbus.settings import EventBusSettings

_FIRST_PAUSE_S = 0.05  # between two attempts to take over, because other services try too
_LONGEST_PAUSE_S = 1.0

_AWAY = {ClientState.CONNECTING, ClientState.DEGRADED}


class EmbeddedProxy:
    """Runs a proxy within the block unless another process does, and then as soon as that one has ended.

    It looks whether the ports are free when the client's path to the proxy is down, in a thread of its own.

    Args:
        settings: where the proxy listens, and how it behaves.
        client: the client that needs it, which is connected and closed within the block.

    Raises:
        InvalidSettings: the ports are any free ones, or the host is not this machine.
        DescriptorsExhausted: the process may not open as many sockets as a proxy needs.
    """

    def __init__(self, settings: EventBusSettings, client: AnyClient) -> None:
        if 0 in (settings.pub_port, settings.sub_port):
            raise InvalidSettings(
                "EVENTBUS_EMBEDDED_PROXY needs fixed ports, because clients have to know them: "
                "set EVENTBUS_PUB_PORT and EVENTBUS_SUB_PORT"
            )
        self._client = client
        # No limit of memory: most of this process's is the service's own.
        self._proxy = EventBusProxy(
            settings.host, settings.pub_port, settings.sub_port, settings.proxy_options(), max_memory=0
        )
        self._log = Log(host=settings.host, pub_port=settings.pub_port, sub_port=settings.sub_port)
        self._changed = Condition()
        self._is_away = False  # whether the path to the proxy is down
        self._is_ending = False
        self._thread: Thread | None = None  # None: this service runs the proxy from the start

    def __enter__(self) -> Self:
        try:
            self._proxy.start()
        except AddressInUse:  # a proxy is running, probably; connecting shows whether it answers
            self._stop_listening = self._client.on_state_change(self._note)
            self._thread = Thread(target=self._stand_by, name="eventbus-embedded", daemon=True)
            self._thread.start()
        except DescriptorsExhausted:
            raise
        except OSError as error:
            raise InvalidSettings(
                f"EVENTBUS_EMBEDDED_PROXY can run a proxy on this machine only, not at {self._proxy.host}: {error}"
            ) from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._thread is not None:
            self._stop_listening()
            with self._changed:
                self._is_ending = True
                self._changed.notify_all()
            self._thread.join()
        self._proxy.stop()

    def _note(self, change: StateChange) -> None:
        with self._changed:
            self._is_away = change.state in _AWAY
            self._changed.notify_all()

    def _stand_by(self) -> None:
        failures = 0
        while True:
            with self._changed:
                if failures:
                    pause = jittered(backoff(failures - 1, _FIRST_PAUSE_S, _LONGEST_PAUSE_S))
                    self._changed.wait_for(lambda: self._is_ending or not self._is_away, pause)
                if not self._is_away:
                    failures = 0
                    self._changed.wait_for(lambda: self._is_ending or self._is_away)
                if self._is_ending:
                    return
            if self._take_over(is_first=not failures):
                return
            failures += 1

    def _take_over(self, *, is_first: bool) -> bool:
        """Try to start the proxy. Returns whether it runs."""
        try:
            self._proxy.start()
        except AddressInUse:
            return False  # another service was faster; or the proxy is there, and does not answer
        except (OSError, EventBusError) as error:
            if is_first:
                self._log.warning("cannot take over the embedded proxy: %s", error, error=type(error).__name__)
            return False
        self._log.info(
            "took over the embedded proxy at %s, ports %d and %d",
            self._proxy.host,
            self._proxy.pub_port,
            self._proxy.sub_port,
        )
        return True
