"""The XSUB/XPUB proxy that joins publishers and subscribers: in a thread of a service, or in a process of its own."""

from dataclasses import replace
from threading import Lock, Thread
from time import monotonic, sleep
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack

from eventbus._base.addresses import check_ports, checked_host, is_loopback
from eventbus._base.log import Log
from eventbus._base.native_threads import require_native_threads
from eventbus.errors import AddressInUse, InvalidSettings
from eventbus.exports import public
from eventbus.keys import ClientKeys, checked_key, new_pair, public_key_of
from eventbus.options import PUB_PORT, SUB_PORT, ProxyArguments, ProxyOptions
from eventbus.proxy import memory
from eventbus.proxy.allow_list import AllowList, AllowListFile
from eventbus.proxy.denials import Denials
from eventbus.proxy.forwarding import Forwarding
from eventbus.proxy.health import Connections, HandshakeFailures, ProxyHealth, Traffic

if TYPE_CHECKING:
    from eventbus.history.server import HistoryServer

__all__ = ["Connections", "EventBusProxy", "HandshakeFailures", "ProxyHealth", "Traffic"]

_TAKEN_S = 2.0  # seconds for which the ports may be taken at a restart


@public
class EventBusProxy:
    """Passes every event from the publishers on one port to the subscribers on the other, natively in libzmq.

    It stores nothing: an event goes to the clients that are subscribed when it passes. A subscriber that does not keep up
    loses events when its queue in the proxy is full, and delays no other client. A peer that sends something else than
    ZeroMQ, or too large a message, is disconnected. Any thread may call any method.

    With a secret key it speaks CURVE only, and only to clients on the allow-list, which it reads again when the file
    changes. If the list has rules, the proxy passes on only what they permit, at half to two thirds of the rate. All
    connections end once when the first rule comes, and when a client sends on its subscribing side what no subscriber
    sends; that client is not let in again until the list changes.

    Args:
        host: the address to bind. By default only this machine can connect. Without a secret key, everybody who can reach
            the address can send and read every event, and end the subscriptions of others (libzmq passes on the end of a
            subscription that the sender never made).
        pub_port: the port for publishers (XSUB); 0 picks a free one.
        sub_port: the port for subscribers (XPUB); 0 picks a free one.
        options: how the proxy behaves; None: the defaults.
        arguments: attributes of `eventbus.options.ProxyOptions`, which replace those of `options`.

    Raises:
        InvalidSettings: `host` is not the name or the address of a host; the ports are equal, or one is no port; the secret
            key is not a key; or there is a secret key without an allow-list, with which libzmq would let everybody in; or an
            allow-list without a secret key.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        pub_port: int = PUB_PORT,
        sub_port: int = SUB_PORT,
        options: ProxyOptions | None = None,
        **arguments: Unpack[ProxyArguments],
    ) -> None:
        options = replace(options or ProxyOptions(), **arguments)
        self.readiness_keys: ClientKeys | None = None
        """The keys with which the proxy connects to itself to find out whether it is ready. They are new for each proxy, and
        permit tokens only. None: no encryption."""
        if options.secret_key is not None:
            secret_key = checked_key(options.secret_key, "the proxy's secret key")
            options = replace(options, secret_key=secret_key)
            if options.allow_list is None:
                raise InvalidSettings(
                    "a proxy with a secret key needs an allow-list, or anybody could connect: "
                    "set EVENTBUS_SECURITY__ALLOW_LIST"
                )
            self.readiness_keys = ClientKeys(public_key_of(secret_key), new_pair()[1])
        elif options.allow_list is not None:
            raise InvalidSettings(
                "an allow-list needs a secret key, or clients cannot be told apart: "
                "set EVENTBUS_SECURITY__SECRET_KEY_FILE (`eventbus keygen` makes one)"
            )
        self.host = checked_host(host)
        check_ports(pub_port, sub_port)
        self._options = options
        self._requested_ports = self._ports = (pub_port, sub_port)
        self._lock = Lock()
        self._running: Forwarding | None = None
        self._starting = self._restarting = False
        self._last_health = ProxyHealth()  # of the last run that has ended
        self._log = Log(host=host)
        self._history: HistoryServer | None = None
        if options.history:
            self._history = self._make_history(options)

    @property
    def pub_port(self) -> int:
        """The port for publishers: the bound one while the proxy runs or restarts, otherwise the requested one."""
        return self._ports[0]

    @property
    def sub_port(self) -> int:
        """The port for subscribers: the bound one while the proxy runs or restarts, otherwise the requested one."""
        return self._ports[1]

    def start(self) -> None:
        """Bind both ports and start to pass events on, in a thread. Returns when the proxy runs. Idempotent.

        Raises:
            AddressInUse: a port is taken.
            InvalidSettings: the allow-list cannot be read.
            DescriptorsExhausted: the process may not open as many sockets as a proxy needs.
            MonkeyPatched: gevent or eventlet has replaced Python's threads.
            OSError: the host cannot be bound.
        """
        require_native_threads()
        with self._lock:
            if self._running is not None and not self._running.is_alive():
                self._stop()  # the run has failed
                self._ports = self._requested_ports
            if self._running is None:
                path = self._options.allow_list
                allow_list = None if path is None else AllowListFile(path)
                self._starting = True
                try:
                    if self._history is not None:
                        self._history.open()
                    self._start(*self._requested_ports, allow_list, Denials(), ProxyHealth())
                except BaseException:
                    if self._history is not None:
                        self._history.close()
                    raise
                finally:
                    self._starting = False
                self._warn()

    def stop(self) -> None:
        """Stop passing events on; returns when both ports are free. Idempotent."""
        with self._lock:
            running = self._running
            self._stop()
            if self._history is not None:
                self._history.close()
            self._ports = self._requested_ports
            if running is not None:
                self._log.info(
                    "proxy on ports %d and %d stopped after %.0f s",
                    running.pub_port,
                    running.sub_port,
                    self._last_health.uptime,
                    pub_port=running.pub_port,
                    sub_port=running.sub_port,
                    seconds=self._last_health.uptime,
                )

    def is_running(self) -> bool:
        """Whether the proxy passes events on, or restarts at this moment."""
        running = self._running
        return self._restarting or (running is not None and running.is_alive())

    def is_starting(self) -> bool:
        """Whether the proxy starts or restarts at this moment, and gives subscribers time to come back."""
        return self._starting or self._restarting

    def reload(self) -> None:
        """Read the allow-list again, even if its file seems unchanged. If it cannot be read, the last one stays in force."""
        running = self._running
        if running is not None:
            running.reload()

    @property
    def protection(self) -> str:
        """The protection of a running proxy against strangers, for people; empty if it has none."""
        running = self._running
        return running.protection if running else ""

    def health(self) -> ProxyHealth:
        """Return the proxy's state and what it has passed on since `start`.

        Takes less than a millisecond, and a second at most: a proxy that has not answered by then counts as not running, and
        the counts are the last known ones.
        """
        running = self._running
        return running.health() if running else self._last_health

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _start(
        self, pub_port: int, sub_port: int, allow_list: AllowListFile | None, denials: Denials, previous: ProxyHealth
    ) -> None:
        running = self._running = Forwarding(
            self.host,
            pub_port,
            sub_port,
            self._options,
            allow_list=allow_list,
            denials=denials,
            restart=self._restart_soon,
            previous=previous,
            readiness_key=self.readiness_keys.public_key if self.readiness_keys else None,
            history=self._history,
        )
        self._ports = running.pub_port, running.sub_port
        self._log.info(
            "proxy listens on %s: publishers on port %d, subscribers on port %d%s",
            self.host,
            self.pub_port,
            self.sub_port,
            f"; {self.protection}" if self.protection else "",
            pub_port=self.pub_port,
            sub_port=self.sub_port,
        )

    def _make_history(self, options: ProxyOptions) -> "HistoryServer":
        # Here, because a proxy without one need not be larger.
        from eventbus.history.server import HistoryServer, archive_at
        from eventbus.history.store import Bounds
        from eventbus.proxy.readers import permissions

        def allowed() -> AllowList | None:
            running = self._running
            return None if running is None or running.allow_list is None else running.allow_list.current

        bounds = Bounds(options.history, options.history_bytes, options.history_age)
        return HistoryServer(bounds, permissions(allowed), archive_at(options.history_file))

    def _stop(self) -> None:
        if self._running is not None:
            self._running.stop()
            self._last_health = self._running.health()
            self._running = None

    def _restart_soon(self, reason: str) -> None:
        """Restart on the same ports with the same allow-list, in a thread: all connections and subscriptions end."""
        self._restarting = True
        Thread(target=self._restart, args=(reason,), name="eventbus-proxy-restart", daemon=True).start()

    def _restart(self, reason: str) -> None:
        try:
            with self._lock:
                running = self._running
                if running is not None:
                    ports = running.pub_port, running.sub_port
                    self._log.warning(
                        "%s: the proxy restarts, all clients are disconnected once and reconnect",
                        reason,
                        reason=reason,
                        pub_port=ports[0],
                        sub_port=ports[1],
                    )
                    self._stop()
                    memory.trim()
                    self._start_again(*ports, running.allow_list, running.denials, self._last_health)
        except Exception as error:
            self._ports = self._requested_ports
            self._log.exception("the proxy could not be restarted: no events pass any more", error=type(error).__name__)
        finally:
            self._restarting = False

    def _start_again(
        self, pub_port: int, sub_port: int, allow_list: AllowListFile | None, denials: Denials, previous: ProxyHealth
    ) -> None:
        """Start on ports that were given up just now, which may be taken for a moment.

        A child process that this one is starting meanwhile has them open until it runs its program.
        """
        end = monotonic() + _TAKEN_S
        while True:
            try:
                return self._start(pub_port, sub_port, allow_list, denials, previous)
            except AddressInUse:
                if monotonic() > end:
                    raise
            sleep(_TAKEN_S / 20)

    def _warn(self) -> None:
        if self._options.history_file is not None and not self._options.history:
            self._log.warning(
                "the history file %s has no effect, because nothing is kept: set EVENTBUS_HISTORY to a number of messages, "
                "or leave EVENTBUS_HISTORY_FILE out",
                self._options.history_file,
            )
        if self._options.secret_key is None and not is_loopback(self.host):
            self._log.warning(
                "ANYBODY WHO REACHES %s CAN READ AND SEND EVERY EVENT: the proxy listens beyond this machine without keys. "
                "Make some with `eventbus keygen`, or bind 127.0.0.1",
                self.host,
                pub_port=self.pub_port,
                sub_port=self.sub_port,
            )
